//! One conversation with a worker: hello, some questions, good-bye.

use std::path::Path;

use anyhow::{Context, bail};
use embed_protocol::handshake::ClientHandshake;
use embed_protocol::secret::{KeyFile, SECRET_BYTES, random};
use embed_protocol::{
    ClientHello, Endpoint, MessageCodec, PROTOCOL_VERSION, Request, Response, WorkerCard,
    WorkerHello,
};
use futures_util::{SinkExt, StreamExt};
use interprocess::local_socket::tokio::Stream as LocalStream;
use interprocess::local_socket::tokio::prelude::*;
use interprocess::local_socket::{GenericFilePath, ToFsName};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_util::codec::Framed;
use tokio_util::either::Either;

type Stream = Either<LocalStream, TcpStream>;

/// Somebody else is at the other end than the card says: nothing is sent there, and nobody killed.
#[derive(Debug, thiserror::Error)]
#[error("endpoint `{endpoint}`: is that of {what}")]
pub(in crate::cli) struct Foreign {
    endpoint: String,
    what: String,
}

/// An open connection that does not keep its worker from leaving.
#[derive(Debug)]
pub(in crate::cli) struct Visit {
    frames: Framed<Stream, MessageCodec<Response, Request>>,
    hello: WorkerHello,
}

impl Visit {
    /// Connects to the worker of `card` and exchanges hellos. Waits as long as that takes.
    pub(in crate::cli) async fn open(card: &WorkerCard) -> anyhow::Result<Self> {
        let mut frames = Framed::new(connect(card).await?, MessageCodec::default());
        let hello = Request::Hello(ClientHello {
            protocol: PROTOCOL_VERSION,
            version: env!("CARGO_PKG_VERSION").into(),
            pid: std::process::id(),
            observer: true,
        });
        frames.send(&hello).await.context("hello")?;
        match next(&mut frames).await? {
            Response::Hello(hello) => Ok(Self { frames, hello }),
            Response::Error { message, .. } => bail!("{message}"),
            other => Err(unexpected(&other)),
        }
    }

    /// Asks something that is answered at once.
    pub(in crate::cli) async fn ask(&mut self, request: &Request) -> anyhow::Result<Response> {
        self.frames.send(request).await.context("connection")?;
        next(&mut self.frames).await
    }

    /// Waits until the worker closes the connection.
    pub(in crate::cli) async fn ends(&mut self) {
        // Whatever it still says, and however it breaks off.
        while let Some(Ok(_)) = self.frames.next().await {}
    }

    /// How the worker introduced itself.
    pub(super) fn into_hello(self) -> WorkerHello {
        self.hello
    }
}

async fn next(
    frames: &mut Framed<Stream, MessageCodec<Response, Request>>,
) -> anyhow::Result<Response> {
    frames.next().await.context("connection: ended")?.context("connection")
}

/// A message that answers something else.
pub(super) fn unexpected(_message: &Response) -> anyhow::Error {
    anyhow::anyhow!("connection: the worker answered with a message of another kind")
}

/// Connects to the endpoint of `card` as its worker wants it, and looks who is at its other end.
async fn connect(card: &WorkerCard) -> anyhow::Result<Stream> {
    let failed = || format!("endpoint `{}`: cannot be reached", card.endpoint);
    let endpoint = Endpoint::at(&card.endpoint);
    // A worker has removed its predecessor's keys: what lies there is its own.
    if let Some(key) = key(&endpoint.tcp_path())? {
        let mut stream = TcpStream::connect(("127.0.0.1", key.port)).await.with_context(failed)?;
        prove(&mut stream, &key, card).await.with_context(failed)?;
        return Ok(Either::Right(stream));
    }
    let name = card.endpoint.as_str().to_fs_name::<GenericFilePath>().with_context(failed)?;
    let mut stream = LocalStream::connect(name).await.with_context(failed)?;
    check_peer(&stream, card)?;
    if let Some(key) = key(&endpoint.pipe_path())? {
        prove(&mut stream, &key, card).await.with_context(failed)?;
    }
    Ok(Either::Left(stream))
}

fn key(path: &Path) -> anyhow::Result<Option<KeyFile>> {
    KeyFile::read(path).with_context(|| format!("key `{}`", path.display()))
}

/// The client's part of the handshake: the worker proves to have left `key`, and so do we to know it.
async fn prove<S>(stream: &mut S, key: &KeyFile, card: &WorkerCard) -> anyhow::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    if key.pid != card.pid {
        let what = format!("process {}, its card names {}", key.pid, card.pid);
        return Err(Foreign { endpoint: card.endpoint.clone(), what }.into());
    }
    let nonce = random()?;
    stream.write_all(&nonce).await?;
    stream.flush().await?;
    let mut challenge = [0; 2 * SECRET_BYTES];
    stream.read_exact(&mut challenge).await?;
    let proof = ClientHandshake::new(&key.secret, nonce).finish(&challenge)?;
    stream.write_all(&proof).await?;
    Ok(stream.flush().await?)
}

/// The process at the other end must be this user's, and the one that left the card.
#[cfg(unix)]
fn check_peer(stream: &LocalStream, card: &WorkerCard) -> anyhow::Result<()> {
    let wanted = rustix::process::geteuid().as_raw();
    let peer = stream.peer_creds().with_context(|| format!("endpoint `{}`", card.endpoint))?;
    if let Some(found) = peer.euid().filter(|found| *found != wanted) {
        let (endpoint, what) = (card.endpoint.clone(), format!("user {found}, not of {wanted}"));
        return Err(Foreign { endpoint, what }.into());
    }
    // Not every system tells.
    let pid = peer.pid().and_then(|pid| u32::try_from(pid).ok());
    if let Some(found) = pid.filter(|found| *found != card.pid) {
        let what = format!("process {found}, its card names {}", card.pid);
        return Err(Foreign { endpoint: card.endpoint.clone(), what }.into());
    }
    Ok(())
}

/// A pipe's worker proves itself instead.
#[cfg(not(unix))]
fn check_peer(_stream: &LocalStream, _card: &WorkerCard) -> anyhow::Result<()> {
    Ok(())
}
