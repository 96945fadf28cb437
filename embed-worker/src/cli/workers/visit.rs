//! One conversation with a worker: hello, some questions, good-bye.

use anyhow::{Context, bail};
use embed_protocol::{
    ClientHello, MessageCodec, PROTOCOL_VERSION, Request, Response, WorkerCard, WorkerHello,
};
use futures_util::{SinkExt, StreamExt};
use tokio_util::codec::Framed;

use super::reach::{Stream, connect};

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
