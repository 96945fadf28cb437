//! A worker's service in this process, for tests that let time pass.

use std::sync::Arc;

use embed_protocol::{ModelInfo, PROTOCOL_VERSION, WorkerHello};
use embed_worker::batch::{Batcher, Check};
use embed_worker::config::MEMORY_BUDGET;
use embed_worker::engine::{Engine, EngineOptions};
use embed_worker::kernels::Isa;
use embed_worker::server::Service;

use super::worker::tiny_model;

/// One that answers with the tiny model, and asks `check` before and after each batch.
pub(crate) fn service(check: Check) -> Arc<Service> {
    let options = EngineOptions {
        threads: 1,
        isa: Isa::best(),
        batch_tokens: 512,
        memory_budget: MEMORY_BUDGET,
    };
    let engine = Engine::open(&tiny_model(), &options).expect("a sound model");
    let batcher = Batcher::start(engine, check).expect("a thread");
    let hello = WorkerHello {
        protocol: PROTOCOL_VERSION,
        version: String::new(),
        pid: 0,
        kernels: String::new(),
        connection: 0,
        model: ModelInfo {
            name: "tiny".into(),
            architecture: "bert".into(),
            dimensions: 256,
            context_tokens: 256,
            pooling: "mean".into(),
            quantization: String::new(),
            fingerprint: String::new(),
        },
    };
    Service::new(hello, batcher)
}
