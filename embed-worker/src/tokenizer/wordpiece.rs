//! WordPiece: the longest known piece first, from the left; a word that does not work out is
//! unknown as a whole.

use crate::gguf::GgufFile;

use super::ids::Ids;
use super::normalize::Normalizer;
use super::pretokenize::{Splitter, Word, WordSink};
use super::special::{Segment, SpecialTokens};
use super::vocab::{Position, Vocab};
use super::{Encoded, TokenizerError, keys};

/// Longer words are unknown (`max_input_chars_per_word`, which no published model changes).
pub(super) const WORD_CHARS_MAX: usize = 100;

/// The same in bytes of UTF-8.
const WORD_BYTES_MAX: usize = WORD_CHARS_MAX * 4;

/// The tokenizer of BERT and its children.
#[derive(Debug)]
pub(super) struct WordPiece {
    normalizer: Normalizer,
    vocab: Vocab,
    special: SpecialTokens,
    /// `[CLS]`, before every text.
    cls: u32,
    /// `[SEP]`, after every text.
    sep: u32,
    /// `[UNK]`, for words without pieces.
    unknown: u32,
}

impl WordPiece {
    /// Bytes that are held beside the map.
    pub(super) fn private_bytes(&self) -> usize {
        self.vocab.private_bytes()
    }

    pub(super) fn from_gguf(file: &GgufFile) -> Result<Self, TokenizerError> {
        let lowercase = file.bool(keys::LOWERCASE)?.unwrap_or(true);
        let strip_accents = file.bool(keys::STRIP_ACCENTS)?.unwrap_or(lowercase);
        let vocab = Vocab::from_gguf(file, WORD_BYTES_MAX)?;
        // Where keys are absent, llama.cpp takes the ids of BERT's first vocabulary.
        let id = |keys: &[&'static str], default| special_id(file, &vocab, keys, default);
        let cls = id(&[keys::BOS, keys::CLS], 101)?;
        let sep = id(&[keys::SEPARATOR, keys::EOS], 102)?;
        let unknown = id(&[keys::UNKNOWN], 100)?;
        let special_ids = match vocab.special_ids() {
            Some(ids) => ids,
            None => {
                let mut ids = vec![cls, sep, unknown];
                for key in [keys::PADDING, keys::MASK] {
                    ids.extend(file.u32(key)?.filter(|id| (*id as usize) < vocab.len()));
                }
                ids
            }
        };
        let special = SpecialTokens::new(&vocab, special_ids)?;
        let normalizer = Normalizer { lowercase, strip_accents };
        Ok(Self { normalizer, vocab, special, cls, sep, unknown })
    }

    pub(super) fn vocabulary(&self) -> usize {
        self.vocab.len()
    }

    pub(super) fn encode(&self, text: &str, limit: usize, out: &mut Vec<u32>) -> Encoded {
        let ids = Ids::new(out, limit, Some(self.cls), Some(self.sep));
        let mut words = Splitter::new(Pieces { model: self, hashes: [0; WORD_BYTES_MAX], ids });
        self.special.split(&self.vocab, text, |segment| match segment {
            Segment::Text(text) => {
                self.normalizer.run(text, &mut words);
                words.finish();
            }
            Segment::Special(id) => words.sink.ids.push(id),
        });
        words.sink.ids.close()
    }
}

/// The id under the first of `keys` that the file has, checked against the vocabulary.
fn special_id(
    file: &GgufFile,
    vocab: &Vocab,
    keys: &[&'static str],
    default: u32,
) -> Result<u32, TokenizerError> {
    let (mut key, mut id, mut defaulted) = (keys[0], default, true);
    for candidate in keys {
        if let Some(found) = file.u32(candidate)? {
            (key, id, defaulted) = (candidate, found, false);
            break;
        }
    }
    if id as usize >= vocab.len() {
        return Err(TokenizerError::IdOutOfRange { key, id, defaulted, tokens: vocab.len() });
    }
    Ok(id)
}

/// Words to pieces.
struct Pieces<'a> {
    model: &'a WordPiece,
    /// Scratch: the hash of each prefix of what is left of the word.
    hashes: [u64; WORD_BYTES_MAX],
    ids: Ids<'a>,
}

impl WordSink for Pieces<'_> {
    fn word(&mut self, word: Word<'_>) {
        let Word::Text(mut rest) = word else {
            return self.ids.push(self.model.unknown);
        };
        // A piece has a character at least.
        let mut pieces = [0; WORD_CHARS_MAX];
        let mut n_pieces = 0;
        let mut position = Position::Initial;
        while !rest.is_empty() {
            let longest = self.model.vocab.longest(position, rest, &mut self.hashes);
            let Some((id, n_bytes)) = longest else {
                return self.ids.push(self.model.unknown);
            };
            pieces[n_pieces] = id;
            n_pieces += 1;
            rest = &rest[n_bytes..];
            position = Position::Continuation;
        }
        pieces[..n_pieces].iter().for_each(|id| self.ids.push(*id));
    }
}
