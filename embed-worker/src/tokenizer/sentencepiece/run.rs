//! The joins within a run of characters.
//!
//! Hugging Face's converter makes a merge of every way to cut a piece into two others, and ranks
//! them by the piece's score, then by the left part's length, then by the right one's, longest
//! first, then by the piece's id. Of equal ranks the leftmost pair is joined. The order here is
//! that order, without the table: half a million merges would take 10 MB.
//!
//! Every join is found in a heap, so n characters cost n log n. The joins of a run that cannot be
//! cut (see [`super::pairs`]) need all of it.

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;

use super::super::ids::Ids;
use super::{Kind, SentencePiece};

/// Characters of a run at most; a longer one, without a place to cut, is cut all the same, and
/// may differ from Hugging Face's there. It has some 40 bytes of scratch for each: 2.6 MB.
const RUN_CHARACTERS_MAX: usize = 64 * 1024;

/// No neighbour.
const NONE: u32 = u32::MAX;

/// The score of user-defined pieces and of every other one in the order of numbers.
#[derive(Clone, Copy, PartialEq)]
struct Score(f32);

impl Eq for Score {}

impl Ord for Score {
    fn cmp(&self, other: &Self) -> Ordering {
        // Both zeros are one number.
        (self.0 + 0.0).total_cmp(&(other.0 + 0.0))
    }
}

impl PartialOrd for Score {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// A piece of the run.
struct Symbol {
    id: u32,
    /// Where its text starts.
    start: u32,
    /// How long it is; 0 if it was joined to its left neighbour.
    bytes: u16,
    characters: u16,
    left: u32,
    right: u32,
}

/// Two neighbours that make a piece. The greatest is joined first.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Join {
    score: Score,
    left_characters: u16,
    right_characters: u16,
    id: Reverse<u32>,
    /// The left symbol.
    place: Reverse<u32>,
    /// What the piece's length is: if the neighbours have another by now, they are not the same.
    bytes: u16,
}

/// Takes the characters of a text, gives the ids of its pieces.
pub(super) struct Run<'a> {
    model: &'a SentencePiece,
    pub(super) ids: Ids<'a>,
    text: Vec<u8>,
    symbols: Vec<Symbol>,
    joins: BinaryHeap<Join>,
    last: Option<char>,
    /// The last id stands for unknown text, to which more is added without a new token.
    unknown: bool,
}

impl<'a> Run<'a> {
    pub(super) fn new(model: &'a SentencePiece, ids: Ids<'a>) -> Self {
        Self {
            model,
            ids,
            text: Vec::new(),
            symbols: Vec::new(),
            joins: BinaryHeap::new(),
            last: None,
            unknown: false,
        }
    }

    pub(super) fn push(&mut self, c: char) {
        let mut buffer = [0; 4];
        let bytes = c.encode_utf8(&mut buffer).as_bytes();
        let Some(id) = self.model.vocab.verbatim_id(bytes) else {
            return self.push_unknown(bytes);
        };
        let touches = self.last.is_none_or(|last| self.model.pairs.may_touch(last, c));
        if !touches || self.symbols.len() == RUN_CHARACTERS_MAX {
            self.flush();
        }
        let at = self.symbols.len() as u32;
        if let Some(left) = self.symbols.last_mut() {
            left.right = at;
        }
        self.symbols.push(Symbol {
            id,
            start: self.text.len() as u32,
            bytes: bytes.len() as u16,
            characters: 1,
            left: at.checked_sub(1).unwrap_or(NONE),
            right: NONE,
        });
        self.text.extend(bytes);
        self.last = Some(c);
        self.unknown = false;
    }

    /// Ends the text.
    pub(super) fn finish(&mut self) {
        self.flush();
        self.unknown = false;
    }

    /// A character that is no piece joins nothing.
    fn push_unknown(&mut self, bytes: &[u8]) {
        self.flush();
        match &self.model.bytes {
            Some(tokens) => {
                bytes.iter().for_each(|byte| self.ids.push(tokens[usize::from(*byte)]));
            }
            None if self.unknown => {}
            None => {
                self.ids.push(self.model.envelope.unknown);
                self.unknown = true;
            }
        }
    }

    /// Joins what there is and gives it out.
    fn flush(&mut self) {
        for place in 0..self.symbols.len() as u32 {
            self.offer(place);
        }
        while let Some(join) = self.joins.pop() {
            self.join(&join);
        }
        for symbol in self.symbols.drain(..).filter(|symbol| symbol.bytes > 0) {
            self.ids.push(symbol.id);
        }
        self.text.clear();
        self.last = None;
    }

    /// Considers the symbol at `place` and its right neighbour.
    fn offer(&mut self, place: u32) {
        let Some(left) = self.symbols.get(place as usize) else { return };
        let Some(right) = self.symbols.get(left.right as usize) else { return };
        let bytes = left.bytes + right.bytes;
        let model = self.model;
        if usize::from(bytes) > model.vocab.bytes_max() {
            return;
        }
        let text = &self.text[left.start as usize..][..usize::from(bytes)];
        let Some(id) = model.vocab.verbatim_id(text) else { return };
        if !matches!(model.vocab.kind(id), Kind::Normal | Kind::UserDefined) {
            return;
        }
        self.joins.push(Join {
            score: Score(model.scores.get(&model.vocab, id)),
            left_characters: left.characters,
            right_characters: right.characters,
            id: Reverse(id),
            place: Reverse(place),
            bytes,
        });
    }

    /// Makes a join, if its symbols are still there.
    fn join(&mut self, join: &Join) {
        let Join { id: Reverse(id), place: Reverse(place), bytes, .. } = *join;
        let (left, at) = (place as usize, self.symbols[place as usize].right);
        let Some(right) = self.symbols.get_mut(at as usize) else { return };
        let (right_bytes, right_characters, next) = (right.bytes, right.characters, right.right);
        // One joined to its left neighbour has no text; one that grew makes another length.
        if self.symbols[left].bytes == 0 || self.symbols[left].bytes + right_bytes != bytes {
            return;
        }
        self.symbols[at as usize].bytes = 0;
        let symbol = &mut self.symbols[left];
        (symbol.id, symbol.bytes, symbol.right) = (id, bytes, next);
        symbol.characters += right_characters;
        let before = symbol.left;
        if let Some(next) = self.symbols.get_mut(next as usize) {
            next.left = place;
        }
        self.offer(before);
        self.offer(place);
    }
}
