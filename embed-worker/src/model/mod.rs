//! The encoder: token ids in, one pooled row a text out.
//!
//! It knows layers and tensors; it does not know text, time, threads that it did not get, or files
//! other than through [`crate::gguf`].

pub mod architecture;
mod encoder;
mod error;
mod feed_forward;
mod find;
mod footprint;
pub mod hyper;
mod keys;
mod layer;
mod pass;
pub mod pooling;
pub mod published;
pub mod rope;
mod scratch;
mod steps;
mod token_batch;
mod weights;

pub use encoder::Encoder;
pub use error::ModelError;
pub use footprint::Extent;
pub use hyper::Hyperparameters;
pub use token_batch::TokenBatch;
