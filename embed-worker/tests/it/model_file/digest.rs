//! A file whose SHA-256 is known: compared once, remembered, and refused when it is another.

use std::path::PathBuf;

use embed_protocol::ErrorCode;

use super::{Rig, gives};
use crate::support::peer::Peer;
use crate::support::worker::Worker;

/// What a worker logs when it has compared the two.
const COMPARED: &str = "the model file is what it should be";

/// The file that says what the model's SHA-256 is.
fn beside(rig: &Rig) -> PathBuf {
    rig.folder.path().join("model.gguf.sha256")
}

/// Writes the SHA-256 of `bytes` beside the model.
fn declare(rig: &Rig, bytes: &[u8]) -> String {
    use sha2::Digest as _;

    let digest = sha2::Sha256::digest(bytes);
    let digest: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    std::fs::write(beside(rig), format!("{digest}  model.gguf\n")).expect("ours");
    digest
}

/// Starts a worker that tells more, and waits until it listens.
fn serve(rig: &Rig) -> Worker {
    let mut command = rig.home.serve(&rig.model());
    Worker::ready(command.args(["--idle-timeout", "0"]).env("EMBED_LOG", "info"))
}

/// Uses the worker until the digest is remembered, then lets it go; gives its log.
async fn use_and_leave(rig: &Rig, worker: Worker) -> String {
    let mut peer = Peer::open(&rig.home).await;
    gives(&mut peer, &rig.first).await;
    let give_up = std::time::Instant::now() + crate::support::worker::PATIENCE;
    while !rig.home.cache().join("digests.json").exists() {
        assert!(std::time::Instant::now() < give_up, "nothing is remembered");
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    // The log comes a moment after what is remembered, and before the worker's end.
    gives(&mut peer, &rig.first).await;
    tokio::time::sleep(std::time::Duration::from_millis(300)).await;
    drop(peer);
    let (status, log) = worker.end();
    assert!(status.success(), "{status}: {log}");
    log
}

#[tokio::test]
async fn a_file_that_is_what_it_should_be_is_read_to_the_end_once() {
    let rig = Rig::new();
    declare(&rig, &rig.first.bytes);
    let log = use_and_leave(&rig, serve(&rig)).await;
    assert!(log.contains(COMPARED), "{log}");
    let log = use_and_leave(&rig, serve(&rig)).await;
    assert!(!log.contains(COMPARED), "read again: {log}");
    // Another file of the same bytes is another file.
    rig.replace("first");
    std::fs::remove_dir_all(rig.home.cache()).expect("ours");
    let log = use_and_leave(&rig, serve(&rig)).await;
    assert!(log.contains(COMPARED), "{log}");
}

#[tokio::test]
async fn a_file_that_is_not_what_it_should_be_stops_its_worker_and_is_refused_ever_after() {
    let rig = Rig::new();
    let wanted = declare(&rig, &rig.second.bytes);
    let (status, log) = serve(&rig).end();
    assert_eq!(status.code(), Some(1), "{log}");
    assert!(log.contains("EMBED_MODEL_INVALID") && log.contains(&wanted), "{log}");
    assert_eq!(rig.home.entries(), Vec::<String>::new(), "left behind");

    let worker = Worker::spawn(&mut rig.home.serve(&rig.model()));
    let line = worker.line().expect("a line on standard output");
    assert!(line.starts_with(r#"{"error":"#), "remembered: {line}");
    let found = declare(&rig, &rig.first.bytes);
    for word in [ErrorCode::ModelInvalid.as_str(), &wanted, &found, "model.gguf.sha256"] {
        assert!(line.contains(word), "{line}");
    }
    assert_eq!(worker.end().0.code(), Some(1));
    // What is known was wrong, and is corrected: the file need not be read again.
    let worker = serve(&rig);
    let log = use_and_leave(&rig, worker).await;
    assert!(!log.contains(COMPARED), "{log}");
}

#[tokio::test]
async fn a_file_beside_the_model_that_says_nothing_hinders_nobody() {
    let rig = Rig::new();
    std::fs::write(beside(&rig), "no digest").expect("ours");
    let worker = serve(&rig);
    let mut peer = Peer::open(&rig.home).await;
    gives(&mut peer, &rig.first).await;
    drop(peer);
    let (status, log) = worker.end();
    assert!(status.success() && log.contains("model.gguf.sha256"), "{status}: {log}");
}
