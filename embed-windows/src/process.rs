//! Ending another process.
#![expect(unsafe_code, reason = "the standard library ends its own children only")]

use std::io;
use std::os::windows::io::{AsRawHandle, FromRawHandle, OwnedHandle};

use windows_sys::Win32::Foundation::{ERROR_INVALID_PARAMETER, WAIT_OBJECT_0};
use windows_sys::Win32::System::Threading::{
    OpenProcess, PROCESS_SYNCHRONIZE, PROCESS_TERMINATE, TerminateProcess, WaitForSingleObject,
};

/// What a process that was ended so ends with: as after an error.
const EXIT_CODE: u32 = 1;

/// Ends a process without its leave; that it has gone already is no error.
///
/// # Errors
///
/// It is none of this user's.
pub fn end(pid: u32) -> io::Result<()> {
    let rights = PROCESS_TERMINATE | PROCESS_SYNCHRONIZE;
    // SAFETY: it takes numbers only.
    let process = unsafe { OpenProcess(rights, 0, pid) };
    if process.is_null() {
        let error = io::Error::last_os_error();
        // There is no such process.
        if error.raw_os_error() == Some(ERROR_INVALID_PARAMETER.cast_signed()) {
            return Ok(());
        }
        return Err(error);
    }
    // SAFETY: it was just opened, and nobody else closes it.
    let process = unsafe { OwnedHandle::from_raw_handle(process) };
    // SAFETY: the handle is open and has the right.
    if unsafe { TerminateProcess(process.as_raw_handle(), EXIT_CODE) } != 0 {
        return Ok(());
    }
    let error = io::Error::last_os_error();
    // One that has ended, and that somebody still holds, is not ended again.
    // SAFETY: the handle is open and has the right; it does not wait.
    let ended = unsafe { WaitForSingleObject(process.as_raw_handle(), 0) } == WAIT_OBJECT_0;
    if ended { Ok(()) } else { Err(error) }
}

/// Whether there is a process of that number that has not ended.
///
/// # Errors
///
/// It is none of this user's.
#[cfg(test)]
pub(crate) fn is_running(pid: u32) -> io::Result<bool> {
    // SAFETY: it takes numbers only.
    let process = unsafe { OpenProcess(PROCESS_SYNCHRONIZE, 0, pid) };
    if process.is_null() {
        let error = io::Error::last_os_error();
        let is_none = error.raw_os_error() == Some(ERROR_INVALID_PARAMETER.cast_signed());
        return if is_none { Ok(false) } else { Err(error) };
    }
    // SAFETY: it was just opened, and nobody else closes it.
    let process = unsafe { OwnedHandle::from_raw_handle(process) };
    // SAFETY: the handle is open and has the right; it does not wait.
    Ok(unsafe { WaitForSingleObject(process.as_raw_handle(), 0) } != WAIT_OBJECT_0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Command, Stdio};

    #[test]
    fn a_process_is_ended_once_and_again() {
        let mut child = Command::new(std::env::current_exe().expect("this"))
            .args(["--exact", "process::tests::waits", "--ignored"])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .expect("starts");
        assert!(child.try_wait().expect("ours").is_none(), "it waits");
        end(child.id()).expect("ours");
        assert_eq!(child.wait().expect("ours").code(), Some(EXIT_CODE.cast_signed()));
        end(child.id()).expect("has ended, but is still held");
    }

    #[test]
    #[ignore = "the process that the test above ends"]
    fn waits() {
        let mut line = String::new();
        std::io::stdin().read_line(&mut line).expect("the end");
    }

    #[test]
    fn no_process_is_as_good_as_one_that_has_ended() {
        // Numbers of processes are multiples of four.
        end(u32::MAX - 1).expect("there is none");
    }
}
