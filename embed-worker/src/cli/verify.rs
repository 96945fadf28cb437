//! `embed-worker verify`: whether a model file is whole, sound, and the one it should be.

use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;

use super::{ComputeArgs, failed, model_path};
use crate::batch::{Failure, sentence};
use crate::engine::{Engine, EngineError};
use crate::gguf::{GgufFile, SourceFile};
use crate::integrity::{FileDigest, KnownDigest, check_weights, known_digest, sha256_of};
use crate::kernels::Kernels;

/// Damaged tensors that are told by name; who has more needs no list.
const BAD_TENSORS_TOLD: usize = 20;

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  embed-worker verify model.gguf
  embed-worker verify nomic-embed-text-v1.5 --json | jq .sha256
  embed-worker verify model.gguf --sha256 0123…

The exit code is 1 if the file is not sound.")]
pub(super) struct VerifyArgs {
    /// The model: a GGUF file, or a name as `pull` takes it [default: the one that ships with the package]
    #[arg(env = "EMBED_MODEL", value_name = "MODEL")]
    model: Option<PathBuf>,
    /// What its SHA-256 should be [default: what FILE.sha256 says, or is known of a model that ships
    /// with the package]
    #[arg(long, value_name = "HEX", value_parser = str::parse::<FileDigest>)]
    sha256: Option<FileDigest>,
    /// Write JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    compute: ComputeArgs,
}

/// What was looked at, and what was found.
#[derive(Serialize)]
struct Report {
    file: PathBuf,
    file_bytes: u64,
    /// Whether nothing bad was found.
    sound: bool,
    checks: Vec<Check>,
    sha256: String,
}

#[derive(Serialize)]
struct Check {
    name: &'static str,
    outcome: Outcome,
    /// What was found, one sentence each.
    says: Vec<String>,
    /// What a client of a worker would be told.
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<&'static str>,
}

#[derive(Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Outcome {
    Ok,
    Bad,
    /// There was nothing to check, or nothing to check it against.
    Skipped,
}

pub(super) fn run(args: &VerifyArgs) -> anyhow::Result<ExitCode> {
    let model = model_path::resolve(args.model.as_ref())?;
    let source = SourceFile::open(&model)
        .map_err(|error| failed(&Failure::from(&EngineError::from(error))))?;
    let file_bytes = source.identity().bytes;
    let progress = progress(file_bytes)?;
    let mut checks = Vec::new();
    match GgufFile::open(&model) {
        Ok(file) => {
            let says = format!(
                "GGUF version {}, {} keys, {} tensors",
                file.version(),
                file.metadata().len(),
                file.tensors().len()
            );
            checks.push(Check::ok("structure", says));
            checks.push(check_model(&file, &model, args));
            checks.push(check_numbers(&file, args, &progress));
        }
        Err(error) => {
            checks.push(Check::bad("structure", &Failure::from(&EngineError::from(error))));
            checks.push(Check::skipped("model", "not read"));
            checks.push(Check::skipped("weights", "not read"));
        }
    }
    progress.set_position(0);
    let sha256 = sha256_of(&source, |bytes| progress.inc(bytes as u64))
        .map_err(|error| anyhow::anyhow!("file `{}`: {error}", model.display()))?;
    progress.finish_and_clear();
    checks.push(check_digest(&model, file_bytes, sha256, args.sha256));
    if let Err(changed) = source.check() {
        anyhow::bail!("{changed} while it was verified; try again");
    }
    let sound = checks.iter().all(|check| check.outcome != Outcome::Bad);
    let report = Report { file: model, file_bytes, sound, checks, sha256: sha256.to_string() };
    let mut out = std::io::stdout().lock();
    if args.json {
        serde_json::to_writer_pretty(&mut out, &report)?;
        writeln!(out)?;
    } else {
        write(&mut out, &report)?;
    }
    Ok(if sound { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Keys, tokenizer, and the shape of every tensor that the model wants.
fn check_model(file: &GgufFile, path: &Path, args: &VerifyArgs) -> Check {
    let name = path.file_stem().unwrap_or_default().to_string_lossy();
    match Engine::from_gguf(file, &name, &args.compute.options()) {
        Ok(engine) => {
            let info = engine.info();
            let says = format!(
                "{}: {}, {} dimensions, {} pooling, {} tokens, vocabulary of {} pieces",
                info.name,
                info.architecture,
                info.dimensions,
                info.pooling,
                info.context_tokens,
                engine.vocabulary()
            );
            Check::ok("model", says)
        }
        Err(error) => Check::bad("model", &Failure::from(&error)),
    }
}

/// Every weight of every tensor.
fn check_numbers(file: &GgufFile, args: &VerifyArgs, progress: &ProgressBar) -> Check {
    let kernels = Kernels::new(args.compute.options().isa);
    let bad = check_weights(kernels, file, |bytes| progress.inc(bytes as u64));
    if bad.is_empty() {
        let weights: usize =
            file.tensors().iter().map(|tensor| tensor.rows() * tensor.cols()).sum();
        return Check::ok("weights", format!("{weights} numbers, all finite"));
    }
    let mut says: Vec<_> = bad.iter().take(BAD_TENSORS_TOLD).map(ToString::to_string).collect();
    if bad.len() > BAD_TENSORS_TOLD {
        says.push(format!("and {} more tensors", bad.len() - BAD_TENSORS_TOLD));
    }
    let code = Some(embed_protocol::ErrorCode::ModelInvalid.as_str());
    Check { name: "weights", outcome: Outcome::Bad, says, code }
}

fn check_digest(
    path: &Path,
    file_bytes: u64,
    found: FileDigest,
    wanted: Option<FileDigest>,
) -> Check {
    const NAME: &str = "sha-256";
    let known = match wanted {
        Some(sha256) => Ok(Some(KnownDigest { sha256, origin: "the command line".into() })),
        None => known_digest(path, file_bytes),
    };
    let bad = |says| Failure::new(embed_protocol::ErrorCode::ModelInvalid, says);
    match known {
        Ok(Some(KnownDigest { sha256, origin })) if sha256 == found => {
            Check::ok(NAME, format!("{found}, as {origin} says"))
        }
        Ok(Some(KnownDigest { sha256, origin })) => {
            Check::bad(NAME, &bad(format!("is {found}, {origin} says {sha256}")))
        }
        Ok(None) => Check::skipped(NAME, format!("{found}; none is known to compare it with")),
        Err(error) => Check::bad(NAME, &bad(sentence(&error))),
    }
}

impl Check {
    fn ok(name: &'static str, says: String) -> Self {
        Self { name, outcome: Outcome::Ok, says: vec![says], code: None }
    }

    fn bad(name: &'static str, failure: &Failure) -> Self {
        let (says, code) = (vec![failure.message.clone()], Some(failure.code.as_str()));
        Self { name, outcome: Outcome::Bad, says, code }
    }

    fn skipped(name: &'static str, says: impl Into<String>) -> Self {
        Self { name, outcome: Outcome::Skipped, says: vec![says.into()], code: None }
    }
}

/// A bar where somebody watches. The file is gone through twice.
fn progress(bytes: u64) -> anyhow::Result<ProgressBar> {
    if !std::io::stderr().is_terminal() {
        return Ok(ProgressBar::hidden());
    }
    let style = ProgressStyle::with_template("{bar:30} {bytes}/{total_bytes}, {bytes_per_sec}")?;
    Ok(ProgressBar::new(bytes).with_style(style))
}

fn write(out: &mut impl Write, report: &Report) -> std::io::Result<()> {
    writeln!(out, "{}", report.file.display())?;
    writeln!(out, "  {:10} {} bytes", "size", report.file_bytes)?;
    for Check { name, outcome, says, .. } in &report.checks {
        let outcome = match outcome {
            Outcome::Ok => "ok",
            Outcome::Bad => "BAD",
            Outcome::Skipped => "-",
        };
        for (index, sentence) in says.iter().enumerate() {
            let (name, outcome) = if index == 0 { (*name, outcome) } else { ("", "") };
            writeln!(out, "  {name:10} {outcome:4} {sentence}")?;
        }
    }
    writeln!(out, "  {:10} {}", "", if report.sound { "sound" } else { "NOT sound" })
}
