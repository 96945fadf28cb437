//! The user's directory, and the files in it that are no sockets: the lock and the key.
//!
//! What makes them the user's own is said in [`embed_protocol::private_file`].

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use embed_protocol::card::is_only_looked_at;
use embed_protocol::private_file;

use super::BindError;

/// How often a lock that is only looked at is tried again, and the pause before: a look takes some
/// microseconds.
const LOOKS_MAX: u32 = 50;

/// See [`LOOKS_MAX`].
const LOOK_PAUSE: Duration = Duration::from_millis(1);

/// An exclusive lock; its file goes with it.
#[derive(Debug)]
pub(super) struct Lock {
    path: PathBuf,
    /// Holds the lock as long as it is open.
    _file: File,
}

impl Lock {
    /// Takes the lock unless somebody has it.
    pub(super) fn take(path: PathBuf) -> Result<Option<Self>, BindError> {
        let failed = |source| BindError::Lock { path: path.clone(), source };
        let mut looks = LOOKS_MAX;
        loop {
            let mut options = OpenOptions::new();
            options.read(true).write(true).create(true).truncate(false);
            let file = private_file::open(&mut options, &path).map_err(failed)?;
            if let Some(what) = private_file::fault(&file).map_err(failed)? {
                return Err(BindError::UnsafeLock { path, what });
            }
            match file.try_lock() {
                Ok(()) => {}
                // Whoever reads cards holds a lock for a moment, but serves nobody.
                Err(TryLockError::WouldBlock) if looks > 0 => {
                    if !is_only_looked_at(&file).map_err(failed)? {
                        return Ok(None);
                    }
                    looks -= 1;
                    std::thread::sleep(LOOK_PAUSE);
                    continue;
                }
                Err(TryLockError::WouldBlock) => return Ok(None),
                Err(TryLockError::Error(source)) => return Err(failed(source)),
            }
            // Between our opening and locking it, the last owner may have removed the file; then the
            // lock that we hold is of a file that nobody finds any more.
            if is_still_at(&file, &path) {
                return Ok(Some(Self { path, _file: file }));
            }
        }
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // While the lock is still held, so that no successor's file is meant.
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Whether `file` is still what `path` names.
#[cfg(unix)]
fn is_still_at(file: &File, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let id = |metadata: std::fs::Metadata| (metadata.dev(), metadata.ino());
    match (file.metadata(), path.symlink_metadata()) {
        (Ok(ours), Ok(theirs)) => id(ours) == id(theirs),
        _ => false,
    }
}

/// Whether `file` is still what `path` names: Windows 10 and later let go of a name at once, too.
#[cfg(windows)]
fn is_still_at(file: &File, path: &Path) -> bool {
    use winapi_util::file::{Information, information};
    let id = |found: Information| (found.volume_serial_number(), found.file_index());
    match (information(file), File::open(path).and_then(|theirs| information(&theirs))) {
        (Ok(ours), Ok(theirs)) => id(ours) == id(theirs),
        _ => false,
    }
}

/// What [`replace`] writes before it has the name: readers never see half of a file.
pub(super) fn unfinished(path: &Path) -> PathBuf {
    path.with_extension("new")
}

/// Puts a file in the place of what has this name, at once and whole.
pub(super) fn replace(path: &Path, contents: &[u8]) -> io::Result<()> {
    private_file::replace(path, &unfinished(path), contents)
}

/// Makes `dir` for this user alone, or checks that it is.
pub(super) fn private_dir(dir: &Path) -> Result<(), BindError> {
    let failed = |source| BindError::Directory { dir: dir.to_owned(), source };
    let made = private_file::make_directory(dir);
    match private_file::directory_fault(dir) {
        Ok(None) => made.map_err(failed),
        Ok(Some(what)) => Err(BindError::UnsafeDirectory { dir: dir.to_owned(), what }),
        Err(error) => Err(failed(made.err().unwrap_or(error))),
    }
}
