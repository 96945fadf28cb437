//! What a forward pass takes of memory, to the byte, before it begins.
//!
//! A worker's memory is promised, so a batch that would break the promise is never begun: the tile is
//! as large as what is promised leaves room for, and a text for which there is no tile is refused.

use std::ops::Range;

use super::feed_forward::FeedForwardScratch;
use super::hyper::Hyperparameters;
use super::scratch::RopeTable;
use super::weights::Weights;
use crate::kernels::{Forms, KeyValues, QuantizedRows, Workspace};

/// Tokens that go through a product together, at most.
///
/// Enough that unpacking a panel of weights is a small part of using it, few enough that a tile's
/// inner activations stay in the second-level cache.
pub(super) const TILE_MAX: usize = 256;

/// And at least, if a text has so many: unpacking then takes a third of the time.
pub(super) const TILE_MIN: usize = 32;

/// Tiles differ by so many tokens; keys are laid out in blocks of as many.
const TILE_STEP: usize = 16;

/// Systems give memory by pages: of 16 KiB on Apple's processors, of 4 KiB nearly everywhere else.
const PAGE: usize = if cfg!(target_arch = "aarch64") { 16 * 1024 } else { 4 * 1024 };

/// Buffers of a pass, and of a thread, each of which may waste most of a page.
const BUFFERS: usize = 24;
const THREAD_BUFFERS: usize = 6;

/// What a pass is over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Extent {
    /// Texts.
    pub texts: usize,
    /// Tokens of all of them.
    pub tokens: usize,
    /// Tokens of the longest.
    pub longest: usize,
}

impl Extent {
    /// That of the texts that lie in these ranges.
    pub(super) fn of(texts: &[Range<usize>]) -> Self {
        Self {
            texts: texts.len(),
            tokens: texts.iter().map(Range::len).sum(),
            longest: texts.iter().map(Range::len).max().unwrap_or(0),
        }
    }

    /// That of one text of `tokens` tokens.
    pub fn of_text(tokens: usize) -> Self {
        Self { texts: 1, tokens, longest: tokens }
    }
}

/// What a model's sizes and types mean for the memory of a pass.
#[derive(Clone, Debug)]
pub(super) struct Footprint {
    hyper: Hyperparameters,
    /// Forms in which rows of a tile are quantized.
    forms: Forms,
    /// And those in which a feed-forward layer's inside is.
    inner_forms: Forms,
    /// Whether a feed-forward layer's inside is wanted as floats.
    plain_inner: bool,
    /// Columns of the widest matrix that is not quantized.
    plain_cols: usize,
}

impl Footprint {
    pub(super) fn new(hyper: &Hyperparameters, weights: &Weights) -> Self {
        let types = |inner: bool| {
            let linears = weights.linears().filter(move |(is_inner, _)| *is_inner == inner);
            linears.map(|(_, linear)| (linear.matrix().shape().0, linear.cols))
        };
        let plain = |inner| types(inner).filter(|(dtype, _)| !dtype.is_quantized());
        Self {
            hyper: hyper.clone(),
            forms: Forms::of(types(false).map(|(dtype, _)| dtype)),
            inner_forms: Forms::of(types(true).map(|(dtype, _)| dtype)),
            plain_inner: plain(true).next().is_some(),
            plain_cols: plain(false).chain(plain(true)).map(|(_, cols)| cols).max().unwrap_or(0),
        }
    }

    /// Bytes that a pass over `extent` takes in tiles of `tile` tokens on `threads` threads.
    pub(super) fn bytes(&self, extent: Extent, tile: usize, threads: usize) -> usize {
        let Extent { texts, tokens, longest } = extent;
        let hyper = &self.hyper;
        let Hyperparameters { hidden, dimensions, heads, .. } = *hyper;
        let rows = tokens.min(tile);
        let taken = hidden.max(heads.query_width());
        let made = hidden.max(heads.row_width());
        // Heads after pooling make new rows of the old ones.
        let pooled =
            hidden.max(dimensions) + if hyper.head_inner.is_some() { dimensions } else { 0 };
        let floats = tokens * hidden + rows * (taken + made) + texts * pooled;
        let key_values = if longest > tile { KeyValues::bytes(heads, longest) } else { 0 };
        let ropes = [hyper.rope, hyper.local.as_ref().map(|local| local.rope)];
        let ropes: usize =
            ropes.into_iter().flatten().map(|rope| RopeTable::bytes_for(rope, longest)).sum();
        let quantized = QuantizedRows::bytes(rows, taken, self.forms);
        let inner = (self.inner_forms, self.plain_inner);
        let ffn = FeedForwardScratch::bytes(hyper, inner, (rows, texts.min(tile)));
        // A long text that is alone has its keys and values laid out already.
        let own = if texts == 1 && longest > tile { 0 } else { rows };
        let attention = (own, longest, heads.width);
        let thread = Workspace::thread_bytes(self.plain_cols, rows, attention);
        floats * size_of::<f32>()
            + key_values
            + ropes
            + quantized
            + ffn
            + tokens * size_of::<bool>()
            + BUFFERS * PAGE
            + threads * (thread + THREAD_BUFFERS * PAGE)
    }

    /// Bytes that a pass over `extent` takes on `threads` threads, in the smallest tiles and in the
    /// largest.
    pub(super) fn range(&self, extent: Extent, threads: usize) -> (usize, usize) {
        let of = |tile| self.bytes(extent, tile, threads);
        (of(TILE_MIN).min(of(TILE_MAX)), of(TILE_MAX))
    }

    /// The largest tile in which a pass over `extent` on `threads` threads stays within `memory` bytes,
    /// with the bytes that it takes.
    pub(super) fn tile(
        &self,
        extent: Extent,
        threads: usize,
        memory: usize,
    ) -> Option<(usize, usize)> {
        let tiles = (TILE_MIN..=TILE_MAX).rev().step_by(TILE_STEP);
        let taking = |tile| (tile, self.bytes(extent, tile, threads));
        tiles.map(taking).find(|(_, bytes)| *bytes <= memory)
    }
}

/// The tile in which a text of `tokens` tokens takes as many tiles as in those of `tile`, but even
/// ones: what is left over would unpack all weights for a few tokens.
pub(super) fn even_tile(tokens: usize, tile: usize) -> usize {
    tokens.div_ceil(tokens.div_ceil(tile)).next_multiple_of(TILE_STEP)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tiles_of_a_text_are_even_and_of_whole_blocks() {
        assert_eq!(even_tile(257, 256), 144);
        assert_eq!(even_tile(512, 256), 256);
        assert_eq!(even_tile(2000, 72 / 16 * 16), 64);
        for tokens in 257..2000 {
            for tile in [TILE_MIN, 80, TILE_MAX] {
                let even = even_tile(tokens, tile);
                assert!(even <= tile && even.is_multiple_of(TILE_STEP));
                assert_eq!(tokens.div_ceil(even), tokens.div_ceil(tile), "{tokens} by {tile}");
            }
        }
    }
}
