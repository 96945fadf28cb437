//! The first frame each way: who is there, and whether the two understand each other.

use std::time::Duration;

use embed_protocol::{
    ClientHello, ErrorCode, FrameError, MessageCodec, PROTOCOL_VERSION, Request, Response,
    WorkerHello,
};
use futures_util::StreamExt;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio_util::codec::FramedRead;

use crate::error::EmbedError;
use crate::outbox::frame;

/// The worker's frames, cut.
pub(crate) type Responses<S> = FramedRead<ReadHalf<S>, MessageCodec<Response, Request>>;

/// Why a stream did not become a connection.
#[derive(Clone, Debug)]
pub(crate) enum NotOpened {
    /// It ended before the worker's hello: the worker is leaving or has just died.
    Gone(EmbedError),
    /// The worker is well and will not have us: it is full, or of another version.
    Refused(EmbedError),
    /// Whoever is at the other end is silent, or says what no worker says.
    Unresponsive(EmbedError),
}

/// Says the client's hello and hears the worker's, within `patience`.
pub(crate) async fn introduce<S: AsyncRead + AsyncWrite>(
    responses: &mut Responses<S>,
    writer: &mut WriteHalf<S>,
    patience: Duration,
) -> Result<WorkerHello, NotOpened> {
    let hellos = async {
        send_hello(writer).await?;
        receive_hello(responses).await
    };
    tokio::time::timeout(patience, hellos).await.unwrap_or_else(|_| {
        Err(NotOpened::Unresponsive(EmbedError::new(
            ErrorCode::WorkerUnavailable,
            format!(
                "worker: accepted a connection but did not introduce itself within {patience:?}"
            ),
        )))
    })
}

async fn send_hello<S: AsyncWrite>(writer: &mut WriteHalf<S>) -> Result<(), NotOpened> {
    let hello = Request::Hello(ClientHello {
        protocol: PROTOCOL_VERSION,
        version: crate::VERSION.to_owned(),
        pid: std::process::id(),
        observer: false,
    });
    let frame = frame(&hello).map_err(|error| {
        NotOpened::Refused(EmbedError::with_source(ErrorCode::Internal, "client hello", error))
    })?;
    writer.write_all(&frame).await.map_err(|error| NotOpened::Gone(broken(error)))
}

async fn receive_hello<S: AsyncRead>(
    responses: &mut Responses<S>,
) -> Result<WorkerHello, NotOpened> {
    match responses.next().await {
        Some(Ok(Response::Hello(hello))) if hello.protocol == PROTOCOL_VERSION => Ok(hello),
        Some(Ok(Response::Hello(hello))) => Err(NotOpened::Refused(EmbedError::new(
            ErrorCode::Protocol,
            format!(
                "worker {} (pid {}): speaks protocol {}, this client speaks {PROTOCOL_VERSION}",
                hello.version, hello.pid, hello.protocol
            ),
        ))),
        Some(Ok(Response::Error { code, message, .. })) => {
            let error = EmbedError::new(code, message);
            let leaving = code == ErrorCode::ShuttingDown;
            Err(if leaving { NotOpened::Gone(error) } else { NotOpened::Refused(error) })
        }
        Some(Ok(other)) => Err(NotOpened::Unresponsive(EmbedError::new(
            ErrorCode::Protocol,
            format!("worker: sent {} before its hello", kind(&other)),
        ))),
        Some(Err(FrameError::Io(error))) => Err(NotOpened::Gone(broken(error))),
        Some(Err(error)) => Err(NotOpened::Unresponsive(garbage(error))),
        None => Err(NotOpened::Gone(ended())),
    }
}

/// The connection broke.
pub(crate) fn broken(error: std::io::Error) -> EmbedError {
    EmbedError::with_source(ErrorCode::WorkerUnavailable, "connection to the worker", error)
}

/// The connection ended.
pub(crate) fn ended() -> EmbedError {
    EmbedError::new(ErrorCode::WorkerUnavailable, "connection to the worker: ended")
}

/// What arrived is no frame of ours.
pub(crate) fn garbage(error: FrameError) -> EmbedError {
    EmbedError::with_source(ErrorCode::Protocol, "worker", error)
}

fn kind(response: &Response) -> &'static str {
    match response {
        Response::Hello(_) => "a hello",
        Response::Vector { .. } => "a vector",
        Response::Error { .. } => "an error",
        Response::Pong { .. } => "a pong",
        Response::Stats { .. } => "statistics",
    }
}
