//! The promise behind `@embed/client`: text in, vector out, whatever happens to the worker.
//!
//! A [`Client`] belongs to one model.
//! Its first request connects to the worker that serves this model for this user, and spawns one if
//! none listens; all requests share that one connection and are matched to their answers by id.
//! If the worker goes away or hangs, requests in flight are sent once more to its successor; if no
//! worker can be had, callers get an error that says why, or the fallback that they asked for.
//!
//! ```text
//! client -> supervisor -> reach -> launch, transport -> connection -> in_flight, outbox, credit
//!    |          |           |                               |
//! fallback   circuit     replace                        heartbeat
//! ```
//!
//! Modules are listed in that order; each may import only from modules that stand below it.
//! The crate knows of a model's file where it is ([`store`]) and how long its vectors are, writes nothing to stdout or
//! stderr, and holds no `unsafe`. Its futures run on any tokio runtime with I/O and time;
//! [`background`] lends one to callers that have none.

pub mod background;
mod provider;
mod registry;

mod client;

mod batch;
mod fallback;
mod model_width;
mod supervisor;
mod tries;

mod circuit;
mod reach;
pub mod store;

mod launch;
mod replace;
mod transport;

mod connection;

mod credit;
mod handshake;
mod heartbeat;
mod in_flight;
mod outbox;

mod embedding;
mod error;
mod options;

pub use client::Client;
pub use embed_protocol::{
    ErrorCode, ModelInfo, Priority, TEXT_BYTES_MAX, Task, Timings, Transport,
};
pub use embedding::{Degraded, Embedding};
pub use error::EmbedError;
pub use options::{ClientOptions, EmbedOptions, Fallback, TIMEOUT_DEFAULT};
pub use provider::{EmbeddingProvider, ExternalEmbeddingProvider};
pub use registry::Registry;

/// Version of the package; worker and client must have the same one.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
