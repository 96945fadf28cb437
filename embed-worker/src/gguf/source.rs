//! The file behind a map: whether it still is what was mapped.
//!
//! A map shows the file as it is at every moment. What was rewritten shows at once, what was cut off
//! shows as zeros to the end of the page and kills whoever looks beyond, and what was replaced under
//! its name does not show at all. So whoever answers from a map asks here afterwards: an answer is
//! right if the file has not changed until after it was computed.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::GgufError;

/// How long nobody must have written to a file before it is mapped. Programs write in parts, and what
/// is between two of them is no model; and the clock that file times are taken from stands still for
/// up to 10 ms, so that a change within that of another would not show.
const QUIET: Duration = Duration::from_millis(250);

/// How long a file may go on being written before it is refused.
const WRITER_PATIENCE: Duration = Duration::from_secs(3);

/// How often a file may be replaced while it is opened before its name is believed.
const REPLACED_MAX: usize = 3;

/// What tells a file from every other, and from itself after a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileIdentity {
    /// The file system (on Windows, the volume's serial number).
    pub device: u64,
    /// The file within it (inode, or file index).
    pub index: u64,
    /// Size.
    pub bytes: u64,
    /// Last modification, in nanoseconds since 1970.
    pub modified_ns: i64,
    /// Last change of anything about the file, in nanoseconds since 1970. No program can set it back.
    /// 0 on Windows, which does not tell.
    pub changed_ns: i64,
}

/// What has become of a file since it was mapped.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FileChanged {
    /// Its name means another file now.
    #[error("file `{}`: was replaced by another", path.display())]
    Replaced {
        /// The name.
        path: PathBuf,
    },
    /// It is longer or shorter.
    #[error("file `{}`: has {found} bytes, had {mapped} when it was mapped", path.display())]
    Resized {
        /// Its name.
        path: PathBuf,
        /// Its size now.
        found: u64,
        /// Its size when it was mapped.
        mapped: u64,
    },
    /// It was written to, or its attributes were changed: which of the two, nobody can tell.
    #[error("file `{}`: was changed in place", path.display())]
    Rewritten {
        /// Its name.
        path: PathBuf,
    },
    /// The system tells nothing of an open file.
    #[error("file `{}`: the system no longer tells of it ({reason})", path.display())]
    Unknown {
        /// Its name.
        path: PathBuf,
        /// The system's reason.
        reason: String,
    },
}

/// An open file with what it was when it was opened.
#[derive(Debug)]
pub struct SourceFile {
    path: PathBuf,
    file: File,
    /// As its name tells.
    named: FileIdentity,
    /// As the open file tells. Some file systems number a file differently here.
    opened: FileIdentity,
}

impl SourceFile {
    /// Opens the file at `path`; waits a moment if it was written just now.
    ///
    /// # Errors
    ///
    /// There is no such file, it is none, it cannot be opened, or somebody goes on writing to it.
    pub fn open(path: &Path) -> Result<Self, GgufError> {
        let cannot_open = |source| GgufError::Open { path: path.to_path_buf(), source };
        let mut replaced = 0;
        loop {
            // Asked before opening, because opening a named pipe would wait for its writer.
            if !std::fs::metadata(path).map_err(cannot_open)?.is_file() {
                return Err(GgufError::NotAFile { path: path.to_path_buf() });
            }
            let file = open_shared(path).map_err(cannot_open)?;
            let opened = settled(path, &file, QUIET)?;
            let named = FileIdentity::of_path(path).map_err(cannot_open)?;
            if named == opened || replaced == REPLACED_MAX {
                return Ok(Self { path: path.to_path_buf(), file, named, opened });
            }
            replaced += 1;
        }
    }

    /// The name it was opened by.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What it was when it was opened.
    pub fn identity(&self) -> FileIdentity {
        self.named
    }

    pub(super) fn file(&self) -> &File {
        &self.file
    }

    /// Reads at `offset`, which touches nobody else's position and not the map.
    ///
    /// # Errors
    ///
    /// The system's. At the end of the file it reads nothing.
    pub fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        #[cfg(unix)]
        let read = std::os::unix::fs::FileExt::read_at(&self.file, buffer, offset);
        #[cfg(windows)]
        let read = std::os::windows::fs::FileExt::seek_read(&self.file, buffer, offset);
        read
    }

    /// Whether the file is still what was mapped: one question to the system, some microseconds.
    ///
    /// A file whose name is gone is whole as long as nobody has written to it: who deletes or moves a
    /// model does not mean that its users shall fail.
    ///
    /// # Errors
    ///
    /// What has changed. Whatever was read of the map since it was last unchanged is worth nothing.
    pub fn check(&self) -> Result<(), FileChanged> {
        let (found, mapped) = match FileIdentity::of_path(&self.path) {
            Ok(found) if found == self.named => return Ok(()),
            Ok(found) => (found, self.named),
            Err(_) => {
                let found = FileIdentity::of_file(&self.file).map_err(|error| {
                    FileChanged::Unknown { path: self.path.clone(), reason: error.to_string() }
                })?;
                // It cannot have become another one, and what else is told of it changes with its name
                // alone: its last change does, FAT numbers files by where their names lie, and Wine
                // knows a volume by the name only.
                let FileIdentity { bytes, modified_ns, .. } = found;
                let found = FileIdentity { bytes, modified_ns, ..self.opened };
                if found == self.opened {
                    return Ok(());
                }
                (found, self.opened)
            }
        };
        let path = self.path.clone();
        Err(if (found.device, found.index) != (mapped.device, mapped.index) {
            FileChanged::Replaced { path }
        } else if found.bytes != mapped.bytes {
            FileChanged::Resized { path, found: found.bytes, mapped: mapped.bytes }
        } else {
            FileChanged::Rewritten { path }
        })
    }
}

impl FileIdentity {
    /// Of the file that has this name now.
    ///
    /// # Errors
    ///
    /// The system's, for example that there is none.
    #[cfg(unix)]
    pub fn of_path(path: &Path) -> io::Result<Self> {
        std::fs::metadata(path).map(|metadata| Self::of_metadata(&metadata))
    }

    /// Of an open file.
    ///
    /// # Errors
    ///
    /// The system's.
    #[cfg(unix)]
    pub fn of_file(file: &File) -> io::Result<Self> {
        file.metadata().map(|metadata| Self::of_metadata(&metadata))
    }

    #[cfg(unix)]
    fn of_metadata(metadata: &std::fs::Metadata) -> Self {
        use std::os::unix::fs::MetadataExt as _;

        let nanoseconds =
            |seconds: i64, rest: i64| seconds.saturating_mul(1_000_000_000).saturating_add(rest);
        Self {
            device: metadata.dev(),
            index: metadata.ino(),
            bytes: metadata.size(),
            modified_ns: nanoseconds(metadata.mtime(), metadata.mtime_nsec()),
            changed_ns: nanoseconds(metadata.ctime(), metadata.ctime_nsec()),
        }
    }

    /// Of the file that has this name now.
    ///
    /// # Errors
    ///
    /// The system's, for example that there is none.
    #[cfg(windows)]
    pub fn of_path(path: &Path) -> io::Result<Self> {
        use std::os::windows::fs::OpenOptionsExt as _;

        /// Enough to ask; whoever has opened the file for himself alone does not mind.
        const FILE_READ_ATTRIBUTES: u32 = 0x80;

        let mut options = File::options();
        options.access_mode(FILE_READ_ATTRIBUTES).share_mode(SHARE_ALL);
        Self::of_file(&options.open(path)?)
    }

    /// Of an open file.
    ///
    /// # Errors
    ///
    /// The system's.
    #[cfg(windows)]
    pub fn of_file(file: &File) -> io::Result<Self> {
        /// 1970 in Windows's time, which counts 100 nanoseconds since 1601.
        const UNIX_EPOCH_TICKS: i64 = 116_444_736_000_000_000;

        let found = winapi_util::file::information(file)?;
        let ticks = i64::try_from(found.last_write_time().unwrap_or(0)).unwrap_or(i64::MAX);
        Ok(Self {
            device: found.volume_serial_number(),
            index: found.file_index(),
            bytes: found.file_size(),
            modified_ns: ticks.saturating_sub(UNIX_EPOCH_TICKS).saturating_mul(100),
            changed_ns: 0,
        })
    }

    /// How long ago it was last written to; none if that lies ahead, as clocks of others may.
    fn age(&self) -> Option<Duration> {
        let written = u64::try_from(self.modified_ns.max(self.changed_ns)).unwrap_or(0);
        SystemTime::now().duration_since(UNIX_EPOCH + Duration::from_nanos(written)).ok()
    }
}

/// What `file` is, as soon as nobody has written to it for `quiet`: whatever comes later has a later
/// time.
fn settled(path: &Path, file: &File, quiet: Duration) -> Result<FileIdentity, GgufError> {
    let give_up = Instant::now() + WRITER_PATIENCE;
    loop {
        let cannot_open = |source| GgufError::Open { path: path.to_path_buf(), source };
        let found = FileIdentity::of_file(file).map_err(cannot_open)?;
        let wait = found.age().map_or(Duration::ZERO, |age| quiet.saturating_sub(age));
        if wait.is_zero() {
            return Ok(found);
        }
        let patience = give_up.saturating_duration_since(Instant::now());
        if patience.is_zero() {
            return Err(GgufError::BeingWritten { path: path.to_path_buf() });
        }
        std::thread::sleep(wait.min(patience));
    }
}

#[cfg(not(windows))]
fn open_shared(path: &Path) -> io::Result<File> {
    File::open(path)
}

/// FILE_SHARE_READ, FILE_SHARE_WRITE and FILE_SHARE_DELETE.
#[cfg(windows)]
const SHARE_ALL: u32 = 1 | 2 | 4;

/// Others may read, write, rename and delete the file while it is open: a model store replaces
/// models under running workers.
#[cfg(windows)]
fn open_shared(path: &Path) -> io::Result<File> {
    use std::os::windows::fs::OpenOptionsExt as _;

    File::options().read(true).share_mode(SHARE_ALL).open(path)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// A file in a folder of its own.
    fn written(bytes: &[u8]) -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("a.gguf");
        fs::write(&path, bytes).expect("ours");
        (folder, path)
    }

    #[test]
    fn a_file_that_nobody_touches_is_what_it_was() {
        let (_folder, path) = written(b"abc");
        let source = SourceFile::open(&path).expect("opens");
        assert_eq!(source.identity().bytes, 3);
        fs::read(&path).expect("reading changes nothing");
        assert_eq!(source.check(), Ok(()));
    }

    #[test]
    fn a_file_of_the_same_size_and_time_in_its_place_is_another() {
        let (folder, path) = written(b"abc");
        let source = SourceFile::open(&path).expect("opens");
        let times = fs::metadata(&path).expect("ours").modified().expect("has one");
        let other = folder.path().join("other");
        fs::write(&other, b"xyz").expect("ours");
        File::options().write(true).open(&other).expect("ours").set_modified(times).expect("ours");
        // Not every system lets a name be taken from a file that is open.
        fs::rename(&path, folder.path().join("aside")).expect("ours");
        fs::rename(&other, &path).expect("ours");
        assert_eq!(source.check(), Err(FileChanged::Replaced { path }));
    }

    /// The moment after opening is the hardest: a coarse clock would give both writes one time.
    #[test]
    fn a_file_that_is_rewritten_at_once_has_changed() {
        for _ in 0..5 {
            let (_folder, path) = written(b"abc");
            let source = SourceFile::open(&path).expect("opens");
            fs::write(&path, b"abd").expect("ours");
            assert_eq!(source.check(), Err(FileChanged::Rewritten { path }));
        }
    }

    #[test]
    fn a_file_is_opened_when_it_was_left_alone() {
        let (_folder, path) = written(b"");
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for length in 1..=10 {
                    fs::write(&path, vec![b'a'; length]).expect("ours");
                    std::thread::sleep(QUIET / 10);
                }
            });
            let source = SourceFile::open(&path).expect("opens");
            assert!(source.identity().age() >= Some(QUIET), "{source:?}");
        });
    }

    #[test]
    fn a_file_that_is_never_left_alone_is_refused() {
        let (_folder, path) = written(b"abc");
        let file = File::open(&path).expect("ours");
        // As if somebody went on writing to it: nobody waits for so long.
        let error = settled(&path, &file, Duration::from_secs(3600)).expect_err("written just now");
        assert!(matches!(error, GgufError::BeingWritten { .. }), "{error:?}");
    }

    #[cfg(unix)]
    #[test]
    fn a_time_that_is_set_back_hides_nothing() {
        let (_folder, path) = written(b"abc");
        let times = fs::metadata(&path).expect("ours").modified().expect("has one");
        let source = SourceFile::open(&path).expect("opens");
        fs::write(&path, b"abd").expect("ours");
        File::options().write(true).open(&path).expect("ours").set_modified(times).expect("ours");
        assert_eq!(source.check(), Err(FileChanged::Rewritten { path }));
    }

    #[test]
    fn a_file_that_is_cut_or_grows_has_changed() {
        for bytes in [2, 4] {
            let (_folder, path) = written(b"abc");
            let source = SourceFile::open(&path).expect("opens");
            File::options().write(true).open(&path).expect("ours").set_len(bytes).expect("ours");
            let resized = FileChanged::Resized { path, found: bytes, mapped: 3 };
            assert_eq!(source.check(), Err(resized));
        }
    }

    #[test]
    fn a_file_without_a_name_is_whole_until_it_is_written_to() {
        let (folder, path) = written(b"abc");
        let source = SourceFile::open(&path).expect("opens");
        let elsewhere = folder.path().join("elsewhere");
        fs::rename(&path, &elsewhere).expect("ours");
        assert_eq!(source.check(), Ok(()), "moved away");
        fs::write(&elsewhere, b"abd").expect("ours");
        assert!(source.check().is_err(), "changed under another name");

        let (_folder, path) = written(b"abc");
        let source = SourceFile::open(&path).expect("opens");
        fs::remove_file(&path).expect("ours");
        assert_eq!(source.check(), Ok(()), "deleted");
        let mut bytes = [0; 8];
        assert_eq!(source.read_at(&mut bytes, 1).expect("still open"), 2);
        assert_eq!(&bytes[..2], b"bc");
    }
}
