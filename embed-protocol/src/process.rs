//! Ending another process.

use std::io;

/// Ends a process without its leave; that it has gone already is no error.
///
/// Whether it is the process that is meant, the caller must know: see
/// [`crate::WorkerCard::is_in_reach`].
///
/// # Errors
///
/// It is none of this user's, or no process id at all.
#[cfg(unix)]
pub fn kill(pid: u32) -> io::Result<()> {
    use rustix::process::{Pid, Signal, kill_process};

    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
    let pid = pid.ok_or(io::ErrorKind::InvalidInput)?;
    match kill_process(pid, Signal::KILL) {
        Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Ends a process without its leave; that it has gone already is no error.
///
/// Whether it is the process that is meant, the caller must know: see
/// [`crate::WorkerCard::is_in_reach`].
///
/// # Errors
///
/// It is none of this user's, or `taskkill` cannot be started.
#[cfg(windows)]
pub fn kill(pid: u32) -> io::Result<()> {
    use std::os::windows::process::CommandExt;
    use std::process::{Command, Stdio};

    // winbase.h
    const CREATE_NO_WINDOW: u32 = 0x0800_0000;
    /// What `taskkill` ends with if there is no such process.
    const NOT_FOUND: i32 = 128;
    let status = Command::new("taskkill.exe")
        .args(["/F", "/PID", &pid.to_string()])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .creation_flags(CREATE_NO_WINDOW)
        .status()?;
    if status.success() || status.code() == Some(NOT_FOUND) {
        Ok(())
    } else {
        Err(io::Error::other(format!("taskkill: {status}")))
    }
}
