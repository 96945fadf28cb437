//! Reaching a worker's endpoint: the only folder that names a socket type.
//!
//! A predictable name in a shared place could be taken by somebody else's program, which would then
//! read every text; so the directory must be the user's alone, and so must the process at the other
//! end. The system says so of a Unix socket, and whose a named pipe is; over TCP and a pipe the worker
//! proves it as well.

mod key;
#[cfg(windows)]
mod pipe;
mod proof;
#[cfg(unix)]
mod socket;
mod tcp;

use std::io;
use std::path::Path;
use std::time::Duration;

use embed_protocol::endpoint::SOCKET_PATH_BYTES_MAX;
use embed_protocol::{Endpoint, ErrorCode, Transport, private_file};
use tokio_util::either::Either;

use crate::error::EmbedError;
#[cfg(windows)]
use pipe as local;
#[cfg(unix)]
use socket as local;

/// A connected stream.
pub(crate) type WorkerStream = Either<local::Stream, tcp::Stream>;

/// A connection that is the user's own at both ends.
#[derive(Debug)]
pub(crate) struct Reached {
    /// Bytes to and from the worker.
    pub(crate) stream: WorkerStream,
    /// The worker's process, where that is known without asking it: not of a Unix socket on macOS.
    /// Unlike the one in its hello it is known of a worker that hangs.
    pub(crate) pid: Option<u32>,
}

/// Why an endpoint could not be reached.
#[derive(Debug)]
pub(crate) enum Unreachable {
    /// Nobody listens (or the queue of those who want to connect is full): to be tried again.
    NobodyListens,
    /// Something accepts where a worker listened but does not prove to be it: a worker that hangs, or
    /// somebody else's program at the port of a dead one. The first is the case if the endpoint's lock
    /// is taken, that is, if a worker that is started now says `exists`.
    Silent {
        /// The process that left the key. Without the lock it may be anybody's by now.
        pid: u32,
    },
    /// It would be no use, or not safe.
    Forbidden(EmbedError),
}

/// What is wrong with an endpoint.
#[derive(Debug, thiserror::Error)]
enum EndpointError {
    #[error("socket `{0}`: cannot be reached")]
    Connect(String, #[source] io::Error),
    #[cfg_attr(windows, expect(dead_code, reason = "pipes have no path"))]
    #[error(
        "socket `{endpoint}`: its path has {bytes} bytes, at most {SOCKET_PATH_BYTES_MAX} are possible; set EMBED_RUNTIME_DIR to a shorter one, or EMBED_TRANSPORT to `auto`"
    )]
    PathTooLong { endpoint: String, bytes: usize },
    #[error("directory `{dir}`: {what}; set EMBED_RUNTIME_DIR to one that only you may enter")]
    UnsafeDirectory { dir: String, what: String },
    #[error("socket `{endpoint}`: the worker runs as {found}, not as {wanted}")]
    ForeignWorker { endpoint: String, found: String, wanted: String },
    #[error("key `{path}`: {what}; remove it")]
    UnsafeKey { path: String, what: String },
    #[error("key `{0}`: cannot be read")]
    Key(String, #[source] io::Error),
}

/// Connects to the worker at `endpoint` by a way that `transport` allows. Where it has to prove
/// itself, it may take as long as `patience`.
pub(crate) async fn connect(
    endpoint: &Endpoint,
    transport: Transport,
    patience: Duration,
) -> Result<Reached, Unreachable> {
    check_directory(endpoint.dir())?;
    match transport {
        Transport::Local => {
            local::check_address(endpoint.address())?;
            local::connect(endpoint, patience).await
        }
        Transport::Auto => match connect_locally(endpoint, patience).await {
            Err(Unreachable::NobodyListens) => tcp::connect(endpoint, patience).await,
            outcome => outcome,
        },
        Transport::Tcp => match tcp::connect(endpoint, patience).await {
            // A worker that somebody else has started, without this wish.
            Err(Unreachable::NobodyListens) => connect_locally(endpoint, patience).await,
            outcome => outcome,
        },
    }
}

/// Connects to the local endpoint, if there can be one.
async fn connect_locally(endpoint: &Endpoint, patience: Duration) -> Result<Reached, Unreachable> {
    match local::check_address(endpoint.address()) {
        Ok(()) => local::connect(endpoint, patience).await,
        Err(_) => Err(Unreachable::NobodyListens),
    }
}

impl From<EndpointError> for Unreachable {
    fn from(error: EndpointError) -> Self {
        Self::Forbidden(EmbedError::with_source(
            ErrorCode::WorkerUnavailable,
            "worker: cannot be reached",
            error,
        ))
    }
}

/// The directory must be the user's own and closed to others. One that does not exist yet is made so
/// by the worker.
fn check_directory(dir: &Path) -> Result<(), EndpointError> {
    let what = match private_file::directory_fault(dir) {
        Ok(None) => return Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Ok(Some(what)) => what,
        Err(error) => error.to_string(),
    };
    Err(EndpointError::UnsafeDirectory { dir: dir.display().to_string(), what })
}

#[cfg(test)]
pub(crate) mod stage;
#[cfg(test)]
mod tests;
