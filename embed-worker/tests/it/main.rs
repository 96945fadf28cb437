//! The integration tests of the worker, in one binary so that it is linked once.
//!
//! One module for each promise; what several need is in `support`.

mod architectures;
mod bench;
mod fixtures;
#[cfg(target_os = "linux")]
mod full_model;
mod fuzz_corpus;
mod golden;
mod hostile_models;
mod http;
mod manners;
mod memory_budget;
mod memory_mapped_gguf;
mod model_file;
#[cfg(target_os = "linux")]
mod other_user;
mod process_management;
mod pull;
mod seeing;
mod server;
mod support;
mod tasks;
mod tcp;
mod tidy;
mod tokenizer_bpe;
mod tokenizer_bpe_vocabulary;
mod tokenizer_oracle;
mod tokenizer_sentencepiece;
mod tokenizer_vocabulary;
mod verify;
