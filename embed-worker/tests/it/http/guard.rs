//! Who is heard, and who is not.

use serde_json::json;

use super::client::Client;
use super::{KEY, serve, serve_with};
use crate::support::worker::{Home, Worker, tiny_model};

#[test]
fn without_the_key_there_is_only_health() {
    let (_home, _worker, client) = serve();
    assert_eq!(client.ask("GET", "/health", &[]).json(), json!({ "status": "ok" }));
    for path in ["/v1/models", "/metrics", "/v1/embeddings", "/nothing"] {
        for headers in [&[][..], &["Authorization: Bearer wrong"], &["Authorization: Basic eDp5"]] {
            let answer = client.ask("GET", path, headers);
            assert_eq!(answer.error().1, "invalid_api_key");
            assert_eq!((answer.status, &*answer.headers["www-authenticate"]), (401, "Bearer"));
        }
    }
    assert_eq!(client.get("/v1/models").status, 200);
}

#[test]
fn a_page_that_a_browser_shows_cannot_ask() {
    let (_home, _worker, client) = serve_with(&["--allow-host", "embed.internal"]);
    let key = format!("Authorization: Bearer {KEY}");
    let ask = |host: &str| client.ask("GET", "/v1/models", &[&format!("Host: {host}"), &key]);
    assert_eq!(ask("evil.example").error().1, "host_not_allowed");
    assert_eq!(ask("evil.example").status, 403);
    for host in ["localhost:1234", "127.0.0.1", "embed.internal"] {
        assert_eq!(ask(host).status, 200, "{host}");
    }
    // What a page may send without asking first, and what it asks first.
    let plain = format!(
        "POST /v1/embeddings HTTP/1.1\r\nHost: localhost\r\n{key}\r\nContent-Type: text/plain\r\n\
         Content-Length: 13\r\nConnection: close\r\n\r\n{{\"input\":\"a\"}}"
    );
    assert_eq!(client.say(plain.as_bytes()).error().1, "unsupported_media_type");
    let headers = ["Origin: https://evil.example", "Access-Control-Request-Method: POST", &key];
    let preflight = client.ask("OPTIONS", "/v1/embeddings", &headers);
    assert_eq!(preflight.status, 405);
    for answer in [preflight, client.ask("GET", "/v1/models", &headers)] {
        let cors = answer.headers.keys().filter(|name| name.starts_with("access-control"));
        assert_eq!(cors.count(), 0, "{answer:?}");
    }
}

#[test]
fn no_key_is_wanted_only_where_only_this_machine_reaches() {
    let home = Home::new();
    let mut open = home.serve(&tiny_model());
    let worker = Worker::spawn(open.args(["--http", "0", "--no-auth"]));
    let client = Client::of_ready_line(&worker.line().expect("a line"));
    assert_eq!(client.ask("GET", "/v1/models", &[]).status, 200);

    let home = Home::new();
    let mut open = home.serve(&tiny_model());
    let worker = Worker::spawn(open.args(["--http", "0.0.0.0:0", "--no-auth"]));
    let line = worker.line().expect("a line");
    assert!(line.contains("EMBED_BAD_ARGUMENT") && line.contains("--no-auth"), "{line}");
    assert!(!worker.end().0.success());
}

#[test]
fn a_key_is_made_kept_and_told_where_but_never_shown() {
    let home = Home::new();
    let key_of = |home: &Home| {
        let worker = Worker::spawn(home.serve(&tiny_model()).args(["--http", "0"]));
        let client = Client::of_ready_line(&worker.line().expect("a line"));
        let path = home.cache().join("http.key");
        let key = std::fs::read_to_string(&path).expect("made").trim().to_owned();
        let header = format!("Authorization: Bearer {key}");
        assert_eq!(client.ask("GET", "/v1/models", &[&header]).status, 200);
        #[cfg(unix)]
        {
            worker.signal(rustix::process::Signal::TERM);
            let (status, stderr) = worker.end();
            assert!(status.success());
            assert!(
                stderr.contains(&*path.to_string_lossy()) && !stderr.contains(&key),
                "{stderr}"
            );
        }
        key
    };
    assert_eq!(key_of(&home), key_of(&home), "clients need not be told anew");

    let home = Home::new();
    let mut short = home.serve(&tiny_model());
    let worker = Worker::spawn(short.args(["--http", "0"]).env("EMBED_API_KEY", "short"));
    let line = worker.line().expect("a line");
    assert!(line.contains("wanted at least 16") && !line.contains("short"), "{line}");
}
