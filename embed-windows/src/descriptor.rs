//! Security descriptors: who may open a pipe, and who made one.
#![expect(unsafe_code, reason = "descriptors are made and read through Windows' own structures")]

use std::ffi::c_void;
use std::io;
use std::os::windows::io::{AsRawHandle, BorrowedHandle};

use windows_sys::Win32::Foundation::{ERROR_SUCCESS, LocalFree};
use windows_sys::Win32::Security::Authorization::{
    ConvertSecurityDescriptorToStringSecurityDescriptorW,
    ConvertStringSecurityDescriptorToSecurityDescriptorW, GetSecurityInfo, SDDL_REVISION_1,
    SE_KERNEL_OBJECT,
};
use windows_sys::Win32::Security::{
    ACE_HEADER, ACL, DACL_SECURITY_INFORMATION, GetAce, LABEL_SECURITY_INFORMATION,
    OWNER_SECURITY_INFORMATION, PSECURITY_DESCRIPTOR, SACL_SECURITY_INFORMATION,
    SECURITY_ATTRIBUTES, SYSTEM_MANDATORY_LABEL_ACE,
};

use crate::sid;
use crate::user::User;

/// The level of what has no label: medium.
const UNLABELLED: u32 = 0x2000;

/// Type of the entry of a list that is a label (winnt.h).
const SYSTEM_MANDATORY_LABEL_ACE_TYPE: u8 = 0x11;

/// What of a descriptor is of interest.
const ASKED: u32 =
    OWNER_SECURITY_INFORMATION | DACL_SECURITY_INFORMATION | LABEL_SECURITY_INFORMATION;

/// The text of a descriptor that admits `user` and nobody else.
///
/// | part | says |
/// |---|---|
/// | `O:` | the user owns it, and not the group of administrators, as it would be for one of them |
/// | `D:P` | nothing is inherited |
/// | `(A;;GA;;;…)` | the user may do everything; whom no entry names may do nothing |
/// | `S:(ML;;NRNW;;;…)` | who runs at a lower integrity level may not even read, though of the same user |
pub fn owner_only(user: &User) -> String {
    let (sid, integrity) = (user.sid(), user.integrity());
    format!("O:{sid}D:P(A;;GA;;;{sid})S:(ML;;NRNW;;;S-1-16-{integrity})")
}

/// A descriptor in memory.
pub(crate) struct Descriptor(PSECURITY_DESCRIPTOR);

impl Descriptor {
    /// The one that `text` describes.
    pub(crate) fn parse(text: &str) -> io::Result<Self> {
        let wide: Vec<u16> = text.encode_utf16().chain([0]).collect();
        let mut descriptor = std::ptr::null_mut();
        // SAFETY: the text ends with a NUL, and the other pointer is to a local; its length is not
        // asked for.
        let parsed = unsafe {
            ConvertStringSecurityDescriptorToSecurityDescriptorW(
                wide.as_ptr(),
                SDDL_REVISION_1,
                &mut descriptor,
                std::ptr::null_mut(),
            )
        };
        if parsed == 0 { Err(io::Error::last_os_error()) } else { Ok(Self(descriptor)) }
    }

    /// One that Windows has allocated for us, and that nobody else frees.
    pub(crate) fn allocated(descriptor: PSECURITY_DESCRIPTOR) -> Self {
        Self(descriptor)
    }

    /// Where it lies, as long as this value lives.
    pub(crate) fn as_ptr(&self) -> PSECURITY_DESCRIPTOR {
        self.0
    }

    /// Attributes for what is to be made with it, as long as it lives. Child processes do not inherit
    /// the handle.
    pub(crate) fn attributes(&self) -> SECURITY_ATTRIBUTES {
        SECURITY_ATTRIBUTES {
            nLength: size_of::<SECURITY_ATTRIBUTES>() as u32,
            lpSecurityDescriptor: self.0,
            bInheritHandle: 0,
        }
    }
}

impl Drop for Descriptor {
    fn drop(&mut self) {
        // SAFETY: Windows has allocated it for us, and nobody else frees it.
        unsafe { LocalFree(self.0) };
    }
}

/// Whose an open object is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ownership {
    /// The owner's security identifier.
    pub owner: String,
    /// Its integrity level.
    pub integrity: u32,
    /// Owner, access list and label as text.
    pub text: String,
}

impl Ownership {
    /// Of the pipe, or other object, that is open at `handle`.
    ///
    /// # Errors
    ///
    /// The handle does not give the right to ask.
    pub fn of(handle: BorrowedHandle<'_>) -> io::Result<Self> {
        let (mut owner, mut labels) = (std::ptr::null_mut(), std::ptr::null_mut());
        let mut descriptor = std::ptr::null_mut();
        // SAFETY: the handle is open, and every other pointer is to a local, or null where nothing is
        // wanted.
        let outcome = unsafe {
            GetSecurityInfo(
                handle.as_raw_handle(),
                SE_KERNEL_OBJECT,
                ASKED,
                &mut owner,
                std::ptr::null_mut(),
                std::ptr::null_mut(),
                &mut labels,
                &mut descriptor,
            )
        };
        if outcome != ERROR_SUCCESS {
            return Err(io::Error::from_raw_os_error(outcome.cast_signed()));
        }
        let descriptor = Descriptor::allocated(descriptor);
        if owner.is_null() {
            return Err(io::Error::other("has no owner"));
        }
        // SAFETY: it points into the descriptor, which still lives.
        let owner = unsafe { sid::text(owner) }?;
        // SAFETY: as above, or null.
        let integrity = unsafe { label(labels) }?.unwrap_or(UNLABELLED);
        Ok(Self { owner, integrity, text: to_text(&descriptor)? })
    }

    /// Whether `user` may trust it: it is theirs, and no process of a lower level has made it.
    pub fn is_of(&self, user: &User) -> bool {
        self.owner == user.sid() && self.integrity >= user.integrity()
    }
}

/// The integrity level in a list of labels.
///
/// # Safety
///
/// `labels` is null or points at a whole list that lives through the call.
unsafe fn label(labels: *const ACL) -> io::Result<Option<u32>> {
    if labels.is_null() {
        return Ok(None);
    }
    // SAFETY: the caller vouches for it.
    let count = unsafe { labels.read() }.AceCount;
    for index in 0..count.into() {
        let mut entry: *mut c_void = std::ptr::null_mut();
        // SAFETY: the caller vouches for the list; the other pointer is to a local.
        if unsafe { GetAce(labels, index, &mut entry) } == 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: every entry begins with a header.
        let header = unsafe { entry.cast::<ACE_HEADER>().read() };
        if header.AceType == SYSTEM_MANDATORY_LABEL_ACE_TYPE {
            let entry = entry.cast::<SYSTEM_MANDATORY_LABEL_ACE>();
            // SAFETY: its type tells that it is one, in which the identifier begins here.
            let sid = unsafe { &raw mut (*entry).SidStart };
            // SAFETY: it lies in the entry, whole.
            let sid = unsafe { sid::text(sid.cast()) }?;
            return Ok(sid::last_number(&sid));
        }
    }
    Ok(None)
}

pub(crate) fn to_text(descriptor: &Descriptor) -> io::Result<String> {
    let mut text = std::ptr::null_mut();
    // SAFETY: the descriptor is whole, the other pointer is to a local; the length is not asked for.
    let told = unsafe {
        ConvertSecurityDescriptorToStringSecurityDescriptorW(
            descriptor.0,
            SDDL_REVISION_1,
            // A label stands in the system's list; asking an object for all of that takes a privilege.
            ASKED | SACL_SECURITY_INFORMATION,
            &mut text,
            std::ptr::null_mut(),
        )
    };
    if told == 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the call has succeeded, so that this is a text of its making.
    unsafe { sid::take_wide(text) }
}
