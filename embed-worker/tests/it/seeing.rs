//! What can be seen of running workers from outside: `ps`, `stats`, `stop`, and logs.

mod commands;
mod exposition;
mod logs;
mod prometheus;

use std::process::{Command, Output};

use crate::support::worker::{Home, Worker, tiny_model};

/// A worker that stays for half a minute without a client, and where it listens.
fn serve() -> (Home, Worker) {
    let home = Home::new();
    let worker = Worker::ready(home.serve(&tiny_model()).args(["--idle-timeout", "30"]));
    (home, worker)
}

/// Runs the program on the workers of `home`.
fn run(home: &Home, args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_embed-worker"));
    command.args(args).env("EMBED_RUNTIME_DIR", home.path()).env_remove("EMBED_LOG");
    command.output().expect("the program runs")
}

/// What it writes to standard output, if it ends with `code`.
fn told(home: &Home, args: &[&str], code: i32) -> String {
    let output = run(home, args);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{args:?}: {stderr}");
    String::from_utf8(output.stdout).expect("text")
}
