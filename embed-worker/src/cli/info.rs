//! `embed-worker info`: what a GGUF model is.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use serde::Serialize;

use super::{ComputeArgs, failed, model_path};
use crate::batch::Failure;
use crate::engine::Engine;
use crate::engine::{Budget, MEGABYTE};
use crate::gguf::GgufFile;

#[derive(Debug, Args)]
pub(super) struct InfoArgs {
    /// The GGUF file [default: the model that ships with the package]
    #[arg(env = "EMBED_MODEL", value_name = "FILE")]
    model: Option<PathBuf>,
    /// Write JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    compute: ComputeArgs,
}

/// Everything there is to tell.
#[derive(Serialize)]
struct Info {
    file: PathBuf,
    file_bytes: usize,
    gguf_version: u32,
    name: String,
    architecture: String,
    dimensions: usize,
    context_tokens: usize,
    layers: usize,
    heads: usize,
    feed_forward: usize,
    pooling: String,
    pooling_is_default: bool,
    tokenizer: &'static str,
    vocabulary: usize,
    tensor_types: BTreeMap<String, TensorTypes>,
    memory: Memory,
    kernels: String,
    fingerprint: String,
}

/// What the memory budget means for this model.
#[derive(Serialize)]
struct Memory {
    budget_bytes: usize,
    fixed_bytes: usize,
    buffers_bytes_max: usize,
    longest_text_tokens: usize,
    /// What a text as long as the context would want.
    context_budget_mb: usize,
}

impl Memory {
    fn of(engine: &Engine) -> Self {
        let Budget { bytes, fixed_bytes, batch_bytes, text_tokens_max, .. } = *engine.budget();
        Self {
            budget_bytes: bytes,
            fixed_bytes,
            buffers_bytes_max: batch_bytes,
            longest_text_tokens: text_tokens_max,
            context_budget_mb: engine.megabytes_for(engine.info().context_tokens),
        }
    }
}

#[derive(Default, Serialize)]
struct TensorTypes {
    tensors: usize,
    bytes: usize,
}

pub(super) fn run(args: &InfoArgs) -> anyhow::Result<ExitCode> {
    let model = model_path::resolve(args.model.as_ref())?;
    let engine = Engine::open(&model, &args.compute.options())
        .map_err(|error| failed(&Failure::from(&error)))?;
    let file = GgufFile::open(&model)?;
    let mut tensor_types: BTreeMap<String, TensorTypes> = BTreeMap::new();
    for tensor in file.tensors() {
        let entry = tensor_types.entry(tensor.dtype().to_string()).or_default();
        entry.tensors += 1;
        entry.bytes += tensor.bytes().len();
    }
    let (summary, hyper) = (engine.info(), engine.hyper());
    let info = Info {
        file_bytes: file.file_bytes(),
        gguf_version: file.version(),
        name: summary.name.clone(),
        architecture: summary.architecture.clone(),
        dimensions: summary.dimensions,
        context_tokens: summary.context_tokens,
        layers: hyper.blocks,
        heads: hyper.heads.queries,
        feed_forward: hyper.inner,
        pooling: summary.pooling.clone(),
        pooling_is_default: !hyper.pooling_named,
        tokenizer: engine.tokenizer_kind(),
        vocabulary: engine.vocabulary(),
        tensor_types,
        memory: Memory::of(&engine),
        kernels: engine.kernels(),
        fingerprint: summary.fingerprint.clone(),
        file: model,
    };
    let mut out = std::io::stdout().lock();
    if args.json {
        serde_json::to_writer_pretty(&mut out, &info)?;
        writeln!(out)?;
    } else {
        write(&mut out, &info)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn write(out: &mut impl Write, info: &Info) -> std::io::Result<()> {
    let mib = |bytes: usize| bytes as f64 / (1 << 20) as f64;
    let default = if info.pooling_is_default { " (by default: the file names none)" } else { "" };
    writeln!(out, "{}", info.name)?;
    writeln!(out, "  file           {}", info.file.display())?;
    writeln!(
        out,
        "  size           {:.1} MiB, GGUF version {}",
        mib(info.file_bytes),
        info.gguf_version
    )?;
    writeln!(out, "  architecture   {}", info.architecture)?;
    writeln!(
        out,
        "  vector         {} dimensions, {} pooling{default}",
        info.dimensions, info.pooling
    )?;
    writeln!(out, "  context        {} tokens", info.context_tokens)?;
    writeln!(
        out,
        "  layers         {}, {} heads, {} wide inside",
        info.layers, info.heads, info.feed_forward
    )?;
    writeln!(out, "  vocabulary     {} pieces, {}", info.vocabulary, info.tokenizer)?;
    for (dtype, TensorTypes { tensors, bytes }) in &info.tensor_types {
        writeln!(out, "  {dtype:14} {tensors} tensors, {:.1} MiB", mib(*bytes))?;
    }
    write_memory(out, info)?;
    writeln!(out, "  kernels        {}", info.kernels)?;
    writeln!(out, "  fingerprint    {}", info.fingerprint)
}

fn write_memory(out: &mut impl Write, info: &Info) -> std::io::Result<()> {
    let mb = |bytes: usize| bytes as f64 / MEGABYTE as f64;
    let Memory { budget_bytes, fixed_bytes, buffers_bytes_max, .. } = info.memory;
    writeln!(
        out,
        "  own memory     {:.1} MB for the program and tables, up to {:.1} MB for buffers; budget {:.0} MB",
        mb(fixed_bytes),
        mb(buffers_bytes_max),
        mb(budget_bytes)
    )?;
    let Memory { longest_text_tokens, context_budget_mb, .. } = info.memory;
    write!(out, "  longest text   {longest_text_tokens} tokens")?;
    if longest_text_tokens < info.context_tokens {
        write!(out, " in this budget; a text as long as the context wants {context_budget_mb} MB")?;
    }
    writeln!(out)
}
