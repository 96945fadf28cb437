//! `embed-worker bench`: what a model reaches here, and what the machine could do.
//!
//! Products are timed as a forward pass meets them, layer after layer, so that their weights come
//! from where they would come from; each figure is a median of rounds.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Args;
use serde::Serialize;

use super::{ComputeArgs, failed, model_path};
use crate::batch::Failure;
use crate::config::BATCH_TOKENS;
use crate::engine::{Engine, EngineOptions, TokenBatch};
use crate::kernels::{
    Activations, Buffer, Epilogue, Forms, Isa, Kernels, Matrix, Output, Product, QuantizedRows,
    Workspace, roof,
};

/// Rounds of a measurement at least, and for how long more are added.
const ROUNDS_MIN: usize = 5;
const ROUNDS_TIME: Duration = Duration::from_millis(400);

/// Tokens of a text in bulk.
const BULK_TEXT_TOKENS: usize = 64;

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  embed-worker bench
  embed-worker bench nomic-embed-text-v1.5 --threads 1 --tokens 12 --tokens 256")]
pub(super) struct BenchArgs {
    /// The model: a GGUF file, or a name as `pull` takes it [default: the one that ships with the package]
    #[arg(env = "EMBED_MODEL", value_name = "MODEL")]
    model: Option<PathBuf>,
    /// Tokens that go through a product together; several may be given
    #[arg(long, value_name = "N", value_delimiter = ',', default_values_t = [12, 64, 256, 512],
          value_parser = tokens)]
    tokens: Vec<usize>,
    /// Write JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    compute: ComputeArgs,
}

fn tokens(value: &str) -> Result<usize, String> {
    match value.parse() {
        Ok(tokens) if (1..=BATCH_TOKENS).contains(&tokens) => Ok(tokens),
        _ => Err(format!("a number from 1 to {BATCH_TOKENS} is wanted")),
    }
}

#[derive(Serialize)]
struct Report {
    model: String,
    threads: usize,
    memory_gb_s: f64,
    instruction_sets: Vec<IsaReport>,
}

#[derive(Serialize)]
struct IsaReport {
    kernels: String,
    /// Of all threads together.
    integer_roof_gmac_s: Option<f64>,
    rows: Vec<Row>,
}

#[derive(Serialize)]
struct Row {
    tokens: usize,
    what: String,
    milliseconds: f64,
    gmac_s: f64,
    /// Of the integer roof.
    roof_share: Option<f64>,
    /// Bytes of weights a second.
    weights_gb_s: f64,
}

pub(super) fn run(args: &BenchArgs) -> anyhow::Result<ExitCode> {
    let model = model_path::resolve(args.model.as_ref())?;
    let options = args.compute.options();
    let sets = match args.compute.isa {
        Some(isa) => vec![isa],
        // Plain Rust is the law, not a contender; where there is nothing else it is measured.
        None => {
            let all = Isa::all_supported();
            all.iter().copied().filter(|isa| *isa != Isa::Portable || all.len() == 1).collect()
        }
    };
    let mut report = Report {
        model: String::new(),
        threads: options.threads,
        memory_gb_s: roof::memory_roof() / 1e9,
        instruction_sets: Vec::new(),
    };
    for isa in sets {
        let mut engine = Engine::open(&model, &EngineOptions { isa, ..options })
            .map_err(|error| failed(&Failure::from(&error)))?;
        report.model.clone_from(&engine.info().name);
        report.instruction_sets.push(measure(&mut engine, isa, options.threads, &args.tokens)?);
    }
    let mut out = std::io::stdout().lock();
    if args.json {
        serde_json::to_writer_pretty(&mut out, &report)?;
        writeln!(out)?;
    } else {
        write_table(&mut out, &report)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn measure(
    engine: &mut Engine,
    isa: Isa,
    threads: usize,
    token_counts: &[usize],
) -> anyhow::Result<IsaReport> {
    let kernels = Kernels::new(isa);
    let integer_roof = kernels.integer_roof(threads).map(|roof| roof / 1e9);
    let mut workspace = Workspace::new(threads);
    let mut rows = Vec::new();
    for &tokens in token_counts {
        let mut kinds: Vec<(String, Vec<Vec<Matrix<'_>>>)> = Vec::new();
        for (kind, together) in engine.encoder().products() {
            let name = format!("{kind} {}", shapes(&together));
            match kinds.iter_mut().find(|(other, _)| *other == name) {
                Some((_, products)) => products.push(together),
                None => kinds.push((name, vec![together])),
            }
        }
        let (mut all_macs, mut all_bytes) = (0.0, 0.0);
        for (what, products) in kinds {
            let macs: f64 = products.iter().flatten().map(|matrix| macs(matrix, tokens)).sum();
            let bytes: f64 = products.iter().flatten().map(bytes).sum();
            let time = time_products(kernels, &mut workspace, &products, tokens)?;
            rows.push(row(tokens, what, time, macs, bytes, integer_roof));
            (all_macs, all_bytes) = (all_macs + macs, all_bytes + bytes);
        }
        let mut kinds_of_text = vec![tokens];
        if tokens > BULK_TEXT_TOKENS {
            kinds_of_text.push(BULK_TEXT_TOKENS);
        }
        for text_tokens in kinds_of_text {
            let time = forward(engine, tokens, text_tokens)?;
            let texts = match tokens.div_ceil(text_tokens) {
                1 => "one text".into(),
                _ => format!("texts of {text_tokens}"),
            };
            let what = format!("whole pass, {texts} ({:.0} tokens/s)", tokens as f64 / time);
            rows.push(row(tokens, what, time, all_macs, all_bytes, integer_roof));
        }
    }
    Ok(IsaReport { kernels: engine.kernels(), integer_roof_gmac_s: integer_roof, rows })
}

fn macs(matrix: &Matrix<'_>, tokens: usize) -> f64 {
    let (_, outputs, inputs) = matrix.shape();
    (outputs * inputs * tokens) as f64
}

fn bytes(matrix: &Matrix<'_>) -> f64 {
    let (dtype, outputs, inputs) = matrix.shape();
    (dtype.row_bytes(inputs).unwrap_or(0) * outputs) as f64
}

fn row(
    tokens: usize,
    what: String,
    time: f64,
    macs: f64,
    bytes: f64,
    integer_roof: Option<f64>,
) -> Row {
    let gmac_s = macs / time / 1e9;
    Row {
        tokens,
        what,
        milliseconds: time * 1e3,
        gmac_s,
        roof_share: integer_roof.map(|roof| gmac_s / roof),
        weights_gb_s: bytes / time / 1e9,
    }
}

/// Types and shapes of matrices that are multiplied with at once: `Q8_0 3x384x384`.
fn shapes(together: &[Matrix<'_>]) -> String {
    let mut runs: Vec<(usize, String)> = Vec::new();
    for matrix in together {
        let (dtype, outputs, inputs) = matrix.shape();
        let shape = format!("{outputs}x{inputs} {dtype}");
        match runs.last_mut() {
            Some((count, last)) if *last == shape => *count += 1,
            _ => runs.push((1, shape)),
        }
    }
    let runs = runs.into_iter().map(|(count, shape)| match count {
        1 => shape,
        _ => format!("{count}x{shape}"),
    });
    runs.collect::<Vec<_>>().join(", ")
}

/// Seconds of the products of some tokens with every matrix, one after the other; those that a
/// forward pass multiplies with at once are so here.
fn time_products(
    kernels: Kernels,
    workspace: &mut Workspace,
    products: &[Vec<Matrix<'_>>],
    tokens: usize,
) -> anyhow::Result<f64> {
    let inputs = products[0][0].shape().2;
    let outputs = products[0].iter().map(|matrix| matrix.shape().1).sum();
    let x: Vec<f32> =
        (0..tokens * inputs).map(|i| (i * 7919 % 1000) as f32 / 500.0 - 1.0).collect();
    let mut quantized = QuantizedRows::default();
    let forms = Forms::of(products.iter().flatten().map(|matrix| matrix.shape().0));
    kernels.quantize(workspace, &x, inputs, forms, &mut quantized);
    let activations = Activations { tokens, rows: &x, quantized: &quantized };
    let mut out = Buffer::default();
    out.grow(tokens * outputs);
    median(|| {
        for together in products {
            let output = Output { out: &mut out, stride: outputs, epilogue: Epilogue::Store };
            let together: Vec<Product<'_>> =
                together.iter().map(|matrix| Product { weights: *matrix, bias: None }).collect();
            kernels
                .matmul(workspace, &together, &activations, output)
                .map_err(|(_, error)| error)?;
        }
        Ok(())
    })
}

/// Seconds of a forward pass over so many tokens in texts of `text_tokens` each.
fn forward(engine: &mut Engine, tokens: usize, text_tokens: usize) -> anyhow::Result<f64> {
    let vocabulary = engine.vocabulary();
    let mut batch = TokenBatch::new();
    let mut left = tokens;
    while left > 0 {
        let text = left.min(text_tokens).min(engine.info().context_tokens);
        let ids: Vec<u32> = (0..text).map(|i| (i * 7919 % vocabulary) as u32).collect();
        batch.push(&ids);
        left -= text;
    }
    median(|| {
        engine.embed(&batch).map_err(|error| failed(&Failure::from(&error)))?;
        Ok(())
    })
}

/// The median time of a run, in seconds.
fn median(mut run: impl FnMut() -> anyhow::Result<()>) -> anyhow::Result<f64> {
    run()?;
    let (start, mut times) = (Instant::now(), Vec::new());
    while times.len() < ROUNDS_MIN || start.elapsed() < ROUNDS_TIME {
        let round = Instant::now();
        run()?;
        times.push(round.elapsed().as_secs_f64());
    }
    times.sort_by(f64::total_cmp);
    Ok(times[times.len() / 2])
}

fn write_table(out: &mut impl Write, report: &Report) -> std::io::Result<()> {
    writeln!(
        out,
        "{}, {} threads, one core reads {:.1} GB/s",
        report.model, report.threads, report.memory_gb_s
    )?;
    for set in &report.instruction_sets {
        writeln!(out)?;
        match set.integer_roof_gmac_s {
            Some(roof) => writeln!(out, "{}: integer roof {roof:.0} GMAC/s", set.kernels)?,
            None => writeln!(out, "{}", set.kernels)?,
        }
        writeln!(
            out,
            "{:>6}  {:<44} {:>9} {:>8} {:>6} {:>12}",
            "tokens", "product", "ms", "GMAC/s", "roof", "weights GB/s"
        )?;
        for row in &set.rows {
            let share = row
                .roof_share
                .map_or_else(|| "-".into(), |share| format!("{:.0} %", share * 100.0));
            writeln!(
                out,
                "{:>6}  {:<44} {:>9.3} {:>8.1} {share:>6} {:>12.1}",
                row.tokens, row.what, row.milliseconds, row.gmac_s, row.weights_gb_s
            )?;
        }
    }
    Ok(())
}
