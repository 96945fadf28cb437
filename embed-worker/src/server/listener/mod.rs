//! The endpoint: taking it alone, listening, letting go without a trace.
//!
//! ```text
//! Claim -> place (directory, lock, key) -> local (socket or pipe) | tcp -> Arrival
//! ```
//!
//! The exclusive lock of a file beside the socket decides who serves. Whoever holds it may remove a
//! socket or key that a killed predecessor left behind; nobody else touches one.
//! Only this folder names a socket type.

#[cfg(windows)]
mod pipe;
mod place;
#[cfg(unix)]
mod socket;
mod tcp;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use embed_protocol::endpoint::SOCKET_PATH_BYTES_MAX;
use embed_protocol::private_file;
use embed_protocol::secret::{KeyFile, Secret};
use embed_protocol::{Endpoint, Transport, WorkerCard};
use tokio_util::either::Either;

#[cfg(windows)]
use pipe as local;
use place::Lock;
#[cfg(unix)]
use socket as local;

/// Most entries of the directory that a worker looks at when it sweeps.
const SWEPT_MAX: usize = 4096;

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
    /// The lock file cannot be opened or locked.
    #[error("lock `{}`: cannot be taken", path.display())]
    Lock {
        /// The lock file.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// What has the lock file's name is not a file of this user.
    #[error("lock `{}`: {what}; remove it", path.display())]
    UnsafeLock {
        /// The lock file.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// A predecessor's card cannot be removed.
    #[error("card `{}`: is of a worker that has gone, and cannot be removed", path.display())]
    Card {
        /// The card.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// The socket's path is longer than the system allows.
    #[error("socket `{}`: is {bytes} bytes long, at most {SOCKET_PATH_BYTES_MAX} are possible; set EMBED_RUNTIME_DIR to a shorter one, or EMBED_TRANSPORT to `tcp`", address.display())]
    TooLong {
        /// The path.
        address: PathBuf,
        /// Its length.
        bytes: usize,
    },
    /// Something else has the socket's name.
    #[error("endpoint `{}`: something that is not a socket has its name; remove it", address.display())]
    Occupied {
        /// The path.
        address: PathBuf,
    },
    /// The socket or pipe cannot be made.
    #[error("endpoint `{}`: cannot be made", address.display())]
    Listen {
        /// The address.
        address: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// No port can be had.
    #[error("127.0.0.1: cannot listen on any port")]
    Port(#[source] io::Error),
    /// The file for the user's clients cannot be written, or an old one not removed.
    #[error("key `{}`: cannot be replaced", path.display())]
    Key {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// Another worker serves the endpoint in a way that was ruled out.
    #[error(
        "endpoint `{0}`: its worker listens on TCP, which EMBED_TRANSPORT=local forbids; stop it first"
    )]
    TheirsIsTcp(PathBuf),
}

/// What became of claiming an endpoint.
#[derive(Debug)]
pub enum Claimed {
    /// It is ours.
    Ours(Claim),
    /// Another worker has it.
    Theirs,
}

/// The right to serve an endpoint; lock, card and key go with it.
#[derive(Debug)]
pub struct Claim {
    endpoint: Endpoint,
    transport: Transport,
    /// Dropped after everything that it guards is gone.
    _lock: Lock,
}

impl Claim {
    /// Takes the endpoint's lock if nobody has it.
    ///
    /// # Errors
    ///
    /// The directory or what lies in it is unsafe, the system will not lock, or the worker that has
    /// the lock listens in a way that `transport` forbids.
    pub fn take(endpoint: &Endpoint, transport: Transport) -> Result<Claimed, BindError> {
        place::private_dir(endpoint.dir())?;
        let Some(lock) = Lock::take(endpoint.lock_path())? else {
            // Whoever has the lock has removed its predecessor's key: this one is its own.
            if transport == Transport::Local && endpoint.tcp_path().exists() {
                return Err(BindError::TheirsIsTcp(endpoint.address().to_owned()));
            }
            return Ok(Claimed::Theirs);
        };
        // A killed predecessor's, before anybody can connect and take it for ours.
        WorkerCard::remove(endpoint).map_err(|source| {
            let path = endpoint.card_path();
            BindError::Card { path, source }
        })?;
        // Its port may be anybody's by now.
        for path in keys(endpoint) {
            private_file::remove(&path).map_err(|source| BindError::Key { path, source })?;
        }
        Ok(Claimed::Ours(Self { endpoint: endpoint.clone(), transport, _lock: lock }))
    }

    /// Listens; must be called within a tokio runtime.
    ///
    /// # Errors
    ///
    /// Neither a socket or pipe can be made nor a port be had, as far as they are allowed.
    pub fn listen(self) -> Result<Listener, BindError> {
        let socket = match self.transport {
            Transport::Tcp => {
                local::remove_stale(self.endpoint.address())?;
                self.listen_on_tcp()?
            }
            Transport::Local => self.listen_locally()?,
            Transport::Auto => match self.listen_locally() {
                // The system or its policy does not allow one.
                Err(error @ (BindError::TooLong { .. } | BindError::Listen { .. })) => {
                    tracing::info!(%error, "listening on TCP instead");
                    self.listen_on_tcp()?
                }
                outcome => outcome?,
            },
        };
        Ok(Listener { socket: Some(socket), claim: self })
    }

    fn listen_locally(&self) -> Result<Socket, BindError> {
        let listener = local::listen(self.endpoint.address())?;
        // The system tells who is at the other end of a Unix socket. A pipe's descriptor keeps others
        // out, but its name may be anybody's: a client wants a proof that only a worker can give.
        let secret = if cfg!(windows) { Some(self.leave_key(0)?) } else { None };
        Ok(Socket::Local(listener, secret))
    }

    fn listen_on_tcp(&self) -> Result<Socket, BindError> {
        let (listener, port) = tcp::listen().map_err(BindError::Port)?;
        Ok(Socket::Tcp(listener, self.leave_key(port)?))
    }

    /// Makes a secret and leaves it where the user's clients look for it.
    fn leave_key(&self, port: u16) -> Result<Arc<Secret>, BindError> {
        let path = match port {
            0 => self.endpoint.pipe_path(),
            _ => self.endpoint.tcp_path(),
        };
        let write = || {
            let secret = Secret::random()?;
            let key = KeyFile { port, pid: std::process::id(), secret: secret.clone() };
            place::replace(&path, &key.to_bytes())?;
            Ok(Arc::new(secret))
        };
        write().map_err(|source| BindError::Key { path: path.clone(), source })
    }
}

/// Where keys of an endpoint may lie, and what is left of one whose writer was killed.
fn keys(endpoint: &Endpoint) -> [PathBuf; 3] {
    let (tcp, pipe) = (endpoint.tcp_path(), endpoint.pipe_path());
    [place::unfinished(&tcp), tcp, pipe]
}

impl Drop for Claim {
    fn drop(&mut self) {
        // While the lock is still held, so that no successor's files are meant.
        let _ = WorkerCard::remove(&self.endpoint);
        for path in keys(&self.endpoint) {
            let _ = private_file::remove(&path);
        }
    }
}

/// Removes what killed workers left in `dir` of endpoints that nobody serves: most of them belong to a
/// model file that has changed since, so no successor will ever come to do so.
///
/// It takes some microseconds a file. A worker that wants an endpoint in the moment in which it is
/// looked at is told that another has it, and its client tries again.
pub fn sweep(dir: &Path) {
    let Ok(entries) = std::fs::read_dir(dir) else { return };
    for entry in entries.flatten().take(SWEPT_MAX) {
        if let Some(endpoint) = Endpoint::of_lock_file(&entry.path())
            && let Ok(Claimed::Ours(claim)) = Claim::take(&endpoint, Transport::Auto)
        {
            tracing::debug!(%endpoint, "removing what a killed worker left");
            let _ = local::remove_stale(endpoint.address());
            drop(claim);
        }
    }
}

#[derive(Debug)]
enum Socket {
    /// With the secret that its peers must know, where the system does not tell who they are.
    Local(local::Listener, Option<Arc<Secret>>),
    Tcp(tcp::Listener, Arc<Secret>),
}

/// A listening endpoint; dropping it leaves nothing behind.
#[derive(Debug)]
pub struct Listener {
    socket: Option<Socket>,
    claim: Claim,
}

/// Bytes to and from a peer.
pub(super) type Stream = Either<local::Stream, tcp::Stream>;

/// Somebody who has connected.
#[derive(Debug)]
pub(super) struct Arrival {
    /// Bytes to and from them.
    pub(super) stream: Stream,
    /// What they have to know before they are listened to; none if the system has vouched for them.
    pub(super) secret: Option<Arc<Secret>>,
}

impl Listener {
    /// The next connection; `None` for one of another user, or that has gone again.
    ///
    /// # Errors
    ///
    /// The system cannot accept now, for example for want of file descriptors.
    pub(super) async fn accept(&self) -> io::Result<Option<Arrival>> {
        let arrival = match &self.socket {
            Some(Socket::Local(listener, secret)) => {
                let stream = local::accept(listener).await?;
                let secret = secret.clone();
                stream.map(|stream| Arrival { stream: Either::Left(stream), secret })
            }
            Some(Socket::Tcp(listener, secret)) => {
                let stream = Either::Right(tcp::accept(listener).await?);
                Some(Arrival { stream, secret: Some(Arc::clone(secret)) })
            }
            None => None,
        };
        Ok(arrival)
    }

    /// Where it listens.
    pub fn endpoint(&self) -> &Endpoint {
        &self.claim.endpoint
    }

    /// How it is reached: `local` or `tcp`.
    pub fn transport(&self) -> &'static str {
        match &self.socket {
            Some(Socket::Tcp(..)) => "tcp",
            Some(Socket::Local(..)) | None => "local",
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        if let Some(Socket::Local(listener, _)) = self.socket.take() {
            drop(listener);
            local::remove(self.claim.endpoint.address());
        }
    }
}
