//! The integration tests of the worker, in one binary so that it is linked once.
//!
//! One module for each promise; what several need is in `support`.

mod bench;
mod fixtures;
mod golden;
mod hostile_models;
mod memory_mapped_gguf;
mod process_management;
mod seeing;
mod server;
mod support;
mod tidy;
mod tokenizer_oracle;
mod tokenizer_vocabulary;
