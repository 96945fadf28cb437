//! A model without its tokenizer: token ids in, vectors out.

use std::path::Path;

use embed_worker::engine::TokenBatch;
use embed_worker::gguf::GgufFile;
use embed_worker::kernels::{Isa, Kernels, Workspace};
use embed_worker::model::{Encoder, Hyperparameters, ModelError, pooling};

/// The encoder of a file; its vocabulary is as long as the table of tokens.
pub(crate) fn open_model(file: &GgufFile, threads: usize, isa: Isa) -> Result<Encoder, ModelError> {
    let hyper = Hyperparameters::read(file)?;
    let vocabulary = file.tensor("token_embd.weight").map_or(0, |tensor| tensor.rows());
    Encoder::new(file, hyper, vocabulary, Kernels::new(isa), Workspace::new(threads))
}

/// The same of the file at `path`, which is sound.
pub(crate) fn encoder(path: &Path, threads: usize, isa: Isa) -> Encoder {
    let file = GgufFile::open(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    open_model(&file, threads, isa).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The vectors of some texts in one batch, of unit length.
pub(crate) fn embed_ids(encoder: &mut Encoder, texts: &[&[u32]]) -> Vec<Vec<f32>> {
    let mut batch = TokenBatch::new();
    texts.iter().for_each(|ids| batch.push(ids));
    let dimensions = encoder.hyper().dimensions;
    let rows = encoder.forward(&batch).expect("sound weights").chunks_exact(dimensions);
    rows.map(|row| pooling::finish(row, dimensions, true).expect("a vector")).collect()
}
