//! What comes back.

use embed_protocol::Timings;

/// One text as its model sees it.
#[derive(Clone, Debug, PartialEq)]
pub struct Embedding {
    /// `[dimensions]`.
    pub vector: Vec<f32>,
    /// Tokens of the text as embedded, special tokens included.
    pub tokens: u32,
    /// Whether the text was cut at the model's context.
    pub truncated: bool,
    /// Where the time went, inside the worker.
    pub timings: Timings,
}
