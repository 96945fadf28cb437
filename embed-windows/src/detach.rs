//! Starting a program that is to outlive whoever starts it: no window, deaf to their Ctrl-C, and outside
//! of the job that ends with them.
//!
//! Editors put what they start into a job, so that nothing is left of it at their end; their children's
//! children are in it as well. A job may let its processes start others outside of it, or not.
#![expect(unsafe_code, reason = "the standard library does not tell of jobs")]

use std::io;
use std::os::windows::io::AsRawHandle;
use std::os::windows::process::CommandExt;
use std::process::{Child, Command};

use windows_sys::Win32::System::JobObjects::IsProcessInJob;
use windows_sys::Win32::System::Threading::{
    CREATE_BREAKAWAY_FROM_JOB, CREATE_NEW_PROCESS_GROUP, CREATE_NO_WINDOW,
};

/// How a program is started in any case: a console program has a console of its own then, which nobody
/// sees and which closes no other's; and a Ctrl-C in another is not for it.
const ALONE: u32 = CREATE_NO_WINDOW | CREATE_NEW_PROCESS_GROUP;

/// A program that was started.
#[derive(Debug)]
pub struct Detached {
    /// Its process.
    pub child: Child,
    /// Whether it is in a job all the same, whose end may be its own: the job lets nobody go, or is one
    /// of several.
    pub is_in_job: bool,
}

/// Starts `command` so; where a job forbids to leave it, inside of that.
///
/// # Errors
///
/// The system's: it cannot be started, neither way.
pub fn spawn(mut command: Command) -> io::Result<Detached> {
    let child = match command.creation_flags(ALONE | CREATE_BREAKAWAY_FROM_JOB).spawn() {
        // What a job says that forbids it; should something else be forbidden, it is once more.
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            command.creation_flags(ALONE).spawn()?
        }
        spawned => spawned?,
    };
    // If the system does not tell, nobody can be told.
    let is_in_job = is_in_job(&child).unwrap_or(false);
    Ok(Detached { child, is_in_job })
}

/// Whether a process is in any job.
fn is_in_job(child: &Child) -> io::Result<bool> {
    let mut found = 0;
    // SAFETY: the child's handle is open as long as the child; no job means any; the place is a local.
    if unsafe { IsProcessInJob(child.as_raw_handle(), std::ptr::null_mut(), &mut found) } == 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(found != 0)
}

#[cfg(test)]
mod tests;
