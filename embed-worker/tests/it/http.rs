//! `serve --http`: a real worker, real sockets, and requests as OpenAI's clients send them, and as others
//! do.

mod client;
mod guard;
mod life;
mod troubles;
mod vectors;

use crate::support::worker::{Home, Worker, tiny_model};
use client::Client;

/// The key of the workers of these tests.
const KEY: &str = "sk-0123456789abcdef";

/// Dimensions and context of the model of these tests.
const DIMENSIONS: usize = 256;
const CONTEXT: usize = 256;

/// A worker that listens over HTTP, and a client of it with the key.
fn serve() -> (Home, Worker, Client) {
    serve_with(&[])
}

fn serve_with(args: &[&str]) -> (Home, Worker, Client) {
    let home = Home::new();
    let mut command = home.serve(&tiny_model());
    command.args(["--http", "0", "--served-model-name", "tiny", "--served-model-name", "also"]);
    command.args(args).env("EMBED_API_KEY", KEY);
    let worker = Worker::spawn(&mut command);
    let client = Client::of_ready_line(&worker.line().expect("a line on standard output"));
    (home, worker, client)
}
