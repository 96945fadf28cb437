//! The worker as its peers see it: a real process, a real model, real sockets.

mod hostile;
mod limits;

use std::collections::HashMap;
use std::path::Path;

use embed_protocol::{
    EmbedParams, ErrorCode, PROTOCOL_VERSION, Priority, Request, Response, TEXT_PART_BYTES_MAX,
    vector,
};
use embed_worker::gguf::GgufFile;

use crate::support::embedded;
use crate::support::peer::{Peer, assert_unit};
use crate::support::worker::{Home, Worker, real_model, tiny_model};

/// A worker that listens, and where.
fn serve(model: &Path) -> (Home, Worker) {
    let home = Home::new();
    let worker = Worker::ready(&mut home.serve(model));
    (home, worker)
}

/// The frames of a text that is too long for one.
fn in_parts(id: u64, text: &str, params: EmbedParams) -> Vec<Request> {
    let mut parts = text
        .as_bytes()
        .chunks(TEXT_PART_BYTES_MAX)
        .map(|part| String::from_utf8(part.to_vec()).expect("characters of one byte"));
    let first = parts.next().expect("not empty");
    let mut frames = vec![Request::Embed { id, text: first, more: true, params }];
    frames.extend(parts.map(|text| Request::Part { id, text, more: true }));
    if let Some(Request::Part { more, .. }) = frames.last_mut() {
        *more = false;
    }
    frames
}

#[tokio::test]
async fn the_worker_says_who_it_is() {
    let (home, worker) = serve(&real_model());
    let (_peer, hello) = Peer::introduced(&home).await;
    assert_eq!(hello.protocol, PROTOCOL_VERSION);
    assert_eq!(hello.version, env!("CARGO_PKG_VERSION"));
    assert_eq!(hello.pid, worker.pid());
    assert_eq!(hello.model.architecture, "bert");
    assert_eq!((hello.model.dimensions, hello.model.context_tokens), (384, 512));
    let file = GgufFile::open(&real_model()).expect("a sound model");
    assert_eq!(hello.model.fingerprint, file.fingerprint());
}

#[tokio::test]
async fn a_text_becomes_the_engines_vector_bit_for_bit() {
    let (home, _worker) = serve(&real_model());
    let mut peer = Peer::open(&home).await;
    peer.embed(7, "The quick brown fox").await;
    let (id, vector) = peer.vector().await;
    assert_eq!((id, vector.len()), (7, 384));
    assert_unit(&vector);
    assert_eq!(vector, embedded(&real_model(), "The quick brown fox", None).1);
}

#[tokio::test]
async fn an_empty_text_is_a_text() {
    let (home, _worker) = serve(&real_model());
    let mut peer = Peer::open(&home).await;
    peer.embed(1, "").await;
    match peer.next().await {
        Some(Response::Vector { id: 1, vector, tokens: 2, truncated: false, .. }) => {
            assert_unit(&vector::from_bytes(&vector).expect("whole elements"));
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_long_text_arrives_in_parts_between_which_others_may_stand() {
    let (home, _worker) = serve(&real_model());
    let mut peer = Peer::open(&home).await;
    let text = "one two three ".repeat(10_000);
    let params = EmbedParams { truncate: true, ..EmbedParams::default() };
    let frames = in_parts(1, &text, params);
    assert!(frames.len() > 2, "{} frames", frames.len());
    for (n, frame) in frames.iter().enumerate() {
        peer.send(&Request::Ping { id: 100 + n as u64 }).await;
        peer.send(frame).await;
    }
    for n in 0..frames.len() as u64 {
        assert_eq!(peer.next().await, Some(Response::Pong { id: 100 + n }));
    }
    match peer.next().await {
        Some(Response::Vector { id: 1, vector, tokens: 512, truncated: true, .. }) => {
            let vector = vector::from_bytes(&vector).expect("whole elements");
            assert_eq!(vector, embedded(&real_model(), &text, None).1);
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn two_thousand_requests_at_once_are_answered_each_with_its_own_vector() {
    let (home, _worker) = serve(&tiny_model());
    let mut peer = Peer::open(&home).await;
    let text = |id: u64| format!("text {}", id % 7);
    for id in 0..2000 {
        peer.embed(id, &text(id)).await;
    }
    let mut answers = HashMap::new();
    for _ in 0..2000 {
        let (id, vector) = peer.vector().await;
        assert!(answers.insert(id, vector).is_none(), "{id} is answered twice");
    }
    for id in 0..2000 {
        assert_eq!(answers.get(&id), answers.get(&(id % 7)), "the vector of {id}");
    }
    let different = (1..7).all(|id| answers.get(&id) != answers.get(&0));
    assert!(different, "other texts have other vectors");
    assert_eq!(peer.stats().await.vectors, 2000);
}

#[tokio::test]
async fn a_ping_passes_every_queue() {
    let (home, _worker) = serve(&tiny_model());
    let mut peer = Peer::open(&home).await;
    let params = EmbedParams { truncate: true, ..EmbedParams::default() };
    for id in 0..1000 {
        peer.embed_with(id, &"a text that takes its time ".repeat(50), params).await;
    }
    peer.send(&Request::Ping { id: 5000 }).await;
    let mut vectors = 0;
    while peer.next().await != Some(Response::Pong { id: 5000 }) {
        vectors += 1;
    }
    assert!(vectors < 1000, "the ping waited for all vectors");
}

#[tokio::test]
async fn a_cancelled_request_is_answered_as_such_and_costs_no_other() {
    let (home, _worker) = serve(&tiny_model());
    let mut peer = Peer::open(&home).await;
    let params = EmbedParams::default();
    // Its last part is not there yet, so it cannot have been computed.
    peer.send(&Request::Embed { id: 1, text: "a".into(), more: true, params }).await;
    peer.send(&Request::Cancel { id: 1 }).await;
    let (id, code, _) = peer.error().await;
    assert_eq!((id, code), (Some(1), ErrorCode::Cancelled));
    peer.send(&Request::Part { id: 1, text: "b".into(), more: false }).await;
    peer.send(&Request::Cancel { id: 1 }).await;
    peer.send(&Request::Cancel { id: 999 }).await;
    peer.is_served().await;
}

#[tokio::test]
async fn a_request_whose_deadline_has_passed_is_not_computed() {
    let (home, _worker) = serve(&tiny_model());
    let mut peer = Peer::open(&home).await;
    let params = EmbedParams { deadline_ms: Some(0), ..EmbedParams::default() };
    peer.embed_with(1, "late", params).await;
    let (id, code, message) = peer.error().await;
    assert_eq!((id, code), (Some(1), ErrorCode::Timeout), "{message}");
    let stats = peer.stats().await;
    assert_eq!((stats.vectors, stats.errors, stats.batches), (0, 1, 0));
}

#[tokio::test]
async fn dimensions_are_kept_as_asked_or_refused_with_the_range() {
    let (home, _worker) = serve(&real_model());
    let mut peer = Peer::open(&home).await;
    let params = |dimensions| EmbedParams {
        dimensions: Some(dimensions),
        priority: Priority::Bulk,
        ..EmbedParams::default()
    };
    peer.embed_with(1, "text", params(32)).await;
    let (_, vector) = peer.vector().await;
    assert_eq!(vector.len(), 32);
    assert_unit(&vector);
    for dimensions in [0, 385, u32::MAX] {
        peer.embed_with(2, "text", params(dimensions)).await;
        let (id, code, message) = peer.error().await;
        assert_eq!((id, code), (Some(2), ErrorCode::BadArgument));
        let found = dimensions.to_string();
        assert!(message.contains(&found) && message.contains("384"), "{message}");
    }
}
