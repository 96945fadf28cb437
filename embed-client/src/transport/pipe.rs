//! The named pipe.

use std::io;
use std::os::windows::io::AsHandle;
use std::path::Path;
use std::time::Duration;

use embed_protocol::Endpoint;
use embed_windows::descriptor::Ownership;
pub(super) use embed_windows::pipe::Stream;
use embed_windows::user::User;
use tokio_util::either::Either;

use super::{EndpointError, Reached, Unreachable};

/// Connects to the pipe, if a worker of this user has left its key; asks the system whose pipe it is,
/// and lets the worker prove itself, since whoever was first may have made a pipe of its name.
pub(super) async fn connect(
    endpoint: &Endpoint,
    patience: Duration,
) -> Result<Reached, Unreachable> {
    let key = super::key::read(&endpoint.pipe_path())?.ok_or(Unreachable::NobodyListens)?;
    // All instances of a pipe are taken when a worker hangs, and nothing else ends the wait for one.
    let opened = tokio::time::timeout(patience, Stream::connect(endpoint.address())).await;
    let opened = opened.map_err(|_| Unreachable::Silent { pid: key.pid })?;
    let mut stream = opened.map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => Unreachable::NobodyListens,
        _ => EndpointError::Connect(endpoint.to_string(), error).into(),
    })?;
    check_owner(&stream, endpoint)?;
    super::proof::exchange(&mut stream, &key, patience).await?;
    Ok(Reached { stream: Either::Left(stream), pid: Some(key.pid) })
}

/// The pipe must be this user's, made at no lower integrity level than this process's.
fn check_owner(stream: &Stream, endpoint: &Endpoint) -> Result<(), EndpointError> {
    let failed = |error| EndpointError::Connect(endpoint.to_string(), error);
    let user = User::current().map_err(failed)?;
    let found = Ownership::of(stream.as_handle()).map_err(failed)?;
    if found.is_of(&user) {
        return Ok(());
    }
    Err(EndpointError::ForeignWorker {
        endpoint: endpoint.to_string(),
        found: format!("{} at integrity {}", found.owner, found.integrity),
        wanted: format!("{} at integrity {}", user.sid(), user.integrity()),
    })
}

/// Pipes have short names.
pub(super) fn check_address(_address: &Path) -> Result<(), EndpointError> {
    Ok(())
}
