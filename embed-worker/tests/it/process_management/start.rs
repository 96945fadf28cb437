//! A worker that cannot serve says why, in one line for its starter and in one for a person.

use std::path::Path;

use serde::Deserialize;

use crate::support::gguf_writer::GgufWriter;
use crate::support::test_data;
use crate::support::worker::{Home, Worker, real_model};

/// The one line of a worker that cannot serve.
#[derive(Deserialize)]
struct Line {
    error: Error,
}

#[derive(Deserialize)]
struct Error {
    code: String,
    message: String,
}

/// What a worker says that is given `model`.
fn refusal(model: &Path) -> Error {
    let home = Home::new();
    let worker = Worker::spawn(&mut home.serve(model));
    let line = worker.line().expect("a line on standard output");
    let Line { error } = serde_json::from_str(&line).expect("an error in JSON");
    let (status, stderr) = worker.end();
    assert_eq!(status.code(), Some(1), "{line}");
    assert!(stderr.contains(&error.message) && stderr.contains(&error.code), "{stderr}");
    assert_eq!(home.entries(), Vec::<String>::new(), "left behind");
    error
}

#[test]
fn a_missing_model_is_named() {
    let missing = test_data("golden/no-such-model.gguf");
    let error = refusal(&missing);
    assert_eq!(error.code, "EMBED_MODEL_NOT_FOUND");
    assert!(error.message.contains("no-such-model.gguf"), "{}", error.message);
}

#[test]
fn a_damaged_model_is_named() {
    let dir = tempfile::tempdir().expect("a folder");
    let damaged = dir.path().join("damaged.gguf");
    let whole = std::fs::read(real_model()).expect("committed");
    for bytes in [b"GIF89a and so on".as_slice(), &whole[..whole.len() / 2], b""] {
        std::fs::write(&damaged, bytes).expect("ours");
        let error = refusal(&damaged);
        assert_eq!(error.code, "EMBED_MODEL_INVALID", "{}", error.message);
        assert!(!error.message.is_empty());
    }
}

#[test]
fn a_model_of_another_kind_is_named() {
    let dir = tempfile::tempdir().expect("a folder");
    let other = dir.path().join("other.gguf");
    let file = GgufWriter::new().string("general.architecture", "mamba");
    std::fs::write(&other, file.finish()).expect("ours");
    let error = refusal(&other);
    assert_eq!(error.code, "EMBED_MODEL_UNSUPPORTED");
    assert!(error.message.contains("`mamba`"), "{}", error.message);
}

#[test]
fn a_folder_is_no_model() {
    let error = refusal(&test_data("golden"));
    assert!(error.code.starts_with("EMBED_MODEL_"), "{}: {}", error.code, error.message);
}
