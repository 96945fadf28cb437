//! `serve --http`: a real worker, real sockets, and requests as OpenAI's clients send them, and as others
//! do.

mod client;
mod guard;
mod life;
mod troubles;
mod vectors;

use std::path::Path;

use embed_worker::config::MEMORY_BUDGET;
use embed_worker::engine::{Engine, EngineOptions, TokenBatch};
use embed_worker::kernels::Isa;

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

/// The ids of `text`, special tokens included, and its vector, without any worker.
fn known(model: &Path, text: &str, dimensions: Option<usize>) -> (Vec<u32>, Vec<f32>) {
    let options = EngineOptions {
        threads: 1,
        isa: Isa::best(),
        batch_tokens: 512,
        memory_budget: MEMORY_BUDGET,
    };
    let mut engine = Engine::open(model, &options).expect("a sound model");
    let mut batch = TokenBatch::new();
    engine.tokenize(text, true, &mut batch).expect("cut at the context");
    let rows = engine.embed(&batch).expect("sound weights");
    let vector = rows.vector(0, dimensions, true).expect("a vector");
    (batch.ids().to_vec(), vector)
}
