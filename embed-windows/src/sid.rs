//! Security identifiers as text, `S-1-5-21-…-1001`: the one form in which they are compared here.
#![expect(unsafe_code, reason = "identifiers are read where Windows has put them")]

use std::io;

use windows_sys::Win32::Foundation::LocalFree;
use windows_sys::Win32::Security::Authorization::ConvertSidToStringSidW;
use windows_sys::Win32::Security::PSID;

/// The text of the identifier at `sid`.
///
/// # Safety
///
/// `sid` points at a whole identifier that lives through the call.
pub(crate) unsafe fn text(sid: PSID) -> io::Result<String> {
    let mut text = std::ptr::null_mut();
    // SAFETY: the caller vouches for `sid`; the other pointer is to a local.
    if unsafe { ConvertSidToStringSidW(sid, &mut text) } == 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the call has succeeded, so that this is a text of its making.
    unsafe { take_wide(text) }
}

/// A copy of a text that Windows has allocated, which is freed.
///
/// # Safety
///
/// `text` ends with a NUL, comes from `LocalAlloc`, and nobody else frees or uses it.
pub(crate) unsafe fn take_wide(text: *mut u16) -> io::Result<String> {
    let mut length = 0;
    // SAFETY: every place up to the NUL belongs to the text.
    while unsafe { text.add(length).read() } != 0 {
        length += 1;
    }
    // SAFETY: so many places were just read; the copy is made before they are freed.
    let copy = String::from_utf16(unsafe { std::slice::from_raw_parts(text, length) });
    // SAFETY: it is the caller's to free, and is not used again.
    unsafe { LocalFree(text.cast()) };
    copy.map_err(io::Error::other)
}

/// The last number of an identifier: of `S-1-16-8192`, an integrity level, 8192.
pub(crate) fn last_number(sid: &str) -> Option<u32> {
    sid.rsplit('-').next()?.parse().ok()
}
