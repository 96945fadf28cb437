//! A client against scripted workers that listen on the real socket or pipe of a model.
//!
//! Starting real workers is tested beneath `launch` and from Node; here the second try is.

use super::*;
use crate::transport::stage::Stage;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};

use embed_protocol::{
    Endpoint, MessageCodec, ModelIdentity, ModelInfo, PROTOCOL_VERSION, Request, Response, Timings,
    WorkerHello, vector,
};
use futures_util::future::join_all;
use futures_util::{SinkExt, StreamExt};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::codec::Framed;

/// A model file of its own, and a directory in which nobody listens yet.
struct Place {
    dir: tempfile::TempDir,
    options: ClientOptions,
}

/// A text that ends every connection, whatever the script.
const POISON: &str = "kills its worker";

/// What a scripted worker does with a text.
#[derive(Clone, Copy)]
enum Act {
    Answer,
    Refuse(ErrorCode),
    HangUp,
    /// Answers, and takes its leave.
    AnswerAndLeave,
    /// Says nothing any more, on this connection.
    Hang,
}

impl Place {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            let mode = std::fs::Permissions::from_mode(0o700);
            std::fs::set_permissions(dir.path(), mode).expect("ours");
        }
        let model = dir.path().join("model.gguf");
        std::fs::write(&model, "GGUF").expect("writes");
        let mut options = ClientOptions::new(&model, &PathBuf::from("/no/such/embed-worker"));
        options.runtime_dir = dir.path().to_owned();
        Self { dir, options }
    }

    fn client(&self) -> Client {
        Client::new(self.options.clone())
    }

    /// Listens as this model's worker and does what `script` says for the n-th text of all
    /// connections; gives the number of connections made so far.
    fn worker(&self, script: fn(usize) -> Act) -> Arc<AtomicUsize> {
        let identity = ModelIdentity::of_file(&self.options.model).expect("is there");
        let endpoint = Endpoint::for_model_in(self.dir.path(), &identity, crate::VERSION);
        let stage = Stage::at(&endpoint);
        let n_connections = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&n_connections);
        let n_texts = Arc::new(AtomicUsize::new(0));
        tokio::spawn(async move {
            while let Ok(stream) = stage.accept().await {
                counter.fetch_add(1, Ordering::Relaxed);
                let stream = Framed::new(stream, MessageCodec::default());
                tokio::spawn(serve(stream, script, Arc::clone(&n_texts)));
            }
        });
        n_connections
    }
}

async fn serve(
    mut stream: Framed<impl AsyncRead + AsyncWrite + Unpin, MessageCodec<Request, Response>>,
    script: fn(usize) -> Act,
    n_texts: Arc<AtomicUsize>,
) {
    while let Some(Ok(request)) = stream.next().await {
        let response = match request {
            Request::Ping { id } => Response::Pong { id },
            Request::Hello(_) => hello(),
            Request::Embed { text, .. } if text == POISON => return,
            Request::Embed { id, text, .. } => {
                match script(n_texts.fetch_add(1, Ordering::Relaxed)) {
                    Act::Answer => answer(id, &text),
                    Act::Refuse(code) => {
                        Response::Error { id: Some(id), code, message: "as scripted".into() }
                    }
                    Act::HangUp => return,
                    Act::AnswerAndLeave => {
                        let _ = stream.send(&answer(id, &text)).await;
                        let code = ErrorCode::ShuttingDown;
                        let farewell = Response::Error { id: None, code, message: "bye".into() };
                        let _ = stream.send(&farewell).await;
                        return;
                    }
                    Act::Hang => std::future::pending().await,
                }
            }
            _ => continue,
        };
        if stream.send(&response).await.is_err() {
            return;
        }
    }
}

fn hello() -> Response {
    Response::Hello(WorkerHello {
        protocol: PROTOCOL_VERSION,
        version: crate::VERSION.into(),
        pid: 1,
        kernels: "portable".into(),
        connection: 1,
        model: ModelInfo {
            name: "m".into(),
            architecture: "bert".into(),
            dimensions: 1,
            context_tokens: 8,
            pooling: "mean".into(),
            quantization: "F32".into(),
            fingerprint: "f".into(),
        },
    })
}

fn answer(id: u64, text: &str) -> Response {
    let vector = vector::to_bytes(&[text.len() as f32]);
    Response::Vector { id, vector, tokens: 1, truncated: false, timings: Timings::default() }
}

fn options(priority: Priority) -> EmbedOptions {
    EmbedOptions { priority, ..Default::default() }
}

#[tokio::test]
async fn many_requests_share_one_connection() {
    let place = Place::new();
    let n_connections = place.worker(|_| Act::Answer);
    let client = place.client();
    assert!(!client.is_connected(), "it connects when it is first used");
    let options = options(Priority::Interactive);
    let texts: Vec<_> = (0..100).map(|n| "x".repeat(n)).collect();
    let embeddings = join_all(texts.iter().map(|text| client.embed(text, &options))).await;
    for (text, embedding) in texts.iter().zip(embeddings) {
        assert_eq!(embedding.expect("a vector").vector, [text.len() as f32]);
    }
    assert_eq!(n_connections.load(Ordering::Relaxed), 1);
    assert!(client.is_connected());
}

#[tokio::test]
async fn a_request_whose_connection_breaks_is_sent_once_more() {
    let place = Place::new();
    let n_connections = place.worker(|n| if n == 0 { Act::HangUp } else { Act::Answer });
    let embedding = place.client().embed("four", &options(Priority::Interactive)).await;
    assert_eq!(embedding.expect("a vector").vector, [4.0]);
    assert_eq!(n_connections.load(Ordering::Relaxed), 2);
}

#[tokio::test]
async fn a_text_that_breaks_every_connection_is_given_up() {
    let place = Place::new();
    let n_connections = place.worker(|_| Act::HangUp);
    let error = place.client().embed("poison", &options(Priority::Interactive)).await;
    let error = error.expect_err("lost twice");
    assert_eq!(error.code(), ErrorCode::WorkerUnavailable);
    assert!(!error.concerns_every_text(), "the rest of an array is still to be sent");
    assert_eq!(n_connections.load(Ordering::Relaxed), 2);
}

#[tokio::test]
async fn a_request_to_a_worker_that_hangs_is_sent_to_the_next_one_which_may_hang_too() {
    let place = Place::new();
    let n_connections = place.worker(|n| if n < 2 { Act::Hang } else { Act::Answer });
    let embedding = place.client().embed("four", &options(Priority::Interactive)).await;
    assert_eq!(embedding.expect("a vector").vector, [4.0]);
    assert_eq!(n_connections.load(Ordering::Relaxed), 3);
}

#[tokio::test]
async fn after_three_restarts_without_an_answer_callers_are_told_at_once() {
    let place = Place::new();
    let n_connections = place.worker(|_| Act::HangUp);
    let client = place.client();
    let options = options(Priority::Interactive);
    for _ in 0..2 {
        client.embed("poison", &options).await.expect_err("lost twice");
    }
    let n_tries = n_connections.load(Ordering::Relaxed);
    assert_eq!(n_tries, 4, "the start and three restarts");
    for _ in 0..100 {
        let error = client.embed("harmless", &options).await.expect_err("refused");
        assert_eq!(error.code(), ErrorCode::WorkerUnavailable);
        let message = error.message();
        assert!(message.contains("4 times in a row") && message.contains("ended"), "{message}");
    }
    assert_eq!(n_connections.load(Ordering::Relaxed), n_tries);
}

#[tokio::test]
async fn a_worker_that_answered_and_left_in_peace_ends_the_row_of_failures() {
    let place = Place::new();
    let n_connections = place.worker(|n| match n {
        0..3 | 4 => Act::HangUp,
        3 => Act::AnswerAndLeave,
        _ => Act::Answer,
    });
    let client = place.client();
    let options = options(Priority::Interactive);
    client.embed("x", &options).await.expect_err("lost twice");
    client.embed("x", &options).await.expect("after three failures");
    while client.is_connected() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    client.embed("x", &options).await.expect("the next failure is the first again");
    assert_eq!(n_connections.load(Ordering::Relaxed), 6);
}

#[test]
fn an_attempt_that_died_with_its_runtime_is_made_anew() {
    let runtime =
        || tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let place = Place::new();
    let client = place.client();
    let options = options(Priority::Interactive);
    let identity = ModelIdentity::of_file(&place.options.model).expect("is there");
    let endpoint = Endpoint::for_model_in(place.dir.path(), &identity, crate::VERSION);
    runtime().block_on(async {
        // Connects, and is never introduced to.
        let _silent = Stage::at(&endpoint);
        let soon = EmbedOptions { timeout: Duration::from_millis(10), ..options };
        let error = client.embed("x", &soon).await.expect_err("too soon");
        assert_eq!(error.code(), ErrorCode::Timeout);
    });
    if cfg!(unix) {
        std::fs::remove_file(endpoint.address()).expect("ours");
    }
    runtime().block_on(async {
        place.worker(|_| Act::Answer);
        assert_eq!(client.embed("four", &options).await.expect("a vector").vector, [4.0]);
    });
}

#[tokio::test]
async fn a_worker_that_another_client_ended_first_is_not_taken_for_somebody_else() {
    let place = Place::new();
    let identity = ModelIdentity::of_file(&place.options.model).expect("is there");
    let endpoint = Endpoint::for_model_in(place.dir.path(), &identity, crate::VERSION);
    let stage = Stage::at(&endpoint);
    tokio::spawn(async move {
        let mut silent = Vec::new();
        // Five tries and the health check; then, without a card of the first, its successor.
        while let Ok(stream) = stage.accept().await {
            if silent.len() < 6 {
                silent.push(stream);
            } else {
                let stream = Framed::new(stream, MessageCodec::default());
                tokio::spawn(serve(stream, |_| Act::Answer, Arc::default()));
            }
        }
    });
    let embedding = place.client().embed("four", &options(Priority::Interactive)).await;
    assert_eq!(embedding.expect("a vector").vector, [4.0]);
}

#[tokio::test]
async fn somebody_else_at_the_endpoint_is_named_and_left_alone() {
    let place = Place::new();
    let identity = ModelIdentity::of_file(&place.options.model).expect("is there");
    let endpoint = Endpoint::for_model_in(place.dir.path(), &identity, crate::VERSION);
    let stage = Stage::at(&endpoint);
    tokio::spawn(async move {
        let mut streams = Vec::new();
        while let Ok(mut stream) = stage.accept().await {
            let _ = tokio::io::AsyncWriteExt::write_all(&mut stream, &[0xff; 64]).await;
            streams.push(stream);
        }
    });
    let error = place.client().embed("x", &options(Priority::Interactive)).await;
    let error = error.expect_err("no worker");
    assert_eq!(error.code(), ErrorCode::Protocol);
    let message = error.message();
    assert!(message.contains("does not answer as a worker"), "{message}");
    assert!(message.contains(&endpoint.to_string()), "{message}");
}

/// A model of 1 dimension, as far as its first bytes tell.
fn write_header(path: &std::path::Path) {
    let mut file = b"GGUF\x03\0\0\0".to_vec();
    let string = |file: &mut Vec<u8>, text: &str| {
        file.extend((text.len() as u64).to_le_bytes());
        file.extend(text.as_bytes());
    };
    file.extend(0_u64.to_le_bytes());
    file.extend(2_u64.to_le_bytes());
    string(&mut file, "general.architecture");
    file.extend(8_u32.to_le_bytes());
    string(&mut file, "bert");
    string(&mut file, "bert.embedding_length");
    file.extend(4_u32.to_le_bytes());
    file.extend(3_u32.to_le_bytes());
    std::fs::write(path, file).expect("writes");
}

#[tokio::test]
async fn without_a_worker_the_fallback_is_marked_and_announced_once() {
    let place = Place::new();
    write_header(&place.options.model);
    let client = place.client();
    let wanted = EmbedOptions { fallback: Fallback::Hash, ..Default::default() };
    for n in 0..3 {
        let embedding = client.embed("some words", &wanted).await.expect("a fallback");
        assert_eq!(embedding.vector.len(), 3, "the model's own length");
        assert!(embedding.model.is_none(), "it is of no model");
        assert_eq!(
            embedding.vector,
            client.embed("some words", &wanted).await.expect("the same").vector
        );
        let degraded = embedding.degraded.expect("is marked");
        assert_eq!(degraded.is_first, n == 0);
        assert_eq!(degraded.why.code(), ErrorCode::WorkerUnavailable);
    }
    let shorter = EmbedOptions { dimensions: Some(2), ..wanted };
    assert_eq!(client.embed("x", &shorter).await.expect("a fallback").vector.len(), 2);
    let longer = EmbedOptions { dimensions: Some(4), ..wanted };
    let error = client.embed("x", &longer).await.expect_err("too long");
    assert_eq!(error.code(), ErrorCode::BadArgument);

    let n_connections = place.worker(|_| Act::Answer);
    let embedding = client.embed("four", &wanted).await.expect("a vector");
    assert!(embedding.degraded.is_none(), "a worker is back");
    assert_eq!(embedding.vector, [4.0]);
    assert_eq!(embedding.model.expect("is of the worker's model").fingerprint, "f");
    assert_eq!(n_connections.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn a_fault_that_is_not_the_workers_has_no_fallback() {
    let mut place = Place::new();
    let wanted = EmbedOptions { fallback: Fallback::Hash, ..Default::default() };
    place.worker(|_| Act::Refuse(ErrorCode::TextTooLong));
    let error = place.client().embed("x", &wanted).await.expect_err("refused");
    assert_eq!(error.code(), ErrorCode::TextTooLong);
    place.options.model = place.dir.path().join("none.gguf");
    let error = place.client().embed("x", &wanted).await.expect_err("missing");
    assert_eq!(error.code(), ErrorCode::ModelNotFound);
}

#[tokio::test]
async fn a_text_that_only_waited_behind_others_is_sent_again_more_than_once() {
    let place = Place::new();
    // Every connection ends after three answers.
    let n_connections = place.worker(|n| if n % 4 == 3 { Act::HangUp } else { Act::Answer });
    let client = place.client();
    let options = options(Priority::Interactive);
    let embeddings = join_all((0..8).map(|_| client.embed("four", &options))).await;
    for embedding in embeddings {
        assert_eq!(embedding.expect("a vector").vector, [4.0]);
    }
    assert_eq!(n_connections.load(Ordering::Relaxed), 3);
}

#[tokio::test]
async fn a_text_that_kills_does_not_take_its_neighbours_with_it() {
    let place = Place::new();
    place.worker(|_| Act::Answer);
    let client = place.client();
    let options = options(Priority::Bulk);
    let texts: Vec<_> = (0..40).map(|n| if n == 7 { POISON } else { "harmless" }).collect();
    let results = join_all(texts.iter().map(|text| client.embed(text, &options))).await;
    for (text, result) in texts.iter().zip(results) {
        match result {
            Ok(embedding) => assert_eq!(embedding.vector, [text.len() as f32]),
            Err(error) => assert_eq!(*text, POISON, "{}", error.message()),
        }
    }
}

#[tokio::test]
async fn a_leaving_worker_is_left_for_its_successor() {
    let place = Place::new();
    let script = |n| if n < 3 { Act::Refuse(ErrorCode::ShuttingDown) } else { Act::Answer };
    let n_connections = place.worker(script);
    let embedding = place.client().embed("four", &options(Priority::Interactive)).await;
    assert_eq!(embedding.expect("a vector").vector, [4.0]);
    assert_eq!(n_connections.load(Ordering::Relaxed), 4);
}

#[tokio::test]
async fn workers_that_all_leave_are_not_asked_for_ever() {
    let place = Place::new();
    place.worker(|_| Act::Refuse(ErrorCode::ShuttingDown));
    let error = place.client().embed("x", &options(Priority::Interactive)).await;
    assert_eq!(error.expect_err("refused").code(), ErrorCode::ShuttingDown);
}

#[tokio::test]
async fn overload_is_told_at_once_to_a_person_and_waited_out_by_an_index() {
    let place = Place::new();
    place.worker(|n| if n < 3 { Act::Refuse(ErrorCode::Overloaded) } else { Act::Answer });
    let client = place.client();
    let error = client.embed("x", &options(Priority::Interactive)).await;
    assert_eq!(error.expect_err("full").code(), ErrorCode::Overloaded);
    let embedding = client.embed("four", &options(Priority::Bulk)).await;
    assert_eq!(embedding.expect("a vector").vector, [4.0]);
}

#[tokio::test]
async fn overload_is_waited_out_only_until_the_deadline() {
    let place = Place::new();
    place.worker(|_| Act::Refuse(ErrorCode::Overloaded));
    let timeout = Duration::from_millis(100);
    let options = EmbedOptions { timeout, ..options(Priority::Bulk) };
    let error = place.client().embed("x", &options).await.expect_err("full");
    assert_eq!(error.code(), ErrorCode::Overloaded);
}

#[tokio::test]
async fn another_error_is_the_callers() {
    let place = Place::new();
    let n_connections = place.worker(|_| Act::Refuse(ErrorCode::TextTooLong));
    let error = place.client().embed("x", &options(Priority::Bulk)).await.expect_err("refused");
    assert_eq!((error.code(), error.message()), (ErrorCode::TextTooLong, "as scripted".into()));
    assert_eq!(n_connections.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn without_a_worker_all_who_wait_get_the_same_error() {
    let place = Place::new();
    let client = place.client();
    let options = options(Priority::Interactive);
    for error in join_all((0..50).map(|_| client.embed("x", &options))).await {
        let error = error.expect_err("no worker");
        assert_eq!(error.code(), ErrorCode::WorkerUnavailable);
        assert!(error.message().contains("embed-worker`: no such file"), "{}", error.message());
        assert!(error.concerns_every_text());
    }
}

#[tokio::test]
async fn a_missing_model_is_named() {
    let mut place = Place::new();
    place.options.model = place.dir.path().join("none.gguf");
    let error = place.client().embed("x", &options(Priority::Bulk)).await.expect_err("missing");
    assert_eq!(error.code(), ErrorCode::ModelNotFound);
    assert!(error.message().contains("none.gguf"), "{}", error.message());
}

#[tokio::test]
async fn a_model_that_is_gone_for_a_moment_is_waited_for() {
    let place = Place::new();
    place.worker(|n| if n == 1 { Act::HangUp } else { Act::Answer });
    let client = place.client();
    client.embed("x", &options(Priority::Bulk)).await.expect("a vector");
    let model = &place.options.model;
    let away = model.with_extension("away");
    std::fs::rename(model, &away).expect("ours");
    let options = EmbedOptions::default();
    let (embedding, ()) = tokio::join!(client.embed("four", &options), async {
        tokio::time::sleep(Duration::from_millis(200)).await;
        std::fs::rename(&away, model).expect("ours");
    });
    assert_eq!(embedding.expect("a vector").vector, [4.0]);
}

#[tokio::test]
async fn a_text_beyond_all_limits_is_refused_without_a_worker() {
    let text = "x".repeat(TEXT_BYTES_MAX + 1);
    let error = Place::new().client().embed(&text, &options(Priority::Bulk)).await;
    assert_eq!(error.expect_err("too long").code(), ErrorCode::TextTooLong);
}

#[tokio::test]
async fn many_texts_keep_their_order_and_their_own_errors() {
    let place = Place::new();
    place.worker(|_| Act::Answer);
    let mut texts: Vec<_> = (0..1000).map(|n| Ok("x".repeat(n % 50))).collect();
    texts[7] = Err(EmbedError::text_too_long(9));
    let mut n_told = 0;
    let results =
        place.client().embed_many(texts, &options(Priority::Bulk), |n_done| n_told = n_done).await;
    assert_eq!(n_told, 1000);
    for (n, result) in results.into_iter().enumerate() {
        match result {
            Ok(embedding) => assert_eq!(embedding.vector, [(n % 50) as f32]),
            Err(error) => assert_eq!((n, error.code()), (7, ErrorCode::TextTooLong)),
        }
    }
}

#[tokio::test]
async fn the_connection_is_closed_with_the_last_clone() {
    let place = Place::new();
    place.worker(|_| Act::Answer);
    let client = place.client();
    client.embed("x", &options(Priority::Interactive)).await.expect("a vector");
    let supervisor = Arc::downgrade(&client.supervisor);
    let connection = Arc::downgrade(&client.supervisor.connection().await.expect("is open"));
    let clone = client.clone();
    drop(client);
    assert!(connection.upgrade().is_some_and(|open| !open.is_closed()));
    drop(clone);
    assert!(supervisor.upgrade().is_none() && connection.upgrade().is_none());
}
