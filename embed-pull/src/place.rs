//! Locks, renames and links: how a file comes to its name.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read as _};
use std::path::Path;
use std::time::Duration;

use sha2::{Digest as _, Sha256};

use crate::error::PullError;
use crate::pull::Watcher;

/// Pause between two looks at a lock that somebody else holds: they hold it for seconds to minutes.
const LOCK_POLL: Duration = Duration::from_millis(200);

/// Bytes that are read or written at once.
pub(crate) const CHUNK_BYTES: usize = 64 * 1024;

/// An error of the file system about `path`.
pub(crate) fn file_error(
    path: &Path,
    what: &'static str,
) -> impl FnOnce(io::Error) -> PullError + use<> {
    let path = path.to_owned();
    move |source| PullError::File { path, what, source }
}

/// Makes the folder that `path` lies in.
pub(crate) fn make_parent(path: &Path) -> Result<(), PullError> {
    let Some(parent) = path.parent() else { return Ok(()) };
    fs::create_dir_all(parent).map_err(file_error(parent, "cannot be made"))
}

/// Waits for the lock at `path`; it is held as long as the file is open.
pub(crate) fn lock(path: &Path, watcher: &dyn Watcher) -> Result<File, PullError> {
    make_parent(path)?;
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(path)
        .map_err(file_error(path, "cannot be opened"))?;
    let mut has_waited = false;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::WouldBlock) => {
                if !has_waited {
                    watcher.waits_for_another();
                    has_waited = true;
                }
                std::thread::sleep(LOCK_POLL);
            }
            // A file system without locks: what is fetched is checked all the same.
            Err(TryLockError::Error(error)) if error.kind() == io::ErrorKind::Unsupported => {
                tracing::warn!(path = %path.display(), "its file system knows no locks");
                return Ok(file);
            }
            Err(TryLockError::Error(error)) => {
                return Err(file_error(path, "cannot be locked")(error));
            }
        }
    }
}

/// The SHA-256 of a file, in hexadecimal digits.
pub(crate) fn sha256_of(path: &Path, watcher: &dyn Watcher) -> Result<String, PullError> {
    let failed = |error| file_error(path, "cannot be read")(error);
    let mut file = File::open(path).map_err(failed)?;
    let bytes = file.metadata().map_err(failed)?.len();
    watcher.checks(bytes);
    let mut digest = Sha256::new();
    hash(&mut file, &mut digest, bytes, watcher).map_err(failed)?;
    Ok(hexadecimal(digest))
}

/// Feeds `bytes` bytes of a file to a digest.
pub(crate) fn hash(
    file: &mut File,
    digest: &mut Sha256,
    bytes: u64,
    watcher: &dyn Watcher,
) -> io::Result<()> {
    let mut buffer = vec![0; CHUNK_BYTES];
    let mut rest = file.take(bytes);
    loop {
        let read = match rest.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        digest.update(&buffer[..read]);
        watcher.advances(read as u64);
    }
}

pub(crate) fn hexadecimal(digest: Sha256) -> String {
    digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Gives a whole file its name, in one step and for good.
pub(crate) fn name(unfinished: &Path, path: &Path) -> Result<(), PullError> {
    // Opened for writing: Windows flushes no file that is open for reading only.
    let file = OpenOptions::new().write(true).open(unfinished);
    file.and_then(|file| file.sync_all()).map_err(file_error(unfinished, "cannot be written"))?;
    let in_use = "cannot be put in place (on Windows: end the programs that use the old one, \
                  `embed-worker stop` ends workers)";
    fs::rename(unfinished, path).map_err(file_error(path, in_use))
}

/// Writes a small file in one step.
pub(crate) fn write(path: &Path, contents: &str) -> Result<(), PullError> {
    make_parent(path)?;
    let unfinished = beside(path);
    let written = fs::write(&unfinished, contents).and_then(|()| fs::rename(&unfinished, path));
    written.map_err(|error| {
        let _ = fs::remove_file(&unfinished);
        file_error(path, "cannot be written")(error)
    })
}

/// Makes `snapshot` lead to `blob`, which lies `depth` folders up and in `blobs`.
pub(crate) fn link(blob: &Path, snapshot: &Path, depth: usize) -> Result<(), PullError> {
    make_parent(snapshot)?;
    let unfinished = beside(snapshot);
    let _ = fs::remove_file(&unfinished);
    let mut target = std::path::PathBuf::new();
    for _ in 0..depth {
        target.push("..");
    }
    target.push("blobs");
    target.push(blob.file_name().unwrap_or_default());
    let linked =
        make_link(&target, blob, &unfinished).and_then(|()| fs::rename(&unfinished, snapshot));
    linked.map_err(|error| {
        let _ = fs::remove_file(&unfinished);
        file_error(snapshot, "cannot be made")(error)
    })
}

#[cfg(unix)]
fn make_link(target: &Path, _blob: &Path, link: &Path) -> io::Result<()> {
    std::os::unix::fs::symlink(target, link)
}

/// A symbolic link where the user may make one, and may follow it: Windows makes links on another
/// machine's share, but does not follow them there unless it is told to. Else the same file under a
/// second name, which costs no room; else, on a file system without such names, a copy.
#[cfg(windows)]
fn make_link(target: &Path, blob: &Path, link: &Path) -> io::Result<()> {
    let linked = std::os::windows::fs::symlink_file(target, link);
    if linked.is_ok() && link.is_file() {
        return Ok(());
    }
    let _ = fs::remove_file(link);
    fs::hard_link(blob, link).or_else(|_| fs::copy(blob, link).map(drop))
}

/// A name beside `path` that is this process's own.
fn beside(path: &Path) -> std::path::PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{name}.{}", std::process::id()))
}
