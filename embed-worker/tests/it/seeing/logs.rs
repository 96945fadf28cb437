//! What a worker logs: little unless asked, and never a word of a text.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::path::{Path, PathBuf};

use embed_log::{LINES_PER_PERIOD_MAX, LOG_FILE_BYTES_MAX};
use embed_protocol::{
    ClientHello, ConnectionName, EmbedParams, ErrorCode, PROTOCOL_VERSION, Request, Response,
};

use super::told;
use crate::support::peer::Peer;
use crate::support::worker::{Home, Worker, tiny_model};

/// Stands in every text of these tests, and in nothing else.
const SECRET: &str = "Xanadu";

fn lines(path: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(path).expect("a log");
    assert!(text.ends_with('\n'), "a line does not end");
    text.lines().map(String::from).collect()
}

/// A folder for a log, and the log's path in it.
fn log() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("embed.log");
    (folder, path)
}

/// A worker of `home` that logs everything to `path`.
fn talkative(home: &Home, path: &Path, format: &str) -> Worker {
    let mut command = home.serve(&tiny_model());
    command.args(["--idle-timeout", "30"]).env("EMBED_LOG", "trace");
    Worker::ready(command.env("EMBED_LOG_FILE", path).env("EMBED_LOG_FORMAT", format))
}

/// Sends `home`'s worker texts of every fate; gives the connection's name and the requests' ids.
async fn texts_of_every_fate(home: &Home) -> (ConnectionName, Vec<u64>) {
    let (mut peer, hello) = Peer::introduced(home).await;
    let name =
        ConnectionName { client: std::process::id(), worker: hello.pid, number: hello.connection };
    peer.embed(1, &format!("{SECRET} is answered")).await;
    peer.vector().await;
    peer.embed(2, &format!("{SECRET} is too long ").repeat(500)).await;
    assert_eq!(peer.error().await.1, ErrorCode::TextTooLong);
    let params = EmbedParams { dimensions: Some(0), ..EmbedParams::default() };
    peer.embed_with(3, &format!("{SECRET} wants no dimensions"), params).await;
    assert_eq!(peer.error().await.1, ErrorCode::BadArgument);
    let params = EmbedParams { deadline_ms: Some(0), ..EmbedParams::default() };
    peer.embed_with(4, &format!("{SECRET} is late"), params).await;
    assert_eq!(peer.error().await.1, ErrorCode::Timeout);
    let (text, params) = (format!("{SECRET} is half"), EmbedParams::default());
    peer.send(&Request::Embed { id: 5, text, more: true, params }).await;
    peer.send(&Request::Cancel { id: 5 }).await;
    assert_eq!(peer.error().await.1, ErrorCode::Cancelled);
    // A well-formed frame whose message is none, and a hello that is none.
    let mut garbage = Peer::open(home).await;
    let mut frame = vec![SECRET.len() as u8, 0, 0, 0];
    frame.extend(SECRET.bytes());
    garbage.write(&frame).await;
    assert_eq!(garbage.error().await.1, ErrorCode::Protocol);
    let mut stranger = Peer::connect(home).await.expect("the worker listens");
    stranger.embed(1, SECRET).await;
    assert_eq!(stranger.error().await.1, ErrorCode::Protocol);
    (name, vec![1, 2, 3, 4, 5])
}

#[tokio::test]
async fn requests_are_named_and_nothing_of_their_text_is_written() {
    for format in ["text", "json"] {
        let (home, (_folder, path)) = (Home::new(), log());
        let worker = talkative(&home, &path, format);
        let (name, ids) = texts_of_every_fate(&home).await;
        assert_eq!(name.worker, worker.pid());
        told(&home, &["stop", "--all"], 0);
        let (_, stderr) = worker.end();
        assert_eq!(stderr, "", "it logs to the file");
        let lines = lines(&path);
        let whole = lines.join("\n");
        assert!(!whole.contains(SECRET), "{whole}");
        for id in ids {
            let name = name.request(id).to_string();
            let is_named = |line: &&String| match format {
                "text" => line.split(' ').any(|word| word == format!("request={name}")),
                _ => {
                    let line: serde_json::Value = serde_json::from_str(line).expect("JSON");
                    assert_eq!(line["pid"], worker_pid(&whole));
                    line["fields"]["request"] == *name
                }
            };
            assert!(lines.iter().any(|line| is_named(&line)), "{name} in {whole}");
        }
        assert!(whole.contains("EMBED_TEXT_TOO_LONG"), "{whole}");
        assert!(whole.contains(&name.to_string()), "{whole}");
    }
}

/// The process of the first line of JSON.
fn worker_pid(whole: &str) -> serde_json::Value {
    let first = whole.lines().next().expect("a line");
    serde_json::from_str::<serde_json::Value>(first).expect("JSON")["pid"].clone()
}

#[tokio::test]
async fn a_worker_that_all_goes_well_with_says_nothing() {
    let home = Home::new();
    let worker = Worker::ready(home.serve(&tiny_model()).args(["--idle-timeout", "30"]));
    let mut peer = Peer::open(&home).await;
    peer.is_served().await;
    peer.embed(2, &"too long ".repeat(500)).await;
    assert_eq!(peer.error().await.1, ErrorCode::TextTooLong);
    told(&home, &["stop", "--all"], 0);
    assert_eq!(worker.end().1, "");
}

#[tokio::test]
async fn two_workers_share_a_file_that_is_put_aside_when_it_is_full() {
    let (_folder, path) = log();
    // Nearly full, of lines that somebody else wrote.
    let line = format!("{}\n", "x".repeat(127));
    let before = LOG_FILE_BYTES_MAX as usize / line.len() - 100;
    std::fs::write(&path, line.repeat(before)).expect("ours");
    let homes = [Home::new(), Home::new()];
    let workers = [&homes[0], &homes[1]].map(|home| talkative(home, &path, "text"));
    let texts = 300;
    let mut wanted = BTreeSet::new();
    let mut peers = Vec::new();
    for home in &homes {
        let (mut peer, hello) = Peer::introduced(home).await;
        for id in 0..texts {
            peer.embed(id, "a text").await;
            let name = ConnectionName {
                client: std::process::id(),
                worker: hello.pid,
                number: hello.connection,
            };
            let mut field = String::new();
            write!(field, "request={}", name.request(id)).expect("memory");
            wanted.insert(field);
        }
        peers.push(peer);
    }
    for peer in &mut peers {
        for _ in 0..texts {
            peer.vector().await;
        }
    }
    for (home, worker) in homes.iter().zip(workers) {
        told(home, &["stop", "--all"], 0);
        worker.leaves(home);
    }
    let old = path.with_extension("log.1");
    let (young, old) = (lines(&path), lines(&old));
    assert!(!path.with_extension("log.2").exists(), "put aside once");
    let of_workers = young.iter().chain(&old[before..]);
    let mut answered = BTreeSet::new();
    for line in of_workers {
        assert!(line.contains(" embed-worker["), "a torn line: {line}");
        if line.contains(" answered ") {
            answered.extend(line.split(' ').find(|word| word.starts_with("request=")));
        }
    }
    assert!(answered.iter().copied().eq(wanted.iter()), "{} answers", answered.len());
}

#[tokio::test]
async fn a_peer_that_breaks_the_protocol_again_and_again_is_told_of_now_and_then() {
    let rounds = 100;
    let home = Home::new();
    let worker = Worker::ready(home.serve(&tiny_model()).args(["--idle-timeout", "30"]));
    for _ in 0..rounds {
        let mut peer = Peer::connect(&home).await.expect("the worker listens");
        // A version that would be a line of its own, and longer than any.
        let hello = ClientHello {
            protocol: PROTOCOL_VERSION + 1,
            version: "1\nforged ".repeat(1000),
            pid: 7,
            observer: false,
        };
        peer.send(&Request::Hello(hello)).await;
        assert!(matches!(peer.next().await, Some(Response::Error { id: None, .. })));
    }
    assert_eq!(Peer::open(&home).await.stats().await.protocol_errors, rounds);
    told(&home, &["stop", "--all"], 0);
    let (_, stderr) = worker.end();
    let written = stderr.lines().filter(|line| line.contains("closing a connection")).count();
    let left_out: usize = stderr
        .lines()
        .filter_map(|line| line.split("left_out=").nth(1)?.split(' ').next()?.parse::<usize>().ok())
        .sum();
    assert_eq!((written + left_out) as u64, rounds, "{stderr}");
    // Ten at once; more only if this took longer than a period.
    assert!(written >= LINES_PER_PERIOD_MAX as usize && written < 60, "{written} of {rounds}");
    assert!(!stderr.lines().any(|line| line.starts_with("forged")), "{stderr}");
    assert!(stderr.len() < 60 * 500, "{} bytes", stderr.len());
}

#[test]
fn a_file_that_cannot_be_written_is_told_and_costs_nothing_else() {
    let home = Home::new();
    let mut command = home.serve(&tiny_model());
    command.args(["--idle-timeout", "30"]).env("EMBED_LOG_FILE", "/no/such/folder/embed.log");
    let worker = Worker::ready(command.env("EMBED_LOG_FORMAT", "xml"));
    told(&home, &["stop", "--all"], 0);
    let (status, stderr) = worker.end();
    assert!(status.success(), "{status}");
    assert!(stderr.contains("EMBED_LOG_FILE") && stderr.contains("EMBED_LOG_FORMAT"), "{stderr}");
}
