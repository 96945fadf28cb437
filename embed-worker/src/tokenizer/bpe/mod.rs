//! Byte-level BPE: words of bytes, whose neighbours merge in the order in which they did when the
//! vocabulary was made.
//!
//! What a file cannot tell is taken from its family (`tokenizer.ggml.pre`): the pattern, NFC, which
//! added tokens are looked for first and whether the mask token takes the white space before it.
//! Other added tokens with `lstrip`, `rstrip` or `single_word` are not known as such. Those with
//! `normalized: true` are looked for in the raw text, which differs only where a mark after one
//! would compose with its last character.

mod compose;
mod merger;
mod merges;
mod pattern;
mod words;

use crate::gguf::GgufFile;

use super::envelope::pools_last;
use super::ids::Ids;
use super::special::{Segment, SpecialTokens};
use super::vocab::Vocab;
use super::{Encoded, TokenizerError, keys};

use compose::Composer;
use merger::Merger;
use merges::Merges;
use pattern::{Closing, Family};
use words::Words;

/// The longest piece that is believed, in bytes of the file's spelling: the longest in published
/// vocabularies is a run of 256 blanks or dashes.
const PIECE_BYTES_MAX: usize = 1024;

/// No token.
const NO_ID: u32 = u32::MAX;

/// The tokenizer of GPT-2 and its children.
#[derive(Debug)]
pub(super) struct ByteLevelBpe {
    family: Family,
    /// Without its table, unless whole words are looked up.
    vocab: Vocab,
    merges: Merges,
    /// The token of each byte; [`NO_ID`] if the vocabulary has none.
    bytes: Box<[u32; 256]>,
    /// Those that are found first, and those that are found in what they leave.
    special: [SpecialTokens; 2],
    /// The mask token, if white space before it is part of it.
    stripping: Option<u32>,
    /// Before every text.
    opening: Option<u32>,
    /// After every text.
    closing: Option<u32>,
}

impl ByteLevelBpe {
    /// Bytes that are held beside the map.
    pub(super) fn private_bytes(&self) -> usize {
        self.vocab.private_bytes() + self.merges.private_bytes()
    }

    pub(super) fn from_gguf(file: &GgufFile) -> Result<Self, TokenizerError> {
        let name = file.str(keys::PRE)?.ok_or(TokenizerError::Missing { key: keys::PRE })?;
        let family = Family::named(name)?;
        let mut vocab = Vocab::from_gguf(file, PIECE_BYTES_MAX)?;
        let merges = Merges::from_gguf(file, &vocab)?;
        let mut bytes = Box::new([NO_ID; 256]);
        for (byte, id) in (0..=u8::MAX).zip(bytes.iter_mut()) {
            let mut spelt = [0; 4];
            let spelt = spelling(byte).encode_utf8(&mut spelt);
            *id = vocab.id(spelt.as_bytes()).unwrap_or(NO_ID);
        }
        if !family.whole_words {
            vocab.forget_table();
        }
        let special = special_ids(file, &vocab)?;
        let stripping = match family.mask_strips {
            true => mask(file, &vocab, &special)?,
            false => None,
        };
        // Without types, those with ids are all of the first kind.
        let all_first = !family.normalized_tokens || vocab.special_ids().is_none();
        let is_first = |id: &u32| all_first || vocab.is_control(*id);
        let (first, second) = special.iter().partition(|id| is_first(id));
        let opening = opening(file, &vocab, family)?;
        let closing = closing(file, &vocab, family, &special)?;
        let special = [SpecialTokens::new(&vocab, first)?, SpecialTokens::new(&vocab, second)?];
        Ok(Self { family, vocab, merges, bytes, special, stripping, opening, closing })
    }

    pub(super) fn vocabulary(&self) -> usize {
        self.vocab.len()
    }

    pub(super) fn encode(&self, text: &str, limit: usize, out: &mut Vec<u32>) -> Encoded {
        let ids = Ids::new(out, limit, self.opening, self.closing);
        let Family { pattern, nfc, .. } = self.family;
        let mut words = Words::new(pattern, nfc, Merger::new(self, ids));
        let mut composer = Composer::default();
        // A text waits until it is known what follows it.
        let mut waiting = None;
        let [first, second] = &self.special;
        first.split(&self.vocab, text, |segment| match segment {
            Segment::Text(text) => waiting = Some(text),
            Segment::Special(id) => {
                let before = waiting.take().unwrap_or_default();
                let strip = self.stripping == Some(id);
                let before = if strip { before.trim_end() } else { before };
                self.split_again(second, before, &mut composer, &mut words);
                words.sink.ids.push(id);
            }
        });
        self.split_again(second, waiting.unwrap_or_default(), &mut composer, &mut words);
        words.sink.ids.close()
    }

    fn split_again(
        &self,
        special: &SpecialTokens,
        text: &str,
        composer: &mut Composer,
        words: &mut Words<Merger<'_>>,
    ) {
        special.split(&self.vocab, text, |segment| match segment {
            Segment::Text(text) => self.cut_words(text, composer, words),
            Segment::Special(id) => words.sink.ids.push(id),
        });
    }

    /// White space goes to `words` run by run, all else character by character.
    fn cut_words(&self, text: &str, composer: &mut Composer, words: &mut Words<Merger<'_>>) {
        let mut rest = text;
        loop {
            let n_word = rest.find(char::is_whitespace).unwrap_or(rest.len());
            let (word, from_blank) = rest.split_at(n_word);
            if self.family.nfc && !word.is_ascii() {
                word.chars().for_each(|c| composer.push(c, &mut |c| words.push(c)));
                composer.flush(&mut |c| words.push(c));
            } else {
                word.chars().for_each(|c| words.push(c));
            }
            rest = from_blank.trim_start();
            let run = &from_blank[..from_blank.len() - rest.len()];
            if run.is_empty() {
                return words.finish();
            }
            words.blanks(run, rest.is_empty());
        }
    }
}

/// GPT-2's spelling of a byte: printable ones of Latin-1 are themselves, the others follow each
/// other from U+0100.
fn spelling(byte: u8) -> char {
    let is_printable = |byte| matches!(byte, b'!'..=b'~' | 0xA1..=0xAC | 0xAE..=0xFF);
    if is_printable(byte) {
        return char::from(byte);
    }
    let before = (0..byte).filter(|byte| !is_printable(*byte)).count();
    char::from_u32(0x100 + before as u32).unwrap_or(char::REPLACEMENT_CHARACTER)
}

/// The tokens that are found verbatim in a text.
fn special_ids(file: &GgufFile, vocab: &Vocab) -> Result<Vec<u32>, TokenizerError> {
    if let Some(ids) = vocab.special_ids() {
        return Ok(ids);
    }
    let keys = [keys::BOS, keys::EOS, keys::UNKNOWN, keys::SEPARATOR, keys::PADDING, keys::CLS];
    let mut ids = Vec::new();
    for key in keys.into_iter().chain([keys::MASK]) {
        ids.extend(file.u32(key)?.filter(|id| (*id as usize) < vocab.len()));
    }
    Ok(ids)
}

fn mask(file: &GgufFile, vocab: &Vocab, special: &[u32]) -> Result<Option<u32>, TokenizerError> {
    if let Some(id) = file.u32(keys::MASK)? {
        return Ok(Some(id));
    }
    let is_mask = |id: &&u32| matches!(vocab.special_text(**id), b"<mask>" | b"[MASK]");
    Ok(special.iter().find(is_mask).copied())
}

fn opening(file: &GgufFile, vocab: &Vocab, family: Family) -> Result<Option<u32>, TokenizerError> {
    let adds = file.bool(keys::ADD_BOS)?.unwrap_or(family.adds_bos);
    adds.then(|| special_id(file, vocab, [keys::BOS, keys::CLS])).transpose()
}

/// EOS or the separator, never both: with both flags the second one is for pairs of texts.
fn closing(
    file: &GgufFile,
    vocab: &Vocab,
    family: Family,
    special: &[u32],
) -> Result<Option<u32>, TokenizerError> {
    let adds_eos = match file.bool(keys::ADD_EOS)? {
        Some(adds) => adds,
        None => match family.adds_eos {
            Closing::Always => true,
            Closing::Never => false,
            Closing::IfLastIsPooled => pools_last(file)?,
        },
    };
    if !adds_eos {
        let adds_sep = file.bool(keys::ADD_SEP)?.unwrap_or(false);
        return adds_sep.then(|| special_id(file, vocab, [keys::SEPARATOR, keys::EOS])).transpose();
    }
    let id = special_id(file, vocab, [keys::EOS, keys::SEPARATOR])?;
    // What ends a turn of a chat is EOS of the chat model that an embedder was made from, and of
    // files that were converted without looking; texts of Qwen's embedders end with the other.
    let end_of_text = |id: &&u32| vocab.special_text(**id) == b"<|endoftext|>";
    let is_end_of_turn = vocab.special_text(id) == b"<|im_end|>";
    let replacement = special.iter().find(end_of_text).filter(|_| is_end_of_turn);
    Ok(Some(replacement.copied().unwrap_or(id)))
}

/// The id under the first of `keys` that the file has, checked against the vocabulary.
fn special_id(
    file: &GgufFile,
    vocab: &Vocab,
    keys: [&'static str; 2],
) -> Result<u32, TokenizerError> {
    for key in keys {
        let Some(id) = file.u32(key)? else { continue };
        if id as usize >= vocab.len() {
            let tokens = vocab.len();
            return Err(TokenizerError::IdOutOfRange { key, id, defaulted: false, tokens });
        }
        return Ok(id);
    }
    Err(TokenizerError::Missing { key: keys[0] })
}
