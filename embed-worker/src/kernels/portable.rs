//! The law: what a product is, in plain Rust, one screen long.
//!
//! Every instruction set must give the same bits, so nothing here may be reordered:
//! for each block of 32 columns, the exact integer dot times the weight's scale, then by fused
//! multiply-adds times the activation's step, the minimum's part, the middle's part.

use super::block::Form;
use super::panel::{PanelBlock, ROWS};
use super::quantize::Meta;

/// 16 rows of weights by `T` rows of activations: `out[t][row]`.
///
/// `panel` holds values without their bias taken off, `q[t]` and `meta[t]` one row each.
pub(super) fn tile<const T: usize>(
    form: Form,
    panel: &[PanelBlock],
    q: [&[i8]; T],
    meta: [&[Meta]; T],
) -> [[f32; ROWS]; T] {
    std::array::from_fn(|t| {
        let mut out = [0.0_f32; ROWS];
        let q = q[t].as_chunks::<32>().0;
        for ((block, q), meta) in panel.iter().zip(q).zip(meta[t]) {
            for (row, out) in out.iter_mut().enumerate() {
                let mut dots = [0_i32; 2];
                for (column, q) in q.iter().enumerate() {
                    let value = block.quads[column / 4][4 * row + column % 4];
                    dots[column / 16] += (i32::from(value) - form.bias) * i32::from(*q);
                }
                let scales = [block.scales[0][row], block.scales[1][row]];
                let dot = if form.halves {
                    (dots[1] as f32).mul_add(scales[1], dots[0] as f32 * scales[0])
                } else {
                    (dots[0] + dots[1]) as f32 * scales[0]
                };
                *out = dot.mul_add(meta.d, *out);
                if form.minimum && form.halves {
                    *out = block.minimums[0][row].mul_add(meta.half_sums[0], *out);
                    *out = block.minimums[1][row].mul_add(meta.half_sums[1], *out);
                } else if form.minimum {
                    *out = block.minimums[0][row].mul_add(meta.sum, *out);
                }
                *out = block.sums[row].mul_add(meta.m, *out);
            }
        }
        out
    })
}
