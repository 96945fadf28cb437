//! Which two pieces become one, and which pair goes first.
//!
//! Private memory is 12 bytes a merge for its three pieces and 6 to 12 for the hash table: 2.8 MB
//! for the 151,387 merges of Qwen.

use std::hash::{BuildHasher as _, RandomState};
use std::num::NonZero;
use std::panic::resume_unwind;
use std::thread::{self, ScopedJoinHandle, available_parallelism};

use crate::gguf::{GgufFile, StringArray};
use crate::tokenizer::TokenizerError;
use crate::tokenizer::keys::MERGES;
use crate::tokenizer::vocab::Vocab;

use super::PIECE_BYTES_MAX;

/// How many merges with one home may follow each other. At two thirds of load and with a good
/// hash the longest run in a table of a million is some 200.
const PROBES_MAX: usize = 1024;

/// How many random keys are tried before the merges are refused.
const KEYS_MAX: usize = 8;

/// Merges that are worth a thread: some five milliseconds' work.
const MERGES_EACH_MIN: usize = 32 * 1024;

/// Threads that read merges: more would be started in vain, since memory is what they wait for.
const THREADS_MAX: usize = 4;

/// An odd number without pattern: the golden ratio's fraction, as wyhash and others use.
const MULTIPLIER: u64 = 0x9E37_79B9_7F4A_7C15;

/// No merge has this slot: the largest rank of a table is never used.
const EMPTY: u32 = u32::MAX;

/// Two pieces that stand beside each other, and what they become.
#[derive(Clone, Copy, Debug, Default)]
struct Merge {
    pair: (u32, u32),
    merged: u32,
}

/// All merges of a file, by rank and by pair.
#[derive(Debug)]
pub(super) struct Merges {
    /// In the order of the file, which is their rank: the lowest goes first.
    merges: Box<[Merge]>,
    /// A hash table of ranks with linear probing. Upper bits: tag, the top of the hash. Lower
    /// bits: rank. The length is a power of two.
    slots: Box<[u32]>,
    rank_bits: u32,
    /// Random, so that nobody can choose colliding pairs in advance.
    key: u64,
}

impl Merges {
    /// Bytes that are held.
    pub(super) fn private_bytes(&self) -> usize {
        size_of_val(&*self.merges) + size_of_val(&*self.slots)
    }

    pub(super) fn from_gguf(file: &GgufFile, vocab: &Vocab) -> Result<Self, TokenizerError> {
        let texts = file.strings(MERGES)?.ok_or(TokenizerError::Missing { key: MERGES })?;
        let merges = read(&texts, vocab)?;
        // One rank more than there are, so that no slot equals `EMPTY`.
        let rank_bits = (merges.len() as u32 + 1).next_power_of_two().trailing_zeros();
        let n_slots = (merges.len() * 3 / 2 + 1).next_power_of_two();
        let slots = vec![EMPTY; n_slots].into();
        let mut table = Self { merges, slots, rank_bits, key: 0 };
        table.fill()?;
        Ok(table)
    }

    /// The rank of the merge of two pieces.
    pub(super) fn rank(&self, left: u32, right: u32) -> Option<u32> {
        let hash = self.hash((left, right));
        let tag = self.tag(hash);
        let mut at = self.home(hash);
        loop {
            let slot = self.slots[at];
            if slot == EMPTY {
                return None;
            }
            let rank = slot & self.rank_mask();
            if slot >> self.rank_bits == tag && self.merges[rank as usize].pair == (left, right) {
                return Some(rank);
            }
            at = self.next(at);
        }
    }

    /// What the pair of that rank becomes.
    pub(super) fn merged(&self, rank: u32) -> u32 {
        self.merges[rank as usize].merged
    }

    fn fill(&mut self) -> Result<(), TokenizerError> {
        let mut collided = 0;
        for _ in 0..KEYS_MAX {
            self.slots.fill(EMPTY);
            self.key = RandomState::new().hash_one(MULTIPLIER);
            match self.try_fill() {
                Ok(()) => return Ok(()),
                Err(index) => collided = index,
            }
        }
        Err(TokenizerError::MergeCollisions { index: collided, probes: PROBES_MAX })
    }

    /// Puts every merge into the table, or names the one that collides too often. Of the same pair
    /// twice the later rank stays, as in Hugging Face's map.
    fn try_fill(&mut self) -> Result<(), usize> {
        for rank in 0..self.merges.len() {
            let pair = self.merges[rank].pair;
            let hash = self.hash(pair);
            let tag = self.tag(hash);
            let mut at = self.home(hash);
            let mut probes = 0;
            loop {
                let slot = self.slots[at];
                let same = slot != EMPTY
                    && slot >> self.rank_bits == tag
                    && self.merges[(slot & self.rank_mask()) as usize].pair == pair;
                if slot == EMPTY || same {
                    self.slots[at] = tag << self.rank_bits | rank as u32;
                    break;
                }
                probes += 1;
                if probes == PROBES_MAX {
                    return Err(rank);
                }
                at = self.next(at);
            }
        }
        Ok(())
    }

    /// Multiply to 128 bits and fold, after wyhash.
    fn hash(&self, (left, right): (u32, u32)) -> u64 {
        let pair = u64::from(left) << 32 | u64::from(right);
        let product = u128::from(pair ^ self.key) * u128::from(MULTIPLIER);
        product as u64 ^ (product >> 64) as u64
    }

    fn tag(&self, hash: u64) -> u32 {
        (hash >> 32) as u32 >> self.rank_bits
    }

    fn home(&self, hash: u64) -> usize {
        hash as usize & (self.slots.len() - 1)
    }

    fn next(&self, at: usize) -> usize {
        (at + 1) & (self.slots.len() - 1)
    }

    fn rank_mask(&self) -> u32 {
        (1 << self.rank_bits) - 1
    }
}

/// The pieces of every merge, looked up in the vocabulary: most of what opening a file takes, which is
/// shared out among threads.
fn read(texts: &StringArray, vocab: &Vocab) -> Result<Box<[Merge]>, TokenizerError> {
    let mut merges = vec![Merge::default(); texts.len()].into_boxed_slice();
    let cores = available_parallelism().map_or(1, NonZero::get);
    let n_threads = (texts.len() / MERGES_EACH_MIN).min(cores).clamp(1, THREADS_MAX);
    let n_each = texts.len().div_ceil(n_threads).max(1);
    let read = |(first, share)| read_share(texts, vocab, first, share);
    let mut shares = (0..).step_by(n_each).zip(merges.chunks_mut(n_each));
    let own = shares.next();
    let all_read = thread::scope(|scope| {
        let start = |share| thread::Builder::new().spawn_scoped(scope, move || read(share));
        let threads: Result<Vec<_>, _> = shares.map(start).collect();
        let own = own.map_or(Ok(()), read);
        // In their order, so that the error is of the first merge that has one.
        threads.ok().map(|threads| own.and_then(|()| threads.into_iter().try_for_each(joined)))
    });
    // Where the system has no more threads this one does it all.
    all_read.unwrap_or_else(|| read_share(texts, vocab, 0, &mut merges))?;
    Ok(merges)
}

/// What a thread has returned.
fn joined<T>(thread: ScopedJoinHandle<'_, T>) -> T {
    thread.join().unwrap_or_else(|panic| resume_unwind(panic))
}

/// The merges from `first` on, as many as `share` has room for.
fn read_share(
    texts: &StringArray,
    vocab: &Vocab,
    first: usize,
    share: &mut [Merge],
) -> Result<(), TokenizerError> {
    /// Two pieces and the blank.
    const MERGE_BYTES_MAX: usize = PIECE_BYTES_MAX + 1;

    let mut merged = Vec::with_capacity(PIECE_BYTES_MAX);
    // Vocabularies are made by merging: what one merge makes mostly has the id after the one's before.
    let mut next = 0;
    for (index, merge) in (first..).zip(share) {
        let text = texts.get(index).unwrap_or_default();
        if text.len() > MERGE_BYTES_MAX {
            let (bytes, max) = (text.len(), MERGE_BYTES_MAX);
            return Err(TokenizerError::MergeTooLong { index, bytes, max });
        }
        let (left, right) = pieces(text).ok_or(TokenizerError::MergeMalformed { index })?;
        merged.clear();
        merged.extend_from_slice(left);
        merged.extend_from_slice(right);
        let unknown = |piece| TokenizerError::merge_unknown(index, piece);
        let id = |piece| vocab.id(piece).ok_or_else(|| unknown(piece));
        let pair = (id(left)?, id(right)?);
        let id = vocab.id_near(next, &merged).ok_or_else(|| unknown(&merged))?;
        *merge = Merge { pair, merged: id };
        next = id.wrapping_add(1);
    }
    Ok(())
}

/// The two sides of the only blank.
fn pieces(text: &[u8]) -> Option<(&[u8], &[u8])> {
    std::str::from_utf8(text).ok()?;
    let mut sides = text.split(|byte| *byte == b' ');
    let (left, right) = (sides.next()?, sides.next()?);
    (!left.is_empty() && !right.is_empty() && sides.next().is_none()).then_some((left, right))
}
