//! The endpoint: taking it alone, listening, letting go without a trace. The only file that names a
//! socket type.
//!
//! The exclusive lock of a file beside the socket decides who serves. Whoever holds it may remove a
//! socket that a killed predecessor left behind; nobody else touches one.

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use embed_protocol::card::is_only_looked_at;
use embed_protocol::endpoint::SOCKET_PATH_BYTES_MAX;
use embed_protocol::{Endpoint, WorkerCard};
use interprocess::local_socket::tokio::prelude::*;
use interprocess::local_socket::tokio::{Listener as SocketListener, Stream};
use interprocess::local_socket::{GenericFilePath, ListenerOptions, ToFsName};

/// How often a lock that is only looked at is tried again, and the pause before: a look takes some
/// microseconds.
const LOOKS_MAX: u32 = 50;

/// See [`LOOKS_MAX`].
const LOOK_PAUSE: Duration = Duration::from_millis(1);

/// Why an endpoint cannot be taken.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// The directory cannot be made or looked at.
    #[error("directory `{}`: cannot be made or read", dir.display())]
    Directory {
        /// The directory.
        dir: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// The directory is not the user's alone.
    #[error("directory `{}`: {what}; set EMBED_RUNTIME_DIR to one that only you may enter", dir.display())]
    UnsafeDirectory {
        /// The directory.
        dir: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// The socket's path is longer than the system allows.
    #[error("socket `{}`: is {bytes} bytes long, at most {SOCKET_PATH_BYTES_MAX} are possible; set EMBED_RUNTIME_DIR to a shorter one", address.display())]
    TooLong {
        /// The path.
        address: PathBuf,
        /// Its length.
        bytes: usize,
    },
    /// The lock file cannot be opened or locked.
    #[error("lock `{}`: cannot be taken", path.display())]
    Lock {
        /// The lock file.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// A predecessor's card cannot be removed.
    #[error("card `{}`: is of a worker that has gone, and cannot be removed", path.display())]
    Card {
        /// The card.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// The socket or pipe cannot be made.
    #[error("endpoint `{}`: cannot be made", address.display())]
    Listen {
        /// The address.
        address: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
}

/// What became of claiming an endpoint.
#[derive(Debug)]
pub enum Claimed {
    /// It is ours.
    Ours(Claim),
    /// Another worker has it.
    Theirs,
}

/// The right to serve an endpoint; lock file and card go with it.
#[derive(Debug)]
pub struct Claim {
    endpoint: Endpoint,
    lock_path: PathBuf,
    /// Holds the lock as long as it is open.
    _lock: File,
}

impl Claim {
    /// Takes the endpoint's lock if nobody has it.
    ///
    /// # Errors
    ///
    /// The directory is unsafe, or the system will not lock.
    pub fn take(endpoint: &Endpoint) -> Result<Claimed, BindError> {
        let lock_path = endpoint.lock_path();
        if let Some(dir) = lock_path.parent() {
            private_dir(dir)?;
        }
        let failed = |source| BindError::Lock { path: lock_path.clone(), source };
        let mut looks = LOOKS_MAX;
        loop {
            let lock = open_lock(&lock_path).map_err(failed)?;
            match lock.try_lock() {
                Ok(()) => {}
                // Whoever reads cards holds a lock for a moment, but serves nobody.
                Err(TryLockError::WouldBlock) if looks > 0 => {
                    if !is_only_looked_at(&lock).map_err(failed)? {
                        return Ok(Claimed::Theirs);
                    }
                    looks -= 1;
                    std::thread::sleep(LOOK_PAUSE);
                    continue;
                }
                Err(TryLockError::WouldBlock) => return Ok(Claimed::Theirs),
                Err(TryLockError::Error(source)) => return Err(failed(source)),
            }
            // Between our opening and locking it, the last owner may have removed the file; then the
            // lock that we hold is of a file that nobody finds any more.
            if is_still_at(&lock, &lock_path) {
                let claim = Self { endpoint: endpoint.clone(), lock_path, _lock: lock };
                // A killed predecessor's, before anybody can connect and take it for ours.
                WorkerCard::remove(endpoint).map_err(|source| {
                    let path = endpoint.card_path();
                    BindError::Card { path, source }
                })?;
                return Ok(Claimed::Ours(claim));
            }
        }
    }

    /// Listens; must be called within a tokio runtime.
    ///
    /// # Errors
    ///
    /// The socket or pipe cannot be made.
    pub fn listen(self) -> Result<Listener, BindError> {
        let address = self.endpoint.address().to_owned();
        let bytes = address.as_os_str().len();
        if cfg!(unix) && bytes > SOCKET_PATH_BYTES_MAX {
            return Err(BindError::TooLong { address, bytes });
        }
        let failed = |source| BindError::Listen { address: address.clone(), source };
        remove_stale(&address).map_err(failed)?;
        let name = address.as_path().to_fs_name::<GenericFilePath>().map_err(failed)?;
        // The library would remove the socket by its name when the listener is dropped; `Listener`
        // does so itself, before it lets go of the lock.
        let options = ListenerOptions::new().name(name).reclaim_name(false);
        let socket = options.create_tokio().map_err(failed)?;
        Ok(Listener { socket: Some(socket), claim: self })
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        // While the lock is still held, so that no successor's file is meant.
        let _ = WorkerCard::remove(&self.endpoint);
        let _ = std::fs::remove_file(&self.lock_path);
    }
}

/// A listening endpoint; dropping it leaves nothing behind.
#[derive(Debug)]
pub struct Listener {
    socket: Option<SocketListener>,
    claim: Claim,
}

impl Listener {
    /// The next connection of this user; `None` for one that was of another, or has gone again.
    ///
    /// # Errors
    ///
    /// The system cannot accept now, for example for want of file descriptors.
    pub(super) async fn accept(&self) -> io::Result<Option<Stream>> {
        let Some(socket) = &self.socket else { return Ok(None) };
        let stream = socket.accept().await?;
        Ok(is_same_user(&stream).then_some(stream))
    }

    /// Where it listens.
    pub fn endpoint(&self) -> &Endpoint {
        &self.claim.endpoint
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.socket = None;
        if cfg!(unix) {
            let _ = std::fs::remove_file(self.claim.endpoint.address());
        }
    }
}

fn open_lock(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt;
        options.mode(0o600);
    }
    options.open(path)
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

/// Windows does not remove the name of a file that is open.
#[cfg(not(unix))]
fn is_still_at(_file: &File, path: &Path) -> bool {
    path.exists()
}

/// Makes `dir` for this user alone, or checks that it is.
#[cfg(unix)]
fn private_dir(dir: &Path) -> Result<(), BindError> {
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
fn private_dir(dir: &Path) -> Result<(), BindError> {
    std::fs::create_dir_all(dir)
        .map_err(|source| BindError::Directory { dir: dir.to_owned(), source })
}

/// Removes what a killed predecessor left; only a socket, never another kind of file.
#[cfg(unix)]
fn remove_stale(address: &Path) -> io::Result<()> {
    use std::os::unix::fs::FileTypeExt;
    match address.symlink_metadata() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
        Ok(metadata) if metadata.file_type().is_socket() => std::fs::remove_file(address),
        Ok(_) => Err(io::Error::new(
            io::ErrorKind::AlreadyExists,
            "something that is not a socket has its name",
        )),
    }
}

/// Pipes vanish with their owner.
#[cfg(not(unix))]
fn remove_stale(_address: &Path) -> io::Result<()> {
    Ok(())
}

/// Only the user who runs the worker may connect.
#[cfg(unix)]
fn is_same_user(stream: &Stream) -> bool {
    let wanted = rustix::process::geteuid().as_raw();
    match stream.peer_creds().map(|peer| peer.euid()) {
        Ok(Some(found)) if found != wanted => {
            tracing::warn!(user = found, "refused a connection of another user");
            false
        }
        // A system that does not tell leaves the directory, which only the user may enter.
        Ok(_) => true,
        Err(_) => false,
    }
}

/// The pipe's descriptor admits only this user.
#[cfg(not(unix))]
fn is_same_user(_stream: &Stream) -> bool {
    true
}
