//! A connection against a scripted peer at the other end of an in-memory stream.
//!
//! Time is paused: it jumps to the next timer when nothing else can happen.

use super::*;
use embed_protocol::{
    DIMENSIONS_MAX, IN_FLIGHT_MAX, ModelInfo, PROTOCOL_VERSION, TEXT_BYTES_MAX, Timings,
};
use futures_util::SinkExt;
use tokio::io::DuplexStream;
use tokio_util::codec::Framed;

/// How long a worker may take for its hello.
const PATIENCE: Duration = Duration::from_secs(5);

/// The worker's end.
type Peer = Framed<DuplexStream, MessageCodec<Request, Response>>;

fn hello(protocol: u16) -> Response {
    Response::Hello(WorkerHello {
        protocol,
        version: "9.9.9".into(),
        pid: 4711,
        kernels: "portable".into(),
        connection: 1,
        model: ModelInfo {
            name: "m".into(),
            architecture: "bert".into(),
            dimensions: 2,
            context_tokens: 8,
            pooling: "mean".into(),
            quantization: "F32".into(),
            fingerprint: "f".into(),
        },
    })
}

fn vector(id: u64, value: f32) -> Response {
    let vector = vector::to_bytes(&[value]);
    Response::Vector { id, vector, tokens: 3, truncated: false, timings: Timings::default() }
}

fn streams() -> (DuplexStream, Peer) {
    let (ours, theirs) = tokio::io::duplex(64 * 1024);
    (ours, Framed::new(theirs, MessageCodec::default()))
}

/// Opens a connection whose peer has introduced itself.
async fn connected() -> (Arc<Connection>, Peer) {
    let (stream, mut peer) = streams();
    let (connection, ()) = tokio::join!(Connection::open(stream, PATIENCE), async {
        assert!(matches!(receive(&mut peer).await, Request::Hello(_)));
        peer.send(&hello(PROTOCOL_VERSION)).await.expect("open");
    });
    (Arc::new(connection.expect("introduced")), peer)
}

async fn receive(peer: &mut Peer) -> Request {
    peer.next().await.expect("open").expect("well-formed")
}

/// The next `Embed`, as id and text.
async fn receive_text(peer: &mut Peer) -> (u64, String) {
    match receive(peer).await {
        Request::Embed { id, text, more: false, .. } => (id, text),
        other => panic!("not a whole text: {other:?}"),
    }
}

/// Starts embedding `text` on a task of its own.
fn embed(
    connection: &Arc<Connection>,
    text: &str,
) -> tokio::task::JoinHandle<Result<Embedding, Failure>> {
    let (connection, text) = (Arc::clone(connection), text.to_owned());
    let options = EmbedOptions::default();
    tokio::spawn(async move {
        connection.embed(&text, &options, Instant::now() + options.timeout).await
    })
}

fn lost(failure: Result<Embedding, Failure>) -> EmbedError {
    match failure {
        Err(Failure::Lost(error)) => error,
        other => panic!("not lost: {other:?}"),
    }
}

fn unsent(failure: Result<Embedding, Failure>) -> EmbedError {
    match failure {
        Err(Failure::Unsent(error)) => error,
        other => panic!("not unsent: {other:?}"),
    }
}

fn refused<T: std::fmt::Debug>(failure: Result<T, Failure>) -> EmbedError {
    match failure {
        Err(Failure::Refused(error)) => error,
        other => panic!("not refused: {other:?}"),
    }
}

/// Answers nothing but pings, until nobody is there.
async fn answer_pings(mut peer: Peer) {
    while let Some(Ok(request)) = peer.next().await {
        if let Request::Ping { id } = request
            && peer.send(&Response::Pong { id }).await.is_err()
        {
            return;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn answers_in_any_order_find_their_questions() {
    let (connection, mut peer) = connected().await;
    let requests: Vec<_> = (0..100).map(|n| embed(&connection, &n.to_string())).collect();
    let mut received = Vec::new();
    for _ in &requests {
        received.push(receive_text(&mut peer).await);
    }
    for (id, text) in received.into_iter().rev() {
        peer.send(&vector(id, text.parse().expect("a number"))).await.expect("open");
    }
    for (n, request) in requests.into_iter().enumerate() {
        let embedding = request.await.expect("no panic").expect("a vector");
        assert_eq!(embedding.vector, [n as f32]);
    }
}

#[tokio::test(start_paused = true)]
async fn an_error_for_one_request_touches_no_other() {
    let (connection, mut peer) = connected().await;
    let (bad, good) = (embed(&connection, "bad"), embed(&connection, "good"));
    for _ in 0..2 {
        let (id, text) = receive_text(&mut peer).await;
        let answer = if text == "bad" {
            let message = "text: 9 tokens, the model's context is 8".into();
            Response::Error { id: Some(id), code: ErrorCode::TextTooLong, message }
        } else {
            vector(id, 1.0)
        };
        peer.send(&answer).await.expect("open");
    }
    let error = refused(bad.await.expect("no panic"));
    assert_eq!(error.code(), ErrorCode::TextTooLong);
    assert!(error.message().contains("9 tokens"));
    assert!(good.await.expect("no panic").is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_ends_fails_all_requests_once_and_takes_no_more() {
    let (connection, mut peer) = connected().await;
    let requests: Vec<_> = (0..10).map(|_| embed(&connection, "x")).collect();
    receive_text(&mut peer).await;
    drop(peer);
    for request in requests {
        assert_eq!(lost(request.await.expect("no panic")).code(), ErrorCode::WorkerUnavailable);
    }
    assert!(connection.is_closed());
    unsent(embed(&connection, "late").await.expect("no panic"));
}

#[tokio::test(start_paused = true)]
async fn a_request_that_waited_for_credit_is_told_from_one_that_was_sent() {
    let (connection, mut peer) = connected().await;
    let sent: Vec<_> = (0..IN_FLIGHT_MAX).map(|_| embed(&connection, "x")).collect();
    let waiting = embed(&connection, "y");
    for _ in 0..IN_FLIGHT_MAX {
        receive_text(&mut peer).await;
    }
    drop(peer);
    assert_eq!(unsent(waiting.await.expect("no panic")).code(), ErrorCode::WorkerUnavailable);
    for request in sent {
        lost(request.await.expect("no panic"));
    }
}

#[tokio::test(start_paused = true)]
async fn the_parting_words_of_a_worker_reach_every_caller() {
    let (connection, mut peer) = connected().await;
    let request = embed(&connection, "x");
    receive_text(&mut peer).await;
    let message = "frame of 3 bytes: not a message".to_owned();
    let parting = Response::Error { id: None, code: ErrorCode::Protocol, message: message.clone() };
    peer.send(&parting).await.expect("open");
    assert_eq!(lost(request.await.expect("no panic")).message(), message);
}

#[tokio::test(start_paused = true)]
async fn a_dropped_request_is_cancelled_once_at_the_worker() {
    let (connection, mut peer) = connected().await;
    let unwanted = embed(&connection, "unwanted");
    let (id, _) = receive_text(&mut peer).await;
    unwanted.abort();
    assert_eq!(receive(&mut peer).await, Request::Cancel { id });
    // The answer still comes, is ignored, and the connection goes on.
    peer.send(&vector(id, 1.0)).await.expect("open");
    let next = embed(&connection, "next");
    let (id, text) = receive_text(&mut peer).await;
    assert_eq!(text, "next");
    peer.send(&vector(id, 2.0)).await.expect("open");
    assert_eq!(next.await.expect("no panic").expect("a vector").vector, [2.0]);
}

#[tokio::test(start_paused = true)]
async fn a_request_that_was_never_sent_leaves_nothing_behind() {
    let (connection, mut peer) = connected().await;
    // The peer does not read yet, so that the first text fills the outbox and the second waits.
    let first = embed(&connection, &"x".repeat(TEXT_BYTES_MAX));
    settle().await;
    let unsent = embed(&connection, "unsent");
    settle().await;
    unsent.abort();
    settle().await;
    let next = embed(&connection, "next");
    // Neither the text nor a cancellation of what the peer never saw.
    let (mut id, mut more) = (None, true);
    while more {
        (id, more) = match receive(&mut peer).await {
            Request::Embed { id, more, .. } | Request::Part { id, more, .. } => (Some(id), more),
            other => panic!("{other:?}"),
        };
    }
    peer.send(&vector(id.expect("a text"), 1.0)).await.expect("open");
    first.await.expect("no panic").expect("a vector");
    let (id, text) = receive_text(&mut peer).await;
    assert_eq!(text, "next");
    peer.send(&vector(id, 2.0)).await.expect("open");
    next.await.expect("no panic").expect("a vector");
}

/// Lets every task go as far as it can.
async fn settle() {
    tokio::time::sleep(Duration::from_millis(1)).await;
}

#[tokio::test(start_paused = true)]
async fn a_deadline_ends_the_wait_and_tells_the_worker() {
    let (connection, mut peer) = connected().await;
    let options = EmbedOptions { timeout: Duration::from_millis(250), ..Default::default() };
    let deadline = Instant::now() + options.timeout;
    let (result, id) = tokio::join!(connection.embed("slow", &options, deadline), async {
        match receive(&mut peer).await {
            Request::Embed { id, params, .. } => {
                assert_eq!(params.deadline_ms, Some(250));
                id
            }
            other => panic!("{other:?}"),
        }
    });
    let error = refused(result);
    assert_eq!(error.code(), ErrorCode::Timeout);
    assert!(error.message().contains("250ms"), "{}", error.message());
    // Pinged meanwhile, since nothing was heard of it.
    while let request @ (Request::Ping { .. } | Request::Cancel { .. }) = receive(&mut peer).await {
        if request == (Request::Cancel { id }) {
            return;
        }
    }
    panic!("not cancelled");
}

#[tokio::test(start_paused = true)]
async fn a_long_text_arrives_whole_in_parts_that_fit_frames() {
    let (connection, mut peer) = connected().await;
    // Three bytes a character, so that no part may end at the limit itself.
    let text = "世".repeat(TEXT_BYTES_MAX / 3);
    let request = embed(&connection, &text);
    let mut whole = String::new();
    let mut first = None;
    loop {
        let (id, part, more) = match receive(&mut peer).await {
            Request::Embed { id, text, more, .. } => {
                assert_eq!(first.replace(id), None, "one beginning");
                (id, text, more)
            }
            Request::Part { id, text, more } => (id, text, more),
            other => panic!("{other:?}"),
        };
        assert_eq!(Some(id), first);
        assert!(part.len() <= TEXT_PART_BYTES_MAX && !part.is_empty());
        whole.push_str(&part);
        if !more {
            peer.send(&vector(id, 1.0)).await.expect("open");
            break;
        }
    }
    assert!(whole == text, "{} bytes of {}", whole.len(), text.len());
    assert!(request.await.expect("no panic").is_ok());
}

#[tokio::test(start_paused = true)]
async fn an_empty_text_is_one_frame() {
    let (connection, mut peer) = connected().await;
    let request = embed(&connection, "");
    let (id, text) = receive_text(&mut peer).await;
    assert_eq!(text, "");
    peer.send(&vector(id, 1.0)).await.expect("open");
    assert!(request.await.expect("no panic").is_ok());
}

#[tokio::test(start_paused = true)]
async fn no_more_requests_are_outstanding_than_the_protocol_allows() {
    let (connection, mut peer) = connected().await;
    let requests: Vec<_> = (0..IN_FLIGHT_MAX + 100).map(|_| embed(&connection, "x")).collect();
    let mut ids = Vec::new();
    for _ in 0..IN_FLIGHT_MAX {
        ids.push(receive_text(&mut peer).await.0);
    }
    // Shorter than what the client is silent for before it pings.
    let more = tokio::time::timeout(TICK / 2, peer.next()).await;
    assert!(more.is_err(), "one too many: {more:?}");
    for id in ids {
        peer.send(&vector(id, 1.0)).await.expect("open");
    }
    for _ in 0..100 {
        let (id, _) = receive_text(&mut peer).await;
        peer.send(&vector(id, 1.0)).await.expect("open");
    }
    for request in requests {
        assert!(request.await.expect("no panic").is_ok());
    }
}

#[tokio::test(start_paused = true)]
async fn a_worker_of_another_protocol_is_refused_by_both_numbers() {
    let (stream, mut peer) = streams();
    peer.send(&hello(99)).await.expect("open");
    let Err(NotOpened::Refused(error)) = Connection::open(stream, PATIENCE).await else {
        panic!("not refused")
    };
    assert_eq!(error.code(), ErrorCode::Protocol);
    let message = error.message();
    assert!(message.contains("protocol 99") && message.contains(&PROTOCOL_VERSION.to_string()));
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_leaves_before_its_hello_is_lost_and_not_at_fault() {
    let (stream, peer) = streams();
    drop(peer);
    assert!(matches!(Connection::open(stream, PATIENCE).await, Err(NotOpened::Gone(_))));

    let (stream, mut peer) = streams();
    let code = ErrorCode::ShuttingDown;
    peer.send(&Response::Error { id: None, code, message: "leaving".into() }).await.expect("open");
    assert!(matches!(Connection::open(stream, PATIENCE).await, Err(NotOpened::Gone(_))));
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_says_nothing_is_given_up() {
    let (stream, _peer) = streams();
    let Err(NotOpened::Unresponsive(error)) = Connection::open(stream, PATIENCE).await else {
        panic!("not given up")
    };
    assert_eq!(error.code(), ErrorCode::WorkerUnavailable);
    assert!(error.message().contains("5s"), "{}", error.message());
}

#[tokio::test(start_paused = true)]
async fn whoever_says_something_else_than_hello_is_no_worker() {
    use tokio::io::AsyncWriteExt;

    let (stream, mut peer) = streams();
    peer.send(&Response::Pong { id: 1 }).await.expect("open");
    let opened = Connection::open(stream, PATIENCE).await;
    assert!(matches!(&opened, Err(NotOpened::Unresponsive(_))), "{opened:?}");

    let (stream, mut peer) = streams();
    peer.get_mut().write_all(b"HTTP/1.1 400 Bad Request\r\n").await.expect("open");
    let opened = Connection::open(stream, PATIENCE).await;
    assert!(matches!(&opened, Err(NotOpened::Unresponsive(_))), "{opened:?}");
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_falls_silent_hangs() {
    let (connection, _peer) = connected().await;
    let started = Instant::now();
    let request = embed(&connection, "x");
    let error = lost(request.await.expect("no panic"));
    assert_eq!(error.code(), ErrorCode::WorkerUnavailable);
    assert!(error.message().contains("silent"), "{}", error.message());
    assert!(connection.hung() && connection.is_closed());
    let took = started.elapsed();
    assert!(took >= SILENCE_MAX && took <= SILENCE_MAX + 2 * TICK, "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_computes_for_long_answers_pings_and_is_left_in_peace() {
    let (connection, peer) = connected().await;
    let pinged = tokio::spawn(answer_pings(peer));
    let options = EmbedOptions { timeout: Duration::from_secs(600), ..Default::default() };
    let deadline = Instant::now() + options.timeout;
    let error = refused(connection.embed("long", &options, deadline).await);
    assert_eq!(error.code(), ErrorCode::Timeout);
    assert!(!connection.hung() && !connection.is_closed());
    pinged.abort();
}

#[tokio::test(start_paused = true)]
async fn a_silent_worker_that_owes_nothing_is_not_pinged() {
    let (connection, mut peer) = connected().await;
    let request = embed(&connection, "x");
    let (id, _) = receive_text(&mut peer).await;
    peer.send(&vector(id, 1.0)).await.expect("open");
    request.await.expect("no panic").expect("a vector");
    let hour = Duration::from_secs(3600);
    let pinged = tokio::time::timeout(hour, peer.next()).await;
    assert!(pinged.is_err(), "{pinged:?}");
    // And after that hour the next text is watched over again.
    let request = embed(&connection, "y");
    assert!(matches!(lost(request.await.expect("no panic")).code(), ErrorCode::WorkerUnavailable));
    assert!(connection.hung());
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_breaks_the_protocol_is_not_believed() {
    let torn = Response::Vector {
        id: 0,
        vector: vec![0; 5],
        tokens: 1,
        truncated: false,
        timings: Timings::default(),
    };
    for (answer, wanted) in [
        (torn, "not a multiple of 4"),
        (vector(999, 1.0), "request 999"),
        (hello(PROTOCOL_VERSION), "second hello"),
    ] {
        let (connection, mut peer) = connected().await;
        let request = embed(&connection, "x");
        receive_text(&mut peer).await;
        peer.send(&answer).await.expect("open");
        let error = lost(request.await.expect("no panic"));
        assert_eq!(error.code(), ErrorCode::Protocol);
        assert!(error.message().contains(wanted), "{}", error.message());
    }
}

#[tokio::test(start_paused = true)]
async fn garbage_ends_the_connection() {
    use tokio::io::AsyncWriteExt;

    let (connection, mut peer) = connected().await;
    let request = embed(&connection, "x");
    receive_text(&mut peer).await;
    let stream = peer.get_mut();
    stream.write_all(&[3, 0, 0, 0, 0xc1, 0xc1, 0xc1]).await.expect("open");
    let error = lost(request.await.expect("no panic"));
    assert_eq!(error.code(), ErrorCode::Protocol);
    assert!(error.message().contains("not a message"), "{}", error.message());
}

#[tokio::test(start_paused = true)]
async fn the_largest_vector_arrives() {
    let (connection, mut peer) = connected().await;
    let request = embed(&connection, "x");
    let (id, _) = receive_text(&mut peer).await;
    let vector = vector::to_bytes(&vec![0.5; DIMENSIONS_MAX]);
    let timings = Timings::default();
    let answer = Response::Vector { id, vector, tokens: 1, truncated: true, timings };
    peer.send(&answer).await.expect("open");
    let embedding = request.await.expect("no panic").expect("a vector");
    assert_eq!(embedding.vector, vec![0.5; DIMENSIONS_MAX]);
    assert!(embedding.truncated);
}

#[tokio::test(start_paused = true)]
async fn dropping_the_connection_ends_it_for_the_worker() {
    let (connection, mut peer) = connected().await;
    drop(connection);
    assert!(peer.next().await.is_none());
}
