//! Who this process runs as.
#![expect(
    unsafe_code,
    reason = "the token of the process is asked through Windows' own structures"
)]

use std::io;
use std::os::windows::io::{AsRawHandle, FromRawHandle, OwnedHandle};

use windows_sys::Win32::Foundation::{ERROR_INSUFFICIENT_BUFFER, HANDLE};
use windows_sys::Win32::Security::{
    GetTokenInformation, TOKEN_INFORMATION_CLASS, TOKEN_MANDATORY_LABEL, TOKEN_QUERY, TOKEN_USER,
    TokenIntegrityLevel, TokenUser,
};
use windows_sys::Win32::System::Threading::{GetCurrentProcess, OpenProcessToken};

use crate::sid;

/// A user at an integrity level: what one process of theirs may do to another.
///
/// An elevated process of the same user is at another level than their editor, which could not write
/// to its pipe: so the two are as different as two users.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    sid: String,
    integrity: u32,
}

impl User {
    /// The user of this process.
    ///
    /// # Errors
    ///
    /// The system's; none is known that a process gets about itself.
    pub fn current() -> io::Result<Self> {
        let token = own_token()?;
        let user = TokenInformation::of(&token, TokenUser)?;
        // SAFETY: it is what was asked for, and the identifier lies in the same buffer.
        let sid = unsafe { sid::text(user.read::<TOKEN_USER>().User.Sid) }?;
        let label = TokenInformation::of(&token, TokenIntegrityLevel)?;
        // SAFETY: as above.
        let label = unsafe { sid::text(label.read::<TOKEN_MANDATORY_LABEL>().Label.Sid) }?;
        let integrity = sid::last_number(&label);
        let integrity = integrity.ok_or_else(|| io::Error::other(format!("integrity {label}")))?;
        Ok(Self { sid, integrity })
    }

    /// Their security identifier: `S-1-5-21-…-1001`.
    pub fn sid(&self) -> &str {
        &self.sid
    }

    /// The integrity level of the process: 4096 is low, 8192 medium, 12288 high.
    pub fn integrity(&self) -> u32 {
        self.integrity
    }
}

fn own_token() -> io::Result<OwnedHandle> {
    let mut token: HANDLE = std::ptr::null_mut();
    // SAFETY: it takes nothing, and gives a number that stands for this process.
    let process = unsafe { GetCurrentProcess() };
    // SAFETY: both handles are as the function wants them, the second to be written.
    if unsafe { OpenProcessToken(process, TOKEN_QUERY, &mut token) } == 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: it was just opened, and nobody else closes it.
    Ok(unsafe { OwnedHandle::from_raw_handle(token) })
}

/// An answer about a token: a structure, and behind it what it points at.
struct TokenInformation(Vec<u64>);

impl TokenInformation {
    fn of(token: &OwnedHandle, class: TOKEN_INFORMATION_CLASS) -> io::Result<Self> {
        let mut bytes = 0;
        // SAFETY: nothing is written where the length is 0, but the length that is wanted.
        unsafe {
            GetTokenInformation(token.as_raw_handle(), class, std::ptr::null_mut(), 0, &mut bytes)
        };
        let error = io::Error::last_os_error();
        if error.raw_os_error() != Some(ERROR_INSUFFICIENT_BUFFER.cast_signed()) {
            return Err(error);
        }
        // Of eights, so that it is aligned for every structure.
        let mut buffer = vec![0_u64; (bytes as usize).div_ceil(size_of::<u64>())];
        let place = buffer.as_mut_ptr().cast();
        // SAFETY: the buffer has the length that was asked for.
        let told =
            unsafe { GetTokenInformation(token.as_raw_handle(), class, place, bytes, &mut bytes) };
        if told == 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(Self(buffer))
    }

    /// The structure at its beginning. What that points at lives as long as this value.
    ///
    /// # Safety
    ///
    /// `T` is the structure of the class that was asked for.
    unsafe fn read<T: Copy>(&self) -> T {
        debug_assert!(size_of_val(&self.0[..]) >= size_of::<T>());
        // SAFETY: Windows has filled it with a `T`, the caller says; eights are aligned for any.
        unsafe { self.0.as_ptr().cast::<T>().read() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_has_a_user_and_a_level() {
        let user = User::current().expect("every process has one");
        assert!(user.sid().starts_with("S-1-5-"), "{user:?}");
        // Untrusted to system, in steps of some hundreds.
        assert!((0x1000..=0x4000).contains(&user.integrity()), "{user:?}");
        assert_eq!(User::current().expect("as before"), user);
    }
}
