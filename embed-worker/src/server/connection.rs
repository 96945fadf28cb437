//! One peer: its hello, its requests, and the answers in any order.
//!
//! Works over any byte stream, so that tests need no socket. One reader and one writer.

use std::sync::Arc;

use embed_protocol::{
    ClientHello, ConnectionName, ErrorCode, FrameError, MessageCodec, PROTOCOL_VERSION, Request,
    Response, WorkerHello,
};
use futures_util::{Sink, SinkExt, StreamExt};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::codec::{Framed, FramedRead, FramedWrite};

use super::Service;
use super::answers::answers;
use super::requests::Requests;
use crate::config::{FAREWELL_TIMEOUT, HANDSHAKE_TIMEOUT};

/// Bytes of a peer's version that are logged or told: its name for it may be as long as a frame.
const VERSION_BYTES_SHOWN: usize = 64;

type Codec = MessageCodec<Request, Response>;

/// How a connection comes to its end.
#[derive(Debug)]
enum End {
    /// The peer has left.
    Left,
    /// The peer did what the protocol does not allow.
    Broken(String),
    /// The worker leaves; whatever was asked has its answer.
    Leaving,
}

/// Serves one peer until it leaves, breaks the protocol, or the worker leaves.
pub async fn serve_connection(stream: impl AsyncRead + AsyncWrite, service: &Arc<Service>) {
    let connection = service.figures.connected();
    let (read, write) = tokio::io::split(stream);
    let mut source = FramedRead::new(read, Codec::default());
    let mut sink = FramedWrite::new(write, Codec::default());
    let greeting = tokio::select! {
        greeting = greeting(&mut source) => greeting,
        () = service.leaving() => Err(End::Leaving),
    };
    let end = match greeting {
        Ok(hello) => {
            let name =
                ConnectionName { client: hello.pid, worker: service.hello.pid, number: connection };
            let version = short(&hello.version);
            tracing::debug!(connection = %name, version, observer = hello.observer, "a client connected");
            let _client = (!hello.observer).then(|| service.leases.client());
            let answer = WorkerHello { connection, ..service.hello.clone() };
            let end = match sink.send(&Response::Hello(answer)).await {
                Ok(()) => converse(&mut source, &mut sink, service, name).await,
                Err(_) => End::Left,
            };
            tracing::debug!(connection = %name, ?end, "a connection ends");
            end
        }
        Err(end) => end,
    };
    let say = async {
        match end {
            // Nobody reads it any more.
            End::Left => return,
            End::Broken(message) => {
                service.figures.broken();
                tracing::warn!(connection, why = message, "closing a connection");
                let _ = sink.send(&protocol_error(message)).await;
            }
            End::Leaving => {}
        }
        let _ = close(&mut sink).await;
    };
    let _ = tokio::time::timeout(FAREWELL_TIMEOUT, say).await;
}

/// Waits for a peer's hello.
async fn greeting<R: AsyncRead + Unpin>(
    source: &mut FramedRead<R, Codec>,
) -> Result<ClientHello, End> {
    match tokio::time::timeout(HANDSHAKE_TIMEOUT, source.next()).await {
        Ok(Some(Ok(Request::Hello(hello)))) => match check(&hello) {
            Ok(()) => Ok(hello),
            Err(why) => Err(End::Broken(why)),
        },
        Ok(Some(Ok(_))) => Err(End::Broken("connection: the first message must be `hello`".into())),
        Ok(Some(Err(FrameError::Io(_))) | None) => Err(End::Left),
        Ok(Some(Err(error))) => Err(End::Broken(error.to_string())),
        Err(_) => Err(End::Broken(format!("connection: no `hello` within {HANDSHAKE_TIMEOUT:?}"))),
    }
}

fn check(hello: &ClientHello) -> Result<(), String> {
    if hello.protocol == PROTOCOL_VERSION {
        return Ok(());
    }
    Err(format!(
        "protocol: client {} (process {}) speaks version {}, this worker version {PROTOCOL_VERSION}",
        short(&hello.version),
        hello.pid,
        hello.protocol
    ))
}

/// What a peer calls its version, as much of it as is worth writing down.
fn short(version: &str) -> &str {
    &version[..version.floor_char_boundary(VERSION_BYTES_SHOWN)]
}

/// Answers a peer's requests.
async fn converse<R: AsyncRead + Unpin, W: AsyncWrite + Unpin>(
    source: &mut FramedRead<R, Codec>,
    sink: &mut FramedWrite<W, Codec>,
    service: &Arc<Service>,
    name: ConnectionName,
) -> End {
    let (answers, mut backlog) = answers();
    let mut requests = Requests::new(service, answers, name);
    let write = backlog.write_to(sink);
    tokio::pin!(write);
    let end = tokio::select! {
        end = read(source, &mut requests) => end,
        () = &mut write => End::Left,
        () = service.leaving() => End::Leaving,
    };
    match end {
        End::Leaving => {
            requests.leave();
            // Ends when all who owe an answer have given it and it was flushed. How long a peer may
            // take to read is bounded by whoever waits for the connections' end.
            write.await;
        }
        End::Left | End::Broken(_) => requests.cancel_all(),
    }
    end
}

/// Reads requests until the peer leaves or breaks the protocol.
async fn read<R: AsyncRead + Unpin>(
    source: &mut FramedRead<R, Codec>,
    requests: &mut Requests<'_>,
) -> End {
    loop {
        requests.room().await;
        match source.next().await {
            Some(Ok(request)) => {
                if let Err(message) = requests.handle(request) {
                    return End::Broken(message);
                }
            }
            Some(Err(FrameError::Io(_))) | None => return End::Left,
            Some(Err(error)) => return End::Broken(error.to_string()),
        }
    }
}

/// Flushes and closes; the sink takes references of any lifetime, of which one has to be named.
async fn close<'a, S: Sink<&'a Response> + Unpin>(sink: &mut S) -> Result<(), S::Error> {
    sink.close().await
}

/// Tells a peer that there is no room for it.
pub(super) async fn refuse(stream: impl AsyncRead + AsyncWrite + Unpin) {
    let mut sink = Framed::new(stream, Codec::default());
    let message = "worker: has as many connections as it may have".to_owned();
    let answer = Response::Error { id: None, code: ErrorCode::Overloaded, message };
    let _ = tokio::time::timeout(FAREWELL_TIMEOUT, sink.send(&answer)).await;
}

fn protocol_error(message: String) -> Response {
    Response::Error { id: None, code: ErrorCode::Protocol, message }
}
