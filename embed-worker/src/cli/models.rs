//! `embed-worker models`: the models that have a name.

use std::io::Write;
use std::process::ExitCode;

use clap::Args;
use embed_store::{HubFile, KNOWN_MODELS, KnownModel, ModelName, SHIPPED_MODEL_NAME, Store};
use serde::Serialize;

use crate::model::published::Published;

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  embed-worker models
  embed-worker models --json | jq -r 'select(.megabytes < 200) | .name'
  embed-worker pull nomic-embed-text-v1.5")]
pub(super) struct ModelsArgs {
    /// Write JSON, one object a line
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Line<'a> {
    name: &'a str,
    repo: &'a str,
    file: &'a str,
    megabytes: u32,
    licence: &'a str,
    dimensions: u32,
    context_tokens: u32,
    pooling: &'static str,
    /// What `task` puts before a text; null if the model is not trained for it.
    query_prefix: Option<&'a str>,
    document_prefix: Option<&'a str>,
    /// Where it is on this machine.
    path: Option<std::path::PathBuf>,
}

pub(super) fn run(args: &ModelsArgs) -> anyhow::Result<ExitCode> {
    let store = Store::from_env();
    let mut out = std::io::stdout().lock();
    for model in &KNOWN_MODELS {
        let spec = format!("{}:{}", model.repo, model.file);
        let file = HubFile::parse(&spec).and_then(Result::ok);
        let path = file.and_then(|file| store.find(&ModelName::Hub(file)));
        let Some(used) = Published::find(model.architecture, model.name) else { continue };
        if args.json {
            serde_json::to_writer(&mut out, &line(model, used, path))?;
            writeln!(out)?;
            continue;
        }
        let KnownModel { name, megabytes, licence, dimensions, context_tokens, .. } = model;
        let here = if path.is_some() { "  (on this machine)" } else { "" };
        let (pooling, prefixes) = (used.pooling.name(), used.prefixes);
        writeln!(out, "{name}{here}")?;
        writeln!(
            out,
            "    {megabytes} MB, {licence}, {dimensions} dimensions, {context_tokens} tokens, {pooling} pooling"
        )?;
        writeln!(out, "    {spec}")?;
        for (task, prefix) in [("query", prefixes.query), ("document", prefixes.document)] {
            if let Some(prefix) = prefix.filter(|prefix| !prefix.is_empty()) {
                writeln!(out, "    before a {task}: {prefix:?}")?;
            }
        }
    }
    if !args.json {
        writeln!(out, "{SHIPPED_MODEL_NAME} (ships with the package)")?;
    }
    Ok(ExitCode::SUCCESS)
}

fn line<'a>(model: &'a KnownModel, used: &Published, path: Option<std::path::PathBuf>) -> Line<'a> {
    Line {
        name: model.name,
        repo: model.repo,
        file: model.file,
        megabytes: model.megabytes,
        licence: model.licence,
        dimensions: model.dimensions,
        context_tokens: model.context_tokens,
        pooling: used.pooling.name(),
        query_prefix: used.prefixes.query,
        document_prefix: used.prefixes.document,
        path,
    }
}
