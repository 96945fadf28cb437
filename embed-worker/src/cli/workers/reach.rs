//! Reaching the worker of a card, by the way that it listens on.
//!
//! The system tells whose process is at the other end of a Unix socket; over TCP and a named pipe the
//! worker proves that it has the secret which it left in its key.

use std::io;
use std::net::Ipv4Addr;
use std::path::Path;

use anyhow::{Context, bail};
use embed_protocol::handshake::ClientHandshake;
use embed_protocol::secret::{KeyFile, SECRET_BYTES, random};
use embed_protocol::{Endpoint, WorkerCard};
#[cfg(windows)]
use embed_windows::pipe::Stream as LocalStream;
#[cfg(unix)]
use interprocess::local_socket::tokio::Stream as LocalStream;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_util::either::Either;

/// Bytes to and from a worker.
pub(super) type Stream = Either<LocalStream, TcpStream>;

/// Somebody else is at the other end than the card says: nothing is sent there, and nobody killed.
#[derive(Debug, thiserror::Error)]
#[error("endpoint `{endpoint}`: {what}")]
pub(in crate::cli) struct Foreign {
    endpoint: String,
    what: String,
}

impl Foreign {
    fn new(card: &WorkerCard, what: impl Into<String>) -> Self {
        Self { endpoint: card.endpoint.clone(), what: what.into() }
    }
}

/// Connects to the worker of `card`.
pub(super) async fn connect(card: &WorkerCard) -> anyhow::Result<Stream> {
    let endpoint = Endpoint::at(&card.endpoint);
    let failed = || format!("endpoint `{endpoint}`: cannot be reached");
    // A worker removes its predecessor's keys before it leaves its card: this one is its own.
    if let Some(key) = key(&endpoint.tcp_path(), card)? {
        let address = (Ipv4Addr::LOCALHOST, key.port);
        let mut stream = TcpStream::connect(address).await.with_context(failed)?;
        prove(&mut stream, &key, card).await?;
        return Ok(Either::Right(stream));
    }
    let mut stream = connect_locally(&endpoint).await.with_context(failed)?;
    check_peer(&stream, card)?;
    if let Some(key) = key(&endpoint.pipe_path(), card)? {
        prove(&mut stream, &key, card).await?;
    } else if cfg!(windows) {
        bail!("endpoint `{endpoint}`: its worker has left no key");
    }
    Ok(Either::Left(stream))
}

#[cfg(unix)]
async fn connect_locally(endpoint: &Endpoint) -> io::Result<LocalStream> {
    use interprocess::local_socket::tokio::prelude::*;
    use interprocess::local_socket::{GenericFilePath, ToFsName};

    LocalStream::connect(endpoint.address().to_fs_name::<GenericFilePath>()?).await
}

#[cfg(windows)]
async fn connect_locally(endpoint: &Endpoint) -> io::Result<LocalStream> {
    LocalStream::connect(endpoint.address()).await
}

/// The key at `path`, if the worker of `card` has left one.
fn key(path: &Path, card: &WorkerCard) -> anyhow::Result<Option<KeyFile>> {
    let key = KeyFile::read(path).with_context(|| format!("key `{}`", path.display()))?;
    let Some(key) = key else { return Ok(None) };
    if key.pid != card.pid {
        let what = format!("its key is process {}'s, its card names {}", key.pid, card.pid);
        return Err(Foreign::new(card, what).into());
    }
    Ok(Some(key))
}

/// Lets the other side prove that it is the worker that left `key`, then proves the same to it.
async fn prove<S>(stream: &mut S, key: &KeyFile, card: &WorkerCard) -> anyhow::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let nonce = random()?;
    stream.write_all(&nonce).await?;
    stream.flush().await?;
    let mut challenge = [0; 2 * SECRET_BYTES];
    stream.read_exact(&mut challenge).await?;
    let proof = ClientHandshake::new(&key.secret, nonce)
        .finish(&challenge)
        .map_err(|error| Foreign::new(card, error.to_string()))?;
    stream.write_all(&proof).await?;
    Ok(stream.flush().await?)
}

/// The process at the other end of a socket must be this user's, and the one that left the card.
#[cfg(unix)]
fn check_peer(stream: &LocalStream, card: &WorkerCard) -> anyhow::Result<()> {
    use interprocess::local_socket::tokio::prelude::*;

    let wanted = rustix::process::geteuid().as_raw();
    let peer = stream.peer_creds().with_context(|| format!("endpoint `{}`", card.endpoint))?;
    match peer.euid() {
        Some(found) if found == wanted => {}
        // A system that does not tell is not to be trusted.
        found => {
            let found = found.map_or("an unknown user".into(), |found| format!("user {found}"));
            return Err(Foreign::new(card, format!("is that of {found}, not of {wanted}")).into());
        }
    }
    // Not every system tells.
    let pid = peer.pid().and_then(|pid| u32::try_from(pid).ok());
    if let Some(found) = pid.filter(|found| *found != card.pid) {
        let what = format!("is that of process {found}, its card names {}", card.pid);
        return Err(Foreign::new(card, what).into());
    }
    Ok(())
}

/// The pipe must be this user's; that the worker of the card made it, it is about to prove.
#[cfg(windows)]
fn check_peer(stream: &LocalStream, card: &WorkerCard) -> anyhow::Result<()> {
    use embed_windows::descriptor::Ownership;
    use embed_windows::user::User;
    use std::os::windows::io::AsHandle;

    let asked = || format!("endpoint `{}`", card.endpoint);
    let user = User::current().with_context(asked)?;
    let found = Ownership::of(stream.as_handle()).with_context(asked)?;
    if !found.is_of(&user) {
        let what = format!("is a pipe of {}, not of {}", found.owner, user.sid());
        return Err(Foreign::new(card, what).into());
    }
    Ok(())
}
