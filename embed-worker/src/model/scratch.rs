//! Every buffer of a forward pass, kept from one to the next.
//!
//! What grows with the batch is the token states and their queries, keys and values; all else works
//! on a tile of tokens at a time and stays small whatever the batch is.

use super::feed_forward::FeedForwardScratch;
use super::hyper::Hyperparameters;
use super::rope::Rope;
use crate::kernels::{Buffer, QuantizedRows};

/// Tokens that go through a product together.
///
/// Enough that unpacking a panel of weights is a small part of using it, few enough that a tile's
/// inner activations stay in the second-level cache.
pub(super) const TILE_TOKENS: usize = 256;

/// Buffers of a forward pass; shapes are row-major.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    /// Token states, `[tokens, hidden]`.
    pub(super) states: Buffer,
    /// Queries, keys and values of one layer side by side, `[tokens, heads.row_width]`.
    pub(super) qkv: Buffer,
    /// What attention gives, `[tokens, heads.query_width]`.
    pub(super) attended: Buffer,
    /// States after a norm that leaves them as they are, `[tile, hidden]`.
    pub(super) normed: Buffer,
    /// What a product adds to the states, `[tile, hidden]`.
    pub(super) delta: Buffer,
    /// A tile's rows as int8.
    pub(super) quantized: QuantizedRows,
    /// The feed-forward layer's inside.
    pub(super) ffn: FeedForwardScratch,
    /// Tokens whose states stopped being finite, `[tokens]`.
    pub(super) broken: Vec<bool>,
    /// The answer, `[texts, dimensions]`.
    pub(super) rows: Vec<f32>,
    /// Cosines and sines of the positions, `[longest, rope.dims / 2]` each.
    pub(super) rope: RopeTable,
    /// The same for layers that see only what is near.
    pub(super) local_rope: RopeTable,
}

impl Scratch {
    /// Bytes that a batch of `tokens` tokens takes.
    pub(super) fn bytes(hyper: &Hyperparameters, tokens: usize) -> usize {
        let tile = tokens.min(TILE_TOKENS);
        let Hyperparameters { hidden, heads, context_tokens, .. } = *hyper;
        let a_token = hidden + heads.row_width() + heads.query_width();
        let ropes = [hyper.rope, hyper.local.as_ref().map(|local| local.rope)];
        let ropes: usize = ropes.iter().flatten().map(|rope| context_tokens * rope.dims).sum();
        (tokens * a_token + 2 * tile * hidden + ropes) * size_of::<f32>()
            + QuantizedRows::bytes(tile, hidden.max(heads.query_width()))
            + FeedForwardScratch::bytes(hyper, tile)
    }

    /// Gives all memory back but the tables of rotations, which take long to make and little room.
    pub(super) fn release(&mut self) {
        let Self { rope, local_rope, .. } = std::mem::take(self);
        *self = Self { rope, local_rope, ..Self::default() };
    }

    /// Makes room for so many texts and tokens, the longest text being of `longest` tokens.
    pub(super) fn reserve(
        &mut self,
        hyper: &Hyperparameters,
        (texts, tokens): (usize, usize),
        longest: usize,
    ) {
        let tile = tokens.min(TILE_TOKENS);
        self.states.grow(tokens * hyper.hidden);
        self.qkv.grow(tokens * hyper.heads.row_width());
        self.attended.grow(tokens * hyper.heads.query_width());
        self.normed.grow(tile * hyper.hidden);
        self.delta.grow(tile * hyper.hidden);
        self.rows.clear();
        self.rows.resize(texts * hyper.hidden, 0.0);
        if let Some(rope) = hyper.rope {
            self.rope.reach(rope, longest);
        }
        if let Some(local) = &hyper.local {
            self.local_rope.reach(local.rope, longest);
        }
        self.broken.clear();
        self.broken.resize(tokens, false);
    }
}

/// Cosines and sines for rotary positions, made as far as texts have been long.
#[derive(Debug, Default)]
pub(super) struct RopeTable {
    pub(super) cos: Vec<f32>,
    pub(super) sin: Vec<f32>,
    positions: usize,
}

impl RopeTable {
    /// Extends the table to `positions` rows.
    ///
    /// Angles are f64, so that late positions are as exact as early ones.
    pub(super) fn reach(&mut self, rope: Rope, positions: usize) {
        if positions <= self.positions {
            return;
        }
        let (turns, magnitude) = (rope.turns(), rope.magnitude());
        for position in self.positions..positions {
            for turn in &turns {
                let angle = position as f64 * turn;
                self.cos.push((angle.cos() * magnitude) as f32);
                self.sin.push((angle.sin() * magnitude) as f32);
            }
        }
        self.positions = positions;
    }
}
