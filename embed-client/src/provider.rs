//! The interface behind which embedders stand, and this crate as one of them.
//!
//! A program that still embeds in its own process puts that behind [`EmbeddingProvider`] as well, runs
//! both, compares them, and deletes the old one: see `examples/providers.rs`.

use std::sync::Arc;

use embed_protocol::{ErrorCode, ModelInfo};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;

use crate::client::Client;
use crate::embedding::Embedding;
use crate::error::EmbedError;
use crate::options::{ClientOptions, EmbedOptions};

/// Something that makes vectors of texts. Used as `&dyn EmbeddingProvider`, so that a switch may choose
/// one when the program runs.
pub trait EmbeddingProvider: Send + Sync {
    /// What logs and tables call it.
    fn name(&self) -> &str;

    /// What it embeds with, made ready: after this the first text costs no more than any other.
    ///
    /// # Errors
    ///
    /// No text could have a vector.
    fn model(&self) -> BoxFuture<'_, Result<Arc<ModelInfo>, EmbedError>>;

    /// A vector, or the reason why there is none, for each text, in their order. One text's failure
    /// does not touch the others.
    fn embed(
        &self,
        texts: Vec<String>,
        options: EmbedOptions,
    ) -> BoxFuture<'_, Vec<Result<Embedding, EmbedError>>>;
}

/// Embeds in a worker, a process of its own that all programs of this user share.
#[derive(Clone, Debug)]
pub struct ExternalEmbeddingProvider {
    client: Client,
}

impl ExternalEmbeddingProvider {
    /// A provider that will connect, or start a worker, when it is first used.
    pub fn new(options: ClientOptions) -> Self {
        Self { client: Client::new(options) }
    }
}

impl From<Client> for ExternalEmbeddingProvider {
    /// Shares the connection of a client that is there already.
    fn from(client: Client) -> Self {
        Self { client }
    }
}

impl EmbeddingProvider for ExternalEmbeddingProvider {
    fn name(&self) -> &str {
        "external"
    }

    fn model(&self) -> BoxFuture<'_, Result<Arc<ModelInfo>, EmbedError>> {
        async {
            // Any text would do; without a fallback, every vector is a model's.
            let embedding = self.client.embed("model", &EmbedOptions::default()).await?;
            embedding.model.ok_or_else(|| {
                EmbedError::new(ErrorCode::Internal, "provider: a vector of no model")
            })
        }
        .boxed()
    }

    fn embed(
        &self,
        texts: Vec<String>,
        options: EmbedOptions,
    ) -> BoxFuture<'_, Vec<Result<Embedding, EmbedError>>> {
        async move {
            let texts = texts.into_iter().map(Ok).collect();
            self.client.embed_many(texts, &options, |_| {}).await
        }
        .boxed()
    }
}
