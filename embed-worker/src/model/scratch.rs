//! Every buffer of a forward pass, kept from one to the next.
//!
//! What grows with the batch is the token states, and with a long text the keys and values of one
//! layer; all else works on a tile of tokens at a time. `footprint.rs` counts what all that takes.

use super::feed_forward::FeedForwardScratch;
use super::footprint::Extent;
use super::hyper::Hyperparameters;
use super::rope::Rope;
use crate::kernels::{Buffer, KeyValues, QuantizedRows};

/// Buffers of a forward pass; shapes are row-major.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    /// Token states, `[tokens, hidden]`.
    pub(super) states: Buffer,
    /// What goes into a product: states after a norm, or what attention gives,
    /// `[tile, max(hidden, heads.query_width)]`.
    pub(super) taken: Buffer,
    /// What comes out of one: queries, keys and values side by side, or what is added to the states,
    /// `[tile, max(hidden, heads.row_width)]`.
    pub(super) made: Buffer,
    /// The keys and values of a text longer than a tile, in one layer.
    pub(super) key_values: KeyValues,
    /// A tile's rows as int8.
    pub(super) quantized: QuantizedRows,
    /// The feed-forward layer's inside.
    pub(super) ffn: FeedForwardScratch,
    /// Tokens whose states stopped being finite, `[tokens]`.
    pub(super) broken: Vec<bool>,
    /// The answer, `[texts, dimensions]`.
    pub(super) rows: Buffer,
    /// Cosines and sines of the positions, as far as texts have been long.
    pub(super) rope: RopeTable,
    /// The same for layers that see only what is near.
    pub(super) local_rope: RopeTable,
}

impl Scratch {
    /// Gives all memory back but the tables of rotations, which take long to make and little room.
    pub(super) fn release(&mut self) {
        let Self { rope, local_rope, .. } = std::mem::take(self);
        *self = Self { rope, local_rope, ..Self::default() };
    }

    /// Bytes that are held.
    pub(super) fn held_bytes(&self) -> usize {
        let Self { states, taken, made, key_values, quantized, ffn, broken, rows, .. } = self;
        let floats = states.bytes() + taken.bytes() + made.bytes() + rows.bytes();
        let ropes = self.rope.bytes() + self.local_rope.bytes();
        let parts = key_values.held_bytes() + quantized.held_bytes() + ffn.held_bytes();
        floats + ropes + parts + broken.capacity()
    }

    /// Makes room for a pass over `extent` in tiles of `tile` tokens.
    pub(super) fn reserve(&mut self, hyper: &Hyperparameters, extent: Extent, tile: usize) {
        let Extent { texts, tokens, longest } = extent;
        let Hyperparameters { hidden, heads, .. } = *hyper;
        let tile = tokens.min(tile);
        self.states.grow(tokens * hidden);
        self.taken.grow(tile * hidden.max(heads.query_width()));
        self.made.grow(tile * hidden.max(heads.row_width()));
        self.rows.grow(texts * hidden.max(hyper.dimensions));
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

/// Cosines and sines for rotary positions, `[positions, pairs]` each.
#[derive(Debug, Default)]
pub(super) struct RopeTable {
    pub(super) cos: Buffer,
    pub(super) sin: Buffer,
    positions: usize,
}

/// Tables are made for so many positions more at a time, since they are made from the start each time.
const ROPE_STEP: usize = 256;

impl RopeTable {
    /// Bytes of the tables for a text of `positions` tokens.
    pub(super) fn bytes_for(rope: Rope, positions: usize) -> usize {
        positions.next_multiple_of(ROPE_STEP) * rope.dims * size_of::<f32>()
    }

    /// Bytes that are held.
    pub(super) fn bytes(&self) -> usize {
        self.cos.bytes() + self.sin.bytes()
    }

    /// Extends the tables to `positions` rows at least.
    ///
    /// Angles are f64, so that late positions are as exact as early ones.
    pub(super) fn reach(&mut self, rope: Rope, positions: usize) {
        if positions <= self.positions {
            return;
        }
        let (turns, magnitude) = (rope.turns(), rope.magnitude());
        let (positions, pairs) = (positions.next_multiple_of(ROPE_STEP), turns.len());
        self.cos.grow(positions * pairs);
        self.sin.grow(positions * pairs);
        let tables = self.cos.chunks_exact_mut(pairs).zip(self.sin.chunks_exact_mut(pairs));
        for (position, (cos, sin)) in tables.enumerate() {
            for (pair, turn) in turns.iter().enumerate() {
                let angle = position as f64 * turn;
                cos[pair] = (angle.cos() * magnitude) as f32;
                sin[pair] = (angle.sin() * magnitude) as f32;
            }
        }
        self.positions = positions;
    }
}
