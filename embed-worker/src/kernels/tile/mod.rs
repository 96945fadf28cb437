//! The inner product: one panel of weights by a few rows of activations, block by block.

#[cfg(target_arch = "x86_64")]
pub(super) mod avx2;
#[cfg(target_arch = "x86_64")]
pub(super) mod avx512;
pub(super) mod portable;

use std::marker::PhantomData;

use super::Isa;
use super::block::Format;
use super::panel::{PanelBlock, ROWS};
use super::quantize::{Meta, QuantizedRows};
use super::simd::Portable;

/// The walk of one panel over the tokens.
///
/// How many of them go together changes nothing but the speed: each token's sums are its own.
pub(super) struct Walk<'a> {
    /// One block for every 32 columns.
    pub(super) panel: &'a [PanelBlock],
    /// `[tokens, cols]`
    pub(super) x: &'a QuantizedRows,
    /// The next token.
    pub(super) token: usize,
}

/// The rows of activations that a tile takes.
pub(super) struct Rows<'a, const T: usize> {
    /// Values in quads, by block.
    pub(super) q: [&'a [[[u8; 4]; 8]]; T],
    pub(super) meta: [&'a [Meta]; T],
}

impl<'a> Walk<'a> {
    /// The next `T` rows, if there are so many.
    #[inline(always)]
    pub(super) fn next<const T: usize>(&mut self) -> Option<Rows<'a, T>> {
        if self.x.rows() - self.token < T {
            return None;
        }
        let blocks = self.panel.len();
        let mut rows = Rows { q: [&[] as &[_]; T], meta: [&[] as &[_]; T] };
        for t in 0..T {
            // Cut to the panel's length, so that one check serves all of a tile.
            rows.q[t] = &self.x.q(self.token + t).as_chunks().0.as_chunks().0[..blocks];
            rows.meta[t] = &self.x.meta(self.token + t)[..blocks];
        }
        self.token += T;
        Some(rows)
    }
}

/// Runs a panel of format `F` over all tokens of `x`; `write(token, rows)` takes what some tokens
/// from `token` on give, 16 rows each.
pub(super) fn walk<F: Format>(
    isa: Isa,
    panel: &[PanelBlock],
    x: &QuantizedRows,
    mut write: impl FnMut(usize, &[[f32; ROWS]]),
) {
    let mut walk = Walk { panel, x, token: 0 };
    /// As many tiles of each width as there are tokens left for.
    macro_rules! tiles {
        ($tile:path, $token:expr, $($width:literal),+) => {{
            $(
                loop {
                    let first = walk.token;
                    let Some(rows) = walk.next::<$width>() else { break };
                    write(first, &$tile($token, panel, PhantomData::<F>, &rows));
                }
            )+
        }};
    }
    match isa {
        Isa::Portable => tiles!(portable::tile, Portable, 1),
        // Accumulators for four tokens, of 16 registers.
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2(token) => tiles!(avx2::tile, token, 4, 2, 1),
        // Two accumulators for each of twelve tokens, of 32 registers.
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512Vnni(token) => tiles!(avx512::tile, token, 12, 6, 3, 1),
    }
}
