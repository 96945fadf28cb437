//! One peer: its hello, its requests, and the answers in any order.
//!
//! Works over any byte stream, so that tests need no socket. One reader and one writer.

use std::future::{Future, poll_fn};
use std::sync::Arc;
use std::task::Poll;

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
use crate::batch::Failure;
use crate::config::{FAREWELL_TIMEOUT, FRAME_TIMEOUT, HANDSHAKE_TIMEOUT};

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
            // For requests on their way here, which nobody will read.
            End::Leaving => {
                let _ = sink.send(&farewell()).await;
            }
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
    let (answers, mut backlog) = answers(&service.unread);
    let overrun = answers.overrun();
    let mut requests = Requests::new(service, answers, name);
    let write = backlog.write_to(sink);
    tokio::pin!(write);
    let end = tokio::select! {
        end = read(source, &mut requests) => end,
        () = &mut write => End::Left,
        () = overrun.notified() => End::Broken(
            "connection: its answers are not read, and more than may wait are waiting".into()
        ),
        () = service.leaving() => End::Leaving,
    };
    match end {
        End::Leaving => {
            requests.leave();
            // Ends when all who owe an answer have given it and it was flushed. How long a peer may
            // take to read is bounded by whoever waits for the connections' end.
            tokio::select! {
                () = &mut write => {}
                () = overrun.notified() => {}
            }
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
        let Some(next) = next_in_time(source).await else {
            return End::Broken(format!("frame: not whole {FRAME_TIMEOUT:?} after its beginning"));
        };
        match next {
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

/// The next request, or `None` if it has begun to arrive and does not come to its end.
async fn next_in_time<R: AsyncRead + Unpin>(
    source: &mut FramedRead<R, Codec>,
) -> Option<Option<Result<Request, FrameError>>> {
    let mut patience = None;
    poll_fn(|context| {
        if let Poll::Ready(next) = source.poll_next_unpin(context) {
            return Poll::Ready(Some(next));
        }
        if !source.decoder().is_mid_frame() {
            return Poll::Pending;
        }
        let patience = patience.get_or_insert_with(|| Box::pin(tokio::time::sleep(FRAME_TIMEOUT)));
        patience.as_mut().poll(context).map(|()| None)
    })
    .await
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

fn farewell() -> Response {
    let Failure { code, message } = Failure::shutting_down();
    Response::Error { id: None, code, message }
}

fn protocol_error(message: String) -> Response {
    Response::Error { id: None, code: ErrorCode::Protocol, message }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncWriteExt;
    use tokio::time::{Duration, Instant, sleep, timeout};

    const PING: &[u8] = b"\x0b\0\0\0\x81\xa4ping\x81\xa2id\x07";

    #[tokio::test(start_paused = true)]
    async fn a_frame_that_does_not_come_to_its_end_is_awaited_so_long_and_no_longer() {
        for sent in 1..PING.len() {
            let (ours, mut theirs) = tokio::io::duplex(1024);
            let mut source = FramedRead::new(ours, Codec::default());
            theirs.write_all(&PING[..sent]).await.expect("room");
            let begun = Instant::now();
            assert!(next_in_time(&mut source).await.is_none(), "after {sent} bytes");
            assert!(begun.elapsed() >= FRAME_TIMEOUT, "after {sent} bytes");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn dripping_bytes_do_not_make_the_time_longer() {
        let (ours, mut theirs) = tokio::io::duplex(1024);
        let mut source = FramedRead::new(ours, Codec::default());
        tokio::spawn(async move {
            for byte in [&60_000_u32.to_le_bytes()[..], &[0; 1000]].concat() {
                sleep(FRAME_TIMEOUT / 10).await;
                let _ = theirs.write_all(&[byte]).await;
            }
        });
        let end = timeout(FRAME_TIMEOUT * 2, next_in_time(&mut source)).await;
        assert!(end.expect("ends in time").is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn between_frames_a_peer_may_be_silent_as_long_as_it_likes() {
        let (ours, mut theirs) = tokio::io::duplex(1024);
        let mut source = FramedRead::new(ours, Codec::default());
        // A frame that takes its time but comes to its end, then a day of nothing.
        for _ in 0..2 {
            theirs.write_all(&PING[..5]).await.expect("room");
            let rest = async {
                sleep(FRAME_TIMEOUT - Duration::from_secs(1)).await;
                theirs.write_all(&PING[5..]).await.expect("room");
            };
            let (request, ()) = tokio::join!(next_in_time(&mut source), rest);
            assert!(matches!(request, Some(Some(Ok(Request::Ping { id: 7 })))), "{request:?}");
            let day = Duration::from_secs(24 * 3600);
            assert!(timeout(day, next_in_time(&mut source)).await.is_err(), "a lease stays");
        }
    }
}
