//! The promise behind `@embed/client`: text in, vector out, whatever happens to the worker.
//!
//! A [`Client`] belongs to one model.
//! Its first request connects to the worker that serves this model for this user, and spawns one if
//! none listens; all requests share that one connection and are matched to their answers by id.
//! If the worker goes away, requests in flight are sent once more to its successor.
//!
//! ```text
//! client -> supervisor -> launch, transport -> connection -> in_flight, outbox, credit
//! ```
//!
//! Modules are listed in that order; each may import only from modules that stand below it.
//! The crate knows no model format and no vector arithmetic, writes nothing to stdout or stderr, and
//! holds no `unsafe`. Its futures run on any tokio runtime with I/O and time;
//! [`background`] lends one to callers that have none.

pub mod background;
mod registry;

mod client;

mod batch;
mod supervisor;

mod launch;
mod transport;

mod connection;

mod credit;
mod in_flight;
mod outbox;

mod embedding;
mod error;
mod options;

pub use client::Client;
pub use embed_protocol::{ErrorCode, Priority, TEXT_BYTES_MAX, Timings, Transport};
pub use embedding::Embedding;
pub use error::EmbedError;
pub use options::{ClientOptions, EmbedOptions, TIMEOUT_DEFAULT};
pub use registry::Registry;

/// Version of the package; worker and client must have the same one.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
