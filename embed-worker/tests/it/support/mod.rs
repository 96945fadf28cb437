//! What several tests need.

#[cfg(windows)]
pub(crate) mod console;
pub(crate) mod encoder;
pub(crate) mod gguf_writer;
pub(crate) mod hostile;
pub(crate) mod judge;
#[cfg(target_os = "linux")]
pub(crate) mod other_user;
#[cfg(target_os = "linux")]
pub(crate) mod own_process;
pub(crate) mod peer;
pub(crate) mod program;
pub(crate) mod service;
pub(crate) mod worker;

use std::path::{Path, PathBuf};

use embed_worker::config::MEMORY_BUDGET;
use embed_worker::engine::{Engine, EngineOptions, TokenBatch};
use embed_worker::kernels::Isa;

/// A file of the repository.
pub(crate) fn repository_file(path: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..").join(path)
}

/// A file under `tests/data`.
pub(crate) fn test_data(path: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests").join("data").join(path)
}

/// The ids of `text`, special tokens included, and its vector, without any worker.
pub(crate) fn embedded(
    model: &Path,
    text: &str,
    dimensions: Option<usize>,
) -> (Vec<u32>, Vec<f32>) {
    let options = EngineOptions {
        threads: 1,
        isa: Isa::best(),
        batch_tokens: 512,
        memory_budget: MEMORY_BUDGET,
    };
    let mut engine = Engine::open(model, &options).expect("a sound model");
    let mut batch = TokenBatch::new();
    engine.tokenize(text, true, &mut batch).expect("cut at the context");
    let rows = engine.embed(&batch).expect("sound weights");
    let vector = rows.vector(0, dimensions, true).expect("a vector");
    (batch.ids().to_vec(), vector)
}
