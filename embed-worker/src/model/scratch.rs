//! Every buffer of a forward pass, kept from one to the next.
//!
//! What grows with the batch is the token states and their queries, keys and values; all else works
//! on a tile of tokens at a time and stays small whatever the batch is.

use super::hyper::{Hyperparameters, Rope};
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
    /// Queries, keys and values side by side, `[tokens, 3 * hidden]`.
    pub(super) qkv: Buffer,
    /// What attention gives, `[tokens, hidden]`.
    pub(super) attended: Buffer,
    /// What a product adds to the states, `[tile, hidden]`.
    pub(super) delta: Buffer,
    /// The feed-forward layer's inside, `[tile, inner]`, if the weights after it take floats.
    pub(super) inner: Buffer,
    /// A tile's rows as int8.
    pub(super) quantized: QuantizedRows,
    /// The feed-forward layer's inside as int8.
    pub(super) quantized_inner: QuantizedRows,
    /// Tokens whose states stopped being finite, `[tokens]`.
    pub(super) broken: Vec<bool>,
    /// The answer, `[texts, hidden]`.
    pub(super) rows: Vec<f32>,
    /// Cosines and sines of the positions, `[longest, rope.dims / 2]` each.
    pub(super) rope: RopeTable,
}

impl Scratch {
    /// Bytes that a batch of `tokens` tokens takes.
    pub(super) fn bytes(hyper: &Hyperparameters, tokens: usize) -> usize {
        let tile = tokens.min(TILE_TOKENS);
        let floats = tokens * 5 * hyper.hidden + tile * hyper.hidden;
        let rope = hyper.rope.map_or(0, |rope| hyper.context_tokens * rope.dims);
        // What is wide is kept as floats or as int8, of which floats take more.
        let wide = tile * hyper.inner * size_of::<f32>();
        (floats + rope) * size_of::<f32>() + QuantizedRows::bytes(tile, hyper.hidden) + wide
    }

    /// Gives all memory back but the table of rotations, which takes long to make and little room.
    pub(super) fn release(&mut self) {
        *self = Self { rope: std::mem::take(&mut self.rope), ..Self::default() };
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
        self.qkv.grow(tokens * 3 * hyper.hidden);
        self.attended.grow(tokens * hyper.hidden);
        self.delta.grow(tile * hyper.hidden);
        self.rows.clear();
        self.rows.resize(texts * hyper.hidden, 0.0);
        if let Some(rope) = hyper.rope {
            self.rope.reach(rope, longest);
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
    /// The angle of position `p` and pair `i` is `p * base^(-2i/dims)` (Su et al. 2021, arXiv
    /// 2104.09864), in f64 so that late positions are as exact as early ones.
    pub(super) fn reach(&mut self, rope: Rope, positions: usize) {
        let pairs = rope.dims / 2;
        for position in self.positions..positions {
            for pair in 0..pairs {
                let exponent = -2.0 * pair as f64 / rope.dims as f64;
                let angle = position as f64 * f64::from(rope.base).powf(exponent);
                self.cos.push(angle.cos() as f32);
                self.sin.push(angle.sin() as f32);
            }
        }
        self.positions = self.positions.max(positions);
    }
}
