//! The memory of this process.
#![expect(unsafe_code, reason = "Windows' own structures")]

use std::io;

use windows_sys::Win32::System::ProcessStatus::{
    GetProcessMemoryInfo, PROCESS_MEMORY_COUNTERS, PROCESS_MEMORY_COUNTERS_EX,
};
use windows_sys::Win32::System::Threading::GetCurrentProcess;

/// Bytes that belong to this process alone, be they in memory or in the page file ("private bytes",
/// "commit size"). What of a mapped file is in memory is not among them, as it is in the working set.
///
/// # Errors
///
/// The system's; none is known that a process gets about itself.
pub fn private_bytes() -> io::Result<u64> {
    let size = size_of::<PROCESS_MEMORY_COUNTERS_EX>() as u32;
    let mut counters = PROCESS_MEMORY_COUNTERS_EX { cb: size, ..Default::default() };
    let place = (&raw mut counters).cast::<PROCESS_MEMORY_COUNTERS>();
    // SAFETY: it takes nothing, and gives a number that stands for this process.
    let process = unsafe { GetCurrentProcess() };
    // SAFETY: the larger structure begins as the smaller one, and its size tells which it is.
    if unsafe { GetProcessMemoryInfo(process, place, size) } == 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(counters.PrivateUsage as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Wine 8 counts nothing.
    #[test]
    fn memory_that_is_taken_is_counted() {
        const TAKEN: usize = 64 << 20;
        if crate::is_wine() {
            return assert_eq!(private_bytes().expect("is told"), 0);
        }
        let before = private_bytes().expect("every process has some");
        let taken = std::hint::black_box(vec![1_u8; TAKEN]);
        let after = private_bytes().expect("as before");
        assert!(after >= before + TAKEN as u64 / 2, "{before}, then {after}");
        drop(taken);
    }
}
