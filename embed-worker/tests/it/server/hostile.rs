//! Peers that break the protocol lose their own connection and nobody else's.

use embed_protocol::{
    EmbedParams, ErrorCode, FRAME_BYTES_MAX, PROTOCOL_VERSION, Request, Response,
};

use super::serve;
use crate::support::peer::{Peer, hello};
use crate::support::worker::{Home, PATIENCE, tiny_model, transport};

/// Fails unless the worker tells `peer` why it closes the connection, and closes it.
async fn is_dismissed(peer: &mut Peer) -> String {
    let (id, code, message) = peer.error().await;
    assert_eq!((id, code), (None, ErrorCode::Protocol), "{message}");
    assert_eq!(peer.next().await, None, "after {message}");
    message
}

/// Waits until nobody but `peer` is connected.
async fn is_alone(peer: &mut Peer) {
    connections_fall_to(1, peer).await;
}

/// Waits until so few are connected, `peer` among them. One that is sent away counts until it has
/// taken its leave or the time for that is over.
async fn connections_fall_to(most: u32, peer: &mut Peer) {
    let fall = async {
        while peer.stats().await.connections > most {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, fall).await.expect("connections end");
}

/// A frame with any payload.
fn frame(payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("small");
    [&length.to_le_bytes(), payload].concat()
}

async fn neighbour(home: &Home) -> Peer {
    let mut peer = Peer::open(home).await;
    peer.is_served().await;
    peer
}

#[tokio::test]
async fn garbage_costs_one_connection_whatever_it_is() {
    let (home, _worker) = serve(&tiny_model());
    let mut neighbour = neighbour(&home).await;
    let garbage: [&[u8]; 6] = [
        b"",
        b"\xc1",
        b"GET / HTTP/1.1\r\n\r\n",
        b"\x81\xa5hello",
        // An array that claims four thousand million elements.
        b"\x81\xa4ping\xdd\xff\xff\xff\xff",
        &[0x91; 1000],
    ];
    for payload in garbage {
        for greeted in [true, false] {
            let mut peer = Peer::connect(&home).await.expect("the worker listens");
            if greeted {
                peer = Peer::open(&home).await;
                peer.embed(1, "not answered any more, or before").await;
            }
            peer.write(&frame(payload)).await;
            loop {
                match peer.next().await {
                    Some(Response::Vector { id: 1, .. }) if greeted => {}
                    Some(Response::Error { id: None, code: ErrorCode::Protocol, .. }) => break,
                    other => panic!("{other:?} to {payload:?}"),
                }
            }
            assert_eq!(peer.next().await, None, "{payload:?}");
            neighbour.is_served().await;
        }
    }
    is_alone(&mut neighbour).await;
}

#[tokio::test]
async fn what_the_protocol_does_not_allow_ends_the_connection() {
    let (home, _worker) = serve(&tiny_model());
    let params = EmbedParams::default();
    let unfinished = Request::Embed { id: 1, text: "a".into(), more: true, params };
    let wrong = [
        ("`hello` twice", vec![hello(PROTOCOL_VERSION)]),
        ("request 1", vec![unfinished.clone(), unfinished]),
    ];
    for (why, requests) in wrong {
        let mut peer = Peer::open(&home).await;
        for request in requests {
            peer.send(&request).await;
        }
        let message = is_dismissed(&mut peer).await;
        assert!(message.contains(why), "{message}");
    }
    neighbour(&home).await;
}

#[tokio::test]
async fn the_first_message_must_be_a_hello() {
    let (home, _worker) = serve(&tiny_model());
    let mut peer = Peer::connect(&home).await.expect("the worker listens");
    peer.embed(1, "impatient").await;
    let message = is_dismissed(&mut peer).await;
    assert!(message.contains("`hello`"), "{message}");
}

#[tokio::test]
async fn another_version_is_refused_with_both_numbers() {
    let (home, _worker) = serve(&tiny_model());
    for version in [0, PROTOCOL_VERSION + 1, u16::MAX] {
        let mut peer = Peer::connect(&home).await.expect("the worker listens");
        peer.send(&hello(version)).await;
        let message = is_dismissed(&mut peer).await;
        let ours = format!("version {PROTOCOL_VERSION}");
        let theirs = format!("version {version}");
        assert!(message.contains(&ours) && message.contains(&theirs), "{message}");
    }
}

#[tokio::test]
async fn a_length_over_the_limit_is_refused_before_anything_is_reserved_for_it() {
    let (home, worker) = serve(&tiny_model());
    let mut neighbour = neighbour(&home).await;
    let before = reserved_bytes(worker.pid());
    let over = u32::try_from(FRAME_BYTES_MAX).expect("small") + 1;
    for length in [over, 0x7fff_ffff, u32::MAX] {
        for _ in 0..8 {
            let mut peer = Peer::open(&home).await;
            // Nothing follows: the length alone is enough.
            peer.write(&length.to_le_bytes()).await;
            let message = is_dismissed(&mut peer).await;
            assert!(message.contains("65536"), "{message}");
        }
    }
    neighbour.is_served().await;
    let grown = reserved_bytes(worker.pid()).saturating_sub(before);
    assert!(grown < 32 << 20, "{grown} bytes");
}

/// The most address space that a process ever had.
#[cfg(target_os = "linux")]
fn reserved_bytes(pid: u32) -> usize {
    crate::support::own_process::memory(&pid.to_string(), "status", "VmPeak:")
}

/// Not told here.
#[cfg(not(target_os = "linux"))]
fn reserved_bytes(_pid: u32) -> usize {
    0
}

#[tokio::test]
async fn half_a_frame_and_then_the_end_is_forgotten() {
    let (home, _worker) = serve(&tiny_model());
    let mut neighbour = neighbour(&home).await;
    for greeted in [true, false] {
        let mut peer = Peer::connect(&home).await.expect("the worker listens");
        if greeted {
            peer = Peer::open(&home).await;
        }
        peer.write(&[200, 0, 0, 0, 0x81, 0xa5]).await;
        drop(peer);
        neighbour.is_served().await;
    }
    is_alone(&mut neighbour).await;
}

#[tokio::test]
async fn who_never_says_hello_is_asked_to_leave() {
    let (home, _worker) = serve(&tiny_model());
    let mut silent = Peer::connect(&home).await.expect("the worker listens");
    let mut slow = Peer::connect(&home).await.expect("the worker listens");
    slow.write(&[39, 0]).await;
    let mut neighbour = neighbour(&home).await;
    for peer in [&mut silent, &mut slow] {
        let message = is_dismissed(peer).await;
        assert!(message.contains("`hello` within 5s"), "{message}");
    }
    neighbour.is_served().await;
    is_alone(&mut neighbour).await;
}

/// Else its answers would fill the worker's memory.
#[tokio::test]
async fn from_a_peer_that_does_not_read_the_worker_does_not_read_either() {
    let (home, _worker) = serve(&tiny_model());
    let mut neighbour = neighbour(&home).await;
    let before = neighbour.stats().await.private_bytes;
    let mut peer = Peer::open(&home).await;
    let ping = frame(b"\x81\xa4ping\x81\xa2id\x07");
    let sent = peer.write_until_stuck(&ping.repeat(500_000)).await;
    assert!(sent < ping.len() * 500_000, "the worker reads on for ever");
    let after = neighbour.stats().await.private_bytes;
    let grown = after.unwrap_or(0).saturating_sub(before.unwrap_or(0));
    assert!(grown < 10 << 20, "{grown} bytes");
    // Once the peer reads, all is well again.
    for _ in 0..sent / ping.len() {
        assert_eq!(peer.next().await, Some(Response::Pong { id: 7 }));
    }
    let rest = &ping[sent % ping.len()..];
    if rest.len() < ping.len() {
        peer.write(rest).await;
        assert_eq!(peer.next().await, Some(Response::Pong { id: 7 }));
    }
    peer.is_served().await;
}

/// What a peer floods the worker with costs its own connection's time, not a neighbour's.
#[tokio::test]
async fn floods_of_every_kind_do_not_hold_up_a_neighbour() {
    let (home, _worker) = serve(&tiny_model());
    let mut neighbour = neighbour(&home).await;
    let floods: [&[u8]; 4] = [
        b"\x81\xa4ping\x81\xa2id\x07",
        b"\x81\xa5stats\x81\xa2id\x07",
        b"\x81\xa6cancel\x81\xa2id\x07",
        b"\x81\xa4part\x83\xa2id\x07\xa4text\xa1x\xa4more\xc3",
    ];
    let mut tasks = Vec::new();
    for flood in floods {
        let mut peer = Peer::open(&home).await;
        let frames = frame(flood).repeat(1000);
        // Never reads; those to which the worker answers get stuck, the others go on.
        tasks.push(tokio::spawn(async move {
            while peer.write_until_stuck(&frames).await == frames.len() {}
        }));
    }
    for _ in 0..20 {
        neighbour.is_served().await;
    }
    for task in tasks {
        task.abort();
    }
    is_alone(&mut neighbour).await;
}

/// A frame's buffer is there as long as the frame is unfinished: the most that such peers can cost.
#[cfg(target_os = "linux")] // elsewhere a process may have fewer open files than that
#[tokio::test]
async fn all_connections_in_the_middle_of_the_largest_frame_cost_what_was_reckoned() {
    let (home, worker) = serve(&tiny_model());
    let mut neighbour = neighbour(&home).await;
    let private = |pid: u32| {
        crate::support::own_process::memory(&pid.to_string(), "smaps_rollup", "Anonymous:")
    };
    let before = private(worker.pid());
    let largest = frame(&vec![0; FRAME_BYTES_MAX]);
    let mut peers = Vec::new();
    for _ in 1..embed_worker::config::CONNECTIONS_MAX {
        let mut peer = Peer::open(&home).await;
        peer.write(&largest[..largest.len() - 1]).await;
        peers.push(peer);
    }
    neighbour.is_served().await;
    let grown = private(worker.pid()).saturating_sub(before);
    assert!(grown < 32 << 20, "{grown} bytes");
    drop(peers);
    is_alone(&mut neighbour).await;
}

#[tokio::test]
async fn answers_that_nobody_reads_cost_the_one_who_asked_for_them() {
    use embed_worker::config::ANSWER_BYTES_MAX;

    let (home, _worker) = serve(&tiny_model());
    let mut neighbour = neighbour(&home).await;
    let before = neighbour.stats().await.private_bytes.unwrap_or(0);
    // More than may wait, in connections of which each alone may ask for so much.
    let per_answer = 256 * 4;
    let most = embed_protocol::IN_FLIGHT_MAX;
    let n_peers = ANSWER_BYTES_MAX / (per_answer * most) + 3;
    let mut peers = Vec::new();
    for _ in 0..n_peers {
        let mut peer = Peer::open(&home).await;
        // The one that brings it over may be sent away while it still asks.
        for id in 0..most as u64 {
            if !peer.embed_while_open(id, "x").await {
                break;
            }
        }
        peers.push(peer);
        // The queue is not what is to be filled.
        while neighbour.stats().await.queued as usize > most {
            tokio::task::yield_now().await;
        }
        neighbour.is_served().await;
    }
    while neighbour.stats().await.queued > 0 {
        neighbour.is_served().await;
    }
    let after = neighbour.stats().await.private_bytes.unwrap_or(0);
    assert!(after.saturating_sub(before) < 30 << 20, "{} bytes", after.saturating_sub(before));
    // At least one is sent away. Over TCP the system may hold more for a peer than it can ask for, and
    // nobody has to go.
    if transport() != "tcp" {
        connections_fall_to(n_peers as u32, &mut neighbour).await;
    }
    drop(peers);
    is_alone(&mut neighbour).await;
    neighbour.is_served().await;
}
