//! The special tokens of SentencePiece's vocabularies: which there are, and which a text gets.

use crate::gguf::GgufFile;

use super::special::SpecialTokens;
use super::vocab::{Kind, Vocab};
use super::{TokenizerError, keys};

/// What a text is put between, what stands for unknown text, and what is matched verbatim.
#[derive(Debug)]
pub(super) struct Envelope {
    /// Before every text.
    pub(super) opening: Option<u32>,
    /// After every text.
    pub(super) closing: Option<u32>,
    /// For text without pieces.
    pub(super) unknown: u32,
    pub(super) special: SpecialTokens,
}

impl Envelope {
    /// `closed`: whether a file that does not say has a token after the text.
    pub(super) fn from_gguf(
        file: &GgufFile,
        vocab: &Vocab,
        closed: bool,
    ) -> Result<Self, TokenizerError> {
        let required = |wanted: bool, [key, other]: [&'static str; 2]| {
            if !wanted {
                return Ok(None);
            }
            let id = special_id(file, vocab, key)?;
            let id = if id.is_none() { special_id(file, vocab, other)? } else { id };
            id.ok_or(TokenizerError::Missing { key }).map(Some)
        };
        let opened = file.bool(keys::ADD_BOS)?.unwrap_or(true);
        let opening = required(opened, [keys::BOS, keys::CLS])?;
        let closed = file.bool(keys::ADD_EOS)?.unwrap_or(closed);
        let closing = required(closed, [keys::EOS, keys::SEPARATOR])?;
        let unknown = match special_id(file, vocab, keys::UNKNOWN)? {
            Some(id) => id,
            None => (0..vocab.len() as u32)
                .find(|id| vocab.kind(*id) == Kind::Unknown)
                .ok_or(TokenizerError::Missing { key: keys::UNKNOWN })?,
        };
        let ids = match vocab.special_ids() {
            Some(ids) => ids,
            None => {
                let mut ids = vec![unknown];
                ids.extend(opening);
                ids.extend(closing);
                for key in [keys::PADDING, keys::MASK] {
                    ids.extend(special_id(file, vocab, key)?);
                }
                ids
            }
        };
        Ok(Self { opening, closing, unknown, special: SpecialTokens::new(vocab, ids)? })
    }
}

/// Whether the model's vector is the state of the last token: an embedder of that kind is trained on
/// texts that close.
pub(super) fn pools_last(file: &GgufFile) -> Result<bool, TokenizerError> {
    /// As llama.cpp numbers them.
    const POOLING_LAST: u32 = 3;
    /// What decoders do where the file does not say.
    const DECODERS: [&str; 3] = ["llama", "qwen2", "qwen3"];

    let Some(architecture) = file.str("general.architecture")? else { return Ok(false) };
    match file.u32(&format!("{architecture}.pooling_type"))? {
        Some(pooling) => Ok(pooling == POOLING_LAST),
        None => Ok(DECODERS.contains(&architecture)),
    }
}

/// The id under `key`, checked against the vocabulary.
fn special_id(
    file: &GgufFile,
    vocab: &Vocab,
    key: &'static str,
) -> Result<Option<u32>, TokenizerError> {
    let Some(id) = file.u32(key)? else { return Ok(None) };
    if id as usize >= vocab.len() {
        let tokens = vocab.len();
        return Err(TokenizerError::IdOutOfRange { key, id, defaulted: false, tokens });
    }
    Ok(Some(id))
}
