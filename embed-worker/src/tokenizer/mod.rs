//! Text to token ids, on the vocabulary where the file's map has it.
//!
//! The files are named after the stages of Hugging Face's pipeline, whose ids these must equal:
//! special tokens are cut out of the raw text, the rest is normalised, split into words, and the
//! words into pieces. The `tokenizers` crate is the judge of that in the tests. Where llama.cpp
//! differs (one-to-one NFD, no limit on word length), this follows Hugging Face, as models do.
//!
//! Text streams through: beside the ids, memory does not grow with its length. Each module that
//! keeps a part of it says how much at most.
//!
//! Knows nothing about models, batches or prefixes; but whether the last token's state is the vector
//! decides how a text closes where a file does not say.

mod bpe;
mod envelope;
mod error;
mod ids;
mod keys;
mod normalize;
mod pretokenize;
mod scores;
mod sentencepiece;
mod special;
mod unigram;
mod vocab;
mod wordpiece;

pub use error::TokenizerError;

use crate::gguf::GgufFile;
use bpe::ByteLevelBpe;
use keys::MODEL;
use sentencepiece::SentencePiece;
use unigram::Unigram;
use wordpiece::WordPiece;

/// A tokenizer, made from a file's vocabulary. Keeps the file mapped.
#[derive(Debug)]
pub struct Tokenizer {
    model: Model,
}

/// What turns words into pieces; other kinds are refused by name.
#[derive(Debug)]
enum Model {
    WordPiece(Box<WordPiece>),
    ByteLevelBpe(Box<ByteLevelBpe>),
    Unigram(Box<Unigram>),
    SentencePiece(Box<SentencePiece>),
}

/// What [`Tokenizer::encode`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Encoded {
    /// Tokens of the whole text, special tokens included, beyond the limit too.
    pub tokens: usize,
}

impl Tokenizer {
    /// Reads the `tokenizer.ggml.*` keys of `file`.
    ///
    /// # Errors
    ///
    /// A kind of tokenizer that is not supported, a missing or contradictory key, an id beyond
    /// the vocabulary: see [`TokenizerError`].
    pub fn from_gguf(file: &GgufFile) -> Result<Self, TokenizerError> {
        let name = file.str(MODEL)?.ok_or(TokenizerError::Missing { key: MODEL })?;
        let model = match name {
            "bert" => Model::WordPiece(Box::new(WordPiece::from_gguf(file)?)),
            "gpt2" => Model::ByteLevelBpe(Box::new(ByteLevelBpe::from_gguf(file)?)),
            "t5" => Model::Unigram(Box::new(Unigram::from_gguf(file)?)),
            "llama" => Model::SentencePiece(Box::new(SentencePiece::from_gguf(file)?)),
            found => return Err(TokenizerError::unsupported(found)),
        };
        Ok(Self { model })
    }

    /// What turns words into pieces, for a person.
    pub fn kind(&self) -> &'static str {
        match &self.model {
            Model::WordPiece(_) => "WordPiece",
            Model::ByteLevelBpe(_) => "byte-level BPE",
            Model::Unigram(_) => "Unigram",
            Model::SentencePiece(_) => "SentencePiece BPE",
        }
    }

    /// How many token ids there are.
    pub fn vocabulary(&self) -> usize {
        match &self.model {
            Model::WordPiece(model) => model.vocabulary(),
            Model::ByteLevelBpe(model) => model.vocabulary(),
            Model::Unigram(model) => model.vocabulary(),
            Model::SentencePiece(model) => model.vocabulary(),
        }
    }

    /// Bytes of tables that are held beside the map.
    pub fn private_bytes(&self) -> usize {
        match &self.model {
            Model::WordPiece(model) => model.private_bytes(),
            Model::ByteLevelBpe(model) => model.private_bytes(),
            Model::Unigram(model) => model.private_bytes(),
            Model::SentencePiece(model) => model.private_bytes(),
        }
    }

    /// Appends the ids of `text` to `out`, special tokens included, at most `limit` of them.
    ///
    /// A longer text is cut as Hugging Face cuts: its first ids as far as they leave room for the
    /// closing special token, if the model has one, then that. Its tokens are still counted to the
    /// end. A `limit` without room for the special tokens of a model: nothing is appended.
    pub fn encode(&self, text: &str, limit: usize, out: &mut Vec<u32>) -> Encoded {
        match &self.model {
            Model::WordPiece(model) => model.encode(text, limit, out),
            Model::ByteLevelBpe(model) => model.encode(text, limit, out),
            Model::Unigram(model) => model.encode(text, limit, out),
            Model::SentencePiece(model) => model.encode(text, limit, out),
        }
    }
}
