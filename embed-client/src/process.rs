//! Ending another process.

use std::io;

/// Ends a process without its leave; that it has gone already is no error.
#[cfg(unix)]
pub(crate) fn kill(pid: u32) -> io::Result<()> {
    use rustix::process::{Pid, Signal, kill_process};

    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
    let pid = pid.ok_or(io::ErrorKind::InvalidInput)?;
    match kill_process(pid, Signal::KILL) {
        Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Ends a process without its leave.
#[cfg(windows)]
pub(crate) fn kill(pid: u32) -> io::Result<()> {
    use std::os::windows::process::CommandExt;
    use std::process::{Command, Stdio};

    // winbase.h
    const CREATE_NO_WINDOW: u32 = 0x0800_0000;
    let status = Command::new("taskkill.exe")
        .args(["/F", "/PID", &pid.to_string()])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .creation_flags(CREATE_NO_WINDOW)
        .status()?;
    // 128: there is no such process.
    if status.success() || status.code() == Some(128) {
        Ok(())
    } else {
        Err(io::Error::other(format!("taskkill: {status}")))
    }
}
