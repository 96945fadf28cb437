//! The one map of the file, shared by everything that was read from it.
//!
//! The contract: the file is not cut or rewritten while it is mapped. It may be renamed, replaced
//! or deleted. On Unix, touching pages of a file that was cut raises SIGBUS, which kills this
//! process and no other: that the worker is a process of its own is the cure for it. A file
//! that is rewritten in place gives wrong vectors, never a read out of bounds: whatever was
//! checked is kept in private memory.

use std::fs::File;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use memmap2::Mmap;

use super::GgufError;

/// The bytes of a file, mapped or held.
#[derive(Debug)]
pub(super) enum Map {
    Mapped(Mmap),
    Owned(Vec<u8>),
}

impl Map {
    pub(super) fn open(path: &Path) -> Result<Self, GgufError> {
        let cannot_open = |source| GgufError::Open { path: path.to_path_buf(), source };
        // Asked before opening, because opening a named pipe would wait for its writer.
        if !std::fs::metadata(path).map_err(cannot_open)?.is_file() {
            return Err(GgufError::NotAFile { path: path.to_path_buf() });
        }
        let file = open_shared(path).map_err(cannot_open)?;
        if file.metadata().map_err(cannot_open)?.len() == 0 {
            // An empty map is an error to some operating systems; an empty file is one to us.
            return Ok(Self::Owned(Vec::new()));
        }
        map_file(&file)
            .map(Self::Mapped)
            .map_err(|source| GgufError::Map { path: path.to_path_buf(), source })
    }

    pub(super) fn from_bytes(bytes: Vec<u8>) -> Self {
        Self::Owned(bytes)
    }

    pub(super) fn bytes(&self) -> &[u8] {
        match self {
            Self::Mapped(map) => map,
            Self::Owned(bytes) => bytes,
        }
    }
}

#[cfg(not(windows))]
fn open_shared(path: &Path) -> std::io::Result<File> {
    File::open(path)
}

/// Others may read, write, rename and delete the file while it is open: a model store replaces
/// models under running workers.
#[cfg(windows)]
fn open_shared(path: &Path) -> std::io::Result<File> {
    use std::os::windows::fs::OpenOptionsExt as _;

    const FILE_SHARE_READ: u32 = 1;
    const FILE_SHARE_WRITE: u32 = 2;
    const FILE_SHARE_DELETE: u32 = 4;

    File::options()
        .read(true)
        .share_mode(FILE_SHARE_READ | FILE_SHARE_WRITE | FILE_SHARE_DELETE)
        .open(path)
}

#[expect(unsafe_code, reason = "mapping a file is unsafe, because others may change it")]
fn map_file(file: &File) -> std::io::Result<Mmap> {
    // SAFETY: the map is read-only, and the file must not be changed while it is mapped: the
    // contract at the head of this module, which `GgufFile::open` passes on to its callers. All
    // positions that index the map are private copies that were checked once, so that even a
    // rewritten file cannot lead out of bounds.
    unsafe { Mmap::map(file) }
}

/// A range of the file that keeps the file mapped.
#[derive(Clone, Debug)]
pub struct Slice {
    map: Arc<Map>,
    start: usize,
    end: usize,
}

impl Slice {
    /// `range` must lie within the map: the reader has checked it.
    pub(super) fn new(map: &Arc<Map>, range: Range<usize>) -> Self {
        debug_assert!(map.bytes().get(range.clone()).is_some());
        Self { map: Arc::clone(map), start: range.start, end: range.end }
    }

    /// The bytes, where the operating system mapped them.
    pub fn bytes(&self) -> &[u8] {
        &self.map.bytes()[self.start..self.end]
    }

    /// Where the range starts in the file.
    pub fn offset(&self) -> usize {
        self.start
    }
}
