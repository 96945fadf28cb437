//! The work behind `@embed/client`: one process that maps a GGUF embedding model and turns texts
//! into vectors.
//!
//! Modules are listed in the order the data meets them, top to bottom.
//! Each may import only from modules that stand below it (see the layer table in ARCHITECTURE.md).
//!
//! ```text
//! frame -> server -> batch -> engine -> tokenizer -> model -> kernels -> mapped blocks (gguf)
//! ```

pub mod batch;
pub mod cli;
pub mod config;
pub mod engine;
pub mod gguf;
pub mod integrity;
pub mod kernels;
pub mod model;
pub mod server;
pub mod threads;
pub mod tokenizer;
