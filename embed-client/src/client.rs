//! The face of the crate: a client of one model.
//!
//! What it adds to a connection is the second try, and what callers get if that fails.

use std::sync::Arc;

use embed_protocol::{DIMENSIONS_MAX, ErrorCode, Priority, TEXT_BYTES_MAX, Timings};
use tokio::sync::Semaphore;
use tokio::time::{Duration, Instant, timeout_at};

use crate::batch;
use crate::connection::Failure;
use crate::embedding::{Degraded, Embedding};
use crate::error::EmbedError;
use crate::fallback::hash_embedding;
use crate::model_width::read_model_width;
use crate::options::{ClientOptions, EmbedOptions, Fallback};
use crate::supervisor::Supervisor;
use crate::tries::{COMPANY_MAX, Tries, Try};

/// How long the file may take to tell the length of its vectors, for a fallback: some hundred bytes. A
/// file system that does not answer must not keep a caller for ever.
const WIDTH_PATIENCE: Duration = Duration::from_secs(1);

/// First pause before a bulk text is offered again to a worker that is full; doubled each time.
const OVERLOAD_PAUSE_FIRST: Duration = Duration::from_millis(10);

/// Longest such pause.
const OVERLOAD_PAUSE_MAX: Duration = Duration::from_millis(500);

/// Why a text has no vector of the model's.
enum NoVector {
    /// No worker could be had, or it was lost twice.
    NoWorker(EmbedError),
    /// A worker will not do it, or the model is no good.
    Refused(EmbedError),
}

impl NoVector {
    /// `error` is why no connection could be had.
    fn of_unreached(error: EmbedError) -> Self {
        // A worker that was well has said so: no other would do better.
        if error.blames_the_model() || error.code() == ErrorCode::Overloaded {
            Self::Refused(error)
        } else {
            Self::NoWorker(error)
        }
    }
}

/// A client of one model. Cheap to clone; all clones share one connection.
///
/// The connection is the lease that keeps the worker alive: it stays open, at no cost, until the last
/// clone is dropped. It belongs to the tokio runtime on which the first request was made.
#[derive(Clone, Debug)]
pub struct Client {
    supervisor: Arc<Supervisor>,
    /// For texts that are tried again after a worker's death: see [`Tries::company`].
    company: Arc<Semaphore>,
}

impl Client {
    /// A client that will connect when it is first used.
    pub fn new(options: ClientOptions) -> Self {
        Self {
            supervisor: Arc::new(Supervisor::new(options)),
            company: Arc::new(Semaphore::new(COMPANY_MAX as usize)),
        }
    }

    /// Whether it holds an open connection.
    pub fn is_connected(&self) -> bool {
        self.supervisor.is_connected()
    }

    /// The vector of `text`.
    ///
    /// Any number of calls may wait at the same time. Dropping the future tells the worker to skip the
    /// text if it has not begun with it.
    ///
    /// # Errors
    ///
    /// Any [`ErrorCode`]; see there. With [`Fallback::Hash`], none of those that mean that no worker
    /// could be had.
    pub async fn embed(&self, text: &str, options: &EmbedOptions) -> Result<Embedding, EmbedError> {
        if text.len() > TEXT_BYTES_MAX {
            return Err(EmbedError::text_too_long(text.len()));
        }
        match self.ask(text, options).await {
            Ok(embedding) => {
                self.supervisor.recover();
                Ok(embedding)
            }
            Err(NoVector::NoWorker(why)) if options.fallback == Fallback::Hash => {
                self.degraded(text, options, why).await
            }
            Err(NoVector::NoWorker(error) | NoVector::Refused(error)) => Err(error),
        }
    }

    /// Asks a worker, and another one if the first is lost.
    async fn ask(&self, text: &str, options: &EmbedOptions) -> Result<Embedding, NoVector> {
        let deadline = Instant::now() + options.timeout;
        let unreached = |_| {
            let message = format!("worker: not reached within {:?}", options.timeout);
            NoVector::NoWorker(EmbedError::new(ErrorCode::Timeout, message))
        };
        let mut tries = Tries::default();
        let mut pause = OVERLOAD_PAUSE_FIRST;
        loop {
            // Held until this try has its end.
            let company = self.company.acquire_many(tries.company());
            let _company = timeout_at(deadline, company).await.map_err(unreached)?;
            let connection = timeout_at(deadline, self.supervisor.connection());
            let connection =
                connection.await.map_err(unreached)?.map_err(NoVector::of_unreached)?;
            let n_answered = connection.n_answered();
            let (last, error) = match connection.embed(text, options, deadline).await {
                Ok(embedding) => return Ok(embedding),
                Err(Failure::Refused(error)) => match error.code() {
                    ErrorCode::ShuttingDown => (Try::Farewell, error),
                    // An interactive caller wants to know at once; bulk work can wait its turn.
                    ErrorCode::Overloaded if options.priority == Priority::Bulk => {
                        let resume = Instant::now() + pause;
                        if resume >= deadline {
                            return Err(NoVector::Refused(error));
                        }
                        tokio::time::sleep_until(resume).await;
                        pause = (pause * 2).min(OVERLOAD_PAUSE_MAX);
                        continue;
                    }
                    _ => return Err(NoVector::Refused(error)),
                },
                // It said that it leaves before it had read the request.
                Err(Failure::Lost(error)) if error.code() == ErrorCode::ShuttingDown => {
                    (Try::Farewell, error)
                }
                Err(Failure::Unsent(error)) => (Try::Unsent, error),
                Err(Failure::Lost(error)) if connection.hung() => (Try::Hung, error),
                Err(Failure::Lost(error)) => {
                    (Try::Died { others_answered: connection.n_answered() > n_answered }, error)
                }
            };
            if last == Try::Farewell {
                self.supervisor.retire(&connection);
            }
            if !tries.another_after(last) {
                return Err(NoVector::NoWorker(match last {
                    Try::Farewell => error,
                    Try::Died { .. } | Try::Hung | Try::Unsent => {
                        let worker = connection.worker().pid;
                        self.supervisor.explain(error, worker).await.of_one_text()
                    }
                }));
            }
            tracing::info!(%error, ?last, "a text is sent to another worker");
        }
    }

    /// The fallback for `text`, since no worker can be had: `why`.
    async fn degraded(
        &self,
        text: &str,
        options: &EmbedOptions,
        why: EmbedError,
    ) -> Result<Embedding, EmbedError> {
        // Without the model's own length there is no vector that could stand in for one of its own.
        let Some(width) = self.width().await else { return Err(why) };
        let dimensions = options.dimensions.unwrap_or(width);
        if !(1..=width).contains(&dimensions) {
            return Err(EmbedError::new(
                ErrorCode::BadArgument,
                format!("option `dimensions`: is {dimensions}, the model gives 1 to {width}"),
            ));
        }
        let is_first = self.supervisor.degrade();
        Ok(Embedding {
            vector: hash_embedding(text, dimensions as usize),
            model: None,
            tokens: 0,
            truncated: false,
            timings: Timings::default(),
            degraded: Some(Degraded { why, is_first }),
        })
    }

    /// Length of the model's vectors: as a worker has told, else as the file says.
    async fn width(&self) -> Option<u32> {
        if let Some(width) = self.supervisor.dimensions() {
            return Some(width);
        }
        let model = self.supervisor.options().model.clone();
        let read = tokio::task::spawn_blocking(move || read_model_width(&model));
        let width = tokio::time::timeout(WIDTH_PATIENCE, read).await.ok()?.ok().flatten();
        width.filter(|width| (1..=DIMENSIONS_MAX as u32).contains(width))
    }

    /// The vectors of many texts, in their order; a text that already has an error keeps it.
    ///
    /// One text's failure does not touch the others, except that after one which every text would
    /// meet (see [`EmbedError::concerns_every_text`]) those not yet sent fail with the same.
    /// The time limit of `options` is for each text, from the moment it is sent.
    /// `on_done` is called with the number of texts that have their result, each time one more has.
    pub async fn embed_many(
        &self,
        texts: Vec<Result<String, EmbedError>>,
        options: &EmbedOptions,
        on_done: impl FnMut(usize),
    ) -> Vec<Result<Embedding, EmbedError>> {
        let embed = |text: String| async move { self.embed(&text, options).await };
        batch::embed_many(texts, embed, on_done).await
    }
}

#[cfg(test)]
mod tests;
