//! Reaching a worker's endpoint: the only file that names a socket type.
//!
//! A predictable name in a shared place could be taken by somebody else's program, which would then
//! read every text; so the directory must be the user's alone, and so must the process at the other
//! end.

use std::io;
use std::path::Path;

#[cfg(unix)]
use embed_protocol::endpoint::SOCKET_PATH_BYTES_MAX;
use embed_protocol::{Endpoint, ErrorCode};
use interprocess::local_socket::tokio::Stream;
use interprocess::local_socket::tokio::prelude::*;
use interprocess::local_socket::{GenericFilePath, ToFsName};

use crate::error::EmbedError;

/// A connected stream.
pub(crate) type WorkerStream = Stream;

/// A connection that is the user's own at both ends.
#[derive(Debug)]
pub(crate) struct Reached {
    /// Bytes to and from the worker.
    pub(crate) stream: WorkerStream,
    /// The worker's process, where the system tells who is at the other end (not on macOS). Unlike
    /// the one in the worker's hello it is known of a worker that hangs.
    pub(crate) pid: Option<u32>,
}

/// Why an endpoint could not be reached.
#[derive(Debug)]
pub(crate) enum Unreachable {
    /// Nobody listens (or the queue of those who want to connect is full): to be tried again.
    NobodyListens,
    /// It would be no use, or not safe.
    Forbidden(EmbedError),
}

/// What is wrong with an endpoint.
#[derive(Debug, thiserror::Error)]
enum EndpointError {
    #[error("socket `{0}`: cannot be reached")]
    Connect(String, #[source] io::Error),
    #[cfg(unix)]
    #[error(
        "socket `{endpoint}`: its path has {bytes} bytes, at most {SOCKET_PATH_BYTES_MAX} are possible; set EMBED_RUNTIME_DIR to a shorter one"
    )]
    PathTooLong { endpoint: String, bytes: usize },
    #[cfg(unix)]
    #[error("directory `{dir}`: {what}; set EMBED_RUNTIME_DIR to one that only you may enter")]
    UnsafeDirectory { dir: String, what: String },
    #[cfg(unix)]
    #[error("socket `{endpoint}`: the worker runs as user {found}, not as {wanted}")]
    ForeignWorker { endpoint: String, found: u32, wanted: u32 },
}

/// Connects to the worker at `endpoint`.
pub(crate) async fn connect(endpoint: &Endpoint) -> Result<Reached, Unreachable> {
    check_address(endpoint.address()).map_err(forbidden)?;
    let failed = |error: io::Error| match error.kind() {
        io::ErrorKind::NotFound
        | io::ErrorKind::ConnectionRefused
        | io::ErrorKind::ConnectionReset
        | io::ErrorKind::WouldBlock => Unreachable::NobodyListens,
        _ => forbidden(EndpointError::Connect(endpoint.to_string(), error)),
    };
    let name = endpoint.address().to_fs_name::<GenericFilePath>().map_err(failed)?;
    let stream = Stream::connect(name).await.map_err(failed)?;
    let pid = check_peer(&stream, endpoint)?;
    Ok(Reached { stream, pid })
}

fn forbidden(error: EndpointError) -> Unreachable {
    Unreachable::Forbidden(EmbedError::with_source(
        ErrorCode::WorkerUnavailable,
        "worker: cannot be reached",
        error,
    ))
}

/// A socket's path must not be longer than the system's structure for it, and its directory must be the user's own and closed to others. One that does not exist yet
/// is made so by the worker.
#[cfg(unix)]
fn check_address(address: &Path) -> Result<(), EndpointError> {
    use std::os::unix::fs::MetadataExt;

    let bytes = address.as_os_str().len();
    if bytes > SOCKET_PATH_BYTES_MAX {
        let endpoint = address.display().to_string();
        return Err(EndpointError::PathTooLong { endpoint, bytes });
    }
    let Some(dir) = address.parent() else { return Ok(()) };
    let wrong =
        |what: String| EndpointError::UnsafeDirectory { dir: dir.display().to_string(), what };
    let metadata = match dir.symlink_metadata() {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(wrong(error.to_string())),
    };
    let user = rustix::process::geteuid().as_raw();
    if !metadata.is_dir() {
        return Err(wrong("is not a directory (a symbolic link is none)".into()));
    }
    if metadata.uid() != user {
        return Err(wrong(format!("belongs to user {}, not to {user}", metadata.uid())));
    }
    let others = metadata.mode() & 0o077;
    if others != 0 {
        return Err(wrong(format!("has mode {:o}, not 700", metadata.mode() & 0o777)));
    }
    Ok(())
}

/// Pipes have no directory.
#[cfg(not(unix))]
fn check_address(_address: &Path) -> Result<(), EndpointError> {
    Ok(())
}

/// The worker must run as this user; gives its process.
#[cfg(unix)]
fn check_peer(stream: &Stream, endpoint: &Endpoint) -> Result<Option<u32>, Unreachable> {
    let wanted = rustix::process::geteuid().as_raw();
    // It left between accepting and being asked.
    let peer = stream.peer_creds().map_err(|_| Unreachable::NobodyListens)?;
    match peer.euid() {
        Some(found) if found != wanted => Err(forbidden(EndpointError::ForeignWorker {
            endpoint: endpoint.to_string(),
            found,
            wanted,
        })),
        // A system that does not tell leaves the directory, which was checked.
        _ => Ok(peer.pid().and_then(|pid| u32::try_from(pid).ok())),
    }
}

/// The pipe's security descriptor admits only this user; gives the worker's process.
#[cfg(not(unix))]
fn check_peer(stream: &Stream, _endpoint: &Endpoint) -> Result<Option<u32>, Unreachable> {
    Ok(stream.peer_creds().ok().and_then(|peer| peer.pid()))
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;
    use std::fs::{Permissions, set_permissions};
    use std::os::unix::fs::PermissionsExt;

    fn directory(mode: u32) -> tempfile::TempDir {
        let dir = tempfile::tempdir().expect("a directory");
        set_permissions(dir.path(), Permissions::from_mode(mode)).expect("is ours");
        dir
    }

    #[test]
    fn a_directory_that_others_may_enter_is_refused() {
        for mode in [0o755, 0o770, 0o701] {
            let dir = directory(mode);
            let error = check_address(&dir.path().join("a.sock")).expect_err("open to others");
            let message = error.to_string();
            assert!(message.contains(&format!("{mode:o}")), "{message}");
        }
        let dir = directory(0o700);
        assert!(check_address(&dir.path().join("a.sock")).is_ok());
    }

    #[test]
    fn a_link_to_a_directory_is_refused() {
        let dir = directory(0o700);
        let link = dir.path().join("link");
        std::os::unix::fs::symlink(dir.path(), &link).expect("links");
        assert!(check_address(&link.join("a.sock")).is_err());
    }

    #[test]
    fn a_missing_directory_is_no_fault() {
        let dir = directory(0o700);
        assert!(check_address(&dir.path().join("none/a.sock")).is_ok());
    }

    #[test]
    fn a_path_too_long_for_a_socket_is_refused_with_both_numbers() {
        let of_bytes = |bytes: usize| Path::new("/none").join("x".repeat(bytes - "/none/".len()));
        let error = check_address(&of_bytes(104)).expect_err("too long");
        let message = error.to_string();
        assert!(message.contains("104") && message.contains("103"), "{message}");
        assert!(check_address(&of_bytes(103)).is_ok());
    }

    #[tokio::test]
    async fn a_missing_socket_means_that_nobody_listens() {
        let dir = directory(0o700);
        let found = connect(&Endpoint::in_dir(dir.path(), "none")).await;
        assert!(matches!(found, Err(Unreachable::NobodyListens)), "{found:?}");
    }

    #[tokio::test]
    async fn a_socket_without_a_listener_means_that_nobody_listens() {
        let dir = directory(0o700);
        let endpoint = Endpoint::in_dir(dir.path(), "stale");
        drop(std::os::unix::net::UnixListener::bind(endpoint.address()).expect("binds"));
        let found = connect(&endpoint).await;
        assert!(matches!(found, Err(Unreachable::NobodyListens)), "{found:?}");
    }

    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn the_process_at_the_other_end_is_known_before_it_says_a_word() {
        let dir = directory(0o700);
        let endpoint = Endpoint::in_dir(dir.path(), "mute");
        let _listener = std::os::unix::net::UnixListener::bind(endpoint.address()).expect("binds");
        let reached = connect(&endpoint).await.expect("somebody listens");
        assert_eq!(reached.pid, Some(std::process::id()));
    }
}
