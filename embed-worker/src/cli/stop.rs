//! `embed-worker stop`: asks workers to finish what they have and leave.

use std::io::Write;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Context;
use clap::{ArgGroup, Args};
use embed_protocol::process::kill;
use embed_protocol::{Request, Response, WorkerCard};
use futures_util::future::join_all;

use super::workers::{
    ANSWER_TIMEOUT, Foreign, NO_SUCH_WORKER, Visit, Which, block_on, cards, still_runs,
};
use crate::config::DRAIN_TIMEOUT;

/// How long a worker that has agreed to stop may take: what it does with what it has begun, and some
/// time for its last answers.
const STOP_TIMEOUT: Duration = Duration::from_secs(DRAIN_TIMEOUT.as_secs() + 5);

/// How long a killed process may take to be gone: it may be in the middle of reading a slow disk.
const KILL_TIMEOUT: Duration = Duration::from_secs(5);

/// Pause between two looks at a process that is killed.
const KILL_POLL: Duration = Duration::from_millis(5);

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  embed-worker stop --all
  embed-worker stop --model nomic-embed-text-v1.5
  embed-worker stop --pid 4711 --force

The exit code is 3 if the worker that was named does not run.")]
#[command(group(ArgGroup::new("whom").required(true).args(["model", "pid", "all"])))]
pub(super) struct StopArgs {
    #[command(flatten)]
    which: Which,
    /// All workers of this user
    #[arg(long)]
    all: bool,
    /// Kill a worker that does not answer or does not end; what it has begun is lost
    #[arg(long)]
    force: bool,
}

/// How a worker was stopped.
#[derive(Debug)]
enum Stopped {
    /// By itself, when it had done what it had begun.
    Gracefully,
    /// By force.
    Killed,
}

pub(super) fn run(args: &StopArgs) -> anyhow::Result<ExitCode> {
    let cards = cards(&args.which)?;
    if cards.is_empty() && !args.all {
        super::complain_error("no such worker runs");
        return Ok(NO_SUCH_WORKER.into());
    }
    let outcomes = block_on(join_all(cards.iter().map(|card| stop(card, args.force))))?;
    let mut out = std::io::stdout().lock();
    let mut code = ExitCode::SUCCESS;
    for (WorkerCard { pid, model, .. }, outcome) in cards.iter().zip(outcomes) {
        match outcome {
            Ok(Stopped::Gracefully) => writeln!(out, "stopped {pid} ({model})")?,
            Ok(Stopped::Killed) => writeln!(out, "killed {pid} ({model})")?,
            Err(error) => {
                code = ExitCode::FAILURE;
                super::complain(&format!("error: worker {pid} ({model}): {error:#}"));
            }
        }
    }
    Ok(code)
}

/// Stops one worker and waits until it has gone.
async fn stop(card: &WorkerCard, force: bool) -> anyhow::Result<Stopped> {
    let Err(error) = ask_to_stop(card).await else { return Ok(Stopped::Gracefully) };
    if !still_runs(card) {
        // It left meanwhile, or was leaving already.
        return Ok(Stopped::Gracefully);
    }
    if error.is::<Foreign>() {
        return Err(error);
    }
    if !force {
        return Err(error.context("does not stop; `--force` kills it"));
    }
    anyhow::ensure!(
        card.is_in_reach(),
        "does not stop, and runs in another container or on another machine; kill it there"
    );
    kill(card.pid).context("cannot be killed")?;
    let give_up = Instant::now() + KILL_TIMEOUT;
    while still_runs(card) {
        anyhow::ensure!(
            Instant::now() < give_up,
            "still runs {KILL_TIMEOUT:?} after it was killed"
        );
        tokio::time::sleep(KILL_POLL).await;
    }
    Ok(Stopped::Killed)
}

/// Asks as a client may, and waits until everything that was asked before is answered.
async fn ask_to_stop(card: &WorkerCard) -> anyhow::Result<()> {
    let ask = async {
        let mut visit = Visit::open(card).await?;
        match visit.ask(&Request::Shutdown { id: 1 }).await? {
            Response::Pong { .. } => Ok(visit),
            _ => anyhow::bail!("answered with a message of another kind"),
        }
    };
    let answer = tokio::time::timeout(ANSWER_TIMEOUT, ask).await;
    let Ok(visit) = answer else { anyhow::bail!("no answer within {ANSWER_TIMEOUT:?}") };
    let ended = tokio::time::timeout(STOP_TIMEOUT, visit?.ends()).await;
    anyhow::ensure!(ended.is_ok(), "agreed, but still runs after {STOP_TIMEOUT:?}");
    Ok(())
}
