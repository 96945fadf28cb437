//! The user's directory, and the files in it that are no sockets: the lock and the key.
//!
//! Each is looked at by itself once it is open: it must be of this user and of the right kind, and no
//! symbolic link is followed to it. So it does not matter who may write to the directories above:
//! whoever puts another one in the place of ours has only put there what is refused.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use embed_protocol::card::is_only_looked_at;

use super::BindError;

/// How often a lock that is only looked at is tried again, and the pause before: a look takes some
/// microseconds.
const LOOKS_MAX: u32 = 50;

/// See [`LOOKS_MAX`].
const LOOK_PAUSE: Duration = Duration::from_millis(1);

/// Only the user may read and write it.
#[cfg(unix)]
const FILE_MODE: u32 = 0o600;

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
            let file = open_lock(&path).map_err(failed)?;
            if let Some(what) = unsafe_lock(&file).map_err(failed)? {
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

/// Opens the lock file, but not what a symbolic link in its place leads to.
fn open_lock(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    #[cfg(unix)]
    {
        use rustix::fs::OFlags;
        use std::os::unix::fs::OpenOptionsExt;
        // Without waiting, should it be a pipe.
        let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
        options.mode(FILE_MODE).custom_flags(flags.bits().cast_signed());
    }
    options.open(path)
}

/// What is wrong with a lock file, if anything is.
#[cfg(unix)]
fn unsafe_lock(file: &File) -> io::Result<Option<String>> {
    use std::os::unix::fs::MetadataExt;

    let metadata = file.metadata()?;
    let user = rustix::process::geteuid().as_raw();
    Ok(if !metadata.is_file() {
        Some("is not a regular file".into())
    } else if metadata.uid() != user {
        Some(format!("belongs to user {}, not to {user}", metadata.uid()))
    } else {
        None
    })
}

/// What is wrong with a lock file, if anything is.
#[cfg(not(unix))]
fn unsafe_lock(file: &File) -> io::Result<Option<String>> {
    Ok((!file.metadata()?.is_file()).then(|| "is not a regular file".into()))
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
    let new = unfinished(path);
    remove(&new)?;
    let mut options = OpenOptions::new();
    // Made here and now: nothing that lies there is opened, nor what it leads to.
    options.write(true).create_new(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt;
        options.mode(FILE_MODE);
    }
    let written = options.open(&new).and_then(|mut file| file.write_all(contents));
    let replaced = written.and_then(|()| std::fs::rename(&new, path));
    if replaced.is_err() {
        let _ = remove(&new);
    }
    replaced
}

/// Removes a file, or a link and not what it leads to; one that is not there is as good.
pub(super) fn remove(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Makes `dir` for this user alone, or checks that it is.
#[cfg(unix)]
pub(super) fn private_dir(dir: &Path) -> Result<(), BindError> {
    use std::os::unix::fs::{DirBuilderExt, MetadataExt};

    let failed = |source| BindError::Directory { dir: dir.to_owned(), source };
    let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir);
    let metadata = dir.symlink_metadata().map_err(|error| failed(made.err().unwrap_or(error)))?;
    let user = rustix::process::geteuid().as_raw();
    let wrong = if !metadata.is_dir() {
        Some("is not a directory (a symbolic link is none)".to_owned())
    } else if metadata.uid() != user {
        Some(format!("belongs to user {}, not to {user}", metadata.uid()))
    } else if metadata.mode() & 0o077 != 0 {
        Some(format!("has mode {:o}, not 700", metadata.mode() & 0o777))
    } else {
        None
    };
    match wrong {
        None => Ok(()),
        Some(what) => Err(BindError::UnsafeDirectory { dir: dir.to_owned(), what }),
    }
}

/// The user's profile is private by its own permissions.
#[cfg(not(unix))]
pub(super) fn private_dir(dir: &Path) -> Result<(), BindError> {
    std::fs::create_dir_all(dir)
        .map_err(|source| BindError::Directory { dir: dir.to_owned(), source })
}
