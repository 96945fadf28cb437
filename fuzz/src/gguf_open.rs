//! Bytes of a model file: whatever they are, opening ends in an error or in a model, and the model
//! in an error or in a vector of numbers.

use embed_worker::config::MEMORY_BUDGET;
use embed_worker::engine::{Engine, EngineOptions, TokenBatch};
use embed_worker::gguf::GgufFile;
use embed_worker::kernels::{Isa, Kernels};
use embed_worker::tokenizer::Tokenizer;

/// Opens the bytes as a file and does all that can be done with one.
pub fn run(data: &[u8]) {
    let file = match GgufFile::from_bytes(data.to_vec()) {
        Ok(file) => file,
        Err(error) => return assert!(!error.to_string().is_empty()),
    };
    look_at_everything(&file);
    tokenize(&file);
    embed(&file);
}

/// Reads whatever can be read of a file that was accepted.
pub(crate) fn look_at_everything(file: &GgufFile) {
    for (key, value) in file.metadata() {
        assert!(file.value(key).is_some(), "{value:?} is not found by its key");
        // A key has one type, so most of these answer with an error; none may panic.
        let _ = (file.str(key), file.bool(key), file.u32(key), file.f32(key), file.blob(key));
        if let Ok(Some(strings)) = file.strings(key) {
            assert_eq!(strings.iter().count(), strings.len());
        }
        if let Ok(Some(integers)) = file.integers(key) {
            assert!((0..integers.len()).all(|index| integers.get(index).is_some()));
        }
        if let Ok(Some(floats)) = file.floats(key) {
            assert!((0..floats.len()).all(|index| floats.get(index).is_some()));
        }
    }
    for tensor in file.tensors() {
        let row_bytes = tensor.dtype().row_bytes(tensor.cols()).expect("whole blocks");
        assert_eq!(tensor.bytes().len(), tensor.rows() * row_bytes, "{}", tensor.name());
        assert!(file.tensor(tensor.name()).is_some(), "not found by its name");
        let mut row = vec![0.0; tensor.cols()];
        let kernels = Kernels::new(Isa::best());
        if kernels.dequantize_row(tensor.dtype(), &tensor.bytes()[..row_bytes], &mut row).is_ok() {
            assert!(row.iter().all(|weight| weight.is_finite()));
        }
    }
    assert_eq!(file.fingerprint().len(), 64);
}

fn tokenize(file: &GgufFile) {
    match Tokenizer::from_gguf(file) {
        Ok(tokenizer) => {
            let mut ids = Vec::new();
            tokenizer.encode("Hello, the [MASK] wörld", 8, &mut ids);
            assert!(ids.len() <= 8 && ids.iter().all(|id| (*id as usize) < tokenizer.vocabulary()));
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}

fn embed(file: &GgufFile) {
    let options = EngineOptions {
        threads: 1,
        isa: Isa::best(),
        batch_tokens: 64,
        memory_budget: MEMORY_BUDGET,
    };
    let vector = Engine::from_gguf(file, "fuzz", &options).and_then(|mut engine| {
        let mut batch = TokenBatch::new();
        engine.tokenize("hello the", true, &mut batch)?;
        engine.embed(&batch)?.vector(0, None, true)
    });
    match vector {
        Ok(vector) => {
            let square: f64 = vector.iter().map(|value| f64::from(*value).powi(2)).sum();
            assert!((square.sqrt() - 1.0).abs() < 1e-3, "length {}", square.sqrt());
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}
