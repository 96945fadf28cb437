//! Who lives how long: one worker at an endpoint, started by whoever comes first, gone after whoever
//! leaves last, and nothing left of it.

mod endpoint;
mod programs;
mod start;
mod stopping;

use std::time::Duration;

use crate::support::peer::Peer;
use crate::support::worker::{Home, Worker, real_model, tiny_model};

/// A worker that stays for so many seconds without a client, and where it listens.
fn serve(idle_timeout: &str) -> (Home, Worker) {
    let home = Home::new();
    let worker = Worker::ready(home.serve(&tiny_model()).args(["--idle-timeout", idle_timeout]));
    (home, worker)
}

/// Long enough for a worker to do a thing that it must not do.
async fn a_moment() {
    tokio::time::sleep(Duration::from_millis(700)).await;
}

#[tokio::test]
async fn a_worker_stays_as_long_as_somebody_is_connected_and_leaves_nothing_behind() {
    let (home, mut worker) = serve("0.2");
    let mut first = Peer::open(&home).await;
    let mut last = Peer::open(&home).await;
    first.is_served().await;
    drop(first);
    a_moment().await;
    assert!(worker.is_running(), "somebody is connected");
    last.is_served().await;
    drop(last);
    worker.leaves(&home);
}

#[tokio::test]
async fn a_worker_that_nobody_uses_leaves() {
    let (home, worker) = serve("0.1");
    worker.leaves(&home);
}

#[tokio::test]
async fn a_client_that_comes_in_time_finds_the_same_worker() {
    let (home, worker) = serve("30");
    for _ in 0..3 {
        let (mut peer, hello) = Peer::introduced(&home).await;
        peer.is_served().await;
        assert_eq!(hello.pid, worker.pid());
    }
}

/// Otherwise a worker that is to leave at once would leave before the client that started it.
#[tokio::test]
async fn the_first_client_is_awaited_even_by_a_worker_that_does_not_stay() {
    let (home, worker) = serve("0");
    a_moment().await;
    let mut peer = Peer::open(&home).await;
    peer.is_served().await;
    a_moment().await;
    peer.is_served().await;
    drop(peer);
    worker.leaves(&home);
}

#[tokio::test]
async fn no_request_in_progress_is_cut_by_the_idle_time() {
    let home = Home::new();
    let worker = Worker::ready(home.serve(&real_model()).args(["--idle-timeout", "0.01"]));
    let mut peer = Peer::open(&home).await;
    for id in 0..3 {
        peer.embed(id, &"a text that takes its time ".repeat(20)).await;
    }
    for _ in 0..3 {
        assert_eq!(peer.vector().await.1.len(), 384);
    }
    drop(peer);
    worker.leaves(&home);
}
