//! How likely each token is, read where the file's map has it.

use crate::gguf::{FloatArray, GgufFile};

use super::vocab::{Kind, Vocab};
use super::{TokenizerError, keys};

/// The scores of a vocabulary.
#[derive(Debug)]
pub(super) struct Scores(FloatArray);

impl Scores {
    pub(super) fn from_gguf(file: &GgufFile, vocab: &Vocab) -> Result<Self, TokenizerError> {
        let key = keys::SCORES;
        let scores = file.floats(key)?.ok_or(TokenizerError::Missing { key })?;
        if scores.len() != vocab.len() {
            let (found, tokens) = (scores.len(), vocab.len());
            return Err(TokenizerError::ScoreCount { found, tokens });
        }
        for id in 0..scores.len() {
            let score = scores.get(id).unwrap_or_default();
            if !score.is_finite() {
                return Err(TokenizerError::Score { id, score });
            }
        }
        Ok(Self(scores))
    }

    /// The token's score.
    ///
    /// Converters write anything for special tokens; models have zero.
    pub(super) fn get(&self, vocab: &Vocab, id: u32) -> f32 {
        match vocab.kind(id) {
            Kind::Normal | Kind::Byte => self.0.get(id as usize).unwrap_or_default(),
            Kind::Unknown | Kind::Control | Kind::UserDefined | Kind::Unused => 0.0,
        }
    }

    /// The lowest score of a token that may be matched.
    pub(super) fn min(&self, vocab: &Vocab) -> f32 {
        (0..vocab.len() as u32)
            .filter(|id| vocab.kind(*id) != Kind::Unused)
            .map(|id| self.get(vocab, id))
            .fold(f32::INFINITY, f32::min)
    }
}
