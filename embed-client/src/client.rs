//! The face of the crate: a client of one model.
//!
//! What it adds to a connection is the second try.

use std::sync::Arc;

use embed_protocol::{ErrorCode, Priority, TEXT_BYTES_MAX};
use tokio::time::{Duration, Instant};

use crate::batch;
use crate::connection::Failure;
use crate::embedding::Embedding;
use crate::error::EmbedError;
use crate::options::{ClientOptions, EmbedOptions};
use crate::supervisor::Supervisor;

/// How often a request whose connection broke is sent again. Once: a text that kills a worker must
/// not kill them all.
const RETRIES_AFTER_LOSS: u32 = 1;

/// How often a request that came too late for a leaving worker is sent to the next one. Nothing was
/// begun, so this is always safe; the bound is for a machine on which every worker leaves at once.
const RETRIES_AFTER_REFUSAL: u32 = 8;

/// First pause before a bulk text is offered again to a worker that is full; doubled each time.
const OVERLOAD_PAUSE_FIRST: Duration = Duration::from_millis(10);

/// Longest such pause.
const OVERLOAD_PAUSE_MAX: Duration = Duration::from_millis(500);

/// A client of one model. Cheap to clone; all clones share one connection.
///
/// The connection is the lease that keeps the worker alive: it stays open, at no cost, until the last
/// clone is dropped. It belongs to the tokio runtime on which the first request was made.
#[derive(Clone, Debug)]
pub struct Client {
    supervisor: Arc<Supervisor>,
}

impl Client {
    /// A client that will connect when it is first used.
    pub fn new(options: ClientOptions) -> Self {
        Self { supervisor: Arc::new(Supervisor::new(options)) }
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
    /// Any [`ErrorCode`]; see there.
    pub async fn embed(&self, text: &str, options: &EmbedOptions) -> Result<Embedding, EmbedError> {
        if text.len() > TEXT_BYTES_MAX {
            return Err(EmbedError::text_too_long(text.len()));
        }
        let deadline = Instant::now() + options.timeout;
        let (mut losses, mut refusals) = (0, 0);
        let mut pause = OVERLOAD_PAUSE_FIRST;
        loop {
            let connection = tokio::time::timeout_at(deadline, self.supervisor.connection());
            let connection = connection.await.map_err(|_| {
                EmbedError::new(
                    ErrorCode::Timeout,
                    format!("worker: not reached within {:?}", options.timeout),
                )
            })??;
            let error = match connection.embed(text, options, deadline).await {
                Ok(embedding) => return Ok(embedding),
                Err(Failure::Lost(error)) if losses < RETRIES_AFTER_LOSS => {
                    losses += 1;
                    tracing::info!(%error, "a request is sent again to a fresh worker");
                    continue;
                }
                Err(Failure::Lost(error)) => return Err(self.supervisor.explain(error).await),
                Err(Failure::Refused(error)) => error,
            };
            match error.code() {
                ErrorCode::ShuttingDown if refusals < RETRIES_AFTER_REFUSAL => {
                    refusals += 1;
                    self.supervisor.retire(&connection);
                }
                // An interactive caller wants to know at once; bulk work can wait its turn.
                ErrorCode::Overloaded if options.priority == Priority::Bulk => {
                    let resume = Instant::now() + pause;
                    if resume >= deadline {
                        return Err(error);
                    }
                    tokio::time::sleep_until(resume).await;
                    pause = (pause * 2).min(OVERLOAD_PAUSE_MAX);
                }
                _ => return Err(error),
            }
        }
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

#[cfg(all(test, unix))]
mod tests;
