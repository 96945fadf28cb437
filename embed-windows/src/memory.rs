//! The memory of this process: what is its own, and what of a mapped file is there.
#![expect(unsafe_code, reason = "Windows' own structures")]

use std::io;

use windows_sys::Win32::System::Memory::{PrefetchVirtualMemory, WIN32_MEMORY_RANGE_ENTRY};
use windows_sys::Win32::System::ProcessStatus::{
    GetProcessMemoryInfo, PROCESS_MEMORY_COUNTERS, PROCESS_MEMORY_COUNTERS_EX,
    PSAPI_WORKING_SET_EX_INFORMATION, QueryWorkingSetEx,
};
use windows_sys::Win32::System::Threading::GetCurrentProcess;

/// Pages of a range that are looked at: what was read once was read from its beginning to its end, and
/// what the system has taken back it has taken from anywhere.
const LOOKED_AT: usize = 16;

/// The bit that says that a page is in the working set (psapi.h).
const VALID: usize = 1;

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

/// Asks the system to read `bytes` of a mapped file, as far as they are not in memory, in as few and as
/// large pieces as it likes. May take as long as the disk does.
///
/// # Errors
///
/// The system's. Nothing is lost but time when they are used.
pub fn prefetch(bytes: &[u8]) -> io::Result<()> {
    if bytes.is_empty() {
        return Ok(());
    }
    let range = WIN32_MEMORY_RANGE_ENTRY {
        VirtualAddress: bytes.as_ptr().cast_mut().cast(),
        NumberOfBytes: bytes.len(),
    };
    // SAFETY: it takes nothing, and gives a number that stands for this process.
    let process = unsafe { GetCurrentProcess() };
    // SAFETY: one range, which is this process's and is not written to; there are no flags.
    let asked = unsafe { PrefetchVirtualMemory(process, 1, &range, 0) };
    if asked == 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Whether whoever touches `bytes` of a mapped file waits for no page, as far as some of them tell.
///
/// One that is not in this process's working set may still be in memory, and then costs a microsecond:
/// the system does not tell that.
///
/// # Errors
///
/// The system's.
pub fn is_at_hand(bytes: &[u8]) -> io::Result<bool> {
    if bytes.is_empty() {
        return Ok(true);
    }
    // From the first byte to the last.
    let mut pages: [_; LOOKED_AT] = std::array::from_fn(|n| {
        let place = &bytes[(bytes.len() - 1) * n / (LOOKED_AT - 1)];
        PSAPI_WORKING_SET_EX_INFORMATION {
            VirtualAddress: std::ptr::from_ref(place).cast_mut().cast(),
            ..Default::default()
        }
    });
    // SAFETY: it takes nothing, and gives a number that stands for this process.
    let process = unsafe { GetCurrentProcess() };
    let size = size_of_val(&pages) as u32;
    // SAFETY: so many bytes of structures, which are written to.
    if unsafe { QueryWorkingSetEx(process, pages.as_mut_ptr().cast(), size) } == 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: every bit of it is a number, whichever form it has.
    Ok(pages.iter().all(|page| unsafe { page.VirtualAttributes.Flags } & VALID != 0))
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::Write as _;

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

    /// A mapped file of so many bytes, none of which this process has touched, and the file's name.
    fn mapped(bytes: usize) -> (memmap2::Mmap, std::path::PathBuf) {
        let path = std::env::temp_dir()
            .join(format!("embed-windows-mapped-{}-{bytes}", std::process::id()));
        let mut file = File::create_new(&path).expect("nobody has it");
        file.write_all(&vec![7; bytes]).expect("room");
        drop(file);
        // SAFETY: nobody else knows the file.
        let map = unsafe { memmap2::Mmap::map(&File::open(&path).expect("ours")) };
        (map.expect("maps"), path)
    }

    #[test]
    fn what_was_touched_is_at_hand_and_what_was_not_is_asked_for() {
        let (map, path) = mapped(8 << 20);
        assert!(!is_at_hand(&map).expect("is told"), "nobody has touched it");
        prefetch(&map).expect("may be asked for");
        prefetch(&map[4097..9000]).expect("any part of it");
        let sum: u64 = map.iter().step_by(4096).map(|byte| u64::from(*byte)).sum();
        assert_eq!(sum, 7 * 2048);
        assert!(is_at_hand(&map).expect("is told"), "every page was touched");
        assert!(is_at_hand(&map[5000..5001]).expect("is told"), "a byte of it");
        drop(map);
        std::fs::remove_file(path).expect("ours");
    }

    #[test]
    fn half_of_it_is_not_all_of_it() {
        let (map, path) = mapped(8 << 20);
        let sum: u64 = map[..4 << 20].iter().step_by(4096).map(|byte| u64::from(*byte)).sum();
        assert_eq!(sum, 7 * 1024);
        assert!(!is_at_hand(&map).expect("is told"));
        drop(map);
        std::fs::remove_file(path).expect("ours");
    }

    #[test]
    fn nothing_is_at_hand_and_need_not_be_asked_for() {
        assert!(is_at_hand(&[]).expect("is told"));
        prefetch(&[]).expect("nothing to ask for");
    }
}
