//! The law: what a product is, in plain Rust, one screen long.
//!
//! Every instruction set must give the same bits, so nothing here may be reordered. For each block of
//! 32 columns the dot is exact in integers; what follows is a chain of fused multiply-adds.

use super::{Rows, Slice, Sums, Tiles};
use crate::kernels::block::Format;
use crate::kernels::float::fused;
use crate::kernels::panel::{PanelBlock, PanelSlice, QUAD, ROWS};
use crate::kernels::quantize::{Large, Small, Values};
use crate::kernels::simd::Portable;

impl<const T: usize> Tiles<T> for Portable {
    fn small<F: Format>(self, slice: Slice<'_>, rows: Rows<'_, Small, T>, sums: &mut [Sums; T]) {
        for_each(slice, rows, sums, |panel, row, values, meta, sum| {
            small::<F>(panel, slice.blocks, row, values, meta, sum);
        });
    }

    fn large<F: Format>(self, slice: Slice<'_>, rows: Rows<'_, Large, T>, sums: &mut [Sums; T]) {
        for_each(slice, rows, sums, |panel, row, values, meta, sum| {
            large::<F>(panel, slice.blocks, row, values, meta, sum);
        });
    }
}

/// Calls `add` for each row of each panel with each token.
fn for_each<M, const T: usize>(
    slice: Slice<'_>,
    rows: Rows<'_, M, T>,
    sums: &mut [Sums; T],
    add: impl Fn(&PanelSlice, usize, &Values, &M, &mut f32),
) {
    for ((values, meta), sums) in rows.values.iter().zip(rows.meta).zip(sums) {
        for (panel, sums) in slice.panels.iter().zip(&mut sums.0) {
            for row in 0..ROWS {
                add(panel, row, values, meta, &mut sums[row]);
            }
        }
    }
}

/// Blocks with steps of their own, two of which share a middle.
fn small<F: Format>(
    panel: &PanelSlice,
    blocks: usize,
    row: usize,
    values: &Values,
    meta: &Small,
    sum: &mut f32,
) {
    for (index, block) in panel.blocks[..blocks].iter().enumerate() {
        let [low, high] = dots(block, row, &values[index]);
        let product = (low + high) as f32 * block.scales[0][row];
        *sum = fused(product, meta.d[index], *sum);
        if F::MINIMUM {
            *sum = fused(block.minimums[0][row], meta.sums[index], *sum);
        }
    }
    for pair in 0..blocks.div_ceil(2) {
        *sum = fused(panel.sums[pair][row], meta.m[pair], *sum);
    }
}

/// Blocks that share a step and a middle.
fn large<F: Format>(
    panel: &PanelSlice,
    blocks: usize,
    row: usize,
    values: &Values,
    meta: &Large,
    sum: &mut f32,
) {
    let mut product = 0.0_f32;
    for (index, block) in panel.blocks[..blocks].iter().enumerate() {
        let [low, high] = dots(block, row, &values[index]);
        if F::HALVES {
            for (half, dot) in [low, high].into_iter().enumerate() {
                product = fused(dot as f32, block.scales[half][row], product);
                if F::MINIMUM {
                    let of_x = meta.halves[2 * index + half];
                    product = fused(block.minimums[half][row], of_x, product);
                }
            }
        } else {
            product = fused((low + high) as f32, block.scales[0][row], product);
            if F::MINIMUM {
                product = fused(block.minimums[0][row], meta.blocks[index], product);
            }
        }
    }
    *sum = fused(panel.sums[0][row], meta.m, fused(product, meta.d, *sum));
}

/// Dots of a block's two halves.
fn dots(block: &PanelBlock, row: usize, q: &[[u8; QUAD]; 8]) -> [i32; 2] {
    let mut dots = [0_i32; 2];
    for (column, q) in q.iter().enumerate() {
        let values = &block.quads[column][QUAD * row..][..QUAD];
        for (value, q) in values.iter().zip(q) {
            dots[column / 4] += i32::from(*value) * i32::from(q.cast_signed());
        }
    }
    dots
}
