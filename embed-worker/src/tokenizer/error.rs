//! Why a file's vocabulary cannot be used.

use crate::gguf::GgufError;

/// Why a tokenizer could not be made from a file.
#[derive(Debug, thiserror::Error)]
pub enum TokenizerError {
    /// A key of the wrong type, or not readable.
    #[error(transparent)]
    Gguf(#[from] GgufError),
    /// A key that there must be.
    #[error("key `{key}`: is missing")]
    Missing {
        /// The key.
        key: &'static str,
    },
    /// A tokenizer of another kind.
    #[error("key `tokenizer.ggml.model`: `{}` ({kind}) is not supported, this version runs `bert` (WordPiece) and `gpt2` (byte-level BPE)", found.escape_debug())]
    Unsupported {
        /// What the file says.
        found: String,
        /// What that is.
        kind: &'static str,
    },
    /// Words cut by a pattern of another kind.
    #[error("key `tokenizer.ggml.pre`: `{}` is not supported, this version runs {known}", found.escape_debug())]
    UnsupportedPre {
        /// What the file says.
        found: String,
        /// What there is.
        known: String,
    },
    /// A merge that is not two pieces.
    #[error("key `tokenizer.ggml.merges`: merge {index} is not two pieces with one blank between")]
    MergeMalformed {
        /// Which merge.
        index: usize,
    },
    /// A merge of a piece, or to a piece, that there is not.
    #[error("key `tokenizer.ggml.merges`: merge {index} names `{}`, which no token is", piece.escape_debug())]
    MergeUnknown {
        /// Which merge.
        index: usize,
        /// The piece, shortened.
        piece: String,
    },
    /// A merge that no text would need.
    #[error(
        "key `tokenizer.ggml.merges`: merge {index} is {bytes} bytes long, at most {max} accepted"
    )]
    MergeTooLong {
        /// Which merge.
        index: usize,
        /// Its length.
        bytes: usize,
        /// The limit.
        max: usize,
    },
    /// Merges whose hashes collide under several random keys.
    #[error("key `tokenizer.ggml.merges`: merge {index} collides with more than {probes} others")]
    MergeCollisions {
        /// Which merge.
        index: usize,
        /// How many places were tried.
        probes: usize,
    },
    /// A vocabulary without tokens.
    #[error("key `tokenizer.ggml.tokens`: has no tokens")]
    Empty,
    /// Token types for another vocabulary.
    #[error(
        "key `tokenizer.ggml.token_type`: has {found} types, the vocabulary has {tokens} tokens"
    )]
    TypeCount {
        /// How many types there are.
        found: usize,
        /// How many tokens there are.
        tokens: usize,
    },
    /// A special token that the vocabulary does not have.
    #[error("key `{key}`: id is {id}{}, the vocabulary has {tokens} tokens", if *defaulted { " by default" } else { "" })]
    IdOutOfRange {
        /// The key.
        key: &'static str,
        /// The id.
        id: u32,
        /// Whether the key is absent and the id the one that BERT has.
        defaulted: bool,
        /// How many tokens there are.
        tokens: usize,
    },
    /// A special token that no text would contain.
    #[error("token {id}: is special and {bytes} bytes long, at most {max} accepted")]
    SpecialTooLong {
        /// The token's id.
        id: u32,
        /// Its length.
        bytes: usize,
        /// The limit.
        max: usize,
    },
    /// Tokens whose hashes collide under several random keys: only a broken or malicious
    /// vocabulary does that.
    #[error("key `tokenizer.ggml.tokens`: token {id} collides with more than {probes} others")]
    Collisions {
        /// The token's id.
        id: u32,
        /// How many places were tried.
        probes: usize,
    },
}

/// The longest name an error repeats.
const NAME_CHARS_MAX: usize = 40;

impl TokenizerError {
    pub(super) fn unsupported_pre(found: &str, known: String) -> Self {
        Self::UnsupportedPre { found: found.chars().take(NAME_CHARS_MAX).collect(), known }
    }

    pub(super) fn merge_unknown(index: usize, piece: &[u8]) -> Self {
        let piece = String::from_utf8_lossy(piece).chars().take(NAME_CHARS_MAX).collect();
        Self::MergeUnknown { index, piece }
    }

    pub(super) fn unsupported(found: &str) -> Self {
        let kind = match found {
            "t5" => "Unigram",
            "llama" => "SentencePiece BPE",
            "whitespace" => "whitespace splitting",
            "rwkv" => "RWKV trie",
            "plamo2" => "PLaMo-2",
            "none" | "no_vocab" => "no vocabulary",
            _ => "unknown",
        };
        Self::Unsupported { found: found.chars().take(NAME_CHARS_MAX).collect(), kind }
    }
}
