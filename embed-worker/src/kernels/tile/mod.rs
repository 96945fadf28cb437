//! The inner product: a slice of two panels of weights by a few rows of activations, block by block.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(target_arch = "x86_64")]
mod avx_vnni;
#[cfg(target_arch = "x86_64")]
mod half_panel;
#[cfg(target_arch = "aarch64")]
mod neon;
#[cfg(target_arch = "aarch64")]
mod neon_dot;
mod portable;
#[cfg(target_arch = "aarch64")]
mod quarter_panel;

use std::ops::Range;

use bytemuck::{Pod, Zeroable};

use super::Isa;
use super::block::Format;
use super::memory::Ahead;
use super::panel::{BLOCKS, PANELS, PanelSlice, ROWS};
use super::quantize::{Large, QuantizedRows, Small, Values};
use super::simd::Portable;

/// What a token gives with the rows of each panel, summed up from slice to slice.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C, align(64))]
pub(super) struct Sums(pub(super) [[f32; ROWS]; PANELS]);

impl Sums {
    pub(super) const ZERO: Self = Self([[0.0; ROWS]; PANELS]);
}

/// A slice of two panels, of which the first blocks are in use.
#[derive(Clone, Copy)]
pub(super) struct Slice<'a> {
    pub(super) panels: &'a [PanelSlice; PANELS],
    pub(super) blocks: usize,
}

/// Halves of panels in a tile, for instruction sets that take one at a time.
const PARTS: usize = 2 * PANELS;

/// The rows of activations that a tile takes, in one of the two forms.
#[derive(Clone, Copy)]
struct Rows<'a, M, const T: usize> {
    values: &'a [Values; T],
    meta: &'a [M; T],
    /// What memory may bring meanwhile: some steps of it for each tile.
    ahead: Ahead<'a>,
}

/// What differs between the two forms.
trait Tiles<const T: usize> {
    /// Adds products in the small form.
    fn small<F: Format>(self, slice: Slice<'_>, rows: Rows<'_, Small, T>, sums: &mut [Sums; T]);
    /// Adds products in the large form.
    fn large<F: Format>(self, slice: Slice<'_>, rows: Rows<'_, Large, T>, sums: &mut [Sums; T]);
}

/// Adds the products of a slice of two panels of format `F` with some tokens of `x` to `sums`, which
/// has one for each of them.
///
/// How many of them go together changes nothing but the speed: each token's sums are its own.
/// Meanwhile memory is asked for `next`.
pub(super) fn walk<F: Format>(
    isa: Isa,
    slice: Slice<'_>,
    x: &QuantizedRows,
    index: usize,
    tokens: Range<usize>,
    sums: &mut [Sums],
    next: &[u8],
) {
    assert!(slice.blocks <= BLOCKS && sums.len() == tokens.len());
    let rows = AllRows {
        small: if F::LARGE { (&[], &[]) } else { x.small.slice(index, tokens.start) },
        large: if F::LARGE { x.large.slice(index, tokens.start) } else { (&[], &[]) },
    };
    /// Tiles of at most `$most` tokens and nearly the same width, that ask for what is next in
    /// `$steps` steps each.
    macro_rules! tiles {
        ($token:expr, $most:literal, $steps:expr; $($width:literal),+) => {{
            let count = tokens.len().div_ceil($most);
            let (each, more) = (tokens.len() / count.max(1), tokens.len() % count.max(1));
            let ahead = Ahead::new(next, count * $steps);
            let mut done = 0;
            for number in 0..count {
                let width = each + usize::from(number < more);
                match width {
                    $(
                        $width => {
                            let ahead = ahead.after(number * $steps);
                            let sums = &mut sums[done..];
                            tile::<F, _, $width>($token, slice, &rows, done, sums, ahead);
                        }
                    )+
                    width => unreachable!("a tile of {width}"),
                }
                done += width;
            }
        }};
    }
    match isa {
        Isa::Portable => tiles!(Portable, 1, 1; 1),
        // Accumulators for four tokens and half a panel, of 16 registers.
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2(token) => tiles!(token, 4, PARTS; 1, 2, 3, 4),
        #[cfg(target_arch = "x86_64")]
        Isa::AvxVnni(token) => tiles!(token, 4, PARTS; 1, 2, 3, 4),
        // Two accumulators for each of six tokens and two panels, of 32 registers: every activation
        // that is loaded meets two registers of weights.
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512Vnni(token) => tiles!(token, 6, slice.blocks; 1, 2, 3, 4, 5, 6),
        // Accumulators for four tokens and half a panel; the dots of one token at a time take the
        // rest of 32 registers.
        #[cfg(target_arch = "aarch64")]
        Isa::Neon(token) => tiles!(token, 4, PARTS; 1, 2, 3, 4),
        // Two dots and two accumulators for each of six tokens and half a panel, of 32 registers.
        #[cfg(target_arch = "aarch64")]
        Isa::NeonDot(token) => tiles!(token, 6, PARTS; 1, 2, 3, 4, 5, 6),
    }
}

/// A slice of all tokens, in the form that the weights meet.
struct AllRows<'a> {
    small: (&'a [Values], &'a [Small]),
    large: (&'a [Values], &'a [Large]),
}

/// One tile: `T` tokens, the first of which is `first`; `sums` begins with theirs.
#[inline(always)]
fn tile<F: Format, I: Tiles<T>, const T: usize>(
    token: I,
    slice: Slice<'_>,
    rows: &AllRows<'_>,
    first: usize,
    sums: &mut [Sums],
    ahead: Ahead<'_>,
) {
    let short = "as many as there are tokens";
    let sums = sums.first_chunk_mut().expect(short);
    if F::LARGE {
        let (values, meta) = rows.large;
        let (values, meta) = (values[first..].first_chunk(), meta[first..].first_chunk());
        let rows = Rows { values: values.expect(short), meta: meta.expect(short), ahead };
        token.large::<F>(slice, rows, sums);
    } else {
        let (values, meta) = rows.small;
        let (values, meta) = (values[first..].first_chunk(), meta[first..].first_chunk());
        let rows = Rows { values: values.expect(short), meta: meta.expect(short), ahead };
        token.small::<F>(slice, rows, sums);
    }
}
