//! SentencePiece BPE: the likeliest pair of neighbours is joined first, until none is left.
//!
//! The tokenizer of Gemma, Llama 2 and Mistral (`tokenizer.ggml.model = llama`). Follows the pipeline of its
//! `tokenizer.json`: special and user-defined tokens, blanks to marks, pieces, bytes for what is
//! in no piece. White space is not collapsed, and a text between special tokens is one word.
//!
//! A file has scores where `tokenizer.json` has ranked merges. These are made from the scores, as
//! Hugging Face's converter makes them: see [`run`].

mod pairs;
mod run;

use crate::gguf::GgufFile;

use self::pairs::Pairs;
use self::run::Run;
use super::envelope::{Envelope, pools_last};
use super::ids::Ids;
use super::scores::Scores;
use super::special::Segment;
use super::vocab::{Kind, Vocab};
use super::{Encoded, TokenizerError, keys};

/// The longest piece that is believed: Gemma's longest has 31 blanks, or 93 bytes. Bounds the work
/// for each join.
const PIECE_BYTES_MAX: usize = 512;

/// Stands for a blank.
const MARK: char = '\u{2581}';

/// The tokenizer of Gemma and Llama.
#[derive(Debug)]
pub(super) struct SentencePiece {
    vocab: Vocab,
    scores: Scores,
    pairs: Pairs,
    /// The token of each byte, if there is one for every byte.
    bytes: Option<Box<[u32; 256]>>,
    /// A text is marked as if it had a blank before it.
    prefix: bool,
    envelope: Envelope,
}

impl SentencePiece {
    /// Bytes that are held beside the map.
    pub(super) fn private_bytes(&self) -> usize {
        self.vocab.private_bytes() + self.pairs.private_bytes()
    }

    pub(super) fn from_gguf(file: &GgufFile) -> Result<Self, TokenizerError> {
        let vocab = Vocab::verbatim(file, PIECE_BYTES_MAX)?;
        let scores = Scores::from_gguf(file, &vocab)?;
        let pairs = Pairs::new(&vocab);
        let envelope = Envelope::from_gguf(file, &vocab, pools_last(file)?)?;
        let prefix = file.bool(keys::ADD_SPACE_PREFIX)?.unwrap_or(true);
        let bytes = byte_tokens(&vocab);
        Ok(Self { vocab, scores, pairs, bytes, prefix, envelope })
    }

    pub(super) fn vocabulary(&self) -> usize {
        self.vocab.len()
    }

    pub(super) fn encode(&self, text: &str, limit: usize, out: &mut Vec<u32>) -> Encoded {
        let envelope = &self.envelope;
        let ids = Ids::new(out, limit, envelope.opening, envelope.closing);
        let mut run = Run::new(self, ids);
        envelope.special.split(&self.vocab, text, |segment| match segment {
            Segment::Text(text) => {
                if self.prefix {
                    run.push(MARK);
                }
                text.chars().for_each(|c| run.push(if c == ' ' { MARK } else { c }));
                run.finish();
            }
            Segment::Special(id) => run.ids.push(id),
        });
        run.ids.close()
    }
}

/// The tokens `<0x00>` to `<0xFF>`; of two for one byte, the first.
fn byte_tokens(vocab: &Vocab) -> Option<Box<[u32; 256]>> {
    let mut tokens = [None; 256];
    for id in (0..vocab.len() as u32).filter(|id| vocab.kind(*id) == Kind::Byte) {
        let text = std::str::from_utf8(vocab.text(id)).unwrap_or_default();
        let digits = text.strip_prefix("<0x").and_then(|text| text.strip_suffix('>'));
        if let Some(byte) = digits.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            tokens[usize::from(byte)].get_or_insert(id);
        }
    }
    let mut all = Box::new([0; 256]);
    for (place, token) in all.iter_mut().zip(tokens) {
        *place = token?;
    }
    Some(all)
}
