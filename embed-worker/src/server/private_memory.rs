//! The worker's own memory: what the operating system could not take back at will.

/// Bytes that belong to this process alone and are not a clean copy of a file; `None` where the
/// system does not tell.
///
/// Mapped model pages do not count: they are the system's cache of the file, shared and droppable.
#[cfg(target_os = "linux")]
pub(super) fn private_bytes() -> Option<u64> {
    let rollup = std::fs::read_to_string("/proc/self/smaps_rollup").ok()?;
    let line = rollup.lines().find_map(|line| line.strip_prefix("Anonymous:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

/// Bytes that belong to this process alone: what it has committed, be it in memory or in the page file.
/// The working set would count the model's pages as well.
#[cfg(windows)]
pub(super) fn private_bytes() -> Option<u64> {
    embed_windows::memory::private_bytes().ok()
}

/// Bytes that belong to this process alone; not told here yet.
#[cfg(not(any(target_os = "linux", windows)))]
pub(super) fn private_bytes() -> Option<u64> {
    None
}
