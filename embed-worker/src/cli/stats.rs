//! `embed-worker stats`: what the running workers have done.

use std::io::{self, Write};
use std::process::ExitCode;

use clap::Args;
use embed_protocol::stats::LaneStats;
use embed_protocol::{ModelInfo, StatsSnapshot, WorkerCard};
use serde::Serialize;

use super::table;
use super::workers::{Answer, Health, NO_SUCH_WORKER, Which, Worker, ask};
use crate::server::prometheus::{self, Scraped};

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  embed-worker stats
  embed-worker stats --model nomic-embed-text-v1.5
  embed-worker stats --prometheus > /var/lib/node_exporter/embed.prom

The exit code is 1 if a worker does not answer, and 3 if the one that was named does not run.")]
pub(super) struct StatsArgs {
    #[command(flatten)]
    which: Which,
    /// Write JSON
    #[arg(long, conflicts_with = "prometheus")]
    json: bool,
    /// Write the text format that Prometheus reads
    #[arg(long)]
    prometheus: bool,
}

/// One worker in JSON.
#[derive(Serialize)]
struct Told<'a> {
    #[serde(flatten)]
    card: &'a WorkerCard,
    health: Health,
    /// Why it does not answer.
    why: Option<&'a str>,
    kernels: Option<&'a str>,
    /// What the model is; `model` is its path.
    model_info: Option<&'a ModelInfo>,
    tokens_per_second: Option<f64>,
    recent_tokens_per_second: Option<f64>,
    batch_fill: Option<f64>,
    stats: Option<&'a StatsSnapshot>,
}

impl<'a> From<&'a Worker> for Told<'a> {
    fn from(worker: &'a Worker) -> Self {
        let answer = worker.answer.as_ref().ok();
        let stats = answer.map(|Answer { stats, .. }| stats);
        Self {
            card: &worker.card,
            health: worker.health(),
            why: worker.answer.as_ref().err().map(String::as_str),
            kernels: answer.map(|Answer { hello, .. }| hello.kernels.as_str()),
            model_info: answer.map(|Answer { hello, .. }| &hello.model),
            tokens_per_second: stats.map(StatsSnapshot::tokens_per_second),
            recent_tokens_per_second: stats.map(StatsSnapshot::recent_tokens_per_second),
            batch_fill: stats.map(StatsSnapshot::batch_fill),
            stats,
        }
    }
}

pub(super) fn run(args: &StatsArgs) -> anyhow::Result<ExitCode> {
    let workers = ask(&args.which)?;
    let mut out = std::io::stdout().lock();
    if args.prometheus {
        let scraped: Vec<_> = workers.iter().map(scraped).collect();
        prometheus::write(&mut out, &scraped)?;
    } else if args.json {
        let told: Vec<Told<'_>> = workers.iter().map(Told::from).collect();
        serde_json::to_writer_pretty(&mut out, &told)?;
        writeln!(out)?;
    } else {
        for (n, worker) in workers.iter().enumerate() {
            if n > 0 {
                writeln!(out)?;
            }
            write(&mut out, worker)?;
        }
    }
    if workers.is_empty() && !args.which.is_any() {
        super::complain_error("no such worker runs");
        return Ok(NO_SUCH_WORKER.into());
    }
    let all_answer = workers.iter().all(|worker| worker.answer.is_ok());
    Ok(if all_answer { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn scraped(worker: &Worker) -> Scraped<'_> {
    let answer = worker.answer.as_ref().ok();
    Scraped {
        pid: worker.card.pid,
        model: &worker.card.model,
        answer: answer.map(|Answer { hello, stats }| (hello, stats)),
    }
}

/// One worker for a person.
fn write(out: &mut impl Write, worker: &Worker) -> io::Result<()> {
    let WorkerCard { pid, model, version, .. } = &worker.card;
    writeln!(out, "worker {pid}, version {version}: {}", worker.health())?;
    let mut rows = vec![["  model".to_owned(), model.clone()]];
    let mut row = |name: &str, value: String| rows.push([format!("  {name}"), value]);
    match &worker.answer {
        Err(why) => row("why", why.clone()),
        Ok(Answer { hello, stats }) => {
            row("uptime", table::duration(stats.uptime_ms));
            row("computes with", format!("{}, {} threads", hello.kernels, stats.threads));
            row("own memory", stats.private_bytes.map_or("unknown".into(), table::megabytes));
            row(
                "connections",
                format!(
                    "{} open, {} of clients; {} opened, {} refused, {} broke the protocol",
                    stats.connections,
                    stats.clients,
                    stats.connections_opened,
                    stats.connections_refused,
                    stats.protocol_errors
                ),
            );
            let lane = |LaneStats { texts, bytes }: &LaneStats| format!("{texts} ({bytes} bytes)");
            row(
                "texts waiting",
                format!(
                    "{} interactive, {} bulk, {} in work",
                    lane(&stats.queue.interactive),
                    lane(&stats.queue.bulk),
                    stats.queue.in_work
                ),
            );
            row("vectors", stats.vectors.to_string());
            row("errors", stats.errors.to_string());
            for (code, count) in stats.errors_by_code.iter().filter(|(_, count)| **count > 0) {
                row(&format!("  {code}"), count.to_string());
            }
            row(
                "tokens",
                format!(
                    "{}; {:.0}/s in the last minute, {:.0}/s since the start",
                    stats.tokens,
                    stats.recent_tokens_per_second(),
                    stats.tokens_per_second()
                ),
            );
            let fill = 100.0 * stats.batch_fill();
            row("batches", format!("{}, {fill:.0} % full on average", stats.batches));
        }
    }
    table::write(out, [false, false], &rows)?;
    if let Ok(Answer { stats, .. }) = &worker.answer
        && stats.vectors > 0
    {
        write_latency(out, stats)?;
    }
    Ok(())
}

/// How long texts took, for a person.
fn write_latency(out: &mut impl Write, stats: &StatsSnapshot) -> io::Result<()> {
    let latency = &stats.latency;
    let mut rows = vec![["  time of a text", "p50", "p90", "p99", "longest"].map(String::from)];
    let parts = [
        ("total", latency.total),
        ("queue", latency.queue),
        ("tokenize", latency.tokenize),
        ("compute", latency.compute),
    ];
    for (name, part) in parts {
        let times = [part.p50_us, part.p90_us, part.p99_us, part.max_us];
        let [p50, p90, p99, max] = times.map(table::milliseconds);
        rows.push([format!("    {name}"), p50, p90, p99, max]);
    }
    table::write(out, [false, true, true, true, true], &rows)
}
