//! `embed-worker info`: what a GGUF model is.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use embed_protocol::Task;
use serde::Serialize;

use super::{ComputeArgs, failed, model_path};
use crate::batch::Failure;
use crate::engine::{Budget, Engine, MEGABYTE, prefix};
use crate::gguf::GgufFile;
use crate::model::published::{Cuts, Known};

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  embed-worker info model.gguf
  embed-worker info nomic-embed-text-v1.5
  embed-worker info --json | jq .fingerprint")]
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
    /// What is known of the model beside its file, if anything is.
    known: Option<KnownInfo>,
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

#[derive(Serialize)]
struct KnownInfo {
    family: &'static str,
    /// The key of the file that names it.
    by: &'static str,
    /// What goes before a text for each task; null if the model is not trained for it.
    prefixes: BTreeMap<&'static str, Option<&'static str>>,
    /// To what a vector may be cut, for a person.
    cuts: String,
}

impl KnownInfo {
    fn new(known: &Known, dimensions: usize) -> Self {
        let Known { published, key } = *known;
        let prefixes = Task::ALL.map(|task| (task.as_str(), prefix(&published.prefixes, task)));
        let mut cuts = match published.cuts {
            Cuts::None => "not trained for it".into(),
            Cuts::To(numbers) => {
                let fewer = numbers.iter().filter(|number| **number < dimensions);
                fewer.map(ToString::to_string).collect::<Vec<_>>().join(", ")
            }
            Cuts::From(fewest) => format!("any number from {fewest}"),
        };
        if published.centred_before_cut {
            cuts.push_str(", of the vector after a layer norm");
        }
        Self { family: published.family, by: key, prefixes: prefixes.into(), cuts }
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
        known: engine.known().map(|known| KnownInfo::new(known, summary.dimensions)),
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
    write_known(out, info)?;
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

/// What `task` and `dimensions` do with this model, and what to do where they do not fit.
fn write_known(out: &mut impl Write, info: &Info) -> std::io::Result<()> {
    let Some(known) = &info.known else {
        let what = "unknown by its name: write what goes before a text into it, without `task`";
        return writeln!(out, "  tasks          {what}");
    };
    writeln!(out, "  known as       {}, by its {}", known.family, known.by)?;
    for task in Task::ALL {
        let what = match known.prefixes[task.as_str()] {
            None => "not trained for: write an instruction of your own before the text".into(),
            Some("") => "nothing before the text".into(),
            Some(prefix) => format!("`{}` before the text", prefix.escape_debug()),
        };
        writeln!(out, "  {:14} {what}", task.as_str())?;
    }
    writeln!(
        out,
        "                 only where a call asks with `task`; to use other words, write them before the text"
    )?;
    writeln!(out, "  may be cut to  {}", known.cuts)
}
