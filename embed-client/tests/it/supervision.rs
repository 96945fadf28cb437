//! Workers that are killed, that hang, that many want at once, and whose starters are killed.

use std::process::Command;
use std::sync::Barrier;
use std::time::Duration;

use embed_client::{Client, EmbedOptions, ErrorCode};
use embed_protocol::process::kill;
use futures_util::future::join_all;

use crate::support::{Place, act, built, model, until};

/// Longer than any test.
const LONG: Duration = Duration::from_secs(300);

async fn vector(client: &Client, text: &str) -> Vec<f32> {
    client.embed(text, &EmbedOptions::default()).await.expect("a vector").vector
}

/// Texts that keep a worker busy for a while.
fn texts() -> Vec<String> {
    (0..40).map(|n| format!("text {n} {}", "that takes its time ".repeat(n % 20))).collect()
}

async fn vectors(client: &Client) -> Vec<Vec<f32>> {
    let texts = texts();
    join_all(texts.iter().map(|text| vector(client, text))).await
}

#[tokio::test]
async fn a_worker_that_is_killed_is_replaced_and_nothing_is_lost() {
    let place = Place::new(LONG);
    let client = place.client();
    let calm = vectors(&client).await;
    for _ in 0..3 {
        let killed = place.worker();
        let killer = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(20));
            kill(killed).expect("ours");
        });
        assert!(vectors(&client).await == calm, "another vector");
        killer.join().expect("no panic");
        // It may have been killed when all was answered.
        assert!(vector(&client, &texts()[0]).await == calm[0], "another vector");
        assert_ne!(place.worker(), killed);
    }
}

#[tokio::test]
async fn a_worker_that_hangs_is_ended_and_replaced() {
    let place = Place::new(LONG);
    let client = place.client();
    let calm = vector(&client, "a text").await;
    let hangs = place.worker();
    suspend(hangs);
    assert!(vector(&client, "a text").await == calm, "another vector");
    assert_ne!(place.worker(), hangs);
    // And for who comes anew.
    let hangs = place.worker();
    drop(client);
    suspend(hangs);
    assert!(vector(&place.client(), "a text").await == calm, "another vector");
    assert_ne!(place.worker(), hangs);
}

/// Stops a process where it stands.
fn suspend(pid: u32) {
    let mut command = if cfg!(windows) {
        Command::new(built("examples/suspend"))
    } else {
        let mut kill = Command::new("kill");
        kill.arg("-STOP");
        kill
    };
    assert!(command.arg(pid.to_string()).status().expect("a tool").success());
}

#[test]
fn clients_that_come_at_once_share_one_worker() {
    const CLIENTS: usize = 12;
    let place = Place::new(LONG);
    let start = Barrier::new(CLIENTS);
    let found: Vec<_> = std::thread::scope(|scope| {
        let one = || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let client = place.client();
            start.wait();
            runtime.expect("a runtime").block_on(async {
                let first = vector(&client, "a text").await;
                (first, client.embed("a text", &EmbedOptions::default()).await.is_ok())
            })
        };
        let clients: Vec<_> = (0..CLIENTS).map(|_| scope.spawn(one)).collect();
        clients.into_iter().map(|client| client.join().expect("no panic")).collect()
    });
    assert!(found.iter().all(|one| *one == found[0]), "another vector");
    place.worker();
}

#[tokio::test]
async fn a_worker_outlives_the_program_that_started_it_and_leaves_after_the_last_client() {
    if act().await {
        return;
    }
    let place = Place::new(LONG);
    let test = "supervision::a_worker_outlives_the_program_that_started_it_and_leaves_after_the_last_client";
    let starter = place.program(test);
    starter.is_served();
    let worker = place.worker();
    let client = place.client();
    let calm = vector(&client, "a text").await;
    // In the middle of a request of its own.
    starter.kill();
    assert!(vector(&client, "a text").await == calm, "another vector");
    assert_eq!(place.worker(), worker, "it has ended with the program that started it");
    let last = place.program(test);
    last.is_served();
    drop(client);
    last.kill();
    place.is_left().await;
}

#[tokio::test]
async fn many_programs_killed_in_the_middle_of_their_requests_leave_nothing_behind() {
    if act().await {
        return;
    }
    let place = Place::new(LONG);
    let test =
        "supervision::many_programs_killed_in_the_middle_of_their_requests_leave_nothing_behind";
    let programs: Vec<_> = (0..5).map(|_| place.program(test)).collect();
    for program in &programs {
        program.is_served();
    }
    place.worker();
    programs.into_iter().for_each(crate::support::Program::kill);
    place.is_left().await;
}

/// Longer than the 260 characters that Windows knew once, and of letters that no code page has together;
/// so the worker listens on TCP where a socket's path would be too long.
#[tokio::test]
async fn paths_are_of_any_length_and_of_any_letters() {
    let mut place = Place::new(Duration::ZERO);
    let root = place.options.runtime_dir.parent().expect("has one").to_owned();
    let deep = ["Jürgen Groß", "世界", "Пользователь", "🦀"]
        .iter()
        .fold(root, |path, part| path.join(part.repeat(66 / part.encode_utf16().count())));
    assert!(deep.as_os_str().to_string_lossy().encode_utf16().count() > 260);
    std::fs::create_dir_all(&deep).expect("room");
    let given = |name: &str, file: std::path::PathBuf| {
        let path = deep.join(name);
        std::fs::hard_link(&file, &path)
            .or_else(|_| std::fs::copy(&file, &path).map(drop))
            .expect("room");
        path
    };
    let executable = format!("embed-worker{}", std::env::consts::EXE_SUFFIX);
    place.options.worker = given(&executable, built("embed-worker"));
    place.options.model = given("model ü.gguf", model());
    place.options.runtime_dir = deep.join("run");
    // So that something is remembered.
    std::fs::write(
        deep.join("model ü.gguf.sha256"),
        "0000000000000000000000000000000000000000000000000000000000000000  model ü.gguf\n",
    )
    .expect("room");
    for (name, value) in &mut place.options.environment {
        if name == "EMBED_CACHE_DIR" {
            *value = deep.join("cache").into();
        }
    }
    // The digest is a wrong one: that is found out, and remembered for the next.
    let client = place.client();
    let _ = client.embed("a text", &EmbedOptions::default()).await;
    until("the file was compared", || deep.join("cache").join("digests.json").exists()).await;
    let error = client.embed("a text", &EmbedOptions::default()).await;
    let error = error.expect_err("the file is not what it should be");
    assert_eq!(error.code(), ErrorCode::ModelInvalid, "{}", error.message());
    std::fs::remove_file(deep.join("model ü.gguf.sha256")).expect("ours");
    let there = vector(&place.client(), "a text").await;
    place.is_left().await;

    let place = Place::new(Duration::ZERO);
    assert!(vector(&place.client(), "a text").await == there, "another vector");
}
