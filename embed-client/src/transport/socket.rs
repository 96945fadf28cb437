//! The Unix socket.

use std::io;
use std::path::Path;
use std::time::Duration;

use embed_protocol::Endpoint;
use embed_protocol::endpoint::SOCKET_PATH_BYTES_MAX;
pub(super) use interprocess::local_socket::tokio::Stream;
use interprocess::local_socket::tokio::prelude::*;
use interprocess::local_socket::{GenericFilePath, ToFsName};
use tokio_util::either::Either;

use super::{EndpointError, Reached, Unreachable};

/// Connects to the socket, and asks the system whose process is at its other end.
pub(super) async fn connect(
    endpoint: &Endpoint,
    _patience: Duration,
) -> Result<Reached, Unreachable> {
    let stream = open(endpoint).await?;
    let pid = check_peer(&stream, endpoint)?;
    Ok(Reached { stream: Either::Left(stream), pid })
}

async fn open(endpoint: &Endpoint) -> Result<Stream, Unreachable> {
    let failed = |error: io::Error| match error.kind() {
        io::ErrorKind::NotFound
        | io::ErrorKind::ConnectionRefused
        | io::ErrorKind::ConnectionReset
        | io::ErrorKind::WouldBlock => Unreachable::NobodyListens,
        // A system or policy without sockets; the worker will find that out too.
        _ if !endpoint.address().exists() => Unreachable::NobodyListens,
        _ => EndpointError::Connect(endpoint.to_string(), error).into(),
    };
    let name = endpoint.address().to_fs_name::<GenericFilePath>().map_err(failed)?;
    Stream::connect(name).await.map_err(failed)
}

/// A socket's path must not be longer than the system's structure for it.
pub(super) fn check_address(address: &Path) -> Result<(), EndpointError> {
    let bytes = address.as_os_str().len();
    if bytes > SOCKET_PATH_BYTES_MAX {
        let endpoint = address.display().to_string();
        return Err(EndpointError::PathTooLong { endpoint, bytes });
    }
    Ok(())
}

/// The worker must run as this user; gives its process.
pub(super) fn check_peer(stream: &Stream, endpoint: &Endpoint) -> Result<Option<u32>, Unreachable> {
    let wanted = rustix::process::geteuid().as_raw();
    // It left between accepting and being asked.
    let peer = stream.peer_creds().map_err(|_| Unreachable::NobodyListens)?;
    let found = match peer.euid() {
        Some(found) if found == wanted => {
            return Ok(peer.pid().and_then(|pid| u32::try_from(pid).ok()));
        }
        Some(found) => format!("user {found}"),
        // Every system that this is built for tells; one that does not is not to be trusted.
        None => "an unknown user".into(),
    };
    let (endpoint, wanted) = (endpoint.to_string(), format!("user {wanted}"));
    Err(EndpointError::ForeignWorker { endpoint, found, wanted }.into())
}
