//! The embedder that a program moves away from: the model in its own process.
//!
//! It stands here for whatever that was. That it computes with this project's own engine makes the
//! comparison exact: both give the same bits.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use embed_client::{EmbedError, EmbedOptions, Embedding, EmbeddingProvider, ErrorCode, ModelInfo};
use embed_worker::batch::Failure;
use embed_worker::config::{BATCH_TOKENS, MEMORY_BUDGET};
use embed_worker::engine::{Engine, EngineError, EngineOptions, TokenBatch};
use embed_worker::kernels::Isa;
use embed_worker::threads::physical_cores;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;

/// An engine, and whose it is.
pub(crate) struct InProcessProvider {
    engine: Arc<Mutex<Engine>>,
    model: Arc<ModelInfo>,
}

impl InProcessProvider {
    /// Maps the model at `path`.
    ///
    /// # Errors
    ///
    /// What is wrong with the file.
    pub(crate) fn open(path: &Path) -> Result<Self, EmbedError> {
        let options = EngineOptions {
            threads: physical_cores(),
            isa: Isa::best(),
            batch_tokens: BATCH_TOKENS,
            memory_budget: MEMORY_BUDGET,
        };
        let engine = Engine::open(path, &options).map_err(|error| embed_error(&error))?;
        let model = ModelInfo::from(engine.info());
        Ok(Self { engine: Arc::new(Mutex::new(engine)), model: Arc::new(model) })
    }
}

impl EmbeddingProvider for InProcessProvider {
    fn name(&self) -> &str {
        "in process"
    }

    fn model(&self) -> BoxFuture<'_, Result<Arc<ModelInfo>, EmbedError>> {
        std::future::ready(Ok(Arc::clone(&self.model))).boxed()
    }

    /// One text after the other; a question waits for all documents that were there before it, which
    /// is one of the things that a worker does better.
    fn embed(
        &self,
        texts: Vec<String>,
        options: EmbedOptions,
    ) -> BoxFuture<'_, Vec<Result<Embedding, EmbedError>>> {
        let (engine, model) = (Arc::clone(&self.engine), Arc::clone(&self.model));
        async move {
            let n_texts = texts.len();
            let computed = tokio::task::spawn_blocking(move || {
                let mut engine = engine.lock().unwrap_or_else(PoisonError::into_inner);
                let one = |text: String| embed(&mut engine, &model, &text, &options);
                texts.into_iter().map(one).collect()
            });
            computed.await.unwrap_or_else(|error| {
                let error = EmbedError::with_source(ErrorCode::Internal, "engine: panicked", error);
                vec![Err(error); n_texts]
            })
        }
        .boxed()
    }
}

fn embed(
    engine: &mut Engine,
    model: &Arc<ModelInfo>,
    text: &str,
    options: &EmbedOptions,
) -> Result<Embedding, EmbedError> {
    let mut batch = TokenBatch::new();
    let embedded = engine.tokenize(text, options.truncate, &mut batch).and_then(|tokenized| {
        let dimensions = options.dimensions.map(|n| n as usize);
        Ok((tokenized, engine.embed(&batch)?.vector(0, dimensions, options.normalize)?))
    });
    let (tokenized, vector) = embedded.map_err(|error| embed_error(&error))?;
    Ok(Embedding {
        vector,
        model: Some(Arc::clone(model)),
        tokens: u32::try_from(tokenized.tokens).unwrap_or(u32::MAX),
        truncated: tokenized.truncated,
        timings: embed_client::Timings::default(),
        degraded: None,
    })
}

fn embed_error(error: &EngineError) -> EmbedError {
    let Failure { code, message } = Failure::from(error);
    EmbedError::new(code, message)
}
