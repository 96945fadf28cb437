//! The command line: what each command is called and takes, and how it ends.
//!
//! The only place of this crate that writes to standard output.

mod bench;
mod embed;
mod info;
mod lines;
mod model_path;
mod models;
mod ps;
mod pull;
mod serve;
mod serve_http;
mod shell;
mod stats;
mod stop;
mod table;
mod verify;
mod workers;

use std::process::ExitCode;

use clap::{Args, CommandFactory, Parser, Subcommand};
use embed_log::Settings;

use crate::batch::Failure;
use crate::engine::EngineOptions;
use crate::engine::MEGABYTE;
use crate::kernels::Isa;
use crate::{config, threads};

/// Text embeddings from a mapped GGUF model.
///
/// Node programs use the package @embed/client, which starts this worker by itself. On the command
/// line, `embed` turns texts into vectors at once and `info` tells what a model file is.
#[derive(Debug, Parser)]
#[command(
    name = "embed-worker",
    version,
    max_term_width = 100,
    after_help = "\
Examples:
  embed-worker embed 'one text' 'another text' | jq -c '.vector[:3]'
  embed-worker embed --file texts.txt > vectors.jsonl
  embed-worker pull nomic-embed-text-v1.5
  embed-worker embed --model nomic-embed-text-v1.5 --task query 'how is memory counted?'
  embed-worker serve --http 8080
  embed-worker stats

Exit codes: 0 if all went well, 1 if something failed, 2 if the command line was wrong, 3 if the
worker that was named does not run. Results go to standard output and everything else to standard
error; colours and progress are for terminals, and NO_COLOR is heeded."
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve a model to the programs of this user until nobody is connected
    Serve(serve::ServeArgs),
    /// Turn texts into vectors: one JSON object a line
    Embed(embed::EmbedArgs),
    /// Fetch a model from the hub, or from any address; resumed, checked, fetched once
    Pull(pull::PullArgs),
    /// List the models that have a name
    Models(models::ModelsArgs),
    /// Tell what a GGUF model is
    Info(info::InfoArgs),
    /// Check a GGUF model to the last byte: structure, tensors, weights, SHA-256
    Verify(verify::VerifyArgs),
    /// List the running workers of this user
    Ps(ps::PsArgs),
    /// Tell what the running workers have done
    Stats(stats::StatsArgs),
    /// Ask running workers to finish what they have and leave
    Stop(stop::StopArgs),
    /// Write completions for a shell
    Completions(shell::CompletionsArgs),
    /// Write the manual page, or all of them to a folder
    Man(shell::ManArgs),
    /// Measure what a model reaches on this machine, beside what the machine could do
    Bench(bench::BenchArgs),
}

/// How to compute; nothing here changes a vector.
#[derive(Debug, Args)]
struct ComputeArgs {
    /// Threads that compute [default: the physical cores]
    #[arg(long, env = "EMBED_THREADS", value_name = "N", value_parser = clap::value_parser!(u16).range(1..=512))]
    threads: Option<u16>,
    /// Instruction set of the kernels [default: the best that this processor has]
    #[arg(long, env = "EMBED_ISA", value_name = "NAME", value_parser = isa)]
    isa: Option<Isa>,
    /// Megabytes that the whole process may have for itself; the mapped model is the system's
    #[arg(long, env = "EMBED_MEMORY_BUDGET", value_name = "MB", default_value_t = MEMORY_BUDGET_MB, value_parser = clap::value_parser!(u32).range(1..=i64::from(config::MEMORY_BUDGET_MB_MAX)))]
    memory_budget: u32,
}

/// The default, in the unit of the option.
const MEMORY_BUDGET_MB: u32 = (config::MEMORY_BUDGET / MEGABYTE) as u32;

fn isa(name: &str) -> Result<Isa, crate::kernels::IsaError> {
    Isa::by_name(name)
}

impl ComputeArgs {
    fn options(&self) -> EngineOptions {
        EngineOptions {
            threads: self.threads.map_or_else(threads::physical_cores, usize::from),
            isa: self.isa.unwrap_or_else(Isa::best),
            batch_tokens: config::BATCH_TOKENS,
            memory_budget: self.memory_budget as usize * MEGABYTE,
        }
    }
}

/// Runs the command line of this process.
///
/// Exit codes: 0 if all went well, 1 if something failed (for `stats`: a worker does not answer), 2 if
/// the command line was wrong, 3 if the worker that was named does not run.
pub fn run() -> ExitCode {
    let cli = Cli::parse();
    // To the end, when it tells what it has left out.
    let _logging = Settings::from_env().start("embed-worker");
    let result = match cli.command {
        Command::Serve(args) => serve::run(&args),
        Command::Embed(args) => embed::run(&args),
        Command::Pull(args) => pull::run(&args),
        Command::Models(args) => models::run(&args),
        Command::Info(args) => info::run(&args),
        Command::Verify(args) => verify::run(&args),
        Command::Ps(args) => ps::run(&args),
        Command::Stats(args) => stats::run(&args),
        Command::Stop(args) => stop::run(&args),
        Command::Completions(args) => shell::completions(&args, Cli::command()),
        Command::Man(args) => shell::man(&args, Cli::command()),
        Command::Bench(args) => bench::run(&args),
    };
    match result {
        Ok(code) => code,
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            complain_error(&format!("{error:#}"));
            ExitCode::FAILURE
        }
    }
}

/// Whether whoever read our output has had enough, as `head` does.
fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let kinds = error.chain().filter_map(|cause| {
        let of_json = || cause.downcast_ref::<serde_json::Error>()?.io_error_kind();
        cause.downcast_ref::<std::io::Error>().map(std::io::Error::kind).or_else(of_json)
    });
    kinds.into_iter().any(|kind| kind == std::io::ErrorKind::BrokenPipe)
}

/// A sentence for a person, on standard error.
fn complain(sentence: &str) {
    use std::io::Write;
    // If nobody reads it, there is nobody to tell.
    let _ = writeln!(std::io::stderr(), "{sentence}");
}

/// What went wrong, on standard error.
fn complain_error(sentence: &str) {
    use std::io::Write;
    // Red on a terminal, unless NO_COLOR is set; as clap's own errors are.
    const RED: anstyle::Style = anstyle::AnsiColor::Red.on_default().bold();
    let _ = writeln!(anstream::stderr(), "{RED}error:{RED:#} {sentence}");
}

/// A failure of the engine as an error of the command.
fn failed(failure: &Failure) -> anyhow::Error {
    anyhow::anyhow!("{} ({})", failure.message, failure.code)
}
