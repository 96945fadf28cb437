//! One connection over any byte stream: hello, one reader, one writer, and requests matched by id.
//!
//! It knows nothing of sockets, processes and retries. When the stream ends, or the worker at its
//! other end hangs, every request in flight fails with [`Failure::Lost`], once; what to do about that
//! is the supervisor's and client's affair.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use embed_protocol::log_name::RequestName;
use embed_protocol::{
    ConnectionName, EmbedParams, ErrorCode, MessageCodec, ModelInfo, Request, Response,
    TEXT_PART_BYTES_MAX, WorkerHello, vector,
};
use futures_util::StreamExt;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, WriteHalf};
use tokio::sync::{Notify, oneshot};
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep};
use tokio_util::codec::FramedRead;

use crate::credit::{Credit, Spent};
use crate::embedding::Embedding;
use crate::error::EmbedError;
use crate::handshake::{NotOpened, Responses, broken, ended, garbage, introduce};
use crate::heartbeat::{Beat, Heartbeat, SILENCE_MAX, TICK};
use crate::in_flight::InFlight;
use crate::options::EmbedOptions;
use crate::outbox::Outbox;

/// Why a request on a connection has no vector.
#[derive(Clone, Debug)]
pub(crate) enum Failure {
    /// The connection is gone, and nobody knows what became of the request.
    /// With [`ErrorCode::ShuttingDown`] the worker has left in peace, and never began with it.
    Lost(EmbedError),
    /// The connection is gone, and nothing of the request had left this process.
    Unsent(EmbedError),
    /// The worker will not do it, or the deadline has passed.
    Refused(EmbedError),
}

/// An open connection whose worker has introduced itself. Dropping it ends it.
#[derive(Debug)]
pub(crate) struct Connection {
    worker: WorkerHello,
    /// What the logs of both sides call it.
    name: ConnectionName,
    shared: Arc<Shared>,
    tasks: [AbortHandle; 3],
}

/// What requests, reader, writer and watcher share.
#[derive(Debug)]
struct Shared {
    /// The model that every vector of this connection is of.
    model: Arc<ModelInfo>,
    in_flight: Mutex<InFlight<Waiter>>,
    outbox: Outbox,
    credit: Credit,
    why_lost: OnceLock<EmbedError>,
    pulse: Pulse,
}

/// What is known of the worker's life.
#[derive(Debug, Default)]
struct Pulse {
    /// Something arrived since the watcher's last look.
    heard: AtomicBool,
    /// Something arrived after the hello.
    lived: AtomicBool,
    /// Texts that were answered, with a vector or an error.
    n_answered: AtomicU64,
    /// It owes an answer to a ping: should the connection end now, it was not a text's doing.
    is_faint: AtomicBool,
    /// Whether the watcher must be told of the next request.
    watcher_sleeps: AtomicBool,
    wake_watcher: Notify,
}

/// Who waits for an answer, and the credit that the answer gives back.
#[derive(Debug)]
struct Waiter {
    reply: oneshot::Sender<Result<Embedding, Failure>>,
    _spent: Spent,
}

impl Connection {
    /// Exchanges hellos over `stream` and starts reader, writer and watcher on the current runtime.
    /// The worker may take `patience` for its own.
    ///
    /// # Errors
    ///
    /// See [`NotOpened`].
    pub(crate) async fn open<S>(stream: S, patience: Duration) -> Result<Self, NotOpened>
    where
        S: AsyncRead + AsyncWrite + Send + 'static,
    {
        let (reader, mut writer) = tokio::io::split(stream);
        let mut responses = FramedRead::new(reader, MessageCodec::default());
        let worker = introduce(&mut responses, &mut writer, patience).await?;
        let client = std::process::id();
        let name = ConnectionName { client, worker: worker.pid, number: worker.connection };
        tracing::debug!(connection = %name, kernels = worker.kernels, "connected");
        let shared = Arc::new(Shared::new(worker.model.clone()));
        let tasks = [
            tokio::spawn(read(responses, Arc::clone(&shared))).abort_handle(),
            tokio::spawn(write(writer, Arc::clone(&shared))).abort_handle(),
            tokio::spawn(watch(Arc::clone(&shared))).abort_handle(),
        ];
        Ok(Self { worker, name, shared, tasks })
    }

    /// How the worker introduced itself.
    pub(crate) fn worker(&self) -> &WorkerHello {
        &self.worker
    }

    /// Texts that the worker has answered, with a vector or an error.
    pub(crate) fn n_answered(&self) -> u64 {
        self.shared.pulse.n_answered.load(Ordering::Relaxed)
    }

    /// Whether anything was heard after the hello, be it a pong.
    pub(crate) fn has_lived(&self) -> bool {
        self.shared.pulse.lived.load(Ordering::Relaxed)
    }

    /// Whether the worker hung when the connection ended, be it that this client ended it for that, or
    /// that another one was first to end the worker.
    pub(crate) fn hung(&self) -> bool {
        self.is_closed() && self.shared.pulse.is_faint.load(Ordering::Relaxed)
    }

    /// Why it ended, once it has.
    pub(crate) fn why_lost(&self) -> EmbedError {
        self.shared.why_lost()
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
        let spent = spent.ok_or_else(|| shared.unsent())?;
        let remaining = deadline.saturating_duration_since(Instant::now());
        if remaining.is_zero() {
            return Err(timed_out(options));
        }
        let (reply, answer) = oneshot::channel();
        let waiter = Waiter { reply, _spent: spent };
        let id = shared.in_flight().insert(waiter).map_err(|_| shared.unsent())?;
        shared.pulse.somebody_waits();
        let name = self.name.request(id);
        tracing::trace!(request = %name, bytes = text.len(), priority = ?options.priority, "sent");
        let began = Instant::now();
        let mut request = Unanswered { shared, id, name, sent: false };
        let params = EmbedParams {
            truncate: options.truncate,
            normalize: options.normalize,
            dimensions: options.dimensions,
            priority: options.priority,
            deadline_ms: Some(u32::try_from(remaining.as_millis()).unwrap_or(u32::MAX)),
            task: options.task,
        };
        for frame in frames(id, text, params) {
            let pushed = shared.outbox.push(&frame).await;
            pushed.map_err(|_| if request.sent { shared.lost() } else { shared.unsent() })?;
            request.sent = true;
        }
        let answer = answer.await.unwrap_or_else(|_| Err(shared.lost()));
        drop(request);
        let us = began.elapsed().as_micros();
        match &answer {
            Ok(Embedding { tokens, .. }) => {
                tracing::debug!(request = %name, tokens, us, "answered");
            }
            Err(Failure::Refused(error)) => {
                tracing::debug!(request = %name, code = %error.code(), us, "failed");
            }
            Err(Failure::Lost(_) | Failure::Unsent(_)) => {
                tracing::debug!(request = %name, us, "lost")
            }
        }
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
    name: RequestName,
    /// Whether the worker has, or will have, at least a part of it.
    sent: bool,
}

impl Drop for Unanswered<'_> {
    fn drop(&mut self) {
        if !self.sent {
            // The worker will never answer what it never saw.
            self.shared.in_flight().complete(self.id);
        } else if self.shared.in_flight().cancel(self.id) {
            tracing::debug!(request = %self.name, "given up");
            // If the connection is gone there is nobody left to tell.
            let _ = self.shared.outbox.push_now(&Request::Cancel { id: self.id });
        }
    }
}

impl Shared {
    fn new(model: ModelInfo) -> Self {
        Self {
            model: Arc::new(model),
            in_flight: Mutex::default(),
            outbox: Outbox::default(),
            credit: Credit::default(),
            why_lost: OnceLock::default(),
            pulse: Pulse::default(),
        }
    }

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

    fn why_lost(&self) -> EmbedError {
        self.why_lost.get().cloned().unwrap_or_else(ended)
    }

    fn lost(&self) -> Failure {
        Failure::Lost(self.why_lost())
    }

    fn unsent(&self) -> Failure {
        Failure::Unsent(self.why_lost())
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
                let model = Some(Arc::clone(&self.model));
                let degraded = None;
                (id, Ok(Embedding { vector, model, tokens, truncated, timings, degraded }))
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
                self.pulse.n_answered.fetch_add(1, Ordering::Relaxed);
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

/// Hands responses to their waiters until the stream ends.
async fn read<S: AsyncRead>(mut responses: Responses<S>, shared: Arc<Shared>) {
    let why = loop {
        match responses.next().await {
            Some(Ok(response)) => {
                shared.pulse.heard.store(true, Ordering::Relaxed);
                shared.pulse.lived.store(true, Ordering::Relaxed);
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

/// Ends the connection if the worker owes answers and says nothing at all.
async fn watch(shared: Arc<Shared>) {
    let pulse = &shared.pulse;
    let mut heartbeat = Heartbeat::default();
    loop {
        sleep(TICK).await;
        let requests_wait = {
            let in_flight = shared.in_flight();
            if in_flight.is_closed() {
                // How the worker was then is to be remembered.
                return;
            }
            !in_flight.is_empty()
        };
        let heard = pulse.heard.swap(false, Ordering::Relaxed);
        let beat = heartbeat.tick(requests_wait, heard);
        pulse.is_faint.store(heartbeat.is_faint(), Ordering::Relaxed);
        match beat {
            Beat::Wait => {}
            Beat::Sleep => pulse.sleep(|| shared.in_flight().is_empty()).await,
            // A pong has no waiter: that something comes is what counts. Should the connection be
            // gone, the next look finds nobody who waits.
            Beat::Ping => drop(shared.outbox.push_now(&Request::Ping { id: 0 })),
            Beat::Hangs => {
                tracing::warn!("a worker that owes answers says nothing");
                return shared.end(EmbedError::new(
                    ErrorCode::WorkerUnavailable,
                    format!("worker: owes answers but has been silent for {SILENCE_MAX:?}"),
                ));
            }
        }
    }
}

impl Pulse {
    /// Called for every request; costs one load while the watcher is awake.
    fn somebody_waits(&self) {
        if self.watcher_sleeps.load(Ordering::SeqCst) {
            self.wake_watcher.notify_one();
        }
    }

    /// Sleeps until somebody waits.
    async fn sleep(&self, nobody_waits: impl Fn() -> bool) {
        self.watcher_sleeps.store(true, Ordering::SeqCst);
        // A request that came before the flag was set did not wake anybody.
        if nobody_waits() {
            self.wake_watcher.notified().await;
        }
        self.watcher_sleeps.store(false, Ordering::SeqCst);
    }
}

fn timed_out(options: &EmbedOptions) -> Failure {
    Failure::Refused(EmbedError::new(
        ErrorCode::Timeout,
        format!("text: no vector within {:?}", options.timeout),
    ))
}

#[cfg(test)]
mod tests;
