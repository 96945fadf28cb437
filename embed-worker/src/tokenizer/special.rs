//! Special tokens, found verbatim in the raw text before anything is normalised.
//!
//! As Hugging Face's added tokens with `normalized: false`: the leftmost match, and of those the
//! longest. A file does not tell `normalized` or `single_word`; BERT's special tokens have neither.

use super::TokenizerError;
use super::vocab::Vocab;

/// The longest special token that is believed: real ones have a dozen bytes. Bounds the work for
/// each byte of text.
const SPECIAL_BYTES_MAX: usize = 256;

/// No parent: see [`SpecialTokens::parents`].
const NONE: u32 = u32::MAX;

/// The special tokens of a vocabulary.
#[derive(Debug)]
pub(super) struct SpecialTokens {
    /// In the order of their texts, no text twice.
    ids: Box<[u32]>,
    /// For each of `ids` the place of the longest other one that it starts with.
    parents: Box<[u32]>,
    /// Whether any of them starts with this byte.
    starts: [bool; 256],
}

/// A part of a text.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Segment<'a> {
    Text(&'a str),
    Special(u32),
}

impl SpecialTokens {
    pub(super) fn new(vocab: &Vocab, mut ids: Vec<u32>) -> Result<Self, TokenizerError> {
        // Others can match no text, and would match within characters.
        ids.retain(|id| {
            let text = vocab.special_text(*id);
            !text.is_empty() && std::str::from_utf8(text).is_ok()
        });
        for &id in &ids {
            let bytes = vocab.special_text(id).len();
            if bytes > SPECIAL_BYTES_MAX {
                return Err(TokenizerError::SpecialTooLong { id, bytes, max: SPECIAL_BYTES_MAX });
            }
        }
        ids.sort_by(|a, b| {
            vocab.special_text(*a).cmp(vocab.special_text(*b)).then_with(|| a.cmp(b))
        });
        ids.dedup_by(|later, earlier| vocab.special_text(*later) == vocab.special_text(*earlier));

        let mut starts = [false; 256];
        let mut parents = Vec::with_capacity(ids.len());
        for (place, id) in ids.iter().enumerate() {
            let text = vocab.special_text(*id);
            starts[usize::from(text[0])] = true;
            // In this order, the texts that `text` starts with are its predecessor or among the
            // predecessor's parents.
            let mut parent = (place as u32).checked_sub(1).unwrap_or(NONE);
            while parent != NONE && !text.starts_with(vocab.special_text(ids[parent as usize])) {
                parent = parents[parent as usize];
            }
            parents.push(parent);
        }
        Ok(Self { ids: ids.into(), parents: parents.into(), starts })
    }

    /// Cuts `text` at its special tokens.
    pub(super) fn split<'a>(
        &self,
        vocab: &Vocab,
        text: &'a str,
        mut take: impl FnMut(Segment<'a>),
    ) {
        let bytes = text.as_bytes();
        let (mut done, mut at) = (0, 0);
        while let Some(skipped) = bytes[at..].iter().position(|b| self.starts[usize::from(*b)]) {
            at += skipped;
            let Some((id, n_bytes)) = self.longest(vocab, &bytes[at..]) else {
                at += 1;
                continue;
            };
            if done < at {
                take(Segment::Text(&text[done..at]));
            }
            take(Segment::Special(id));
            at += n_bytes;
            done = at;
        }
        if done < text.len() {
            take(Segment::Text(&text[done..]));
        }
    }

    /// The longest special token that `text` starts with: it is the last one not after `text` in
    /// the order of texts, or one of its parents.
    fn longest(&self, vocab: &Vocab, text: &[u8]) -> Option<(u32, usize)> {
        let text = &text[..text.len().min(SPECIAL_BYTES_MAX)];
        let after = self.ids.partition_point(|id| vocab.special_text(*id) <= text);
        let mut place = after.checked_sub(1)?;
        loop {
            let id = self.ids[place];
            let special = vocab.special_text(id);
            if text.starts_with(special) {
                return Some((id, special.len()));
            }
            place = Some(self.parents[place]).filter(|parent| *parent != NONE)? as usize;
        }
    }
}
