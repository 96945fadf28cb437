//! What travels: the messages, all but the figures of [`crate::stats`].
//!
//! Structs are MessagePack maps with the field names as keys; a reader ignores keys that it does not
//! know, so that a field can be added without a new protocol version.

use serde::{Deserialize, Serialize};

use crate::{ErrorCode, StatsSnapshot, Task};

/// From client to worker.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Request {
    /// The first frame of every connection.
    Hello(ClientHello),
    /// One text to embed, or the first part of one.
    Embed {
        /// Chosen by the client, unique among its requests without an answer.
        id: u64,
        /// The text, at most [`crate::TEXT_PART_BYTES_MAX`] bytes of it, cut between characters.
        text: String,
        /// Whether [`Request::Part`]s of the same id follow.
        more: bool,
        /// How to embed it.
        params: EmbedParams,
    },
    /// The next part of a text larger than a frame.
    Part {
        /// The id of the `Embed` that began the text.
        id: u64,
        /// The next bytes of the text.
        text: String,
        /// Whether further parts follow.
        more: bool,
    },
    /// The caller no longer wants this answer; what has not begun is skipped.
    /// The worker still answers the request, with [`ErrorCode::Cancelled`] or with the vector.
    Cancel {
        /// The request that is not wanted any more.
        id: u64,
    },
    /// Answered at once with [`Response::Pong`], past every queue.
    Ping {
        /// Comes back in the answer.
        id: u64,
    },
    /// Asks for [`Response::Stats`].
    Stats {
        /// Comes back in the answer.
        id: u64,
    },
    /// Asks the worker to finish what it has and exit; answered with [`Response::Pong`].
    Shutdown {
        /// Comes back in the answer.
        id: u64,
    },
}

/// How a client introduces itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ClientHello {
    /// The client's [`crate::PROTOCOL_VERSION`].
    pub protocol: u16,
    /// Version of the client's package.
    pub version: String,
    /// Process id, for logs.
    pub pid: u32,
    /// Whether it only looks, as `embed-worker ps` does: a connection that does not keep the worker
    /// from leaving.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub observer: bool,
}

/// How one text is to be embedded.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct EmbedParams {
    /// Cut the text at the model's context instead of refusing it.
    pub truncate: bool,
    /// Scale the vector to unit length.
    pub normalize: bool,
    /// Keep only the first so many dimensions (Matryoshka); `None` keeps all.
    pub dimensions: Option<u32>,
    /// Which lane the request waits in.
    pub priority: Priority,
    /// Milliseconds after which nobody waits for the answer any more; `None` waits for ever.
    pub deadline_ms: Option<u32>,
    /// What it is embedded for: the worker puts the model's own words for that before the text.
    /// `None` embeds the text as it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task: Option<Task>,
}

impl Default for EmbedParams {
    fn default() -> Self {
        Self {
            truncate: false,
            normalize: true,
            dimensions: None,
            priority: Priority::Interactive,
            deadline_ms: None,
            task: None,
        }
    }
}

/// The two lanes of the queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Priority {
    /// Somebody waits: goes before all bulk work at every batch.
    Interactive,
    /// Indexing: takes what is left.
    Bulk,
}

/// From worker to client.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Response {
    /// The answer to [`Request::Hello`].
    Hello(WorkerHello),
    /// The answer to a whole [`Request::Embed`].
    Vector {
        /// The id of the request.
        id: u64,
        /// Little-endian f32 values, see [`crate::vector`].
        #[serde(with = "serde_bytes")]
        vector: Vec<u8>,
        /// Tokens of the text as embedded, special tokens included.
        tokens: u32,
        /// Whether the text was cut at the context.
        truncated: bool,
        /// Where the time went.
        timings: Timings,
    },
    /// A request failed, or (without an id) the connection is about to be closed.
    Error {
        /// The id of the request, if the failure belongs to one.
        id: Option<u64>,
        /// What to branch on.
        code: ErrorCode,
        /// What to read.
        message: String,
    },
    /// The answer to [`Request::Ping`] and [`Request::Shutdown`].
    Pong {
        /// The id of the request.
        id: u64,
    },
    /// The answer to [`Request::Stats`].
    Stats {
        /// The id of the request.
        id: u64,
        /// The figures.
        stats: StatsSnapshot,
    },
}

/// How a worker introduces itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WorkerHello {
    /// The worker's [`crate::PROTOCOL_VERSION`].
    pub protocol: u16,
    /// Version of the worker's package.
    pub version: String,
    /// Process id.
    pub pid: u32,
    /// Name of the chosen kernels, for example `x86_64-avx2`.
    pub kernels: String,
    /// Number of the connection, unique in this worker: the same in the logs of both sides.
    #[serde(default)]
    pub connection: u64,
    /// The model that it serves.
    pub model: ModelInfo,
}

/// What a client may want to know of the model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ModelInfo {
    /// `general.name` of the file, or its file name.
    pub name: String,
    /// `general.architecture`.
    pub architecture: String,
    /// Length of a vector.
    pub dimensions: u32,
    /// Most tokens in one text, special tokens included.
    pub context_tokens: u32,
    /// `mean`, `cls` or `last`.
    pub pooling: String,
    /// The tensor type that most weights have, for example `Q8_0`.
    pub quantization: String,
    /// Digest of the file's header: two files with the same one have the same architecture,
    /// dimensions, tokenizer and tensor types.
    pub fingerprint: String,
}

/// Where the time of one request went, inside the worker.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Timings {
    /// From the request's last byte to the start of its batch, in microseconds.
    pub queue_us: u32,
    /// Tokenizing the texts of its batch, in microseconds.
    pub tokenize_us: u32,
    /// Computing its batch, in microseconds.
    pub compute_us: u32,
}
