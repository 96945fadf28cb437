//! One attempt to reach the worker of a model: connect, and start it if nobody listens.
//!
//! Somebody who listens and does not answer as a worker would is asked five times, then once more
//! with patience, and then ended, so that its endpoint is free for a successor. If it is not ours to end,
//! it is asked a last time: another client may have ended it in that very moment.

use std::sync::Arc;
use std::time::Duration;

use embed_protocol::{Endpoint, ErrorCode, ModelIdentity};
use tokio::time::{Instant, sleep};

use crate::connection::Connection;
use crate::error::EmbedError;
use crate::handshake::NotOpened;
use crate::launch::{Launched, NotLaunched, Witness, launch};
use crate::options::ClientOptions;
use crate::replace::end_worker;
use crate::transport::{Unreachable, connect};

/// How long a worker may take from nothing to its hello. Mapping a model takes milliseconds; a cold
/// disk or a machine that swaps may take seconds.
const START_TIMEOUT: Duration = Duration::from_secs(30);

/// How often somebody who listens may fail to introduce itself before its health is checked.
const CONNECT_TRIES: u32 = 5;

/// How long a worker that listens may take for its hello: a healthy one takes less than a millisecond.
const HELLO_PATIENCE: Duration = Duration::from_millis(100);

/// The same for the health check, whose failure is the end of it: with the tries before it, a little
/// longer than a heartbeat may be missing on a connection.
const HEALTH_PATIENCE: Duration = Duration::from_millis(500);

/// First wait for a worker that somebody else is starting; doubled each time.
const POLL_FIRST: Duration = Duration::from_millis(2);

/// Longest wait between two looks at an endpoint.
const POLL_MAX: Duration = Duration::from_millis(100);

/// How long another's worker is awaited before this client offers one again, since the other may have
/// failed or have been leaving; doubled each time.
const RELAUNCH_FIRST: Duration = Duration::from_millis(40);

/// Longest such wait.
const RELAUNCH_MAX: Duration = Duration::from_secs(1);

/// A worker that was reached.
#[derive(Clone, Debug)]
pub(crate) struct Reached {
    pub(crate) connection: Arc<Connection>,
    pub(crate) endpoint: Endpoint,
}

/// Why no worker was reached.
#[derive(Debug)]
pub(crate) enum Unreached {
    /// It may go better next time.
    ForNow(EmbedError),
    /// It would go the same way: model, worker program or directory must be put right first.
    ForGood(EmbedError),
}

/// Connects to the worker of `options`, starting one if nobody listens; gives its witness, too, if it
/// was started here.
pub(crate) async fn reach(
    options: &ClientOptions,
) -> Result<(Reached, Option<Arc<Witness>>), Unreached> {
    let endpoint = endpoint(options).await.map_err(Unreached::ForGood)?;
    let give_up = Instant::now() + START_TIMEOUT;
    let mut launch_after = Instant::now();
    let (mut poll, mut relaunch) = (POLL_FIRST, RELAUNCH_FIRST);
    let mut witness = None;
    let mut n_unresponsive = 0;
    let mut was_spared = false;
    loop {
        let is_last = n_unresponsive >= CONNECT_TRIES;
        let patience = if is_last { HEALTH_PATIENCE } else { HELLO_PATIENCE };
        match connect(&endpoint, options.transport, patience).await {
            Ok(there) => match Connection::open(there.stream, patience).await {
                Ok(connection) => {
                    let connection = Arc::new(connection);
                    return Ok((Reached { connection, endpoint }, witness));
                }
                Err(NotOpened::Refused(error)) => return Err(Unreached::ForGood(error)),
                Err(NotOpened::Gone(why)) => tracing::debug!(%why, "the worker left"),
                Err(NotOpened::Unresponsive(why)) if is_last => {
                    if !end_worker(&endpoint, there.pid).await {
                        if was_spared {
                            return Err(Unreached::ForGood(occupied(&endpoint, there.pid, &why)));
                        }
                        was_spared = true;
                        continue;
                    }
                    n_unresponsive = 0;
                    launch_after = Instant::now();
                }
                Err(NotOpened::Unresponsive(why)) => {
                    tracing::info!(%why, "a worker does not introduce itself");
                    n_unresponsive += 1;
                    sleep(poll).await;
                    continue;
                }
            },
            Err(Unreachable::NobodyListens) => {}
            Err(Unreachable::Silent { pid }) if is_last => {
                // If no worker of ours has left that key, the port is somebody else's by now, and the
                // next worker will have another.
                end_worker(&endpoint, Some(pid)).await;
                n_unresponsive = 0;
                launch_after = Instant::now();
            }
            Err(Unreachable::Silent { pid }) => {
                tracing::info!(pid, "a worker does not prove to be one");
                n_unresponsive += 1;
                sleep(poll).await;
                continue;
            }
            Err(Unreachable::Forbidden(error)) => return Err(Unreached::ForGood(error)),
        }
        let now = Instant::now();
        if now >= give_up {
            // Whoever holds the lock all that time and does not listen hangs in its start.
            end_worker(&endpoint, None).await;
            return Err(Unreached::ForNow(EmbedError::new(
                ErrorCode::WorkerUnavailable,
                format!("worker at `{endpoint}`: could not be reached within {START_TIMEOUT:?}"),
            )));
        }
        if now >= launch_after {
            launch_after = now + relaunch;
            relaunch = (relaunch * 2).min(RELAUNCH_MAX);
            match tokio::time::timeout_at(give_up, launch(options, &endpoint)).await {
                Ok(Ok(Launched::Ready(new))) => {
                    witness = Some(new);
                    continue;
                }
                Ok(Ok(Launched::Exists)) => {}
                Ok(Err(NotLaunched::Died(error))) => return Err(Unreached::ForNow(error)),
                Ok(Err(NotLaunched::Refused(error))) => return Err(Unreached::ForGood(error)),
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

/// Somebody listens who is no worker, so that ending it is not ours.
fn occupied(endpoint: &Endpoint, pid: Option<u32>, why: &EmbedError) -> EmbedError {
    let who = pid.map_or_else(|| "a process".to_owned(), |pid| format!("process {pid}"));
    EmbedError::new(
        why.code(),
        format!(
            "endpoint `{endpoint}`: {who} listens there and does not answer as a worker ({}); stop it, or set EMBED_RUNTIME_DIR to another directory",
            why.message()
        ),
    )
}
