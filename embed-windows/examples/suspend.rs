//! `suspend PID` stops a process where it stands, `suspend --resume PID` lets it go on: what SIGSTOP and
//! SIGCONT are elsewhere. For tests of what happens when a worker hangs.
#![cfg_attr(windows, expect(unsafe_code, reason = "only the system's native interface can do it"))]

use std::process::ExitCode;

fn main() -> ExitCode {
    let mut args = std::env::args().skip(1).peekable();
    let resume = args.next_if_eq("--resume").is_some();
    match args.next().and_then(|pid| pid.parse().ok()) {
        Some(pid) if suspend(pid, resume) => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    }
}

#[cfg(windows)]
fn suspend(pid: u32, resume: bool) -> bool {
    use std::os::windows::io::{AsRawHandle, FromRawHandle, OwnedHandle};
    use windows_sys::Win32::Foundation::HANDLE;
    use windows_sys::Win32::System::Threading::{OpenProcess, PROCESS_SUSPEND_RESUME};

    #[link(name = "ntdll")]
    unsafe extern "system" {
        fn NtSuspendProcess(process: HANDLE) -> i32;
        fn NtResumeProcess(process: HANDLE) -> i32;
    }

    // SAFETY: it takes numbers only.
    let process = unsafe { OpenProcess(PROCESS_SUSPEND_RESUME, 0, pid) };
    if process.is_null() {
        return false;
    }
    // SAFETY: it was just opened, and nobody else closes it.
    let process = unsafe { OwnedHandle::from_raw_handle(process) };
    let act = if resume { NtResumeProcess } else { NtSuspendProcess };
    // SAFETY: the handle is open and has the right.
    unsafe { act(process.as_raw_handle()) >= 0 }
}

#[cfg(not(windows))]
fn suspend(_pid: u32, _resume: bool) -> bool {
    false
}
