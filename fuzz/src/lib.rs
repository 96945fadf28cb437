//! What the fuzzers do with an input, without the fuzzer.
//!
//! Each module has one function `run`, which takes any bytes and panics where a promise is broken.
//! libFuzzer calls it from `fuzz_targets/`; the worker's tests call it with every file of
//! `corpus/`, so that what was once found stays found without libFuzzer.

pub mod frame_decode;
pub mod gguf_open;
pub mod kernels;
pub mod tokenizer;
pub mod tokenizer_bpe;
