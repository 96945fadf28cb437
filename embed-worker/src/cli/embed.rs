//! `embed-worker embed`: texts in, JSON lines out, without a socket.

use std::fs::File;
use std::io::{BufRead, BufReader, BufWriter, IsTerminal, Read, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::Args;
use embed_protocol::{TEXT_BYTES_MAX, Task};
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;

use super::lines::{Lines, too_long};
use super::{ComputeArgs, complain, failed, model_path};
use crate::batch::Failure;
use crate::engine::{Engine, TokenBatch, Tokenized, check_dimensions};

/// Lines that wait for a batch to fill: failures fill none, and there may be a million of them.
const WAITING_MAX: usize = 4096;

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  embed-worker embed 'one text' 'another text'
  embed-worker embed --file texts.txt > vectors.jsonl
  git log --format=%s | embed-worker embed --truncate | jq -c '[.index, .tokens]'
  embed-worker embed --dimensions 256 --model nomic-embed-text-v1.5 --task document 'a text'

A line is {\"index\": …, \"tokens\": …, \"truncated\": …, \"vector\": […]}, or has an \"error\" with a
code and a message; then the exit code is 1 in the end. An empty line is a text, too.")]
pub(super) struct EmbedArgs {
    /// The texts; without any, and without --file, each line of standard input is one
    texts: Vec<String>,
    /// Read the texts from this file, one a line
    #[arg(long, value_name = "FILE", conflicts_with = "texts")]
    file: Option<PathBuf>,
    /// The model: a GGUF file, or a name as `pull` takes it [default: the one that ships with the package]
    #[arg(long, env = "EMBED_MODEL", value_name = "MODEL")]
    model: Option<PathBuf>,
    /// What the texts are for: query, document, clustering or classification. Puts the model's own
    /// words for that before each, which `info` shows
    #[arg(long, value_name = "TASK")]
    task: Option<Task>,
    /// Cut texts at the model's context instead of refusing them
    #[arg(long)]
    truncate: bool,
    /// Leave vectors as the model gives them instead of scaling them to unit length
    #[arg(long)]
    no_normalize: bool,
    /// Keep the first N dimensions only (Matryoshka)
    #[arg(long, value_name = "N")]
    dimensions: Option<usize>,
    #[command(flatten)]
    compute: ComputeArgs,
}

/// One line of output.
#[derive(Serialize)]
struct Line {
    index: usize,
    #[serde(flatten)]
    outcome: Outcome,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Outcome {
    Vector { tokens: usize, truncated: bool, vector: Vec<f32> },
    Error { error: ErrorLine },
}

#[derive(Serialize)]
struct ErrorLine {
    code: &'static str,
    message: String,
}

impl From<Failure> for Outcome {
    fn from(failure: Failure) -> Self {
        let Failure { code, message } = failure;
        Self::Error { error: ErrorLine { code: code.as_str(), message } }
    }
}

pub(super) fn run(args: &EmbedArgs) -> anyhow::Result<ExitCode> {
    let model = model_path::resolve(args.model.as_ref())?;
    let mut engine = Engine::open(&model, &args.compute.options())
        .map_err(|error| failed(&Failure::from(&error)))?;
    check_dimensions(args.dimensions, engine.info().dimensions)
        .map_err(|error| failed(&Failure::from(&error)))?;
    engine.for_task("", args.task).map_err(|error| failed(&Failure::from(&error)))?;
    let progress = progress(args)?;
    let mut writer = Writer {
        engine: &mut engine,
        args,
        out: BufWriter::new(std::io::stdout().lock()),
        batch: TokenBatch::new(),
        ids: TokenBatch::new(),
        waiting: Vec::new(),
        failures: 0,
        progress,
    };
    if args.texts.is_empty() {
        let input: Box<dyn Read> = match &args.file {
            Some(path) => {
                Box::new(File::open(path).with_context(|| format!("file `{}`", path.display()))?)
            }
            None => {
                let input = std::io::stdin();
                if input.is_terminal() {
                    let end = if cfg!(windows) { "Ctrl-Z and Enter" } else { "Ctrl-D" };
                    complain(&format!("each line that you type is a text; {end} ends"));
                }
                Box::new(input.lock())
            }
        };
        let mut lines = Lines::new(BufReader::new(input));
        for index in 0.. {
            let line =
                lines.next_text().with_context(|| format!("text {index}: cannot be read"))?;
            match line {
                Some(Ok(text)) => writer.add(index, text)?,
                Some(Err(failure)) => writer.fail(index, failure)?,
                None => break,
            }
            // Who writes one text and waits for its vector shall not wait for a batch to fill.
            if lines.is_drained() {
                writer.flush()?;
            }
        }
    } else {
        for (index, text) in args.texts.iter().enumerate() {
            writer.add(index, text)?;
        }
    }
    writer.finish()
}

/// A bar where somebody watches; without an end, if the number of texts is not known.
fn progress(args: &EmbedArgs) -> anyhow::Result<ProgressBar> {
    // Beside vectors on the same terminal it would only be in their way.
    if !std::io::stderr().is_terminal() || std::io::stdout().is_terminal() {
        return Ok(ProgressBar::hidden());
    }
    let Some(path) = &args.file else {
        let style = ProgressStyle::with_template("{pos} texts, {per_sec}")?;
        return Ok(ProgressBar::no_length().with_style(style));
    };
    let file = File::open(path).with_context(|| format!("file `{}`", path.display()))?;
    if !file.metadata().is_ok_and(|metadata| metadata.is_file()) {
        // What comes from a pipe can be read once only.
        let style = ProgressStyle::with_template("{pos} texts, {per_sec}")?;
        return Ok(ProgressBar::no_length().with_style(style));
    }
    let texts = line_ends(file)?;
    let style = ProgressStyle::with_template("{bar:30} {pos}/{len} texts, {per_sec}, {eta} left")?;
    Ok(ProgressBar::new(texts as u64).with_style(style))
}

/// How many lines end in a file, however long they are.
fn line_ends(file: File) -> std::io::Result<usize> {
    let mut file = BufReader::new(file);
    let (mut ends, mut last) = (0, b'\n');
    loop {
        let read = file.fill_buf()?;
        let Some(&end) = read.last() else { break };
        ends += read.iter().filter(|&&byte| byte == b'\n').count();
        last = end;
        let used = read.len();
        file.consume(used);
    }
    // The last one need not.
    Ok(ends + usize::from(last != b'\n'))
}

/// Collects texts to batches and writes their lines in order.
struct Writer<'a, W: Write> {
    engine: &'a mut Engine,
    args: &'a EmbedArgs,
    out: W,
    batch: TokenBatch,
    /// The text that is added next, until it is known whether it fits the batch.
    ids: TokenBatch,
    /// Lines not yet written: `Ok` for a text of the batch, `Err` for one that failed before.
    waiting: Vec<(usize, Result<Tokenized, Failure>)>,
    failures: usize,
    progress: ProgressBar,
}

impl<W: Write> Writer<'_, W> {
    /// A text that was none; its line comes in its turn.
    fn fail(&mut self, index: usize, failure: Failure) -> anyhow::Result<()> {
        self.wait(index, Err(failure))
    }

    fn wait(&mut self, index: usize, text: Result<Tokenized, Failure>) -> anyhow::Result<()> {
        self.waiting.push((index, text));
        if self.waiting.len() < WAITING_MAX { Ok(()) } else { self.flush() }
    }

    fn add(&mut self, index: usize, text: &str) -> anyhow::Result<()> {
        if text.len() > TEXT_BYTES_MAX {
            return self.fail(index, too_long(text.len()));
        }
        self.ids.clear();
        let tokenized = self
            .engine
            .for_task(text, self.args.task)
            .and_then(|text| self.engine.tokenize(&text, self.args.truncate, &mut self.ids));
        if tokenized.is_ok() {
            let most = self.engine.budget().batch_tokens_max;
            if self.batch.tokens() + self.ids.tokens() > most {
                self.flush()?;
            }
            self.batch.push(self.ids.ids());
        }
        self.wait(index, tokenized.map_err(|error| Failure::from(&error)))
    }

    fn flush(&mut self) -> anyhow::Result<()> {
        let rows = self.engine.embed(&self.batch);
        let mut row = 0;
        for (index, tokenized) in self.waiting.drain(..) {
            let outcome = tokenized.and_then(|tokenized| {
                let rows = rows.as_ref().map_err(Failure::from)?;
                row += 1;
                rows.vector(row - 1, self.args.dimensions, !self.args.no_normalize)
                    .map(|vector| Outcome::Vector {
                        tokens: tokenized.tokens,
                        truncated: tokenized.truncated,
                        vector,
                    })
                    .map_err(|error| Failure::from(&error))
            });
            let outcome = outcome.unwrap_or_else(|failure| {
                self.failures += 1;
                failure.into()
            });
            serde_json::to_writer(&mut self.out, &Line { index, outcome })?;
            self.out.write_all(b"\n")?;
            self.progress.inc(1);
        }
        self.batch.clear();
        self.out.flush()?;
        Ok(())
    }

    fn finish(mut self) -> anyhow::Result<ExitCode> {
        self.flush()?;
        self.progress.finish_and_clear();
        Ok(if self.failures == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}
