//! The named pipe.

use std::io;
use std::path::Path;

pub(super) use embed_windows::pipe::{Listener, Stream};

use super::BindError;

/// Makes the pipe: the first of its name, for this user alone, out of other machines' reach.
pub(super) fn listen(address: &Path) -> Result<Listener, BindError> {
    Listener::bind(address)
        .map_err(|source| BindError::Listen { address: address.to_owned(), source })
}

/// Pipes vanish with their owner.
pub(super) fn remove_stale(_address: &Path) -> Result<(), BindError> {
    Ok(())
}

/// Pipes vanish with their owner.
pub(super) fn remove(_address: &Path) {}

/// The next connection. The descriptor admits only this user, and the handshake is still to come.
pub(super) async fn accept(listener: &Listener) -> io::Result<Option<Stream>> {
    listener.accept().await.map(Some)
}
