//! Which two characters ever stand side by side within a piece.
//!
//! Where a text has two that do not, no join can reach across: the text on either side comes out
//! the same whether the other is there or not. So it can be worked on in parts.

use super::{Kind, Vocab};

/// Places for pairs; the 262,144 tokens of Gemma have some 200,000 different ones. 512 KiB.
const BITS: u32 = 22;

/// An odd number without pattern: the golden ratio's fraction.
const MULTIPLIER: u64 = 0x9E37_79B9_7F4A_7C15;

/// A set of pairs that may hold a few more than were put in, never fewer.
#[derive(Debug)]
pub(super) struct Pairs {
    bits: Box<[u64]>,
}

impl Pairs {
    /// Bytes that are held.
    pub(super) fn private_bytes(&self) -> usize {
        size_of_val(&*self.bits)
    }

    pub(super) fn new(vocab: &Vocab) -> Self {
        let mut bits = vec![0; (1 << BITS) / u64::BITS as usize].into_boxed_slice();
        for id in 0..vocab.len() as u32 {
            if !matches!(vocab.kind(id), Kind::Normal | Kind::UserDefined) {
                continue;
            }
            let text = std::str::from_utf8(vocab.text(id)).unwrap_or_default();
            for (left, right) in text.chars().zip(text.chars().skip(1)) {
                let (word, bit) = place(left, right);
                bits[word] |= bit;
            }
        }
        Self { bits }
    }

    /// Whether a piece may have `left` and `right` side by side.
    pub(super) fn may_touch(&self, left: char, right: char) -> bool {
        let (word, bit) = place(left, right);
        self.bits[word] & bit != 0
    }
}

/// The word and the bit of a pair.
fn place(left: char, right: char) -> (usize, u64) {
    let pair = u64::from(left) << 32 | u64::from(right);
    let hash = pair.wrapping_mul(MULTIPLIER) ^ (pair.wrapping_mul(MULTIPLIER) >> 29);
    let place = hash.wrapping_mul(MULTIPLIER) >> (u64::BITS - BITS);
    ((place >> 6) as usize, 1 << (place & 63))
}
