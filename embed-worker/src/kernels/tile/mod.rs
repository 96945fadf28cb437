//! The inner product: one or two panels of weights by a few rows of activations, block by block.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod portable;

use std::marker::PhantomData;

use super::Isa;
use super::block::Format;
use super::panel::{PanelBlock, ROWS};
use super::quantize::{Meta, QuantizedRows};
use super::simd::Portable;

/// The walk of a panel over the tokens.
///
/// How many of them go together changes nothing but the speed: each token's sums are its own.
struct Walk<'a> {
    blocks: usize,
    /// `[tokens, cols]`
    x: &'a QuantizedRows,
    /// The next token.
    token: usize,
}

/// The rows of activations that a tile takes.
struct Rows<'a, const T: usize> {
    /// Values in quads, by block.
    q: [&'a [[[u8; 4]; 8]]; T],
    meta: [&'a [Meta]; T],
}

impl<'a> Walk<'a> {
    /// The next `T` rows, if there are so many.
    #[inline(always)]
    fn next<const T: usize>(&mut self) -> Option<Rows<'a, T>> {
        if self.x.rows() - self.token < T {
            return None;
        }
        let blocks = self.blocks;
        let mut rows = Rows { q: [&[] as &[_]; T], meta: [&[] as &[_]; T] };
        for t in 0..T {
            // Cut to the panels' length, so that one check serves all of a tile.
            rows.q[t] = &self.x.q(self.token + t).as_chunks().0.as_chunks().0[..blocks];
            rows.meta[t] = &self.x.meta(self.token + t)[..blocks];
        }
        self.token += T;
        Some(rows)
    }
}

/// What a tile gives: `[panel][token][row]`.
type Tile<const P: usize, const T: usize> = [[[f32; ROWS]; T]; P];

/// Runs `P` panels of format `F` over all tokens of `x`; `write(panel, token, rows)` takes what some
/// tokens from `token` on give with a panel, 16 rows each.
pub(super) fn walk<F: Format, const P: usize>(
    isa: Isa,
    panels: [&[PanelBlock]; P],
    x: &QuantizedRows,
    mut write: impl FnMut(usize, usize, &[[f32; ROWS]]),
) {
    let mut walk = Walk { blocks: panels.first().map_or(0, |panel| panel.len()), x, token: 0 };
    /// As many tiles of each width as there are tokens left for.
    macro_rules! tiles {
        ($tile:path, $token:expr, $($width:literal),+) => {{
            $(
                loop {
                    let first = walk.token;
                    let Some(rows) = walk.next::<$width>() else { break };
                    let tile = $tile($token, panels, PhantomData::<F>, &rows);
                    for (panel, rows) in tile.iter().enumerate() {
                        write(panel, first, rows);
                    }
                }
            )+
        }};
    }
    match isa {
        Isa::Portable => tiles!(portable::tile, Portable, 1),
        // Accumulators for four tokens and half a panel, of 16 registers.
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2(token) => tiles!(avx2::tile, token, 4, 2, 1),
        // Two accumulators for each of six tokens and two panels, of 32 registers: every activation
        // that is loaded meets two registers of weights.
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512Vnni(token) => tiles!(avx512::tile, token, 6, 3, 1),
    }
}
