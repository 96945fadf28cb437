//! The engine: text in, vector out. Tokenizer and encoder of one mapped model, and nothing else.
//!
//! Synchronous and without I/O after [`Engine::open`]; it knows no queue, no clock and no socket.

use std::path::Path;

use crate::gguf::{GgufError, GgufFile};
use crate::kernels::{Isa, Kernels, Workspace};
use crate::model::pooling::{self, VectorError};
use crate::model::{Encoder, Hyperparameters, ModelError};
use crate::tokenizer::{Tokenizer, TokenizerError};

pub use crate::model::TokenBatch;

/// How an engine computes; nothing here changes a vector.
#[derive(Clone, Copy, Debug)]
pub struct EngineOptions {
    /// Threads that compute, the caller's included.
    pub threads: usize,
    /// Instruction set of the kernels.
    pub isa: Isa,
    /// Most tokens in a batch, if the model's context is not longer than that.
    pub batch_tokens: usize,
}

/// What a model is, for a handshake or a person.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelSummary {
    /// `general.name`, or the file's name.
    pub name: String,
    /// `general.architecture`.
    pub architecture: String,
    /// Length of a vector.
    pub dimensions: usize,
    /// Most tokens in a text, special tokens included.
    pub context_tokens: usize,
    /// `mean`, `cls` or `last`.
    pub pooling: String,
    /// The type that most of the weights' bytes have.
    pub quantization: String,
    /// Digest of the header: architecture, sizes, tokenizer and tensor types.
    pub fingerprint: String,
}

/// Why an engine cannot open a model or answer a text.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// The file's structure.
    #[error(transparent)]
    Gguf(#[from] GgufError),
    /// The tokenizer's data.
    #[error(transparent)]
    Tokenizer(#[from] TokenizerError),
    /// The model's keys, tensors or weights.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// The text's vector is none.
    #[error(transparent)]
    Vector(#[from] VectorError),
    /// The text has more tokens than the context.
    #[error(
        "text: has {tokens} tokens, the model's context is {context_tokens}; shorten it or set `truncate`"
    )]
    TextTooLong {
        /// Tokens of the text, special tokens included.
        tokens: usize,
        /// The model's limit.
        context_tokens: usize,
    },
    /// The text has no tokens, which only models without special tokens can meet.
    #[error("text: has no tokens, and the model's tokenizer adds none; send one that is not empty")]
    NoTokens,
    /// An id that the caller gives and the vocabulary has not.
    #[error(
        "tokens: id {id} is none of the model's {vocabulary}; send ids of this model's own tokenizer, or the text"
    )]
    UnknownId {
        /// The id.
        id: u32,
        /// How many ids there are, from 0 on.
        vocabulary: usize,
    },
    /// More or fewer dimensions than the model has.
    #[error("option `dimensions`: is {found}, the model gives 1 to {dimensions}")]
    Dimensions {
        /// What was asked for.
        found: usize,
        /// The vector's length.
        dimensions: usize,
    },
}

/// What tokenizing one text gave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tokenized {
    /// Tokens that will be embedded, special tokens included.
    pub tokens: usize,
    /// Whether the text had more and was cut.
    pub truncated: bool,
}

/// One model, ready to answer.
#[derive(Debug)]
pub struct Engine {
    tokenizer: Tokenizer,
    encoder: Encoder,
    summary: ModelSummary,
    batch_tokens_max: usize,
}

impl Engine {
    /// Maps the model at `path` and checks everything about it but its blocks.
    ///
    /// # Errors
    ///
    /// What is wrong with the file, and where.
    pub fn open(path: &Path, options: &EngineOptions) -> Result<Self, EngineError> {
        let file_name = path.file_stem().unwrap_or_default().to_string_lossy();
        Self::from_gguf(&GgufFile::open(path)?, &file_name, options)
    }

    /// As [`Self::open`], of a file that is already mapped; `fallback_name` is for files that do not
    /// name their model.
    ///
    /// # Errors
    ///
    /// What is wrong with the model, and where.
    pub fn from_gguf(
        file: &GgufFile,
        fallback_name: &str,
        options: &EngineOptions,
    ) -> Result<Self, EngineError> {
        let hyper = Hyperparameters::read(file)?;
        let tokenizer = Tokenizer::from_gguf(file)?;
        let summary = ModelSummary {
            name: file.str("general.name")?.unwrap_or(fallback_name).into(),
            architecture: hyper.architecture.name.into(),
            dimensions: hyper.dimensions,
            context_tokens: hyper.context_tokens,
            pooling: hyper.pooling.name().into(),
            quantization: file.main_dtype().map(|dtype| dtype.to_string()).unwrap_or_default(),
            fingerprint: file.fingerprint(),
        };
        let kernels = Kernels::new(options.isa);
        let workspace = Workspace::new(options.threads);
        let encoder = Encoder::new(file, hyper, tokenizer.vocabulary(), kernels, workspace)?;
        let batch_tokens_max = options.batch_tokens.max(summary.context_tokens);
        Ok(Self { tokenizer, encoder, summary, batch_tokens_max })
    }

    /// What the model is.
    pub fn info(&self) -> &ModelSummary {
        &self.summary
    }

    /// The model's sizes.
    pub fn hyper(&self) -> &Hyperparameters {
        self.encoder.hyper()
    }

    /// The model, for who measures its parts.
    pub fn encoder(&self) -> &Encoder {
        &self.encoder
    }

    /// What turns words into pieces, for a person.
    pub fn tokenizer_kind(&self) -> &'static str {
        self.tokenizer.kind()
    }

    /// Pieces of the vocabulary.
    pub fn vocabulary(&self) -> usize {
        self.tokenizer.vocabulary()
    }

    /// Bytes of buffers that the largest batch needs.
    pub fn batch_bytes_max(&self) -> usize {
        self.encoder.batch_bytes(self.batch_tokens_max)
    }

    /// Name of the kernels, for example `x86_64-avx2`.
    pub fn kernels(&self) -> String {
        self.encoder.kernels().name()
    }

    /// Threads that compute, the caller's included.
    pub fn threads(&self) -> usize {
        self.encoder.threads()
    }

    /// Most tokens that one batch may have; never less than the context, so that a text which fits
    /// no batch does not exist.
    pub fn batch_tokens_max(&self) -> usize {
        self.batch_tokens_max
    }

    /// Adds `text` to `batch`.
    ///
    /// # Errors
    ///
    /// A text beyond the context, unless `truncate`, or one without tokens; the batch is then as it
    /// was.
    pub fn tokenize(
        &mut self,
        text: &str,
        truncate: bool,
        batch: &mut TokenBatch,
    ) -> Result<Tokenized, EngineError> {
        let context_tokens = self.summary.context_tokens;
        batch.push_with(|ids| {
            let tokens = self.tokenizer.encode(text, context_tokens, ids).tokens;
            let truncated = tokens > context_tokens;
            if truncated && !truncate {
                return Err(EngineError::TextTooLong { tokens, context_tokens });
            }
            if tokens == 0 {
                return Err(EngineError::NoTokens);
            }
            Ok(Tokenized { tokens: tokens.min(context_tokens), truncated })
        })
    }

    /// Adds ids that the caller has made to `batch`, as they are: special tokens that the model wants
    /// are the caller's affair.
    ///
    /// # Errors
    ///
    /// More than the context, unless `truncate`, none at all, or an id that the vocabulary has not;
    /// the batch is then as it was.
    pub fn take_ids(
        &self,
        ids: &[u32],
        truncate: bool,
        batch: &mut TokenBatch,
    ) -> Result<Tokenized, EngineError> {
        let (tokens, vocabulary) = (ids.len(), self.vocabulary());
        let context_tokens = self.summary.context_tokens;
        let unknown = |id: &&u32| usize::try_from(**id).is_ok_and(|id| id >= vocabulary);
        if let Some(&id) = ids.iter().find(unknown) {
            return Err(EngineError::UnknownId { id, vocabulary });
        }
        let truncated = tokens > context_tokens;
        if truncated && !truncate {
            return Err(EngineError::TextTooLong { tokens, context_tokens });
        }
        if tokens == 0 {
            return Err(EngineError::NoTokens);
        }
        batch.push(&ids[..tokens.min(context_tokens)]);
        Ok(Tokenized { tokens: tokens.min(context_tokens), truncated })
    }

    /// Runs the model over `batch`.
    ///
    /// # Errors
    ///
    /// A damaged weight: no text of any batch can be answered rightly.
    ///
    /// # Panics
    ///
    /// If the batch has more than [`Self::batch_tokens_max`] tokens.
    pub fn embed(&mut self, batch: &TokenBatch) -> Result<Rows<'_>, EngineError> {
        assert!(batch.tokens() <= self.batch_tokens_max, "the packer keeps to the batch's limit");
        let dimensions = self.summary.dimensions;
        Ok(Rows { rows: self.encoder.forward(batch)?, dimensions })
    }
}

/// The pooled rows of a batch, `[texts, dimensions]`, neither cut nor normalised.
#[derive(Clone, Copy, Debug)]
pub struct Rows<'a> {
    rows: &'a [f32],
    dimensions: usize,
}

impl Rows<'_> {
    /// The vector of text `text` as its caller wants it.
    ///
    /// # Errors
    ///
    /// `dimensions` out of range, or a row that is no answer; either costs this text only.
    pub fn vector(
        &self,
        text: usize,
        dimensions: Option<usize>,
        normalize: bool,
    ) -> Result<Vec<f32>, EngineError> {
        let wanted = check_dimensions(dimensions, self.dimensions)?;
        let row = &self.rows[text * self.dimensions..][..self.dimensions];
        Ok(pooling::finish(row, wanted, normalize)?)
    }
}

/// How many dimensions a caller gets who asks for `wanted` of a model's `dimensions`.
///
/// # Errors
///
/// None, or more than there are.
pub fn check_dimensions(wanted: Option<usize>, dimensions: usize) -> Result<usize, EngineError> {
    match wanted {
        None => Ok(dimensions),
        Some(found) if (1..=dimensions).contains(&found) => Ok(found),
        Some(found) => Err(EngineError::Dimensions { found, dimensions }),
    }
}
