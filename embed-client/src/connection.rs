//! One connection over any byte stream: hello, one reader, one writer, and requests matched by id.
//!
//! It knows nothing of sockets, processes and retries. When the stream ends, every request in flight
//! fails with [`Failure::Lost`], once; what to do about that is the supervisor's and client's affair.

use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use embed_protocol::{
    ClientHello, EmbedParams, ErrorCode, MessageCodec, PROTOCOL_VERSION, Request, Response,
    TEXT_PART_BYTES_MAX, WorkerHello, vector,
};
use futures_util::StreamExt;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::sync::oneshot;
use tokio::task::AbortHandle;
use tokio::time::Instant;
use tokio_util::codec::FramedRead;

use crate::credit::{Credit, Spent};
use crate::embedding::Embedding;
use crate::error::EmbedError;
use crate::in_flight::InFlight;
use crate::options::EmbedOptions;
use crate::outbox::{Outbox, frame};

/// A worker that accepts a connection answers its hello at once; one that does not in this time hangs.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);

/// Why a request on a connection has no vector.
#[derive(Clone, Debug)]
pub(crate) enum Failure {
    /// The connection is gone, and nobody knows what became of the request.
    Lost(EmbedError),
    /// The worker will not do it, or the deadline has passed.
    Refused(EmbedError),
}

/// An open connection whose worker has introduced itself. Dropping it ends it.
#[derive(Debug)]
pub(crate) struct Connection {
    shared: Arc<Shared>,
    tasks: [AbortHandle; 2],
}

/// What requests, reader and writer share.
#[derive(Debug, Default)]
struct Shared {
    in_flight: Mutex<InFlight<Waiter>>,
    outbox: Outbox,
    credit: Credit,
    why_lost: OnceLock<EmbedError>,
}

/// Who waits for an answer, and the credit that the answer gives back.
#[derive(Debug)]
struct Waiter {
    reply: oneshot::Sender<Result<Embedding, Failure>>,
    _spent: Spent,
}

type Responses<S> = FramedRead<ReadHalf<S>, MessageCodec<Response, Request>>;

impl Connection {
    /// Exchanges hellos over `stream` and starts reader and writer on the current runtime.
    ///
    /// # Errors
    ///
    /// [`Failure::Lost`] if the stream ends or breaks before the worker's hello (it is leaving);
    /// [`Failure::Refused`] if the worker speaks another version, refuses the connection or hangs.
    pub(crate) async fn open<S>(stream: S) -> Result<Self, Failure>
    where
        S: AsyncRead + AsyncWrite + Send + 'static,
    {
        let (reader, mut writer) = tokio::io::split(stream);
        let mut responses = FramedRead::new(reader, MessageCodec::default());
        let hello = async {
            send_hello(&mut writer).await?;
            receive_hello(&mut responses).await
        };
        let worker = tokio::time::timeout(HANDSHAKE_TIMEOUT, hello).await.unwrap_or_else(|_| {
            Err(Failure::Refused(EmbedError::new(
                ErrorCode::WorkerUnavailable,
                format!("worker: accepted the connection but did not introduce itself within {HANDSHAKE_TIMEOUT:?}"),
            )))
        })?;
        tracing::debug!(pid = worker.pid, kernels = worker.kernels, "connected");
        let shared = Arc::<Shared>::default();
        let tasks = [
            tokio::spawn(read(responses, Arc::clone(&shared))).abort_handle(),
            tokio::spawn(write(writer, Arc::clone(&shared))).abort_handle(),
        ];
        Ok(Self { shared, tasks })
    }

    /// Whether no request can succeed on it any more.
    pub(crate) fn is_closed(&self) -> bool {
        self.shared.outbox.is_closed() || self.shared.in_flight().is_closed()
    }

    /// Sends one text and waits for its vector until `deadline`.
    ///
    /// Dropping the future tells the worker that nobody waits any more.
    pub(crate) async fn embed(
        &self,
        text: &str,
        options: &EmbedOptions,
        deadline: Instant,
    ) -> Result<Embedding, Failure> {
        let answer = self.exchange(text, options, deadline);
        tokio::time::timeout_at(deadline, answer).await.unwrap_or_else(|_| Err(timed_out(options)))
    }

    async fn exchange(
        &self,
        text: &str,
        options: &EmbedOptions,
        deadline: Instant,
    ) -> Result<Embedding, Failure> {
        let shared = &*self.shared;
        let spent = shared.credit.spend(options.priority, text.len()).await;
        let spent = spent.ok_or_else(|| shared.lost())?;
        let remaining = deadline.saturating_duration_since(Instant::now());
        if remaining.is_zero() {
            return Err(timed_out(options));
        }
        let (reply, answer) = oneshot::channel();
        let waiter = Waiter { reply, _spent: spent };
        let id = shared.in_flight().insert(waiter).map_err(|_| shared.lost())?;
        let mut request = Unanswered { shared, id, sent: false };
        let params = EmbedParams {
            truncate: options.truncate,
            normalize: options.normalize,
            dimensions: options.dimensions,
            priority: options.priority,
            deadline_ms: Some(u32::try_from(remaining.as_millis()).unwrap_or(u32::MAX)),
        };
        for frame in frames(id, text, params) {
            shared.outbox.push(&frame).await.map_err(|_| shared.lost())?;
            request.sent = true;
        }
        let answer = answer.await.unwrap_or_else(|_| Err(shared.lost()));
        drop(request);
        answer
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.tasks.iter().for_each(AbortHandle::abort);
        self.shared.end(EmbedError::new(ErrorCode::Cancelled, "connection: closed by this client"));
    }
}

/// A request without an answer. Dropped, it tells the worker.
struct Unanswered<'a> {
    shared: &'a Shared,
    id: u64,
    /// Whether the worker has, or will have, at least a part of it.
    sent: bool,
}

impl Drop for Unanswered<'_> {
    fn drop(&mut self) {
        if !self.sent {
            // The worker will never answer what it never saw.
            self.shared.in_flight().complete(self.id);
        } else if self.shared.in_flight().cancel(self.id) {
            // If the connection is gone there is nobody left to tell.
            let _ = self.shared.outbox.push_now(&Request::Cancel { id: self.id });
        }
    }
}

impl Shared {
    fn in_flight(&self) -> MutexGuard<'_, InFlight<Waiter>> {
        // Every change is complete when the lock is released, whatever panicked.
        self.in_flight.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Fails everything, now and later, because of `why`.
    fn end(&self, why: EmbedError) {
        let why = self.why_lost.get_or_init(|| why).clone();
        let waiters = self.in_flight().fail_all();
        self.outbox.close();
        self.credit.close();
        for waiter in waiters {
            let _ = waiter.reply.send(Err(Failure::Lost(why.clone())));
        }
    }

    fn lost(&self) -> Failure {
        Failure::Lost(self.why_lost.get().cloned().unwrap_or_else(ended))
    }

    /// Hands one response to whoever waits for it; an error ends the connection.
    fn dispatch(&self, response: Response) -> Result<(), EmbedError> {
        let (id, result) = match response {
            Response::Vector { id, vector: bytes, tokens, truncated, timings } => {
                let n_bytes = bytes.len();
                let Some(vector) = vector::from_bytes(&bytes) else {
                    return Err(EmbedError::new(
                        ErrorCode::Protocol,
                        format!("worker: a vector of {n_bytes} bytes, not a multiple of 4"),
                    ));
                };
                (id, Ok(Embedding { vector, tokens, truncated, timings }))
            }
            Response::Error { id: Some(id), code, message } => {
                (id, Err(Failure::Refused(EmbedError::new(code, message))))
            }
            Response::Error { id: None, code, message } => {
                return Err(EmbedError::new(code, message));
            }
            Response::Pong { .. } | Response::Stats { .. } => return Ok(()),
            Response::Hello(_) => {
                return Err(EmbedError::new(ErrorCode::Protocol, "worker: a second hello"));
            }
        };
        match self.in_flight().complete(id) {
            Some(waiter) => {
                // A caller that left meanwhile has dropped its end.
                let _ = waiter.reply.send(result);
                Ok(())
            }
            None => Err(EmbedError::new(
                ErrorCode::Protocol,
                format!("worker: an answer to request {id}, which has none outstanding"),
            )),
        }
    }
}

/// One text as the frames that carry it; an empty text is one frame.
fn frames(id: u64, text: &str, params: EmbedParams) -> impl Iterator<Item = Request> {
    let mut rest = Some(text);
    let mut is_first = true;
    std::iter::from_fn(move || {
        let text = rest?;
        let (part, tail) = text.split_at(text.floor_char_boundary(TEXT_PART_BYTES_MAX));
        rest = (!tail.is_empty()).then_some(tail);
        let (text, more) = (part.to_owned(), rest.is_some());
        Some(if std::mem::take(&mut is_first) {
            Request::Embed { id, text, more, params }
        } else {
            Request::Part { id, text, more }
        })
    })
}

/// The client's first frame.
async fn send_hello<S: AsyncWrite>(writer: &mut WriteHalf<S>) -> Result<(), Failure> {
    let hello = Request::Hello(ClientHello {
        protocol: PROTOCOL_VERSION,
        version: crate::VERSION.to_owned(),
        pid: std::process::id(),
        observer: false,
    });
    let frame = frame(&hello).map_err(|error| {
        Failure::Refused(EmbedError::with_source(ErrorCode::Internal, "client hello", error))
    })?;
    writer.write_all(&frame).await.map_err(|error| Failure::Lost(broken(error)))
}

/// The worker's first frame.
async fn receive_hello<S: AsyncRead>(responses: &mut Responses<S>) -> Result<WorkerHello, Failure> {
    match responses.next().await {
        Some(Ok(Response::Hello(hello))) if hello.protocol == PROTOCOL_VERSION => Ok(hello),
        Some(Ok(Response::Hello(hello))) => Err(Failure::Refused(EmbedError::new(
            ErrorCode::Protocol,
            format!(
                "worker {} (pid {}): speaks protocol {}, this client speaks {PROTOCOL_VERSION}",
                hello.version, hello.pid, hello.protocol
            ),
        ))),
        Some(Ok(Response::Error { code, message, .. })) => {
            let error = EmbedError::new(code, message);
            let leaving = code == ErrorCode::ShuttingDown;
            Err(if leaving { Failure::Lost(error) } else { Failure::Refused(error) })
        }
        Some(Ok(other)) => Err(Failure::Refused(EmbedError::new(
            ErrorCode::Protocol,
            format!("worker: sent {} before its hello", kind(&other)),
        ))),
        Some(Err(embed_protocol::FrameError::Io(error))) => Err(Failure::Lost(broken(error))),
        Some(Err(error)) => Err(Failure::Refused(garbage(error))),
        None => Err(Failure::Lost(ended())),
    }
}

/// Hands responses to their waiters until the stream ends.
async fn read<S: AsyncRead>(mut responses: Responses<S>, shared: Arc<Shared>) {
    let why = loop {
        match responses.next().await {
            Some(Ok(response)) => {
                if let Err(error) = shared.dispatch(response) {
                    break error;
                }
            }
            Some(Err(embed_protocol::FrameError::Io(error))) => break broken(error),
            Some(Err(error)) => break garbage(error),
            None => break ended(),
        }
    };
    tracing::debug!(%why, "connection ended");
    shared.end(why);
}

/// Sends what lies in the outbox until the connection ends.
async fn write<S: AsyncWrite>(mut writer: WriteHalf<S>, shared: Arc<Shared>) {
    while let Some(frames) = shared.outbox.take().await {
        if let Err(error) = writer.write_all(&frames).await {
            // The reader may still find the worker's parting words; it ends the connection then.
            tracing::debug!(%error, "the worker takes no more requests");
            shared.outbox.close();
            return;
        }
    }
}

fn timed_out(options: &EmbedOptions) -> Failure {
    Failure::Refused(EmbedError::new(
        ErrorCode::Timeout,
        format!("text: no vector within {:?}", options.timeout),
    ))
}

fn broken(error: std::io::Error) -> EmbedError {
    EmbedError::with_source(ErrorCode::WorkerUnavailable, "connection to the worker", error)
}

fn ended() -> EmbedError {
    EmbedError::new(ErrorCode::WorkerUnavailable, "connection to the worker: ended")
}

fn garbage(error: embed_protocol::FrameError) -> EmbedError {
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

#[cfg(test)]
mod tests;
