//! How long a worker over HTTP lives, and what it tells of itself.

use serde_json::json;

use super::client::Client;
use super::{serve, serve_with};
use crate::support::embedded;
use crate::support::peer::Peer;
use crate::support::worker::{Home, Worker, tiny_model};

#[tokio::test]
async fn it_stays_without_clients_and_shares_its_queue_with_the_socket() {
    let (home, mut worker, client) = serve_with(&["--idle-timeout", "0"]);
    let mut peer = Peer::open(&home).await;
    peer.is_served().await;
    drop(peer);
    // A worker without HTTP leaves now.
    let (_, wanted) = embedded(&tiny_model(), "still here", None);
    for _ in 0..3 {
        assert_eq!(
            client.embed(&json!({ "input": "still here" })).vectors(),
            std::slice::from_ref(&wanted)
        );
    }
    assert!(worker.is_running());
    let metrics = client.get("/metrics");
    assert!(metrics.headers["content-type"].starts_with("text/plain; version=0.0.4"));
    let vectors = metrics.body.lines().find(|line| line.contains("outcome=\"vector\""));
    assert!(vectors.is_some_and(|line| line.ends_with(" 4")), "both ways count: {vectors:?}");
}

#[cfg(unix)]
#[test]
fn told_to_stop_it_answers_what_it_has_and_leaves() {
    let (home, worker, client) = serve();
    let texts: Vec<String> = (0..300).map(|n| format!("text number {n} of many")).collect();
    let bulk = {
        let (client, texts) = (client.clone(), texts.clone());
        std::thread::spawn(move || client.embed(&json!({ "input": texts })))
    };
    // When some of it is in work.
    loop {
        let metrics = client.get("/metrics").body;
        let some = |name: &str| {
            metrics.lines().any(|line| line.starts_with(name) && !line.ends_with(" 0"))
        };
        if some("embed_worker_batches_total") || bulk.is_finished() {
            break;
        }
    }
    worker.signal(rustix::process::Signal::TERM);
    assert_eq!(bulk.join().expect("no panic").vectors().len(), texts.len());
    worker.leaves(&home);
    assert!(std::net::TcpStream::connect(&client.address).is_err(), "nobody listens any more");
}

#[test]
fn a_second_one_of_the_same_model_listens_as_well() {
    let home = Home::new();
    let start = || {
        // At the endpoint of the model, which only one can have.
        let mut command = home.serve(&tiny_model());
        let program = command.get_program().to_owned();
        let mut own = std::process::Command::new(program);
        own.arg("serve").arg("--model").arg(tiny_model()).args(["--http", "0", "--no-auth"]);
        for (name, value) in command.env("EMBED_THREADS", "1").get_envs() {
            match value {
                Some(value) => own.env(name, value),
                None => own.env_remove(name),
            };
        }
        let worker = Worker::spawn(&mut own);
        let line = worker.line().expect("a line");
        (Client::of_ready_line(&line), line, worker)
    };
    let (first, second) = (start(), start());
    for (client, line, _) in [&first, &second] {
        assert_eq!(client.ask("GET", "/v1/models", &[]).status, 200, "{line}");
    }
    assert_ne!(first.0.address, second.0.address);
    assert!(second.1.contains("http-"), "an endpoint of its own: {}", second.1);
}

#[test]
fn a_port_that_is_taken_is_told() {
    let (_home, _worker, client) = serve();
    let home = Home::new();
    let worker =
        Worker::spawn(home.serve(&tiny_model()).args(["--http", &client.address, "--no-auth"]));
    let line = worker.line().expect("a line");
    assert!(line.contains("cannot listen there") && line.contains(&client.address), "{line}");
    assert_eq!(worker.end().0.code(), Some(1));
}
