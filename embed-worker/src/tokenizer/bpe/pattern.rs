//! The patterns that cut words, by the name that a file gives them, and what else goes with it.
//!
//! A file names its family and no more: pattern, normaliser and special tokens of a text are those
//! of the family's `tokenizer.json`.

use crate::tokenizer::TokenizerError;

/// What the families' patterns differ in. All of them are lists of alternatives, of which the first
/// that matches counts: contractions; letters; numbers; other characters; white space.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pattern {
    /// `(?i:'s|…)`: contractions in any case.
    pub(super) contractions_fold: bool,
    /// `[^\r\n\p{L}\p{N}]?\p{L}+`: any character but a newline may lead letters. Otherwise
    /// ` ?\p{L}+`: a plain blank may.
    pub(super) any_leads_letters: bool,
    /// ` ?\p{N}`: a plain blank may lead numbers.
    pub(super) blank_leads_numbers: bool,
    /// `\p{N}{1,n}`: how many numbers are one word at most.
    pub(super) numbers_max: usize,
    /// `[\r\n]*` after other characters, and `\s*[\r\n]+` as a word of its own.
    pub(super) newlines_join: bool,
}

/// `'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+`
const GPT2: Pattern = Pattern {
    contractions_fold: false,
    any_leads_letters: false,
    blank_leads_numbers: true,
    numbers_max: usize::MAX,
    newlines_join: false,
};

/// `(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|`
/// `\s*[\r\n]+|\s+(?!\S)|\s+`
const QWEN2: Pattern = Pattern {
    contractions_fold: true,
    any_leads_letters: true,
    blank_leads_numbers: false,
    numbers_max: 1,
    newlines_join: true,
};

/// Qwen's with `\p{N}{1,3}`.
const LLAMA3: Pattern = Pattern { numbers_max: 3, ..QWEN2 };

/// What a value of `tokenizer.ggml.pre` stands for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Family {
    name: &'static str,
    pub(super) pattern: Pattern,
    /// Whether text is put into NFC.
    pub(super) nfc: bool,
    /// `ignore_merges`: a word that is a token is that token, whatever the merges make of it.
    pub(super) whole_words: bool,
    /// Whether the tokens that are not control tokens are looked for in what the control tokens
    /// leave, as added tokens with `normalized: true`; otherwise all are looked for at once.
    pub(super) normalized_tokens: bool,
    /// Whether the mask token takes the white space before it, as an added token with `lstrip`.
    pub(super) mask_strips: bool,
    /// Whether a text opens with BOS where the file does not say.
    pub(super) adds_bos: bool,
    /// Whether a text closes with EOS where the file does not say.
    pub(super) adds_eos: Closing,
}

/// When a text closes with EOS where the file does not say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Closing {
    Always,
    Never,
    /// If the last token's state is the vector: an embedder of that kind is trained on EOS.
    IfLastIsPooled,
}

const PLAIN: Family = Family {
    name: "gpt-2",
    pattern: GPT2,
    nfc: false,
    whole_words: false,
    normalized_tokens: false,
    mask_strips: false,
    adds_bos: false,
    adds_eos: Closing::Never,
};

const ROBERTA: Family = Family {
    name: "roberta-bpe",
    mask_strips: true,
    adds_bos: true,
    adds_eos: Closing::Always,
    ..PLAIN
};

/// Of the families that llama.cpp knows, those whose `tokenizer.json` is known here.
const FAMILIES: [Family; 6] = [
    PLAIN,
    Family { name: "qwen2", pattern: QWEN2, nfc: true, adds_eos: Closing::IfLastIsPooled, ..PLAIN },
    ROBERTA,
    // jina-embeddings-v2-base-code has RoBERTa's tokenizer with other words.
    Family { name: "jina-v2-code", ..ROBERTA },
    Family {
        name: "modern-bert",
        nfc: true,
        normalized_tokens: true,
        mask_strips: true,
        adds_bos: true,
        adds_eos: Closing::Always,
        ..PLAIN
    },
    Family {
        name: "llama-bpe",
        pattern: LLAMA3,
        whole_words: true,
        adds_bos: true,
        adds_eos: Closing::IfLastIsPooled,
        ..PLAIN
    },
];

impl Family {
    /// # Errors
    ///
    /// A name that is not known: another pattern would silently give other ids.
    pub(super) fn named(name: &str) -> Result<Self, TokenizerError> {
        FAMILIES.into_iter().find(|family| family.name == name).ok_or_else(|| {
            let known = FAMILIES.map(|family| format!("`{}`", family.name)).join(", ");
            TokenizerError::unsupported_pre(name, known)
        })
    }
}
