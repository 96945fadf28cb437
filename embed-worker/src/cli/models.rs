//! `embed-worker models`: the models that have a name.

use std::io::Write;
use std::process::ExitCode;

use clap::Args;
use embed_store::{HubFile, KNOWN_MODELS, KnownModel, ModelName, SHIPPED_MODEL_NAME, Store};
use serde::Serialize;

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
    pooling: &'a str,
    query_prefix: &'a str,
    document_prefix: &'a str,
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
        if args.json {
            serde_json::to_writer(&mut out, &line(model, path))?;
            writeln!(out)?;
            continue;
        }
        let KnownModel { name, megabytes, licence, dimensions, context_tokens, pooling, .. } =
            model;
        let here = if path.is_some() { "  (on this machine)" } else { "" };
        writeln!(out, "{name}{here}")?;
        writeln!(
            out,
            "    {megabytes} MB, {licence}, {dimensions} dimensions, {context_tokens} tokens, {pooling} pooling"
        )?;
        writeln!(out, "    {spec}")?;
        let tasks = [("query", model.tasks.query), ("document", model.tasks.document)];
        for (task, prefix) in tasks.iter().filter(|(_, prefix)| !prefix.is_empty()) {
            writeln!(out, "    before a {task}: {prefix:?}")?;
        }
    }
    if !args.json {
        writeln!(out, "{SHIPPED_MODEL_NAME} (ships with the package)")?;
    }
    Ok(ExitCode::SUCCESS)
}

fn line(model: &KnownModel, path: Option<std::path::PathBuf>) -> Line<'_> {
    Line {
        name: model.name,
        repo: model.repo,
        file: model.file,
        megabytes: model.megabytes,
        licence: model.licence,
        dimensions: model.dimensions,
        context_tokens: model.context_tokens,
        pooling: model.pooling,
        query_prefix: model.tasks.query,
        document_prefix: model.tasks.document,
        path,
    }
}
