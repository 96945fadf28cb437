//! The Unix socket.

use std::io;
use std::path::Path;

use embed_protocol::endpoint::SOCKET_PATH_BYTES_MAX;
use interprocess::local_socket::tokio::prelude::*;
pub(super) use interprocess::local_socket::tokio::{Listener, Stream};
use interprocess::local_socket::{GenericFilePath, ListenerOptions, ToFsName};

use super::BindError;

/// Makes the socket, in the place of what a killed predecessor left.
pub(super) fn listen(address: &Path) -> Result<Listener, BindError> {
    check_length(address)?;
    remove_stale(address)?;
    bind(address).map_err(|source| BindError::Listen { address: address.to_owned(), source })
}

fn check_length(address: &Path) -> Result<(), BindError> {
    let bytes = address.as_os_str().len();
    if bytes > SOCKET_PATH_BYTES_MAX {
        return Err(BindError::TooLong { address: address.to_owned(), bytes });
    }
    Ok(())
}

/// What all of them have in common.
fn options(address: &Path) -> io::Result<ListenerOptions<'_>> {
    // The library would remove the socket by its name when the listener is dropped;
    // `super::Listener` does so itself, before it lets go of the lock.
    Ok(ListenerOptions::new().name(address.to_fs_name::<GenericFilePath>()?).reclaim_name(false))
}

/// Binds with the mode from the first moment where the system can; elsewhere (macOS) right after it,
/// and until then the directory keeps others away, as it does afterwards.
fn bind(address: &Path) -> io::Result<Listener> {
    use interprocess::os::unix::local_socket::ListenerOptionsExt;
    use std::os::unix::fs::PermissionsExt;

    const SOCKET_MODE: u16 = 0o600;
    match options(address)?.mode(SOCKET_MODE.into()).create_tokio() {
        Err(error) if error.kind() == io::ErrorKind::Unsupported => {
            let listener = options(address)?.create_tokio()?;
            let mode = std::fs::Permissions::from_mode(SOCKET_MODE.into());
            std::fs::set_permissions(address, mode)?;
            Ok(listener)
        }
        bound => bound,
    }
}

/// Removes what a killed predecessor left; only a socket, never another kind of file.
pub(super) fn remove_stale(address: &Path) -> Result<(), BindError> {
    use std::os::unix::fs::FileTypeExt;

    let removed = match address.symlink_metadata() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        // Longer than any name may be: nothing has it.
        Err(error) if error.kind() == io::ErrorKind::InvalidFilename => Ok(()),
        Err(error) => Err(error),
        Ok(metadata) if metadata.file_type().is_socket() => std::fs::remove_file(address),
        Ok(_) => return Err(BindError::Occupied { address: address.to_owned() }),
    };
    removed.map_err(|source| BindError::Listen { address: address.to_owned(), source })
}

/// Removes the socket that was listened on.
pub(super) fn remove(address: &Path) {
    let _ = std::fs::remove_file(address);
}

/// The next connection, if it is of this user as far as the system tells.
pub(super) async fn accept(listener: &Listener) -> io::Result<Option<Stream>> {
    let stream = listener.accept().await?;
    Ok(is_same_user(&stream).then_some(stream))
}

/// Only the user who runs the worker may connect.
fn is_same_user(stream: &Stream) -> bool {
    let wanted = rustix::process::geteuid().as_raw();
    match stream.peer_creds().map(|peer| peer.euid()) {
        Ok(Some(found)) if found == wanted => true,
        Ok(Some(found)) => {
            tracing::warn!(user = found, "refused a connection of another user");
            false
        }
        // Every system that this is built for tells; one that does not is not to be trusted.
        Ok(None) => {
            tracing::warn!("refused a connection of an unknown user");
            false
        }
        // Gone again.
        Err(_) => false,
    }
}
