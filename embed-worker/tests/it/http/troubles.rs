//! Clients that send garbage, too much, too slowly, or leave: nobody else notices.

use std::io::{Read as _, Write as _};
use std::sync::Arc;

use embed_worker::config::{
    HTTP_BODY_BYTES_MAX, HTTP_BODY_TIMEOUT, HTTP_CONNECTIONS_MAX, HTTP_HEAD_BYTES_MAX,
    HTTP_HEAD_TIMEOUT, HTTP_INPUTS_MAX,
};
use embed_worker::server::http::{Guard, HttpService, Options, serve_connection};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{Duration, Instant, timeout};

use super::client::{Client, answer};
use super::{KEY, serve};
use crate::support::service::service;

fn is_served(client: &Client) {
    assert_eq!(client.embed(&json!({ "input": "a" })).vectors().len(), 1);
}

#[test]
fn bad_requests_are_told_what_was_wanted() {
    let (_home, _worker, client) = serve();
    for (body, wanted) in [
        (&b"{"[..], "EOF"),
        (b"\xff\xfe", "body: "),
        (br#"{"input": 7}"#, "a string, an array of strings"),
        (br#"{"input": "a", "dimension": 3}"#, "unknown field `dimension`"),
        (br#"{"input": []}"#, "is empty"),
        (br#"{}"#, "missing field `input`"),
    ] {
        let (status, code, _, message) = client.post(body).error();
        assert_eq!((status, &*code), (400, "EMBED_BAD_ARGUMENT"), "{message}");
        assert!(message.contains(wanted), "{message}");
    }
    assert_eq!(client.get("/v1/nothing").error().0, 404);
    for (method, path, allowed) in
        [("GET", "/v1/embeddings", "POST"), ("DELETE", "/v1/models", "GET, HEAD")]
    {
        let answer = client.ask(method, path, &[&format!("Authorization: Bearer {KEY}")]);
        assert_eq!((answer.status, &*answer.headers["allow"]), (405, allowed), "{path}");
    }
    for garbage in ["\0\0\0\0\r\n\r\n", "GET\r\n\r\n", "SSH-2.0-x\r\n\r\n"] {
        assert_eq!(client.say(garbage.as_bytes()).status, 400, "{garbage:?}");
    }
    is_served(&client);
}

#[test]
fn limits_hold_at_their_edges() {
    let (_home, _worker, client) = serve();
    // Padded by what JSON lets stand anywhere.
    let body = |bytes: usize| {
        let mut body = br#"{"input":"a"}"#.to_vec();
        body.resize(bytes, b' ');
        body
    };
    assert_eq!(client.post(&body(HTTP_BODY_BYTES_MAX)).status, 200);
    assert_eq!(client.post(&body(HTTP_BODY_BYTES_MAX + 1)).status, 413);
    // Not announced, but sent.
    let mut stream = client.connect();
    let head = format!(
        "POST /v1/embeddings HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {KEY}\r\n\
         Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n{:x}\r\n",
        HTTP_BODY_BYTES_MAX + 1
    );
    stream.write_all(head.as_bytes()).expect("the worker reads");
    let _ = stream.write_all(&body(HTTP_BODY_BYTES_MAX + 1));
    let _ = stream.write_all(b"\r\n0\r\n\r\n");
    assert_eq!(answer(stream).status, 413);
    let texts = |n: usize| client.embed(&json!({ "input": vec!["a"; n] }));
    assert_eq!(texts(HTTP_INPUTS_MAX).vectors().len(), HTTP_INPUTS_MAX);
    assert!(texts(HTTP_INPUTS_MAX + 1).error().3.contains("more than 2048"));
    let long = format!("X-Long: {}", "x".repeat(HTTP_HEAD_BYTES_MAX));
    assert_eq!(client.ask("GET", "/health", &[&long]).status, 431);
    let many: Vec<String> = (0..100).map(|n| format!("X-{n}: x")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    assert_eq!(client.ask("GET", "/health", &many).status, 431);
    is_served(&client);
}

#[test]
fn who_does_not_come_to_an_end_keeps_nobody_else() {
    let (_home, _worker, client) = serve();
    let half_a_head = "POST /v1/embeddings HTTP/1.1\r\nHost: localh";
    let half_a_body = format!(
        "POST /v1/embeddings HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {KEY}\r\n\
         Content-Type: application/json\r\nContent-Length: 1000\r\n\r\n{{\"input\":"
    );
    let slow: Vec<_> = (0..100)
        .map(|n| {
            let mut stream = client.connect();
            let text = if n % 2 == 0 { half_a_head } else { &half_a_body };
            stream.write_all(text.as_bytes()).expect("the worker reads");
            stream
        })
        .collect();
    is_served(&client);
    drop(slow);
    is_served(&client);
}

#[test]
fn strangers_do_not_take_all_places() {
    let (_home, _worker, client) = serve();
    // More than there are places, and none of them ever says who they are.
    let heads = ["", "G", "POST /v1/embeddings HTTP/1.1\r\nHost: localhost\r\nX-Slow: "];
    let strangers: Vec<_> = (0..2 * HTTP_CONNECTIONS_MAX)
        .map(|n| {
            let mut stream = client.connect();
            // The first ones are sent away as the last ones come.
            let _ = stream.write_all(heads[n % heads.len()].as_bytes());
            stream
        })
        .collect();
    is_served(&client);
    let refused = "GET /v1/models HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer x\r\n\r\n";
    let more: Vec<_> = (0..HTTP_CONNECTIONS_MAX)
        .map(|_| {
            let mut stream = client.connect();
            let _ = stream.write_all(refused.as_bytes());
            stream
        })
        .collect();
    is_served(&client);
    drop((strangers, more));
}

#[test]
fn connections_that_are_kept_for_later_make_room_for_new_ones() {
    let (_home, _worker, client) = serve();
    let request = format!(
        "GET /v1/models HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {KEY}\r\n\r\n"
    );
    let kept: Vec<_> = (0..HTTP_CONNECTIONS_MAX)
        .map(|_| {
            let mut stream = client.connect();
            stream.write_all(request.as_bytes()).expect("the worker reads");
            let mut byte = [0];
            stream.read_exact(&mut byte).expect("it is answered");
            stream
        })
        .collect();
    is_served(&client);
    // The one that was kept longest has gone, whole answer and all.
    let first = answer(kept.into_iter().next().expect("the first"));
    assert!(first.body.contains("\"tiny\""), "{first:?}");
}

#[test]
fn a_refusal_is_heard_by_who_sends_all_before_it_listens() {
    let (_home, _worker, client) = serve();
    let large = 8 * HTTP_BODY_BYTES_MAX;
    for (key, length, status) in [
        ("sk-wrong-wrong-wrong", HTTP_BODY_BYTES_MAX, 401),
        ("sk-wrong-wrong-wrong", large, 401),
        (KEY, large, 413),
    ] {
        let mut request = format!(
            "POST /v1/embeddings HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {key}\r\n\
             Content-Type: application/json\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n"
        )
        .into_bytes();
        request.resize(request.len() + length, b' ');
        assert_eq!(client.say(&request).status, status);
    }
    is_served(&client);
}

#[test]
fn who_leaves_before_the_answer_costs_no_more_than_what_is_in_work() {
    let (_home, _worker, client) = serve();
    let body = json!({ "input": vec!["a text of some length"; 2000] }).to_string();
    let request = format!(
        "POST /v1/embeddings HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {KEY}\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    for _ in 0..4 {
        let mut stream = client.connect();
        stream.write_all(request.as_bytes()).expect("the worker reads");
    }
    // Their texts are cancelled: the queue empties, and room for vectors is given back.
    let figure = |name: &str| {
        let metrics = client.get("/metrics").body;
        let line =
            metrics.lines().find(|line| line.starts_with(name)).expect("a figure").to_owned();
        line.rsplit(' ').next().and_then(|n| n.parse::<f64>().ok()).expect("a number")
    };
    let give_up = std::time::Instant::now() + crate::support::worker::PATIENCE;
    while figure("embed_worker_queue_texts{") + figure("embed_worker_texts_in_work") > 0.0 {
        assert!(std::time::Instant::now() < give_up);
    }
    let many = client.embed(&json!({ "input": vec!["b"; 2000] }));
    assert_eq!(many.vectors().len(), 2000);
}

/// An endpoint in this process, for tests that let time pass.
fn endpoint() -> Arc<HttpService> {
    let options = Options {
        guard: Guard::new("127.0.0.1:80".parse().expect("an address"), None, &[]),
        models: vec!["tiny".into()],
        model_path: String::new(),
    };
    HttpService::new(service(Box::new(|| Ok(()))), options)
}

/// What comes back for `sent` when nothing follows it, and after how long.
async fn after_silence(sent: &[u8]) -> (String, Duration) {
    let endpoint = endpoint();
    let (ours, mut theirs) = tokio::io::duplex(64 * 1024);
    let begun = Instant::now();
    let serving = tokio::spawn(async move { serve_connection(&endpoint, ours).await });
    theirs.write_all(sent).await.expect("room");
    let mut heard = Vec::new();
    let end = timeout(Duration::from_secs(3600), theirs.read_to_end(&mut heard)).await;
    end.expect("the connection is closed in the end").expect("no error in memory");
    serving.await.expect("no panic");
    (String::from_utf8(heard).expect("text"), begun.elapsed())
}

#[tokio::test(start_paused = true)]
async fn a_head_or_body_that_does_not_come_is_awaited_so_long_and_no_longer() {
    for sent in ["", "GET /health HT", "GET /health HTTP/1.1\r\nHost: localhost\r\n"] {
        let (heard, after) = after_silence(sent.as_bytes()).await;
        assert!(heard.is_empty() || heard.starts_with("HTTP/1.1 408"), "{sent:?}: {heard}");
        assert!((HTTP_HEAD_TIMEOUT..2 * HTTP_HEAD_TIMEOUT).contains(&after), "{sent:?}: {after:?}");
    }
    // Between two requests as well.
    let (heard, after) = after_silence(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
    assert!(heard.starts_with("HTTP/1.1 200"), "{heard}");
    assert!(after >= HTTP_HEAD_TIMEOUT, "{after:?}");
    let body =
        b"POST /v1/embeddings HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
        Content-Length: 100\r\n\r\n{\"input\":";
    let (heard, after) = after_silence(body).await;
    assert!(heard.starts_with("HTTP/1.1 408") && heard.contains("request_timeout"), "{heard}");
    assert!((HTTP_BODY_TIMEOUT..2 * HTTP_BODY_TIMEOUT).contains(&after), "{after:?}");
}
