//! Keeps one connection to the worker of one model, and gets a new one when it is gone.
//!
//! All requests that need a worker at the same time wait for the same attempt, so that a burst starts
//! one worker and a fault is reported once.
//! Waiting longer between attempts, giving up for a while, and watching over a hung worker will have
//! their place here; today an attempt is made whenever a request needs one.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use embed_protocol::{Endpoint, ErrorCode, ModelIdentity};
use tokio::sync::watch;
use tokio::time::{Instant, sleep};

use crate::connection::{Connection, Failure};
use crate::error::EmbedError;
use crate::launch::{Launched, Witness, launch};
use crate::options::ClientOptions;
use crate::transport::{Unreachable, connect};

/// How long a worker may take from nothing to its hello. Mapping a model takes milliseconds; a cold
/// disk or a machine that swaps may take seconds.
const START_TIMEOUT: Duration = Duration::from_secs(30);

/// First wait for a worker that somebody else is starting; doubled each time.
const POLL_FIRST: Duration = Duration::from_millis(2);

/// Longest wait between two looks at an endpoint.
const POLL_MAX: Duration = Duration::from_millis(100);

/// How long another's worker is awaited before this client offers one again, since the other may have
/// failed or have been leaving; doubled each time.
const RELAUNCH_FIRST: Duration = Duration::from_millis(40);

/// Longest such wait.
const RELAUNCH_MAX: Duration = Duration::from_secs(1);

/// The outcome of an attempt to get a connection, as all who wait for it see it.
type Outcome = Result<Arc<Connection>, EmbedError>;

/// See the module's documentation.
#[derive(Debug)]
pub(crate) struct Supervisor {
    options: Arc<ClientOptions>,
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    current: Current,
    /// The worker that this client started last.
    witness: Option<Arc<Witness>>,
}

#[derive(Debug, Default)]
enum Current {
    /// Nothing was asked yet, or the last connection or attempt failed.
    #[default]
    None,
    /// An attempt is under way.
    Connecting(watch::Receiver<Option<Outcome>>),
    /// Good as far as is known.
    Connected(Arc<Connection>),
}

impl Supervisor {
    pub(crate) fn new(options: ClientOptions) -> Self {
        Self { options: Arc::new(options), state: Arc::default() }
    }

    /// Whether a connection is open.
    pub(crate) fn is_connected(&self) -> bool {
        matches!(&lock(&self.state).current, Current::Connected(open) if !open.is_closed())
    }

    /// A connection that is open as far as is known; connects or spawns if there is none.
    pub(crate) async fn connection(&self) -> Outcome {
        let mut attempt = {
            let mut state = lock(&self.state);
            match &state.current {
                Current::Connected(open) if !open.is_closed() => return Ok(Arc::clone(open)),
                Current::Connecting(attempt) => attempt.clone(),
                Current::Connected(_) | Current::None => {
                    let attempt = self.begin();
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
        if matches!(&state.current, Current::Connected(open) if Arc::ptr_eq(open, connection)) {
            state.current = Current::None;
        }
    }

    /// `error`, with what is known of the end of the worker that this client started.
    pub(crate) async fn explain(&self, error: EmbedError) -> EmbedError {
        let witness = lock(&self.state).witness.clone();
        let Some(witness) = witness else { return error };
        let (exit, last_words) = (witness.exit().await, witness.last_words());
        EmbedError::new(error.code(), format!("{}; the worker {exit}{last_words}", error.message()))
    }

    /// Starts an attempt that goes on when those who wait for it leave: the next one will want it.
    fn begin(&self) -> watch::Receiver<Option<Outcome>> {
        let (sender, receiver) = watch::channel(None);
        let (options, state) = (Arc::clone(&self.options), Arc::clone(&self.state));
        tokio::spawn(async move {
            let reached = reach(&options).await;
            {
                let mut state = lock(&state);
                state.current = match &reached {
                    Ok((connection, _)) => Current::Connected(Arc::clone(connection)),
                    Err(_) => Current::None,
                };
                if let Ok((_, Some(witness))) = &reached {
                    state.witness = Some(Arc::clone(witness));
                }
            }
            sender.send_replace(Some(reached.map(|(connection, _)| connection)));
        });
        receiver
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    // Every change is complete when the lock is released, whatever panicked.
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Connects to the worker of `options`, starting one if nobody listens.
async fn reach(
    options: &ClientOptions,
) -> Result<(Arc<Connection>, Option<Arc<Witness>>), EmbedError> {
    let endpoint = endpoint(options).await?;
    let give_up = Instant::now() + START_TIMEOUT;
    let mut launch_after = Instant::now();
    let (mut poll, mut relaunch) = (POLL_FIRST, RELAUNCH_FIRST);
    let mut witness = None;
    loop {
        match connect(&endpoint, options.transport).await {
            Ok(reached) => match Connection::open(reached.stream).await {
                Ok(connection) => {
                    tracing::debug!(pid = ?reached.pid, "reached a worker");
                    return Ok((Arc::new(connection), witness));
                }
                // It left while the connection was made.
                Err(Failure::Lost(why)) => tracing::debug!(%why, "the worker left"),
                Err(Failure::Refused(error)) => return Err(error),
            },
            Err(Unreachable::NobodyListens) => {}
            Err(Unreachable::Silent { pid }) => tracing::debug!(pid, "the worker is silent"),
            Err(Unreachable::Forbidden(error)) => return Err(error),
        }
        let now = Instant::now();
        if now >= give_up {
            return Err(EmbedError::new(
                ErrorCode::WorkerUnavailable,
                format!("worker at `{endpoint}`: could not be reached within {START_TIMEOUT:?}"),
            ));
        }
        if now >= launch_after {
            launch_after = now + relaunch;
            relaunch = (relaunch * 2).min(RELAUNCH_MAX);
            let launched = tokio::time::timeout_at(give_up, launch(options, &endpoint)).await;
            match launched {
                Ok(Ok(Launched::Ready(new))) => {
                    witness = Some(new);
                    continue;
                }
                Ok(Ok(Launched::Exists)) => {}
                Ok(Err(error)) => return Err(error),
                Err(_) => continue,
            }
        }
        sleep(poll).await;
        poll = (poll * 2).min(POLL_MAX);
    }
}

/// Where the worker of this model listens, found off the runtime's thread: a path may lead to a slow
/// file system.
async fn endpoint(options: &ClientOptions) -> Result<Endpoint, EmbedError> {
    let (model, dir) = (options.model.clone(), options.runtime_dir.clone());
    let identity = tokio::task::spawn_blocking(move || ModelIdentity::of_file(&model)).await;
    let identity = identity.unwrap_or_else(|error| Err(std::io::Error::other(error)));
    identity.map(|identity| Endpoint::for_model_in(&dir, &identity, crate::VERSION)).map_err(
        |error| {
            let path = options.model.display();
            match error.kind() {
                std::io::ErrorKind::NotFound => EmbedError::new(
                    ErrorCode::ModelNotFound,
                    format!("model `{path}`: no such file"),
                ),
                _ => EmbedError::with_source(
                    ErrorCode::ModelNotFound,
                    format!("model `{path}`: cannot be opened"),
                    error,
                ),
            }
        },
    )
}
