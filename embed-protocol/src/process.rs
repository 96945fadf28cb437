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
/// It is none of this user's.
#[cfg(windows)]
pub fn kill(pid: u32) -> io::Result<()> {
    embed_windows::process::end(pid)
}
