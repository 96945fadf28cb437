//! What comes back.

use std::sync::Arc;

use embed_protocol::{ModelInfo, Timings};

use crate::error::EmbedError;

/// One text as its model sees it.
#[derive(Clone, Debug)]
pub struct Embedding {
    /// `[dimensions]`.
    pub vector: Vec<f32>,
    /// The model that it is of, as its worker has described it; `None` if it is not the model's.
    /// All vectors of one connection share one description.
    pub model: Option<Arc<ModelInfo>>,
    /// Tokens of the text as embedded, special tokens included.
    pub tokens: u32,
    /// Whether the text was cut at the model's context.
    pub truncated: bool,
    /// Where the time went, inside the worker.
    pub timings: Timings,
    /// Set if this is not the model's vector but a fallback: see [`crate::Fallback::Hash`].
    /// The two must never be compared with each other.
    pub degraded: Option<Degraded>,
}

/// Why a vector is not the model's.
#[derive(Clone, Debug)]
pub struct Degraded {
    /// Why there is none of the model's.
    pub why: EmbedError,
    /// Whether it is the first since the last vector of the model's: the one to tell somebody of.
    pub is_first: bool,
}
