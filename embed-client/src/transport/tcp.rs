//! The port on 127.0.0.1 that a worker has left in its key.

use std::net::Ipv4Addr;
use std::time::Duration;

use embed_protocol::Endpoint;
pub(super) use tokio::net::TcpStream as Stream;
use tokio_util::either::Either;

use super::{Reached, Unreachable, key, proof};

/// Connects to the port, if a worker of this user has left its key, and lets it prove itself: after a
/// crash the port may be anybody's.
pub(super) async fn connect(
    endpoint: &Endpoint,
    patience: Duration,
) -> Result<Reached, Unreachable> {
    let key = key::read(&endpoint.tcp_path())?.ok_or(Unreachable::NobodyListens)?;
    let connection = Stream::connect((Ipv4Addr::LOCALHOST, key.port));
    let mut stream = tokio::time::timeout(patience, connection)
        .await
        .map_err(|_| Unreachable::Silent { pid: key.pid })?
        .map_err(|_| Unreachable::NobodyListens)?;
    // A request is one small write, which must not wait for others. Only speed depends on it.
    let _ = stream.set_nodelay(true);
    proof::exchange(&mut stream, &key, patience).await?;
    Ok(Reached { stream: Either::Right(stream), pid: Some(key.pid) })
}
