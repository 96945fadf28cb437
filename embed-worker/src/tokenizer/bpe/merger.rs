//! A word's bytes to its pieces: of all pairs that can merge, the one of the lowest rank, and of
//! those the leftmost, until none is left.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use crate::tokenizer::ids::Ids;

use super::words::WordSink;
use super::{ByteLevelBpe, NO_ID, PIECE_BYTES_MAX};

/// Up to this many bytes of a word, looking through all pairs for each merge is faster than
/// keeping them in order.
const SHORT_BYTES_MAX: usize = 64;

/// How much of a word is merged at once: bounds the memory for a text without a space, to some
/// 0.7 MB.
const WINDOW_BYTES: usize = 16 * 1024;

/// How much of a window is merged again with what follows it, because what follows may change it.
///
/// In theory a merge may depend on bytes any distance away, in practice on the next few pieces;
/// this is four times the longest piece.
const OVERLAP_BYTES: usize = 4 * PIECE_BYTES_MAX;

/// No rank.
const NO_RANK: u32 = u32::MAX;

/// No symbol.
const NONE: u32 = u32::MAX;

/// Merges words and hands on the ids of their pieces.
pub(super) struct Merger<'a> {
    model: &'a ByteLevelBpe,
    pub(super) ids: Ids<'a>,
    /// The tokens of the single bytes of the word under way.
    word: Vec<u32>,
    /// Whether the first part of the word has been handed on.
    cut: bool,
    /// Scratch: for each place in the word the rank of the pair that starts there.
    ranks: Vec<u32>,
    /// Scratch: the word as a list that pieces can be taken out of.
    symbols: Vec<Symbol>,
    /// Scratch: pairs that could merge, by rank and place. Some are outdated.
    queue: BinaryHeap<Reverse<(u32, u32)>>,
}

/// A piece of a word. Its place is that of its first byte.
#[derive(Clone, Copy)]
struct Symbol {
    /// [`NO_ID`] once it is part of the one before.
    id: u32,
    previous: u32,
    next: u32,
}

impl<'a> Merger<'a> {
    pub(super) fn new(model: &'a ByteLevelBpe, ids: Ids<'a>) -> Self {
        Self {
            model,
            ids,
            word: Vec::with_capacity(SHORT_BYTES_MAX),
            cut: false,
            ranks: Vec::with_capacity(SHORT_BYTES_MAX),
            symbols: Vec::new(),
            queue: BinaryHeap::new(),
        }
    }

    fn rank(&self, left: u32, right: u32) -> u32 {
        self.model.merges.rank(left, right).unwrap_or(NO_RANK)
    }

    /// Merges the word in place.
    fn merge_short(&mut self) {
        let mut ranks = std::mem::take(&mut self.ranks);
        ranks.clear();
        ranks.extend(self.word.windows(2).map(|pair| self.rank(pair[0], pair[1])));
        loop {
            let lowest = ranks.iter().enumerate().min_by_key(|(_, rank)| **rank);
            let Some((at, rank)) = lowest.filter(|(_, rank)| **rank != NO_RANK) else { break };
            self.word[at] = self.model.merges.merged(*rank);
            self.word.remove(at + 1);
            ranks.remove(at);
            if let Some(rank) = ranks.get_mut(at) {
                *rank = self.rank(self.word[at], self.word[at + 1]);
            }
            if let Some(before) = at.checked_sub(1) {
                ranks[before] = self.rank(self.word[before], self.word[at]);
            }
        }
        self.ranks = ranks;
    }

    /// Merges the word into `symbols`.
    fn merge_long(&mut self) {
        let n_bytes = self.word.len() as u32;
        self.symbols.clear();
        self.symbols.extend((0..).zip(&self.word).map(|(at, id)| Symbol {
            id: *id,
            previous: u32::checked_sub(at, 1).unwrap_or(NONE),
            next: if at + 1 == n_bytes { NONE } else { at + 1 },
        }));
        self.queue.clear();
        (0..n_bytes).for_each(|at| self.enqueue(at));
        while let Some(Reverse((rank, at))) = self.queue.pop() {
            let left = self.symbols[at as usize];
            let Some(right) = self.symbols.get(left.next as usize).copied() else { continue };
            // Outdated if one of the two has merged otherwise since.
            if left.id == NO_ID || self.rank(left.id, right.id) != rank {
                continue;
            }
            self.symbols[left.next as usize].id = NO_ID;
            let merged = &mut self.symbols[at as usize];
            merged.id = self.model.merges.merged(rank);
            merged.next = right.next;
            if let Some(next) = self.symbols.get_mut(right.next as usize) {
                next.previous = at;
            }
            if left.previous != NONE {
                self.enqueue(left.previous);
            }
            self.enqueue(at);
        }
    }

    /// Puts the pair that starts at a place into the queue, if it merges.
    fn enqueue(&mut self, at: u32) {
        let left = self.symbols[at as usize];
        let Some(right) = self.symbols.get(left.next as usize) else { return };
        let rank = self.rank(left.id, right.id);
        if rank != NO_RANK {
            self.queue.push(Reverse((rank, at)));
        }
    }

    /// Hands on the pieces of `symbols` that end up to `limit`; tells where the last one ends.
    fn hand_on(&mut self, limit: usize) -> usize {
        let mut at = 0;
        while let Some(symbol) = self.symbols.get(at) {
            let end = (symbol.next as usize).min(self.symbols.len());
            if end > limit {
                break;
            }
            self.ids.push(symbol.id);
            at = end;
        }
        at
    }

    /// Makes room in a word that goes on.
    fn cut(&mut self) {
        self.merge_long();
        let done = self.hand_on(WINDOW_BYTES - OVERLAP_BYTES);
        self.word.drain(..done);
        self.cut = true;
    }

    /// The word as one token, where that goes before merges.
    fn whole_word(&self) -> Option<u32> {
        if !self.model.family.whole_words || self.cut || self.word.len() > PIECE_BYTES_MAX {
            return None;
        }
        let vocab = &self.model.vocab;
        let text: Vec<u8> =
            self.word.iter().flat_map(|id| vocab.special_text(*id)).copied().collect();
        vocab.id(&text)
    }
}

impl WordSink for Merger<'_> {
    fn push(&mut self, c: char) {
        for byte in c.encode_utf8(&mut [0; 4]).bytes() {
            let id = self.model.bytes[usize::from(byte)];
            // As in Hugging Face without an unknown token: the byte is passed over.
            if id != NO_ID {
                self.word.push(id);
            }
        }
        if self.word.len() >= WINDOW_BYTES {
            self.cut();
        }
    }

    fn end(&mut self) {
        if let Some(id) = self.whole_word() {
            self.ids.push(id);
        } else if self.word.len() <= SHORT_BYTES_MAX {
            self.merge_short();
            self.word.iter().for_each(|id| self.ids.push(*id));
        } else {
            self.merge_long();
            self.hand_on(self.word.len());
        }
        self.word.clear();
        self.cut = false;
    }
}
