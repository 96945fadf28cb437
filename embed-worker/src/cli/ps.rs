//! `embed-worker ps`: the running workers of this user.

use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

use clap::Args;
use serde::Serialize;

use super::table;
use super::workers::{Answer, Health, Which, Worker, ask};

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  embed-worker ps
  embed-worker ps --json | jq -c .")]
pub(super) struct PsArgs {
    /// Write JSON
    #[arg(long)]
    json: bool,
}

/// One worker in JSON.
#[derive(Serialize)]
struct Row<'a> {
    pid: u32,
    model: &'a str,
    version: &'a str,
    endpoint: &'a str,
    started_ms: u64,
    health: Health,
    /// Why it does not answer.
    why: Option<&'a str>,
    uptime_ms: Option<u64>,
    clients: Option<u32>,
    vectors: Option<u64>,
    tokens_per_second: Option<f64>,
    private_bytes: Option<u64>,
}

impl<'a> From<&'a Worker> for Row<'a> {
    fn from(worker: &'a Worker) -> Self {
        let stats = worker.answer.as_ref().ok().map(|Answer { stats, .. }| stats);
        Self {
            pid: worker.card.pid,
            model: &worker.card.model,
            version: &worker.card.version,
            endpoint: &worker.card.endpoint,
            started_ms: worker.card.started_ms,
            health: worker.health(),
            why: worker.answer.as_ref().err().map(String::as_str),
            uptime_ms: stats.map(|stats| stats.uptime_ms),
            clients: stats.map(|stats| stats.clients),
            vectors: stats.map(|stats| stats.vectors),
            tokens_per_second: stats.map(|stats| stats.recent_tokens_per_second()),
            private_bytes: stats.and_then(|stats| stats.private_bytes),
        }
    }
}

pub(super) fn run(args: &PsArgs) -> anyhow::Result<ExitCode> {
    let workers = ask(&Which::default())?;
    let rows: Vec<Row<'_>> = workers.iter().map(Row::from).collect();
    let mut out = std::io::stdout().lock();
    if args.json {
        serde_json::to_writer_pretty(&mut out, &rows)?;
        writeln!(out)?;
    } else {
        let heading =
            ["PID", "MODEL", "UPTIME", "CLIENTS", "VECTORS", "TOKENS/S", "MEMORY", "HEALTH"];
        let mut cells = vec![heading.map(String::from)];
        cells.extend(rows.iter().map(cells_of));
        table::write(&mut out, [true, false, true, true, true, true, true, false], &cells)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn cells_of(row: &Row<'_>) -> [String; 8] {
    fn or_dash<T>(value: Option<T>, write: impl FnOnce(T) -> String) -> String {
        value.map_or_else(|| "-".into(), write)
    }
    let name = Path::new(row.model).file_name();
    [
        row.pid.to_string(),
        name.map_or_else(|| row.model.into(), |name| name.to_string_lossy().into_owned()),
        or_dash(row.uptime_ms, table::duration),
        or_dash(row.clients, |clients| clients.to_string()),
        or_dash(row.vectors, |vectors| vectors.to_string()),
        or_dash(row.tokens_per_second, |speed| format!("{speed:.0}")),
        or_dash(row.private_bytes, table::megabytes),
        row.health.to_string(),
    ]
}
