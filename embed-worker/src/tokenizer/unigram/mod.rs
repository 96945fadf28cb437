//! Unigram: of all ways to cut a word into pieces, the one with the highest sum of scores.
//!
//! The tokenizer of XLM-R and its children (`tokenizer.ggml.model = t5`). Follows the pipeline of
//! their `tokenizer.json`: special tokens, character map, words at white space, the mark of a
//! word's start. What a file cannot say is taken as these models have it: special tokens match
//! raw text (`normalized: false`), and unknown text is one token however long (`fuse_unk`),
//! without a fallback to bytes. `<mask>` takes the white space before it (`lstrip`), which words
//! drop anyway.
//!
//! Newer conversions of the same models split at blanks only. That differs on U+0085 alone: the
//! character map leaves it, and every other white space becomes a blank.

mod charsmap;
mod lattice;
mod metaspace;

use crate::gguf::GgufFile;

use self::charsmap::Charsmap;
use self::lattice::Lattice;
use self::metaspace::{Metaspace, Words};
use super::envelope::Envelope;
use super::ids::Ids;
use super::scores::Scores;
use super::special::Segment;
use super::vocab::Vocab;
use super::{Encoded, TokenizerError, keys};

/// The longest piece that is believed: SentencePiece makes them of up to 16 characters, but for
/// user-defined ones. Bounds the work for each byte of text.
const PIECE_BYTES_MAX: usize = 512;

/// What an unknown character costs beside the least likely piece.
const UNKNOWN_PENALTY: f64 = 10.0;

/// The tokenizer of XLM-R and its children.
#[derive(Debug)]
pub(super) struct Unigram {
    charsmap: Option<Charsmap>,
    metaspace: Metaspace,
    vocab: Vocab,
    scores: Scores,
    /// The score of an unknown character.
    unknown_score: f64,
    envelope: Envelope,
}

impl Unigram {
    /// Bytes that are held beside the map.
    pub(super) fn private_bytes(&self) -> usize {
        self.vocab.private_bytes()
    }

    pub(super) fn from_gguf(file: &GgufFile) -> Result<Self, TokenizerError> {
        let vocab = Vocab::verbatim(file, PIECE_BYTES_MAX)?;
        let scores = Scores::from_gguf(file, &vocab)?;
        let unknown_score = f64::from(scores.min(&vocab)) - UNKNOWN_PENALTY;
        // Files from before these keys were written have both tokens in their models.
        let envelope = Envelope::from_gguf(file, &vocab, true)?;
        let metaspace = Metaspace {
            prefix: file.bool(keys::ADD_SPACE_PREFIX)?.unwrap_or(true),
            collapse: file.bool(keys::REMOVE_EXTRA_WHITESPACES)?.unwrap_or(true),
        };
        let charsmap = Charsmap::from_gguf(file)?;
        Ok(Self { charsmap, metaspace, vocab, scores, unknown_score, envelope })
    }

    pub(super) fn vocabulary(&self) -> usize {
        self.vocab.len()
    }

    pub(super) fn encode(&self, text: &str, limit: usize, out: &mut Vec<u32>) -> Encoded {
        let envelope = &self.envelope;
        let ids = Ids::new(out, limit, envelope.opening, envelope.closing);
        let mut words = Words::new(self.metaspace, Lattice::new(self, ids));
        envelope.special.split(&self.vocab, text, |segment| match segment {
            Segment::Text(text) => {
                match &self.charsmap {
                    Some(charsmap) => charsmap.run(text, |c| words.push(c)),
                    None => text.chars().for_each(|c| words.push(c)),
                }
                words.finish();
            }
            Segment::Special(id) => words.lattice.ids.push(id),
        });
        words.lattice.ids.close()
    }
}
