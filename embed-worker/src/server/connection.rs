//! One peer: its hello, its requests, and the answers in any order.
//!
//! Works over any byte stream, so that tests need no socket. One reader and one writer; what the
//! writer has to write is bounded by the requests that may be without an answer.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use embed_protocol::{
    ClientHello, EmbedParams, ErrorCode, FrameError, IN_FLIGHT_MAX, MessageCodec, PROTOCOL_VERSION,
    Request, Response, vector,
};
use futures_util::{SinkExt, StreamExt};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc;
use tokio_util::codec::{Framed, FramedRead, FramedWrite};

use super::Service;
use super::assembly::{Assembly, Part};
use crate::batch::{Answer, CancelFlag, Failure, Job, Reply};
use crate::config::{FAREWELL_TIMEOUT, HANDSHAKE_TIMEOUT};

type Codec = MessageCodec<Request, Response>;

/// Serves one peer until it leaves or breaks the protocol.
pub async fn serve_connection(stream: impl AsyncRead + AsyncWrite, service: &Arc<Service>) {
    let (read, write) = tokio::io::split(stream);
    let mut source = FramedRead::new(read, Codec::default());
    let mut sink = FramedWrite::new(write, Codec::default());
    let greeting = match tokio::time::timeout(HANDSHAKE_TIMEOUT, source.next()).await {
        Ok(Some(Ok(Request::Hello(hello)))) => greet(&hello),
        Ok(Some(Ok(_))) => Err("connection: the first message must be `hello`".to_owned()),
        Ok(Some(Err(error))) => Err(error.to_string()),
        Ok(None) => return,
        Err(_) => Err(format!("connection: no `hello` within {HANDSHAKE_TIMEOUT:?}")),
    };
    let first = match &greeting {
        Ok(()) => Response::Hello(service.hello.clone()),
        Err(message) => protocol_error(message.clone()),
    };
    if sink.send(&first).await.is_err() || greeting.is_err() {
        return;
    }

    let (answers, mut queue) = mpsc::unbounded_channel();
    let in_flight = InFlight::default();
    let mut reader = Reader {
        service,
        answers,
        in_flight: in_flight.clone(),
        unfinished: Assembly::new(&service.unfinished),
    };
    // Until the peer leaves or is to be left; then, for a moment, what is still to be said.
    let farewell = {
        let read = async {
            loop {
                match source.next().await {
                    Some(Ok(request)) => reader.handle(request),
                    Some(Err(FrameError::Io(_))) | None => break None,
                    Some(Err(error)) => break Some(protocol_error(error.to_string())),
                }
            }
        };
        let write = async {
            while let Some(answer) = queue.recv().await {
                in_flight.ended(&answer);
                if sink.feed(&answer).await.is_err() {
                    return;
                }
                // Flush when there is nothing more to say at once, so that a burst of answers
                // travels together.
                if queue.is_empty() && SinkExt::<&Response>::flush(&mut sink).await.is_err() {
                    return;
                }
            }
        };
        tokio::select! {
            farewell = read => farewell,
            () = write => None,
        }
    };
    in_flight.cancel_all();
    if let Some(farewell) = farewell {
        tracing::warn!(answer = ?farewell, "closing a connection");
        let say = async {
            let _ = sink.send(&farewell).await;
            let _ = SinkExt::<&Response>::close(&mut sink).await;
        };
        let _ = tokio::time::timeout(FAREWELL_TIMEOUT, say).await;
    }
}

/// Tells a peer that there is no room for it.
pub(super) async fn refuse(stream: impl AsyncRead + AsyncWrite + Unpin) {
    let mut sink = Framed::new(stream, Codec::default());
    let message = "worker: has as many connections as it may have".to_owned();
    let answer = Response::Error { id: None, code: ErrorCode::Overloaded, message };
    let _ = tokio::time::timeout(FAREWELL_TIMEOUT, sink.send(&answer)).await;
}

fn greet(hello: &ClientHello) -> Result<(), String> {
    if hello.protocol == PROTOCOL_VERSION {
        tracing::debug!(pid = hello.pid, version = hello.version, "a client connected");
        return Ok(());
    }
    Err(format!(
        "protocol: client {} (process {}) speaks version {}, this worker version {PROTOCOL_VERSION}",
        hello.version, hello.pid, hello.protocol
    ))
}

fn protocol_error(message: String) -> Response {
    Response::Error { id: None, code: ErrorCode::Protocol, message }
}

/// Requests without an answer, and how to cancel each.
#[derive(Clone, Debug, Default)]
struct InFlight(Arc<Mutex<HashMap<u64, CancelFlag>>>);

impl InFlight {
    fn map(&self) -> MutexGuard<'_, HashMap<u64, CancelFlag>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn ended(&self, answer: &Response) {
        if let Response::Vector { id, .. } | Response::Error { id: Some(id), .. } = answer {
            self.map().remove(id);
        }
    }

    fn cancel_all(&self) {
        self.map().drain().for_each(|(_, flag)| flag.cancel());
    }
}

/// Turns requests into jobs and answers.
struct Reader<'a> {
    service: &'a Arc<Service>,
    /// Unbounded, and yet bounded: each request leaves one answer, and those without one are
    /// counted.
    answers: mpsc::UnboundedSender<Response>,
    in_flight: InFlight,
    unfinished: Assembly<'a>,
}

impl Reader<'_> {
    fn handle(&mut self, request: Request) {
        match request {
            Request::Hello(_) => {
                self.answer(protocol_error("connection: said `hello` twice".into()))
            }
            Request::Embed { id, text, more, params } => self.embed(id, text, more, params),
            Request::Part { id, text, more } => {
                let part = self.unfinished.append(id, &text, more);
                self.advance(id, part);
            }
            Request::Cancel { id } => {
                // One that is not there was answered already.
                if let Some(flag) = self.in_flight.map().get(&id) {
                    flag.cancel();
                }
            }
            Request::Ping { id } => self.answer(Response::Pong { id }),
            Request::Stats { id } => {
                self.answer(Response::Stats { id, stats: self.service.stats() });
            }
            Request::Shutdown { id } => {
                self.answer(Response::Pong { id });
                self.service.stop();
            }
        }
    }

    fn embed(&mut self, id: u64, text: String, more: bool, params: EmbedParams) {
        {
            let mut in_flight = self.in_flight.map();
            let waiting = in_flight.len();
            let failure = if in_flight.contains_key(&id) || self.unfinished.contains(id) {
                let message = format!("request {id}: a request of this id has no answer yet");
                Some(Failure::new(ErrorCode::Protocol, message))
            } else if waiting >= IN_FLIGHT_MAX {
                let message = format!(
                    "connection: has {waiting} requests without an answer, at most {IN_FLIGHT_MAX} may be"
                );
                Some(Failure::new(ErrorCode::Overloaded, message))
            } else {
                in_flight.insert(id, CancelFlag::default());
                None
            };
            drop(in_flight);
            if let Some(failure) = failure {
                // Not `fail`: the request that has this id must keep its place.
                let Failure { code, message } = failure;
                self.answer(Response::Error { id: None, code, message });
                return;
            }
        }
        let part = self.unfinished.begin(id, params, text, more);
        self.advance(id, part);
    }

    fn advance(&mut self, id: u64, part: Part) {
        match part {
            Part::Unfinished => {}
            Part::Whole(params, text) => self.submit(id, params, text),
            Part::Refused(failure) => self.fail(id, failure),
            Part::Unknown => {
                self.answer(protocol_error(format!(
                    "part of request {id}: no text of this id was begun"
                )));
            }
        }
    }

    fn submit(&self, id: u64, params: EmbedParams, text: String) {
        let dimensions = self.service.hello.model.dimensions;
        if let Some(found) = params.dimensions
            && !(1..=dimensions).contains(&found)
        {
            let message =
                format!("option `dimensions`: is {found}, the model gives 1 to {dimensions}");
            self.fail(id, Failure::new(ErrorCode::BadArgument, message));
            return;
        }
        let received = Instant::now();
        let cancelled = self.in_flight.map().get(&id).cloned().unwrap_or_default();
        let answers = self.answers.clone();
        let job = Job {
            text,
            params,
            received,
            deadline: params
                .deadline_ms
                .and_then(|ms| received.checked_add(Duration::from_millis(ms.into()))),
            cancelled,
            // Nobody listens any more if the connection has ended; then nobody needs it.
            reply: Reply::new(move |outcome| drop(answers.send(response(id, outcome)))),
        };
        if let Err(rejected) = self.service.batcher.submit(job) {
            rejected.job.reply.give(Err(rejected.failure));
        }
    }

    fn fail(&self, id: u64, failure: Failure) {
        self.answer(response(id, Err(failure)));
    }

    fn answer(&self, answer: Response) {
        // The writer ends before the reader only if the connection has ended.
        let _ = self.answers.send(answer);
    }
}

fn response(id: u64, outcome: Result<Answer, Failure>) -> Response {
    match outcome {
        Ok(Answer { vector, tokens, truncated, timings }) => Response::Vector {
            id,
            vector: vector::to_bytes(&vector),
            tokens: u32::try_from(tokens).unwrap_or(u32::MAX),
            truncated,
            timings,
        },
        Err(Failure { code, message }) => Response::Error { id: Some(id), code, message },
    }
}
