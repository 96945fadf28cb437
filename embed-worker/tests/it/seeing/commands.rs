//! `ps`, `stats` and `stop` on real workers.

use serde_json::Value;

use super::{run, serve, told};
use crate::support::peer::Peer;
use crate::support::program::until;
use crate::support::worker::{Home, Worker, real_model, tiny_model};

fn json(home: &Home, args: &[&str]) -> Vec<Value> {
    let text = told(home, args, 0);
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

#[tokio::test]
async fn ps_lists_workers_for_a_person() {
    let (home, worker) = serve();
    let mut peer = Peer::open(&home).await;
    peer.is_served().await;
    let text = told(&home, &["ps"], 0);
    let lines: Vec<Vec<&str>> =
        text.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(lines.len(), 2, "{text}");
    let heading = ["PID", "MODEL", "UPTIME", "CLIENTS", "VECTORS", "TOKENS/S", "MEMORY", "HEALTH"];
    assert_eq!(lines[0], heading);
    assert_eq!(lines[1][..2], [&*worker.pid().to_string(), "bert-mean-Q4_0.gguf"], "{text}");
    assert_eq!(lines[1][3..5], ["1", "1"], "{text}");
    assert_eq!(lines[1].last(), Some(&"ok"), "{text}");
    assert!(!text.contains('\u{1b}'), "no colours in a pipe");
}

#[tokio::test]
async fn ps_lists_workers_for_a_program() {
    let (home, worker) = serve();
    let mut peer = Peer::open(&home).await;
    peer.is_served().await;
    let rows = json(&home, &["ps", "--json"]);
    assert_eq!(rows.len(), 1);
    let row = &rows[0];
    assert_eq!(row["pid"], worker.pid());
    let model = tiny_model().canonicalize().expect("committed");
    assert_eq!(row["model"], model.to_str().expect("text"));
    assert_eq!(row["endpoint"], home.endpoint().to_string());
    assert_eq!(row["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!((&row["health"], &row["why"]), (&"ok".into(), &Value::Null));
    assert_eq!((&row["clients"], &row["vectors"]), (&1.into(), &1.into()));
    assert!(row["tokens_per_second"].as_f64().is_some_and(|speed| speed > 0.0), "{row}");
}

#[test]
fn where_nobody_runs_nobody_is_listed() {
    let home = Home::new();
    assert_eq!(json(&home, &["ps", "--json"]), Vec::<Value>::new());
    assert_eq!(told(&home, &["ps"], 0).lines().count(), 1, "the heading");
    assert_eq!(told(&home, &["stats"], 0), "");
    assert_eq!(told(&home, &["stop", "--all"], 0), "");
    assert_eq!(told(&home, &["stats", "--pid", "1"], 3), "");
    assert_eq!(told(&home, &["stop", "--pid", "1"], 3), "");
    assert_eq!(told(&home, &["stop"], 2), "", "whom?");
    assert_eq!(told(&home, &["stop", "--all", "--pid", "1"], 2), "", "all or one?");
    assert_eq!(told(&home, &["stats", "--json", "--prometheus"], 2), "");
}

#[test]
fn the_card_of_a_killed_worker_is_passed_over() {
    let (home, worker) = serve();
    assert_eq!(json(&home, &["ps", "--json"]).len(), 1);
    worker.kill();
    assert_eq!(json(&home, &["ps", "--json"]), Vec::<Value>::new());
    assert_eq!(told(&home, &["stop", "--all", "--force"], 0), "", "its process id is anybody's");
}

/// Otherwise whoever looks every few seconds would keep every worker for ever.
#[test]
fn looking_does_not_keep_a_worker() {
    let home = Home::new();
    let worker = Worker::ready(home.serve(&tiny_model()).args(["--idle-timeout", "0"]));
    // It waits for its first client for some seconds, and then for none.
    until("the worker leaves while it is looked at", || {
        told(&home, &["ps", "--json"], 0) == "[]\n"
    });
    worker.leaves(&home);
}

#[tokio::test]
async fn stats_tells_what_was_done_and_how_it_ended() {
    let (home, worker) = serve();
    let mut peer = Peer::open(&home).await;
    for id in 0..20 {
        peer.embed(id, "a text").await;
    }
    for _ in 0..20 {
        peer.vector().await;
    }
    peer.embed(30, &"too long ".repeat(1000)).await;
    peer.error().await;
    let none = embed_protocol::EmbedParams { dimensions: Some(0), ..Default::default() };
    peer.embed_with(31, "a text", none).await;
    peer.error().await;
    let told_of = json(&home, &["stats", "--json"]);
    assert_eq!(told_of.len(), 1);
    let worker_told = &told_of[0];
    assert_eq!(worker_told["pid"], worker.pid());
    assert_eq!(worker_told["model_info"]["architecture"], "bert");
    let stats = &worker_told["stats"];
    assert_eq!((&stats["vectors"], &stats["errors"]), (&20.into(), &2.into()));
    let codes = &stats["errors_by_code"];
    assert_eq!(codes["EMBED_TEXT_TOO_LONG"], 1);
    assert_eq!(codes["EMBED_BAD_ARGUMENT"], 1, "refused before it reached the queue");
    assert_eq!(codes["EMBED_OVERLOADED"], 0);
    let tokens = stats["tokens"].as_u64().expect("a number");
    assert!(tokens >= 20 * 3, "{tokens}");
    assert_eq!(stats["recent_tokens"], tokens, "all of them within a minute");
    for part in ["queue", "tokenize", "compute", "total"] {
        let times = &stats["latency"][part];
        assert_eq!(times["count"], 20, "{part}");
        let us = |name: &str| times[name].as_u64().expect("a number");
        let rising = [us("p50_us"), us("p90_us"), us("p99_us"), us("max_us")];
        assert!(rising.is_sorted(), "{part}: {rising:?}");
        assert!(us("sum_us") >= us("max_us") && us("sum_us") <= 20 * us("max_us"), "{times}");
    }
    let total = stats["latency"]["total"]["sum_us"].as_u64();
    assert!(total >= stats["latency"]["compute"]["max_us"].as_u64(), "{stats}");
    assert!(worker_told["batch_fill"].as_f64().is_some_and(|fill| fill > 0.0 && fill <= 1.0));
    assert_eq!((&stats["queued"], &stats["clients"]), (&0.into(), &1.into()));
    assert_eq!(stats["connections"], 2, "the peer's and that which asks");

    let text = told(&home, &["stats"], 0);
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    for wanted in ["vectors 20", "EMBED_TEXT_TOO_LONG 1", "p99", "1 of clients"] {
        assert!(text.contains(wanted), "no `{wanted}` in {text}");
    }
    assert!(!text.contains("EMBED_OVERLOADED"), "what never came: {text}");
}

#[test]
fn workers_are_told_apart_by_model_and_process() {
    let (home, tiny) = serve();
    // In the same folder, at an endpoint of its own.
    let other = embed_protocol::Endpoint::in_dir(home.path(), &format!("other-{}", tiny.pid()));
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_embed-worker"));
    command.arg("serve").arg("--model").arg(real_model()).arg("--endpoint").arg(other.address());
    command.args(["--idle-timeout", "30"]).env("EMBED_RUNTIME_DIR", home.path());
    let real = Worker::ready(&mut command);
    assert_eq!(json(&home, &["ps", "--json"]).len(), 2);
    let model = tiny_model();
    let of_model = json(&home, &["stats", "--json", "--model", model.to_str().expect("text")]);
    let of_process = json(&home, &["stats", "--json", "--pid", &real.pid().to_string()]);
    assert_eq!(of_model[0]["pid"], tiny.pid());
    assert_eq!(of_process[0]["pid"], real.pid());
    assert_eq!((of_model.len(), of_process.len()), (1, 1));
    let told_of = told(&home, &["stop", "--pid", &real.pid().to_string()], 0);
    assert!(told_of.starts_with(&format!("stopped {} ", real.pid())), "{told_of}");
    assert!(real.end().0.success());
    let rest = json(&home, &["ps", "--json"]);
    assert_eq!((rest.len(), &rest[0]["pid"]), (1, &tiny.pid().into()));
    told(&home, &["stop", "--all"], 0);
    tiny.leaves(&home);
}

#[tokio::test]
async fn stop_waits_until_what_was_asked_is_answered() {
    let (home, worker) = serve();
    let mut peer = Peer::open(&home).await;
    for id in 0..500 {
        peer.embed(id, "a text").await;
    }
    let model = tiny_model();
    let args = ["stop", "--model", model.to_str().expect("text")];
    let asked = told(&home, &args, 0);
    assert!(asked.starts_with("stopped "), "{asked}");
    let mut answered = 0;
    while let Some(answer) = peer.next().await {
        let is_known = matches!(
            answer,
            embed_protocol::Response::Vector { .. } | embed_protocol::Response::Error { .. }
        );
        assert!(is_known, "{answer:?}");
        answered += 1;
    }
    // Those that the worker had not read when it was told were left to its successor.
    assert!(answered > 0);
    worker.leaves(&home);
}

#[test]
fn a_worker_that_listens_on_tcp_is_seen_and_stopped_like_any_other() {
    let home = Home::new();
    let mut command = home.serve(&tiny_model());
    command.args(["--idle-timeout", "30"]).env("EMBED_TRANSPORT", "tcp");
    let worker = Worker::ready(&mut command);
    let row = &json(&home, &["ps", "--json"])[0];
    assert_eq!((&row["pid"], &row["health"]), (&worker.pid().into(), &"ok".into()), "{row}");
    assert_eq!(json(&home, &["stats", "--json"])[0]["stats"]["protocol_errors"], 0);
    told(&home, &["stop", "--all"], 0);
    worker.leaves(&home);
}

/// Whoever is there after a worker has lost its port is told nothing, and nobody is killed for it.
#[test]
fn a_port_that_is_somebody_elses_is_told_nothing() {
    use std::io::{Read, Write};
    let home = Home::new();
    let mut command = home.serve(&tiny_model());
    command.args(["--idle-timeout", "30"]).env("EMBED_TRANSPORT", "tcp");
    let mut worker = Worker::ready(&mut command);
    let path = home.endpoint().tcp_path();
    let key = std::fs::read(&path).expect("a key");
    let mut key = embed_protocol::secret::KeyFile::from_bytes(&key).expect("a key");
    let stranger = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    key.port = stranger.local_addr().expect("a port").port();
    let unfinished = path.with_extension("new");
    embed_protocol::private_file::replace(&path, &unfinished, &key.to_bytes()).expect("ours");
    let heard = std::thread::spawn(move || {
        let (mut stream, _) = stranger.accept().expect("somebody comes");
        let mut nonce = [0; 32];
        stream.read_exact(&mut nonce).expect("a nonce");
        stream.write_all(&[7; 64]).expect("they listen");
        let mut rest = Vec::new();
        let _ = stream.read_to_end(&mut rest);
        rest
    });
    let output = run(&home, &["stop", "--all", "--force"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(heard.join().expect("no panic").is_empty(), "told more than a nonce");
    assert!(worker.is_running(), "killed");
}

#[test]
fn a_worker_that_hangs_is_told_of_and_stopped_by_force_alone() {
    let (home, worker) = serve();
    worker.suspend();
    let row = &json(&home, &["ps", "--json"])[0];
    assert_eq!(row["health"], "not_answering");
    assert_eq!((&row["pid"], &row["vectors"]), (&worker.pid().into(), &Value::Null));
    assert!(row["why"].as_str().is_some_and(|why| !why.is_empty()), "{row}");
    assert!(told(&home, &["ps"], 0).contains("not answering"));
    assert!(told(&home, &["stats"], 1).contains("not answering"));
    let output = run(&home, &["stop", "--all"]);
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains(&worker.pid().to_string()) && said.contains("--force"), "{said}");
    let told_of = told(&home, &["stop", "--all", "--force"], 0);
    assert!(told_of.starts_with(&format!("killed {} ", worker.pid())), "{told_of}");
    let (status, _) = worker.end();
    assert!(!status.success(), "{status}");
}

#[cfg(unix)]
#[test]
fn a_folder_that_others_may_enter_is_not_believed() {
    use std::os::unix::fs::PermissionsExt;
    let (home, _worker) = serve();
    std::fs::set_permissions(home.path(), std::fs::Permissions::from_mode(0o755)).expect("ours");
    let output = run(&home, &["stop", "--all", "--force"]);
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("has mode 755"), "{said}");
}

#[cfg(windows)]
#[test]
fn a_folder_that_others_may_write_to_is_not_believed() {
    use crate::support::worker::windows_tool;
    let (home, _worker) = serve();
    assert!(windows_tool("let_in").arg(home.path()).status().expect("is built").success());
    let output = run(&home, &["stop", "--all", "--force"]);
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("may be written to by everyone"), "{said}");
}

/// A card can be wrong in a folder that several systems share, each with process ids of its own.
#[cfg(target_os = "linux")]
#[test]
fn a_card_that_names_another_process_kills_nobody() {
    let (home, mut worker) = serve();
    let mut bystander = std::process::Command::new("sleep").arg("1000").spawn().expect("sleeps");
    let endpoint = home.endpoint();
    let card = embed_protocol::WorkerCard::read(&endpoint).expect("readable").expect("a card");
    let wrong = embed_protocol::WorkerCard { pid: bystander.id(), ..card };
    wrong.write(&endpoint).expect("ours");
    let output = run(&home, &["stop", "--all", "--force"]);
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains(&worker.pid().to_string()), "{said}");
    assert!(worker.is_running(), "nothing was sent to it");
    assert!(bystander.try_wait().expect("ours").is_none(), "killed");
    bystander.kill().expect("ours");
    bystander.wait().expect("ours");
}
