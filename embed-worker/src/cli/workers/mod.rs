//! The running workers of this user, as `ps`, `stats` and `stop` see them.
//!
//! They are found by their cards and asked over their own endpoints, with the same care as a client
//! takes: nothing is sent to a socket in a directory that others may enter, or to another user's
//! process.

mod reach;
mod visit;

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use clap::Args;
use embed_protocol::endpoint::runtime_dir;
use embed_protocol::{
    Request, Response, StatsSnapshot, WorkerCard, WorkerHello, card, private_file,
};
use futures_util::future::join_all;
use serde::Serialize;

use super::model_path;
pub(super) use reach::Foreign;
pub(super) use visit::Visit;

/// How long a worker may take to answer before it counts as one that does not: it answers past every
/// queue, in a fraction of a millisecond.
pub(super) const ANSWER_TIMEOUT: Duration = Duration::from_secs(1);

/// Exit code when the worker that was named does not run.
pub(super) const NO_SUCH_WORKER: u8 = 3;

/// Which workers are meant.
#[derive(Debug, Default, Args)]
#[group(multiple = false)]
pub(super) struct Which {
    /// Only the workers of this model: its file, or its name
    #[arg(long, value_name = "MODEL")]
    model: Option<PathBuf>,
    /// Only the worker with this process id
    #[arg(long, value_name = "PID")]
    pid: Option<u32>,
}

impl Which {
    /// Whether anything was named.
    pub(super) fn is_any(&self) -> bool {
        self.model.is_none() && self.pid.is_none()
    }

    fn includes(&self, card: &WorkerCard) -> bool {
        let is_model = |model: &PathBuf| {
            let model = model_path::of_name(model);
            // A file that was removed meanwhile has no canonical path, and may still be served.
            let path = model.canonicalize().or_else(|_| std::path::absolute(model));
            path.is_ok_and(|path| path.to_string_lossy() == card.model)
        };
        self.pid.is_none_or(|pid| pid == card.pid) && self.model.as_ref().is_none_or(is_model)
    }
}

/// How a worker does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Health {
    /// It answers, and has nothing to do.
    Ok,
    /// It answers, and has texts to embed.
    Busy,
    /// It does not answer.
    NotAnswering,
}

impl std::fmt::Display for Health {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Self::Ok => "ok",
            Self::Busy => "busy",
            Self::NotAnswering => "not answering",
        })
    }
}

/// A worker, and what it answered.
#[derive(Debug)]
pub(super) struct Worker {
    pub(super) card: WorkerCard,
    /// What it tells of itself, or why it does not.
    pub(super) answer: Result<Answer, String>,
}

/// What a worker tells of itself.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) hello: WorkerHello,
    pub(super) stats: StatsSnapshot,
}

impl Worker {
    pub(super) fn health(&self) -> Health {
        match &self.answer {
            Ok(Answer { stats, .. }) if stats.queued > 0 => Health::Busy,
            Ok(_) => Health::Ok,
            Err(_) => Health::NotAnswering,
        }
    }
}

/// The cards of the workers that run.
pub(super) fn cards(which: &Which) -> anyhow::Result<Vec<WorkerCard>> {
    let dir = runtime_dir();
    check_dir(&dir)?;
    let cards = card::list(&dir)
        .with_context(|| format!("directory `{}`: cannot be read", dir.display()))?;
    Ok(cards.into_iter().filter(|card| which.includes(card)).collect())
}

/// Asks all workers at once; one that is leaving just now is left out.
pub(super) fn ask(which: &Which) -> anyhow::Result<Vec<Worker>> {
    let cards = cards(which)?;
    let answers = block_on(join_all(cards.iter().map(ask_one)))?;
    let workers = cards.into_iter().zip(answers).map(|(card, answer)| Worker { card, answer });
    Ok(workers.filter(|worker| worker.answer.is_ok() || still_runs(&worker.card)).collect())
}

async fn ask_one(card: &WorkerCard) -> Result<Answer, String> {
    let ask = async {
        let mut visit = Visit::open(card).await?;
        match visit.ask(&Request::Stats { id: 1 }).await? {
            Response::Stats { stats, .. } => Ok(Answer { hello: visit.into_hello(), stats }),
            other => Err(visit::unexpected(&other)),
        }
    };
    match tokio::time::timeout(ANSWER_TIMEOUT, ask).await {
        Ok(outcome) => outcome.map_err(|error: anyhow::Error| format!("{error:#}")),
        Err(_) => Err(format!("does not answer within {ANSWER_TIMEOUT:?}")),
    }
}

/// Whether the worker of a card that was read earlier still has its endpoint.
pub(super) fn still_runs(card: &WorkerCard) -> bool {
    let now = WorkerCard::read(&embed_protocol::Endpoint::at(&card.endpoint));
    now.is_ok_and(|now| now.is_some_and(|now| now.pid == card.pid))
}

/// Runs a future on a runtime of its own.
pub(super) fn block_on<F: Future>(future: F) -> anyhow::Result<F::Output> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("the system has no runtime to give")?;
    Ok(runtime.block_on(future))
}

/// The directory must be the user's own and closed to others: whoever may write there can leave cards
/// that name any process.
fn check_dir(dir: &Path) -> anyhow::Result<()> {
    // Without a directory there are no workers.
    let fault = private_file::directory_fault(dir).unwrap_or_default();
    fault.map_or(Ok(()), |what| Err(anyhow::anyhow!("directory `{}`: {what}", dir.display())))
}
