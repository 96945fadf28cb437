//! One text on its way, and the answer it is owed.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use embed_protocol::{EmbedParams, ErrorCode, Priority, Timings};

use crate::engine::EngineError;
use crate::gguf::GgufError;
use crate::model::ModelError;
use crate::tokenizer::TokenizerError;

/// A text that worked.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    /// The vector, as the caller wants it.
    pub vector: Vec<f32>,
    /// Tokens embedded.
    pub tokens: usize,
    /// Whether the text was cut at the context.
    pub truncated: bool,
    /// Where the time went.
    pub timings: Timings,
}

/// A text that did not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// What to branch on.
    pub code: ErrorCode,
    /// What to read.
    pub message: String,
}

impl Failure {
    /// A failure with this code and sentence.
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }

    /// Of a request that its caller took back.
    pub fn cancelled() -> Self {
        Self::new(ErrorCode::Cancelled, "request: cancelled by its caller")
    }

    /// Of a request that comes too late for this worker.
    pub fn shutting_down() -> Self {
        Self::new(ErrorCode::ShuttingDown, "worker: is about to exit; its successor will answer")
    }
}

/// The one place where an error of the engine becomes a code of the wire.
impl From<&EngineError> for Failure {
    fn from(error: &EngineError) -> Self {
        let code = match error {
            EngineError::TextTooLong { .. } | EngineError::TextBeyondBudget { .. } => {
                ErrorCode::TextTooLong
            }
            EngineError::Dimensions { .. }
            | EngineError::NoTokens
            | EngineError::Budget { .. }
            | EngineError::UnknownId { .. }
            | EngineError::Task { .. }
            | EngineError::TaskUnknown { .. } => ErrorCode::BadArgument,
            EngineError::Vector(_) => ErrorCode::ModelInvalid,
            EngineError::Gguf(error) | EngineError::Model(ModelError::Gguf(error)) => {
                code_of_file(error)
            }
            EngineError::Tokenizer(
                TokenizerError::Unsupported { .. } | TokenizerError::UnsupportedPre { .. },
            )
            | EngineError::Model(
                ModelError::Architecture { .. }
                | ModelError::TensorUnsupported { .. }
                | ModelError::KeyUnsupported { .. }
                | ModelError::TensorType { .. },
            ) => ErrorCode::ModelUnsupported,
            EngineError::Tokenizer(TokenizerError::Gguf(error)) => code_of_file(error),
            EngineError::Tokenizer(_) | EngineError::Model(_) => ErrorCode::ModelInvalid,
        };
        Self::new(code, sentence(error))
    }
}

fn code_of_file(error: &GgufError) -> ErrorCode {
    match error {
        GgufError::Open { source, .. } if source.kind() == std::io::ErrorKind::NotFound => {
            ErrorCode::ModelNotFound
        }
        GgufError::TensorType { .. } => ErrorCode::ModelUnsupported,
        _ => ErrorCode::ModelInvalid,
    }
}

/// An error and its causes in one sentence.
pub(crate) fn sentence(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let next = error.to_string();
        // A transparent error shows its cause's words as its own.
        if !text.ends_with(&next) {
            text.push_str(": ");
            text.push_str(&next);
        }
        cause = error.source();
    }
    text
}

/// Whether the caller still wants the answer.
#[derive(Clone, Debug, Default)]
pub struct CancelFlag(Arc<AtomicBool>);

impl CancelFlag {
    /// The caller no longer wants it.
    pub fn cancel(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Whether that was said.
    pub fn is_cancelled(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// Where an answer goes.
type Send = Box<dyn FnOnce(Result<Answer, Failure>) + std::marker::Send>;

/// The answer that a caller is owed: given once, and given even if it is forgotten.
pub struct Reply(Option<Send>);

impl Reply {
    /// A reply that is handed to `send`.
    pub fn new(send: impl FnOnce(Result<Answer, Failure>) + std::marker::Send + 'static) -> Self {
        Self(Some(Box::new(send)))
    }

    /// Gives the answer.
    pub fn give(mut self, outcome: Result<Answer, Failure>) {
        if let Some(send) = self.0.take() {
            send(outcome);
        }
    }
}

impl Drop for Reply {
    fn drop(&mut self) {
        if let Some(send) = self.0.take() {
            let message = "worker: this text's batch failed by a defect; try again";
            send(Err(Failure::new(ErrorCode::Internal, message)));
        }
    }
}

impl std::fmt::Debug for Reply {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Reply")
    }
}

/// What is to be embedded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// A text, for the model's own tokenizer.
    Text(String),
    /// Ids of the model's vocabulary, of a caller who has tokenized the text; taken as they are.
    Ids(Vec<u32>),
}

impl Input {
    /// What it takes in memory.
    pub fn bytes(&self) -> usize {
        match self {
            Self::Text(text) => text.len(),
            Self::Ids(ids) => ids.len() * size_of::<u32>(),
        }
    }
}

impl From<String> for Input {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<&str> for Input {
    fn from(text: &str) -> Self {
        Self::Text(text.into())
    }
}

/// A text that waits for its batch.
#[derive(Debug)]
pub struct Job {
    /// Whose it is: callers are served in turn.
    pub caller: u64,
    /// The text.
    pub input: Input,
    /// How it is to be embedded.
    pub params: EmbedParams,
    /// When its last byte arrived.
    pub received: Instant,
    /// When nobody waits for it any more.
    pub deadline: Option<Instant>,
    /// Whether somebody still waits for it.
    pub cancelled: CancelFlag,
    /// The answer that is owed.
    pub reply: Reply,
}

impl Job {
    /// Its lane.
    pub fn priority(&self) -> Priority {
        self.params.priority
    }

    /// Why it is not worth computing at `now`, if it is not.
    pub(super) fn obsolete(&self, now: Instant) -> Option<Failure> {
        if self.cancelled.is_cancelled() {
            return Some(Failure::cancelled());
        }
        let late = self.deadline.is_some_and(|deadline| deadline <= now);
        late.then(|| {
            let waited = now.saturating_duration_since(self.received).as_millis();
            let message = format!("request: its deadline passed after {waited} ms in the queue");
            Failure::new(ErrorCode::Timeout, message)
        })
    }
}
