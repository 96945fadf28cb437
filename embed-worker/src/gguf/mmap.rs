//! The one map of the file, shared by everything that was read from it.
//!
//! The contract: the file is not cut or rewritten while it is mapped, and whoever cannot promise that
//! asks [`SourceFile::check`] before it believes what it has read. It may be renamed, replaced or
//! deleted. On Unix, touching pages of a file that was cut raises SIGBUS, which kills this
//! process and no other: that the worker is a process of its own is the cure for it. A file
//! that is rewritten in place never leads to a read out of bounds: whatever was checked is kept in
//! private memory.

use std::fs::File;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use memmap2::Mmap;

use super::GgufError;
use super::source::SourceFile;

/// The bytes of a file, mapped or held.
#[derive(Debug)]
pub(super) enum Map {
    Mapped { map: Mmap, source: Arc<SourceFile> },
    Owned(Vec<u8>),
}

impl Map {
    pub(super) fn open(path: &Path) -> Result<Self, GgufError> {
        let source = Arc::new(SourceFile::open(path)?);
        if source.identity().bytes == 0 {
            // An empty map is an error to some operating systems; an empty file is one to us.
            return Ok(Self::Owned(Vec::new()));
        }
        let failed = |error| GgufError::Map { path: path.to_path_buf(), source: error };
        let map = map_file(source.file()).map_err(failed)?;
        // What has to be read is to lie in the system's cache in large pages, where its file system can:
        // thousands of them are entered in a process's page tables sooner than millions.
        #[cfg(target_os = "linux")]
        let _ = map.advise(memmap2::Advice::HugePage);
        Ok(Self::Mapped { map, source })
    }

    pub(super) fn from_bytes(bytes: Vec<u8>) -> Self {
        Self::Owned(bytes)
    }

    pub(super) fn bytes(&self) -> &[u8] {
        match self {
            Self::Mapped { map, .. } => map,
            Self::Owned(bytes) => bytes,
        }
    }

    /// The file, if there is one.
    pub(super) fn source(&self) -> Option<&Arc<SourceFile>> {
        match self {
            Self::Mapped { source, .. } => Some(source),
            Self::Owned(_) => None,
        }
    }
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

    /// Has the range read that is about to be used, if it is not in memory. The system may do so or not.
    pub fn fetch(&self) {
        if let Map::Mapped { map, .. } = &*self.map {
            // By way of the page tables: what is only asked for is read in the smallest pages.
            #[cfg(target_os = "linux")]
            if self.populate(map).is_ok() {
                return;
            }
            #[cfg(unix)]
            let _ = map.advise_range(memmap2::Advice::WillNeed, self.start, self.end - self.start);
            #[cfg(windows)]
            let _ = embed_windows::memory::prefetch(&map[self.start..self.end]);
        }
    }

    /// Whether nobody would wait for the range, as far as some of its pages tell.
    #[cfg(windows)]
    pub(super) fn is_at_hand(&self) -> bool {
        match &*self.map {
            Map::Mapped { map, .. } => {
                // What is not told is not asked for.
                embed_windows::memory::is_at_hand(&map[self.start..self.end]).unwrap_or(true)
            }
            Map::Owned(_) => true,
        }
    }

    /// Enters the range, which is about to be used for the first time, in this process's page tables.
    /// The system may do so or not.
    pub fn enter(&self) {
        #[cfg(target_os = "linux")]
        if let Map::Mapped { map, .. } = &*self.map {
            let _ = self.populate(map);
        }
    }

    /// Reads what is not in memory, and enters all of it; Linux can since 5.14.
    #[cfg(target_os = "linux")]
    fn populate(&self, map: &Mmap) -> std::io::Result<()> {
        map.advise_range(memmap2::Advice::PopulateRead, self.start, self.end - self.start)
    }

    /// The range in pieces of `bytes` bytes, the last of which may have fewer.
    pub(super) fn pieces(&self, bytes: usize) -> impl Iterator<Item = Self> {
        (self.start..self.end).step_by(bytes).map(move |start| Self {
            map: Arc::clone(&self.map),
            start,
            end: self.end.min(start + bytes),
        })
    }

    /// Where the range starts in the file.
    pub fn offset(&self) -> usize {
        self.start
    }
}
