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
use crate::gguf::GgufFile;

#[derive(Debug, Args)]
pub(super) struct InfoArgs {
    /// The model: a GGUF file, or a name as `pull` takes it [default: the one that ships with the package]
    #[arg(env = "EMBED_MODEL", value_name = "MODEL")]
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
    private_bytes_largest_batch: usize,
    kernels: String,
    fingerprint: String,
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
        private_bytes_largest_batch: engine.batch_bytes_max(),
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
    writeln!(
        out,
        "  own memory     {:.1} MiB for the largest batch, beside some 4 MiB for the program",
        mib(info.private_bytes_largest_batch)
    )?;
    writeln!(out, "  kernels        {}", info.kernels)?;
    writeln!(out, "  fingerprint    {}", info.fingerprint)
}
