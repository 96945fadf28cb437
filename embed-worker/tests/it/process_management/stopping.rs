//! A worker that is told to stop finishes what it has, and is heard to the end.

use std::time::Duration;

use embed_protocol::{EmbedParams, ErrorCode, Priority, Request, Response, Transport};
use embed_worker::batch::{CancelFlag, Input, Job, Reply};
use embed_worker::config::{CONSOLE_TIMEOUT, DRAIN_TIMEOUT};
use embed_worker::server::{Claim, Claimed, Leave};

use super::{a_moment, serve};
use crate::support::peer::{Peer, is_farewell};
use crate::support::service::service;
use crate::support::worker::{Home, Worker, tiny_model};

/// Far more bytes of answers than the system keeps for one who does not read.
const MANY: u64 = 3000;

/// Longer than any of these tests, whatever their clock.
const DAY: Duration = Duration::from_secs(24 * 3600);

/// Sends `texts` requests and waits until the worker has read them all, but not until it has
/// answered them.
async fn ask(peer: &mut Peer, texts: u64) -> Vec<Response> {
    let params = EmbedParams { priority: Priority::Bulk, ..EmbedParams::default() };
    for id in 0..texts {
        peer.embed_with(id, "a text", params).await;
    }
    peer.send(&Request::Ping { id: texts }).await;
    let mut answers = Vec::new();
    loop {
        match peer.next().await.expect("an answer") {
            Response::Pong { .. } => return answers,
            answer => answers.push(answer),
        }
    }
}

/// Sends [`MANY`] requests, reads nothing, and waits until all are computed.
async fn ask_and_look_away(home: &Home) -> Peer {
    let mut peer = Peer::open(home).await;
    for id in 0..MANY {
        peer.embed(id, "a text").await;
    }
    let mut other = Peer::open(home).await;
    loop {
        let stats = other.stats().await;
        if stats.vectors == MANY && stats.queued == 0 {
            return peer;
        }
    }
}

/// Asks the worker to stop as a program may.
async fn shut_down(home: &Home) {
    let mut peer = Peer::open(home).await;
    peer.send(&Request::Shutdown { id: 5 }).await;
    assert_eq!(peer.next().await, Some(Response::Pong { id: 5 }));
    peer.is_taken_leave_of().await;
}

#[tokio::test]
async fn shutdown_is_acknowledged_and_ends_every_connection() {
    let (home, worker) = serve("30");
    let mut idle = Peer::open(&home).await;
    let mut silent = Peer::connect(&home).await.expect("the worker listens");
    shut_down(&home).await;
    idle.is_taken_leave_of().await;
    silent.is_taken_leave_of().await;
    worker.leaves(&home);
}

#[tokio::test]
async fn what_was_asked_before_is_answered() {
    let (home, worker) = serve("30");
    let mut peer = Peer::open(&home).await;
    let answers = ask(&mut peer, 500).await;
    shut_down(&home).await;
    are_all_vectors(answers, peer).await;
    worker.leaves(&home);
}

#[cfg(unix)]
#[tokio::test]
async fn a_signal_is_obeyed_when_what_was_asked_is_answered() {
    use rustix::process::Signal;
    for signal in [Signal::TERM, Signal::INT, Signal::HUP] {
        let (home, worker) = serve("30");
        let mut peer = Peer::open(&home).await;
        let answers = ask(&mut peer, 500).await;
        worker.signal(signal);
        are_all_vectors(answers, peer).await;
        worker.leaves(&home);
    }
}

#[cfg(windows)]
#[tokio::test]
async fn a_console_in_which_ctrl_c_is_typed_is_obeyed_as_well() {
    in_a_console(crate::support::console::Console::interrupt).await;
}

#[cfg(windows)]
#[tokio::test]
async fn a_console_that_is_closed_is_obeyed_as_well() {
    in_a_console(crate::support::console::Console::close).await;
}

/// Fails unless a worker in a console answers what it has and leaves after `act`.
#[cfg(windows)]
async fn in_a_console(
    act: fn(&mut crate::support::console::Console, &crate::support::console::InConsole),
) {
    use std::sync::Arc;

    use crate::support::console::Console;
    use crate::support::worker::PATIENCE;

    let home = Home::new();
    let mut console = Console::new();
    let mut command = home.serve(&tiny_model());
    let worker = Arc::new(console.start(command.args(["--idle-timeout", "30"])));
    while home.key().is_none() {
        assert!(!worker.has_ended(), "it has ended with {}", worker.end(PATIENCE));
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    let mut peer = Peer::open(&home).await;
    let answers = ask(&mut peer, 500).await;
    // Closing waits for the worker, which waits for what is read here.
    let told = Arc::clone(&worker);
    let acting = std::thread::spawn(move || {
        act(&mut console, &told);
        console
    });
    are_all_vectors(answers, peer).await;
    assert_eq!(worker.end(PATIENCE), 0);
    assert_eq!(home.entries(), Vec::<String>::new(), "left behind");
    drop(acting.join().expect("no panic"));
}

/// However long a batch takes, and whoever does not read: the system would end it in the middle.
#[tokio::test(start_paused = true)]
async fn a_worker_whose_console_is_closed_leaves_before_the_system_ends_it() {
    let haste = time_to_leave(Leave::IN_HASTE).await;
    assert!(haste < CONSOLE_TIMEOUT, "{haste:?}");
    let peace = time_to_leave(Leave::IN_PEACE).await;
    assert!(peace >= DRAIN_TIMEOUT, "whom nobody presses takes no vector away: {peace:?}");
}

/// How long a worker takes whose batch in work does not end, and one of whose peers does not leave.
async fn time_to_leave(leave: Leave) -> Duration {
    let (end, ended) = std::sync::mpsc::channel::<()>();
    let ended = std::sync::Mutex::new(ended);
    let until_the_end = move || {
        let _ = ended.lock().expect("no panic").recv();
        Ok(())
    };
    let service = service(Box::new(until_the_end));
    let job = Job {
        caller: 1,
        input: Input::from("a text"),
        params: EmbedParams::default(),
        received: std::time::Instant::now(),
        deadline: None,
        cancelled: CancelFlag::default(),
        reply: Reply::new(drop),
    };
    service.batcher.submit(job).expect("there is room");
    let _lease = service.leases.take(1).expect("the first");
    let home = Home::new();
    let claimed = Claim::take(&home.endpoint(), Transport::Auto).expect("a free endpoint");
    let Claimed::Ours(claim) = claimed else { panic!("nobody else knows it") };
    let listener = claim.listen().expect("it is ours");
    let begun = tokio::time::Instant::now();
    embed_worker::server::serve(&service, listener, DAY, std::future::ready(leave)).await;
    let took = begun.elapsed();
    drop(end);
    took
}

/// Fails unless `peer` gets the rest of 500 vectors, and then no more.
async fn are_all_vectors(mut answers: Vec<Response>, mut peer: Peer) {
    while let Some(answer) = peer.next().await {
        answers.push(answer);
    }
    assert!(is_farewell(answers.pop().as_ref()));
    assert_eq!(answers.len(), 500);
    assert!(answers.iter().all(|answer| matches!(answer, Response::Vector { .. })));
}

#[tokio::test]
async fn the_last_answers_wait_for_a_peer_that_reads_late() {
    let (home, worker) = serve("30");
    let mut peer = ask_and_look_away(&home).await;
    let mut idle = Peer::open(&home).await;
    shut_down(&home).await;
    // Long after everything was computed and everybody else was told.
    idle.is_taken_leave_of().await;
    a_moment().await;
    let mut ids: Vec<u64> = Vec::new();
    loop {
        match peer.next().await {
            Some(Response::Vector { id, .. }) => ids.push(id),
            other => {
                assert!(is_farewell(other.as_ref()), "{other:?}");
                break;
            }
        }
    }
    assert_eq!(peer.next().await, None);
    ids.sort_unstable();
    assert!(ids.iter().copied().eq(0..MANY), "{} of {MANY} answers", ids.len());
    worker.leaves(&home);
}

#[tokio::test]
async fn a_peer_that_never_reads_holds_up_nobody() {
    let (home, worker) = serve("30");
    let peer = ask_and_look_away(&home).await;
    shut_down(&home).await;
    // The endpoint is free while the old worker still has something to say.
    let successor = Worker::ready(home.serve(&tiny_model()).args(["--idle-timeout", "0"]));
    Peer::open(&home).await.is_served().await;
    successor.leaves(&home);
    worker.leaves(&home);
    drop(peer);
}

#[tokio::test]
async fn a_text_of_which_a_part_is_missing_is_left_to_the_successor() {
    let (home, worker) = serve("30");
    let mut peer = Peer::open(&home).await;
    let params = EmbedParams::default();
    peer.send(&Request::Embed { id: 9, text: "half a".into(), more: true, params }).await;
    peer.send(&Request::Ping { id: 1 }).await;
    assert_eq!(peer.next().await, Some(Response::Pong { id: 1 }));
    shut_down(&home).await;
    let (id, code, message) = peer.error().await;
    assert_eq!((id, code), (Some(9), ErrorCode::ShuttingDown), "{message}");
    peer.is_taken_leave_of().await;
    worker.leaves(&home);
}
