//! A model file that changes under the worker that has it mapped: no wrong vector ever, and a
//! successor that answers from the file as it is then.
//!
//! Vectors are compared by their bits with those of the file that they should come of.

mod changed;
mod digest;

use std::collections::HashMap;
use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use embed_protocol::{EmbedParams, ErrorCode, Priority, Response, vector};
use embed_worker::gguf::GgufFile;
use embed_worker::kernels::{DType, Isa};

use crate::golden::{embed_alone, open};
use crate::support::peer::Peer;
use crate::support::worker::{Home, Worker, tiny_model};

/// Two models of the same size and shape that give every text another vector, a place that holds one
/// or the other, and a worker's home.
struct Rig {
    home: Home,
    folder: tempfile::TempDir,
    first: Model,
    second: Model,
}

struct Model {
    bytes: Vec<u8>,
    /// Of each text.
    vectors: HashMap<String, Vec<u32>>,
}

impl Rig {
    /// The place holds the first model.
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let first = std::fs::read(tiny_model()).expect("committed");
        let mut second = first.clone();
        let file = GgufFile::from_bytes(first.clone()).expect("sound");
        for tensor in file.tensors().iter().filter(|tensor| tensor.dtype() == DType::Q4_0) {
            let data = &mut second[tensor.offset()..][..tensor.bytes().len()];
            // The values and not the scale before them.
            for block in data.chunks_exact_mut(DType::Q4_0.block_bytes()) {
                block[5] ^= 0x3c;
            }
        }
        let model = |name: &str, bytes: Vec<u8>| {
            let path = folder.path().join(name);
            std::fs::write(&path, &bytes).expect("ours");
            Model { vectors: vectors(&path), bytes }
        };
        let (first, second) = (model("first", first), model("second", second));
        let texts = first.vectors.keys();
        assert!(texts.into_iter().all(|text| first.vectors[text] != second.vectors[text]));
        let rig = Self { home: Home::new(), folder, first, second };
        std::fs::copy(rig.folder.path().join("first"), rig.model()).expect("ours");
        rig
    }

    /// The place that workers are given.
    fn model(&self) -> PathBuf {
        self.folder.path().join("model.gguf")
    }

    fn serve(&self) -> Worker {
        Worker::ready(self.home.serve(&self.model()).args(["--idle-timeout", "30"]))
    }

    /// Writes over the file without making it shorter for a moment.
    fn rewrite(&self, bytes: &[u8]) {
        let mut file = File::options().write(true).open(self.model()).expect("ours");
        file.write_all(bytes).expect("ours");
    }

    #[cfg(unix)]
    fn cut(&self, bytes: u64) {
        let file = File::options().write(true).open(self.model()).expect("ours");
        file.set_len(bytes).expect("ours");
    }

    /// Puts another file in its place.
    fn replace(&self, by: &str) {
        let other = self.folder.path().join("other");
        std::fs::copy(self.folder.path().join(by), &other).expect("ours");
        std::fs::rename(other, self.model()).expect("ours");
    }

    /// Fails unless a worker that starts now answers with the vectors of `model`.
    async fn successor_gives(&self, model: &Model) {
        let worker = Worker::ready(self.home.serve(&self.model()).args(["--idle-timeout", "0"]));
        let mut peer = Peer::open(&self.home).await;
        gives(&mut peer, model).await;
        drop(peer);
        worker.leaves(&self.home);
    }
}

/// Short ones, and some that keep a worker busy for a while.
fn texts() -> Vec<String> {
    let long = |n: usize| format!("text {n} {}", "that takes a moment to compute ".repeat(20 + n));
    ["a", "the quick brown fox", ""]
        .map(str::to_owned)
        .into_iter()
        .chain((0..5).map(long))
        .collect()
}

/// What the model at `path` gives each text, without a worker.
fn vectors(path: &Path) -> HashMap<String, Vec<u32>> {
    let mut engine = open(path, 1, Isa::best());
    let bits = |vector: Vec<f32>| vector.into_iter().map(f32::to_bits).collect();
    texts().into_iter().map(|text| (text.clone(), bits(embed_alone(&mut engine, &text)))).collect()
}

/// Fails unless the worker answers every text with the vector of `model`.
async fn gives(peer: &mut Peer, model: &Model) {
    for (text, wanted) in &model.vectors {
        ask(peer, 1, text).await;
        let (_, found) = peer.vector().await;
        let found: Vec<u32> = found.into_iter().map(f32::to_bits).collect();
        assert!(found == *wanted, "another vector for {text:?}");
    }
}

async fn ask(peer: &mut Peer, id: u64, text: &str) {
    let params = EmbedParams { truncate: true, priority: Priority::Bulk, ..EmbedParams::default() };
    peer.embed_with(id, text, params).await;
}

/// Fails unless the next text is left to a successor, and the connection ends.
async fn is_left_to_a_successor(peer: &mut Peer) -> String {
    ask(peer, 7, "one more").await;
    let (id, code, message) = peer.error().await;
    assert_eq!((id, code), (Some(7), ErrorCode::ShuttingDown), "{message}");
    peer.is_taken_leave_of().await;
    message
}

/// Asks for many texts and does something to the file when some are answered. Fails if a vector is
/// not that of the first model; gives how many texts had one, and how many were left to a successor.
async fn under_load(rig: &Rig, peer: &mut Peer, change: impl FnOnce(&Rig)) -> (usize, usize) {
    const TEXTS: u64 = 400;
    const BEFORE: usize = 40;

    let texts = texts();
    let text = |id: u64| &texts[id as usize % texts.len()];
    for id in 0..TEXTS {
        ask(peer, id, text(id)).await;
    }
    let (mut change, mut answered, mut left) = (Some(change), 0, 0);
    while answered + left < TEXTS as usize {
        match peer.next().await {
            Some(Response::Vector { id, vector, .. }) => {
                let found = vector::from_bytes(&vector).expect("whole elements");
                let found: Vec<u32> = found.into_iter().map(f32::to_bits).collect();
                assert!(found == rig.first.vectors[text(id)], "a wrong vector for {:?}", text(id));
                answered += 1;
            }
            Some(Response::Error { code, message, .. }) => {
                assert_eq!(code, ErrorCode::ShuttingDown, "{message}");
                left += 1;
            }
            Some(other) => panic!("{other:?}"),
            // Killed: the client sends those without an answer to a successor.
            None => break,
        }
        if answered == BEFORE
            && let Some(change) = change.take()
        {
            change(rig);
        }
    }
    (answered, left)
}
