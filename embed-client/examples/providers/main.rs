//! Which of some texts is nearest to a question, with either embedder behind one interface.
//!
//! ```text
//! cargo run -p embed-client --example providers -- MODEL WORKER QUESTION TEXT...
//! USE_EXTERNAL_EMBEDDER=false cargo run -p embed-client --example providers -- MODEL WORKER QUESTION TEXT...
//! ```
//!
//! MODEL is a GGUF file, WORKER the `embed-worker` executable. With `false` the model is in this process,
//! as in a program that has not moved yet.

mod in_process;

use std::io::Write;
use std::path::Path;

use embed_client::{
    ClientOptions, EmbedError, EmbedOptions, EmbeddingProvider, ErrorCode,
    ExternalEmbeddingProvider, Priority,
};

use crate::in_process::InProcessProvider;

/// `USE_EXTERNAL_EMBEDDER`: whether to embed in a process of its own, or in this one. Default: true.
const SWITCH: &str = "USE_EXTERNAL_EMBEDDER";

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [model, worker, question, texts @ ..] = args.as_slice() else {
        return Err("usage: providers MODEL WORKER QUESTION TEXT...".into());
    };
    let provider = choose(Path::new(model), Path::new(worker))?;
    let info = provider.model().await.map_err(message)?;
    let bulk = EmbedOptions { priority: Priority::Bulk, ..EmbedOptions::default() };
    let [wanted] = vectors(&*provider, vec![question.clone()], EmbedOptions::default())
        .await?
        .try_into()
        .map_err(|_| "one text has one vector")?;
    let mut ranked: Vec<(f32, &String)> = vectors(&*provider, texts.to_vec(), bulk)
        .await?
        .iter()
        .map(|vector| dot(vector, &wanted))
        .zip(texts)
        .collect();
    ranked.sort_by(|(a, _), (b, _)| b.total_cmp(a));

    let mut out = std::io::stdout().lock();
    writeln!(out, "{}: {}, {} dimensions", provider.name(), info.name, info.dimensions)?;
    for (score, text) in ranked {
        writeln!(out, "{score:.4}  {text}")?;
    }
    Ok(())
}

/// The provider that the environment chooses.
fn choose(model: &Path, worker: &Path) -> Result<Box<dyn EmbeddingProvider>, String> {
    match std::env::var(SWITCH).as_deref() {
        Err(_) | Ok("" | "true") => {
            Ok(Box::new(ExternalEmbeddingProvider::new(ClientOptions::new(model, worker))))
        }
        Ok("false") => Ok(Box::new(InProcessProvider::open(model).map_err(message)?)),
        Ok(other) => Err(format!("{SWITCH}: is {other}, must be true or false")),
    }
}

/// All vectors, or the first error.
async fn vectors(
    provider: &dyn EmbeddingProvider,
    texts: Vec<String>,
    options: EmbedOptions,
) -> Result<Vec<Vec<f32>>, String> {
    let results = provider.embed(texts, options).await;
    results.into_iter().map(|result| result.map(|it| it.vector).map_err(message)).collect()
}

/// Vectors have unit length, so that this is a cosine.
fn dot(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

fn message(error: EmbedError) -> String {
    let code: ErrorCode = error.code();
    format!("{}: {}", code.as_str(), error.message())
}
