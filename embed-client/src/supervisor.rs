//! Keeps one connection to the worker of one model, and gets a new one when it is gone.
//!
//! All requests that need a worker at the same time wait for the same attempt, so that a burst starts
//! one worker and a fault is reported once.
//! An attempt that fails is made again, as often and as soon as the [`Circuit`] allows; after that
//! callers are told at once, until it has cooled down.

use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use embed_protocol::ErrorCode;
use tokio::sync::watch;
use tokio::time::{Duration, Instant, sleep};

use crate::circuit::{Circuit, Permission, RESTARTS_MAX};
use crate::connection::Connection;
use crate::error::EmbedError;
use crate::launch::Witness;
use crate::options::ClientOptions;
use crate::reach::{Reached, Unreached, reach};
use crate::replace::end_worker;

/// How long a model that was served before, and is now missing or damaged, may take to be whole again
/// before callers are told. Programs that put a new file in its place are done by then, unless they
/// copy gigabytes onto it.
const MODEL_PATIENCE: Duration = Duration::from_secs(5);

/// How often it is looked at meanwhile.
const MODEL_POLL: Duration = Duration::from_millis(50);

/// The outcome of an attempt to get a connection, as all who wait for it see it.
type Outcome = Result<Arc<Connection>, EmbedError>;

/// See the module's documentation.
#[derive(Debug)]
pub(crate) struct Supervisor {
    options: Arc<ClientOptions>,
    state: Arc<Mutex<State>>,
    /// Whether callers get something else than the model's vectors.
    is_degraded: AtomicBool,
}

#[derive(Debug, Default)]
struct State {
    current: Current,
    circuit: Circuit,
    /// Length of the model's vectors, once a worker has told.
    dimensions: Option<u32>,
    /// Whether the model was good when it was last looked at.
    model_was_good: bool,
    /// What the last worker was lost for, with its process, or the last attempt failed for.
    last_fault: Option<(EmbedError, Option<u32>)>,
    /// The worker that this client started last.
    witness: Option<Arc<Witness>>,
}

#[derive(Debug, Default)]
enum Current {
    /// Nothing was asked yet, or the last attempt failed, or its worker took its leave.
    #[default]
    None,
    /// An attempt is under way.
    Connecting(watch::Receiver<Option<Outcome>>),
    /// Good as far as is known.
    Connected(Reached),
}

impl Supervisor {
    pub(crate) fn new(options: ClientOptions) -> Self {
        Self {
            options: Arc::new(options),
            state: Arc::default(),
            is_degraded: AtomicBool::new(false),
        }
    }

    pub(crate) fn options(&self) -> &ClientOptions {
        &self.options
    }

    /// Whether a connection is open.
    pub(crate) fn is_connected(&self) -> bool {
        matches!(&lock(&self.state).current, Current::Connected(open) if !open.connection.is_closed())
    }

    /// Length of the model's vectors, if a worker has ever told.
    pub(crate) fn dimensions(&self) -> Option<u32> {
        lock(&self.state).dimensions
    }

    /// A caller gets something else than the model's vector; true for the first since the last one
    /// that did not.
    pub(crate) fn degrade(&self) -> bool {
        !self.is_degraded.swap(true, Ordering::Relaxed)
    }

    /// A caller gets the model's vector.
    pub(crate) fn recover(&self) {
        if self.is_degraded.load(Ordering::Relaxed) {
            self.is_degraded.store(false, Ordering::Relaxed);
        }
    }

    /// A connection that is open as far as is known; connects or spawns if there is none.
    pub(crate) async fn connection(&self) -> Outcome {
        let mut attempt = {
            let mut state = lock(&self.state);
            match &state.current {
                Current::Connected(open) if !open.connection.is_closed() => {
                    return Ok(Arc::clone(&open.connection));
                }
                // Its sender is there until its outcome is: without either, it has died.
                Current::Connecting(attempt) if attempt.has_changed().is_ok() => attempt.clone(),
                Current::Connecting(_) | Current::Connected(_) | Current::None => {
                    let lost = state.note_loss();
                    let attempt = self.begin(lost);
                    state.current = Current::Connecting(attempt.clone());
                    attempt
                }
            }
        };
        match attempt.wait_for(Option::is_some).await.as_deref() {
            Ok(Some(outcome)) => outcome.clone(),
            _ => Err(EmbedError::new(ErrorCode::Internal, "the attempt to connect was abandoned")),
        }
    }

    /// Uses `connection` for no further request: its worker is leaving.
    pub(crate) fn retire(&self, connection: &Arc<Connection>) {
        let mut state = lock(&self.state);
        if matches!(&state.current, Current::Connected(open) if Arc::ptr_eq(&open.connection, connection))
        {
            if connection.n_answered() > 0 {
                state.circuit.answered();
            }
            state.current = Current::None;
        }
    }

    /// `error`, with what is known of the end of the worker of process `pid`, if it was started here.
    pub(crate) async fn explain(&self, error: EmbedError, pid: u32) -> EmbedError {
        let witness = lock(&self.state).witness.clone().filter(|witness| witness.pid() == pid);
        let Some(witness) = witness else { return error };
        let (exit, last_words) = (witness.exit().await, witness.last_words());
        EmbedError::new(error.code(), format!("{}; the worker {exit}{last_words}", error.message()))
    }

    /// Starts an attempt that goes on when those who wait for it leave: the next one will want it.
    fn begin(&self, lost: Option<Reached>) -> watch::Receiver<Option<Outcome>> {
        let (sender, receiver) = watch::channel(None);
        let (options, state) = (Arc::clone(&self.options), Arc::clone(&self.state));
        tokio::spawn(async move {
            if let Some(lost) = lost.filter(|lost| lost.connection.hung()) {
                // Else it would keep its endpoint from a successor for ever.
                end_worker(&lost.endpoint, Some(lost.connection.worker().pid)).await;
            }
            let outcome = attempt(&options, &state).await;
            {
                let mut state = lock(&state);
                state.current = match &outcome {
                    Ok(reached) => Current::Connected(reached.clone()),
                    Err(_) => Current::None,
                };
            }
            sender.send_replace(Some(outcome.map(|reached| reached.connection)));
        });
        receiver
    }
}

impl State {
    /// Counts the connection that was lost, if there was one.
    fn note_loss(&mut self) -> Option<Reached> {
        let Current::Connected(lost) = std::mem::take(&mut self.current) else { return None };
        let connection = &lost.connection;
        let why = connection.why_lost();
        // A worker that is stopped from outside does not answer the texts that wait for others'; that
        // it was alive until then is enough.
        if connection.n_answered() > 0 || (connection.hung() && connection.has_lived()) {
            self.circuit.answered();
        }
        if why.code() == ErrorCode::ShuttingDown {
            return None;
        }
        self.circuit.failed(Instant::now());
        self.last_fault = Some((why, Some(connection.worker().pid)));
        Some(lost)
    }

    /// What is to be told of the last fault.
    fn last_fault(&self) -> String {
        let Some((why, pid)) = &self.last_fault else { return String::new() };
        match &self.witness {
            Some(witness) if *pid == Some(witness.pid()) => {
                format!("{}{}", why.message(), witness.end_so_far())
            }
            _ => why.message(),
        }
    }
}

/// Tries to reach a worker, again and again if need be.
async fn attempt(options: &ClientOptions, state: &Mutex<State>) -> Result<Reached, EmbedError> {
    let mut patience_ends = None;
    loop {
        let permission = lock(state).circuit.permission(Instant::now(), chance());
        match permission {
            Permission::After(pause) => sleep(pause).await,
            Permission::Refused(left) => {
                let fault = lock(state).last_fault();
                let message = format!(
                    "worker: was lost or did not start {} times in a row and is not tried again for {} s; the last time: {fault}",
                    RESTARTS_MAX + 1,
                    left.as_secs() + 1,
                );
                return Err(EmbedError::new(ErrorCode::WorkerUnavailable, message));
            }
        }
        match reach(options).await {
            Ok((reached, witness)) => {
                let mut state = lock(state);
                state.dimensions = Some(reached.connection.worker().model.dimensions);
                state.model_was_good = true;
                if witness.is_some() {
                    state.witness = witness;
                }
                return Ok(reached);
            }
            Err(Unreached::ForGood(error)) => {
                if !error.blames_the_model() {
                    return Err(error);
                }
                let now = Instant::now();
                let was_good = std::mem::take(&mut lock(state).model_was_good);
                if was_good {
                    patience_ends = Some(now + MODEL_PATIENCE);
                }
                if patience_ends.is_none_or(|end| now >= end) {
                    return Err(error);
                }
                sleep(MODEL_POLL).await;
            }
            Err(Unreached::ForNow(error)) => {
                tracing::warn!(error = error.message(), "no worker");
                let mut state = lock(state);
                state.circuit.failed(Instant::now());
                state.last_fault = Some((error, None));
            }
        }
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    // Every change is complete when the lock is released, whatever panicked.
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A number from 0 to 1 that differs from process to process and from call to call.
fn chance() -> f64 {
    RandomState::new().hash_one(()) as f64 / u64::MAX as f64
}
