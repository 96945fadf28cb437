//! One conversation with a worker: hello, some questions, good-bye.

use anyhow::{Context, bail};
use embed_protocol::{
    ClientHello, MessageCodec, PROTOCOL_VERSION, Request, Response, WorkerCard, WorkerHello,
};
use futures_util::{SinkExt, StreamExt};
use interprocess::local_socket::tokio::Stream;
use interprocess::local_socket::tokio::prelude::*;
use interprocess::local_socket::{GenericFilePath, ToFsName};
use tokio_util::codec::Framed;

/// Somebody else is at the other end than the card says: nothing is sent there, and nobody killed.
#[derive(Debug, thiserror::Error)]
#[error("endpoint `{endpoint}`: is that of {what}")]
#[cfg_attr(not(unix), expect(dead_code, reason = "the pipe's security descriptor decides"))]
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

/// Connects to the endpoint of `card` and looks who is at its other end.
async fn connect(card: &WorkerCard) -> anyhow::Result<Stream> {
    let failed = || format!("endpoint `{}`: cannot be reached", card.endpoint);
    let name = card.endpoint.as_str().to_fs_name::<GenericFilePath>().with_context(failed)?;
    let stream = Stream::connect(name).await.with_context(failed)?;
    check_peer(&stream, card)?;
    Ok(stream)
}

/// The process at the other end must be this user's, and the one that left the card.
#[cfg(unix)]
fn check_peer(stream: &Stream, card: &WorkerCard) -> anyhow::Result<()> {
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

/// The pipe's security descriptor admits only this user.
#[cfg(not(unix))]
fn check_peer(_stream: &Stream, _card: &WorkerCard) -> anyhow::Result<()> {
    Ok(())
}
