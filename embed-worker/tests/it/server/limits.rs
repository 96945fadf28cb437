//! What there is too much of is refused, by its id and in numbers, and costs nothing else.

use embed_protocol::{
    EmbedParams, ErrorCode, IN_FLIGHT_MAX, Priority, Request, Response, TEXT_BYTES_MAX,
};

use super::{in_parts, serve};
use crate::support::peer::Peer;
use crate::support::worker::{real_model, tiny_model};

const PARAMS: fn() -> EmbedParams = EmbedParams::default;

#[tokio::test]
async fn a_text_beyond_the_context_is_refused_with_both_token_counts() {
    let (home, _worker) = serve(&real_model());
    let mut peer = Peer::open(&home).await;
    peer.embed(1, &"word ".repeat(600)).await;
    let (id, code, message) = peer.error().await;
    assert_eq!((id, code), (Some(1), ErrorCode::TextTooLong));
    assert!(message.contains("602") && message.contains("512"), "{message}");
    peer.is_served().await;
}

#[tokio::test]
async fn a_text_of_too_many_bytes_is_refused_once_however_much_of_it_follows() {
    let (home, _worker) = serve(&tiny_model());
    let mut peer = Peer::open(&home).await;
    for frame in in_parts(1, &"x".repeat(TEXT_BYTES_MAX + 200_000), PARAMS()) {
        peer.send(&frame).await;
    }
    let (id, code, message) = peer.error().await;
    assert_eq!((id, code), (Some(1), ErrorCode::TextTooLong));
    assert!(message.contains(&TEXT_BYTES_MAX.to_string()), "{message}");
    peer.is_served().await;
}

#[tokio::test]
async fn more_requests_than_a_connection_may_have_are_refused_by_their_ids() {
    let (home, _worker) = serve(&tiny_model());
    let mut peer = Peer::open(&home).await;
    // Unfinished, so that none is answered meanwhile.
    let begin = |id| Request::Embed { id, text: String::new(), more: true, params: PARAMS() };
    let most = IN_FLIGHT_MAX as u64;
    for id in 0..most + 3 {
        peer.send(&begin(id)).await;
    }
    for id in most..most + 3 {
        let (found, code, message) = peer.error().await;
        assert_eq!((found, code), (Some(id), ErrorCode::Overloaded), "{message}");
        assert!(message.contains("4096"), "{message}");
        // What follows of a refused text is passed over.
        peer.send(&Request::Part { id, text: "rest".into(), more: false }).await;
    }
    peer.send(&Request::Part { id: 5, text: "whole".into(), more: false }).await;
    assert_eq!(peer.vector().await.0, 5);
    peer.is_served().await;
}

#[tokio::test]
async fn unfinished_texts_that_are_cancelled_give_their_room_back() {
    let (home, _worker) = serve(&tiny_model());
    let mut peer = Peer::open(&home).await;
    // Three times as much as all unfinished texts together may hold.
    for id in 0..12 {
        let mut frames = in_parts(id, &"x".repeat(TEXT_BYTES_MAX), PARAMS());
        frames.pop();
        for frame in frames {
            peer.send(&frame).await;
        }
        peer.send(&Request::Cancel { id }).await;
        let (found, code, message) = peer.error().await;
        assert_eq!((found, code), (Some(id), ErrorCode::Cancelled), "{message}");
    }
    peer.is_served().await;
}

#[tokio::test]
async fn a_full_queue_refuses_what_comes_and_does_what_it_has() {
    let (home, _worker) = serve(&tiny_model());
    // A text of a kilobyte takes far longer to compute than to send, and 12,000 are over 6 MiB.
    let text = "word ".repeat(200);
    let params = EmbedParams { priority: Priority::Bulk, truncate: true, ..PARAMS() };
    let mut peers = [Peer::open(&home).await, Peer::open(&home).await, Peer::open(&home).await];
    for peer in &mut peers {
        for id in 0..4000 {
            peer.embed_with(id, &text, params).await;
        }
    }
    let [mut first, second, mut last] = peers;
    let (id, code, message) = loop {
        match last.next().await {
            Some(Response::Error { id, code, message }) => break (id, code, message),
            Some(_) => {}
            None => panic!("closed"),
        }
    };
    assert_eq!(code, ErrorCode::Overloaded, "{message}");
    assert!(id.is_some_and(|id| id < 4000), "{id:?}");
    assert!(message.contains("6291456"), "{message}");
    // Some room is kept for who waits for an answer.
    Peer::open(&home).await.is_served().await;
    // The first came in time and has its place in the queue.
    assert!(first.vector().await.0 < 4000);
    // Nobody waits for the rest any more; so the worker does not compute it.
    drop((first, second, last));
    Peer::open(&home).await.is_served().await;
}

#[cfg(target_os = "linux")] // elsewhere a process may have fewer open files than that
#[tokio::test]
async fn one_connection_too_many_is_told_so_and_finds_room_later() {
    use std::collections::HashSet;

    let (home, _worker) = serve(&tiny_model());
    let most = embed_worker::config::CONNECTIONS_MAX;
    let mut peers = Vec::new();
    while peers.len() < most {
        peers.push(Peer::open(&home).await);
    }
    let mut refused = Peer::connect(&home).await.expect("the worker listens");
    let (id, code, message) = refused.error().await;
    assert_eq!((id, code), (None, ErrorCode::Overloaded), "{message}");
    assert_eq!(refused.next().await, None);
    let mut last = peers.pop().expect("many");
    last.is_served().await;
    drop(last);
    let most = u32::try_from(most).expect("small");
    while peers[0].stats().await.connections >= most {}
    let mut again = Peer::open(&home).await;
    again.is_served().await;
    let mut answered = HashSet::new();
    for (id, peer) in peers.iter_mut().enumerate() {
        peer.embed(id as u64, "each").await;
        answered.insert(peer.vector().await.0);
    }
    assert_eq!(answered.len(), peers.len());
}
