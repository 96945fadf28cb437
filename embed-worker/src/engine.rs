//! The engine: text in, vector out. Tokenizer and encoder of one mapped model, and nothing else.
//!
//! Synchronous and without I/O after [`Engine::open`]; it knows no queue, no clock and no socket.

mod budget;

use std::borrow::Cow;
use std::path::Path;

use embed_protocol::{ModelInfo, Task};

use crate::gguf::{GgufError, GgufFile};
use crate::kernels::{Isa, Kernels, Workspace};
use crate::model::pooling::{self, VectorError};
use crate::model::published::{Known, Prefixes};
use crate::model::{Encoder, Hyperparameters, ModelError};
use crate::tokenizer::{Tokenizer, TokenizerError};

pub use crate::model::TokenBatch;
pub use budget::{Budget, MEGABYTE, Traffic};

/// How an engine computes; nothing here changes a vector.
#[derive(Clone, Copy, Debug)]
pub struct EngineOptions {
    /// Threads that compute, the caller's included.
    pub threads: usize,
    /// Instruction set of the kernels.
    pub isa: Isa,
    /// Most tokens in a batch of several texts.
    pub batch_tokens: usize,
    /// Bytes that the whole process may have for itself.
    pub memory_budget: usize,
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

impl From<&ModelSummary> for ModelInfo {
    fn from(summary: &ModelSummary) -> Self {
        let number = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        Self {
            name: summary.name.clone(),
            architecture: summary.architecture.clone(),
            dimensions: number(summary.dimensions),
            context_tokens: number(summary.context_tokens),
            pooling: summary.pooling.clone(),
            quantization: summary.quantization.clone(),
            fingerprint: summary.fingerprint.clone(),
        }
    }
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
    /// The text has more tokens than the memory budget allows.
    #[error(
        "text: has {tokens} tokens, within the memory budget of {budget_mb} MB at most {tokens_max} are; a budget of {wanted_mb} MB would do (`EMBED_MEMORY_BUDGET`, `--memory-budget`), or shorten it or set `truncate`"
    )]
    TextBeyondBudget {
        /// Tokens of the text, special tokens included.
        tokens: usize,
        /// Most that the budget allows.
        tokens_max: usize,
        /// The budget.
        budget_mb: usize,
        /// The budget that would do.
        wanted_mb: usize,
    },
    /// The memory budget is too small for any text.
    #[error(
        "memory budget: is {budget_mb} MB, this model needs {wanted_mb} MB for the shortest text; set `EMBED_MEMORY_BUDGET` or `--memory-budget`"
    )]
    Budget {
        /// The budget.
        budget_mb: usize,
        /// The budget that would do.
        wanted_mb: usize,
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
    /// A task that the model is not trained for, or wants words of the caller's own for.
    #[error(
        "option `task`: is `{task}`, for which {family} has no words of its own, but for {known}; write an instruction before the text instead"
    )]
    Task {
        /// What was asked for.
        task: Task,
        /// The model's row.
        family: &'static str,
        /// The tasks that it is trained for.
        known: String,
    },
    /// A task for a model of which it is not known what goes before its texts.
    #[error(
        "option `task`: is `{task}`, but what goes before a text is not known of a model whose file calls it `{}`; write it before the text and leave `task` out", name.escape_debug()
    )]
    TaskUnknown {
        /// What was asked for.
        task: Task,
        /// The model's name, shortened.
        name: String,
    },
}

/// The longest name of a model that an error repeats.
const NAME_CHARS_MAX: usize = 60;

/// What goes before a text for `task`; `None` if the model is not trained for that.
pub fn prefix(prefixes: &Prefixes, task: Task) -> Option<&'static str> {
    match task {
        Task::Query => prefixes.query,
        Task::Document => prefixes.document,
        Task::Clustering => prefixes.clustering,
        Task::Classification => prefixes.classification,
    }
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
    budget: Budget,
    known: Option<Known>,
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
        let known = Known::of(file)?;
        let kernels = Kernels::new(options.isa);
        let workspace = Workspace::new(options.threads);
        let mut encoder = Encoder::new(file, hyper, tokenizer.vocabulary(), kernels, workspace)?;
        let held = tokenizer.private_bytes() + encoder.private_bytes();
        let tokens = (summary.context_tokens, options.batch_tokens);
        let budget =
            Budget::share_out(options.memory_budget, held, &encoder, tokens).map_err(|wanted| {
                EngineError::Budget {
                    budget_mb: options.memory_budget / MEGABYTE,
                    wanted_mb: wanted.div_ceil(MEGABYTE),
                }
            })?;
        encoder.set_memory(budget.batch_bytes);
        Ok(Self { tokenizer, encoder, summary, budget, known })
    }

    /// What the model is.
    pub fn info(&self) -> &ModelSummary {
        &self.summary
    }

    /// What is known of the model beside its file.
    pub fn known(&self) -> Option<&Known> {
        self.known.as_ref()
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

    /// What the memory budget means for this model.
    pub fn budget(&self) -> &Budget {
        &self.budget
    }

    /// Leaves buffers room for batches of `tokens` tokens, whatever the packer believes.
    #[cfg(test)]
    pub(crate) fn set_room(&mut self, tokens: usize) {
        let extent = crate::model::Extent { texts: tokens, tokens, longest: tokens };
        self.encoder.set_memory(self.encoder.batch_bytes(extent).0);
    }

    /// The memory budget in megabytes that would do for a text of `tokens` tokens.
    pub fn megabytes_for(&self, tokens: usize) -> usize {
        self.budget.megabytes_for(&self.encoder, tokens)
    }

    /// Name of the kernels, for example `x86_64-avx2`.
    pub fn kernels(&self) -> String {
        self.encoder.kernels().name()
    }

    /// Threads that compute, the caller's included.
    pub fn threads(&self) -> usize {
        self.encoder.threads()
    }

    /// `text` as it is embedded for `task`: after the model's own words for that.
    ///
    /// # Errors
    ///
    /// A task that the model is not trained for, or of which nothing is known for it.
    pub fn for_task<'t>(
        &self,
        text: &'t str,
        task: Option<Task>,
    ) -> Result<Cow<'t, str>, EngineError> {
        match task.map(|task| self.prefix(task)).transpose()? {
            None | Some("") => Ok(Cow::Borrowed(text)),
            Some(prefix) => Ok(Cow::Owned([prefix, text].concat())),
        }
    }

    fn prefix(&self, task: Task) -> Result<&'static str, EngineError> {
        let Some(Known { published, .. }) = self.known else {
            let name = self.summary.name.chars().take(NAME_CHARS_MAX).collect();
            return Err(EngineError::TaskUnknown { task, name });
        };
        prefix(&published.prefixes, task).ok_or_else(|| {
            let known =
                Task::ALL.into_iter().filter(|task| prefix(&published.prefixes, *task).is_some());
            let known = known.map(|task| format!("`{task}`")).collect::<Vec<_>>().join(", ");
            EngineError::Task { task, family: published.family, known }
        })
    }

    /// Adds `text` to `batch`.
    ///
    /// # Errors
    ///
    /// A text beyond the context or the memory budget, unless `truncate`, or one without tokens; the
    /// batch is then as it was.
    pub fn tokenize(
        &mut self,
        text: &str,
        truncate: bool,
        batch: &mut TokenBatch,
    ) -> Result<Tokenized, EngineError> {
        batch.push_with(|ids| {
            let most = self.budget.text_tokens_max;
            let tokens = self.tokenizer.encode(text, most, ids).tokens;
            self.admit(tokens, truncate)
        })
    }

    /// What becomes of a text of `tokens` tokens.
    fn admit(&self, tokens: usize, truncate: bool) -> Result<Tokenized, EngineError> {
        let context_tokens = self.summary.context_tokens;
        let tokens_max = self.budget.text_tokens_max;
        let truncated = tokens > tokens_max;
        if truncated && !truncate {
            return Err(if tokens > context_tokens {
                EngineError::TextTooLong { tokens, context_tokens }
            } else {
                EngineError::TextBeyondBudget {
                    tokens,
                    tokens_max,
                    budget_mb: self.budget.bytes / MEGABYTE,
                    wanted_mb: self.megabytes_for(tokens),
                }
            });
        }
        if tokens == 0 {
            return Err(EngineError::NoTokens);
        }
        Ok(Tokenized { tokens: tokens.min(tokens_max), truncated })
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
        let vocabulary = self.vocabulary();
        let unknown = |id: &&u32| usize::try_from(**id).is_ok_and(|id| id >= vocabulary);
        if let Some(&id) = ids.iter().find(unknown) {
            return Err(EngineError::UnknownId { id, vocabulary });
        }
        let admitted = self.admit(ids.len(), truncate)?;
        batch.push(&ids[..admitted.tokens]);
        Ok(admitted)
    }

    /// Runs the model over `batch`.
    ///
    /// # Errors
    ///
    /// A damaged weight: no text of any batch can be answered rightly.
    ///
    /// # Panics
    ///
    /// If the batch is of several texts with more tokens than [`Self::budget`] allows.
    pub fn embed(&mut self, batch: &TokenBatch) -> Result<Rows<'_>, EngineError> {
        let Budget { batch_tokens_max, .. } = self.budget;
        let fits = batch.texts() <= 1 || batch.tokens() <= batch_tokens_max;
        assert!(fits, "the packer keeps to the batch's limit");
        let dimensions = self.summary.dimensions;
        let centred_before_cut = self.known.is_some_and(|known| known.published.centred_before_cut);
        Ok(Rows { rows: self.encoder.forward(batch)?, dimensions, centred_before_cut })
    }
}

/// The pooled rows of a batch, `[texts, dimensions]`, neither cut nor normalised.
#[derive(Clone, Copy, Debug)]
pub struct Rows<'a> {
    rows: &'a [f32],
    dimensions: usize,
    /// See [`crate::model::published::Published::centred_before_cut`].
    centred_before_cut: bool,
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
        if self.centred_before_cut && wanted < self.dimensions {
            return Ok(pooling::finish(&pooling::centred(row), wanted, normalize)?);
        }
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
