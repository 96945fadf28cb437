//! Panels: 16 rows of weights, unpacked side by side into a scratch that the caches hold.
//!
//! A panel is made once a product and used for every token of the tile, so that unpacking is a small
//! part of the work; nothing else of the weights is ever copied.

use super::block::{Form, GROUP, unpack};
use super::{DType, Matrix, NonFiniteWeight, bf16_to_f32, f16_to_f32};

/// Rows of a panel: the f32 lanes of the widest registers, and twice those of AVX2.
pub(super) const ROWS: usize = 16;

/// Values of one row that a dot instruction takes at once.
const QUAD: usize = 4;

/// 32 columns of 16 rows.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
pub(super) struct PanelBlock {
    /// Values by quads of columns: `quads[c][4 * row + i]` is column `4 * c + i` of `row`.
    pub(super) quads: [[u8; ROWS * QUAD]; GROUP / QUAD],
    /// Scales of each row's two halves.
    pub(super) scales: [[f32; ROWS]; 2],
    /// Minimums of each row's two halves.
    pub(super) minimums: [[f32; ROWS]; 2],
    /// Sum of `scale * (value - bias)` over each row.
    pub(super) sums: [f32; ROWS],
}

impl PanelBlock {
    const ZERO: Self = Self {
        quads: [[0; ROWS * QUAD]; GROUP / QUAD],
        scales: [[0.0; ROWS]; 2],
        minimums: [[0.0; ROWS]; 2],
        sums: [0.0; ROWS],
    };
}

/// A thread's panel, reused from one to the next.
#[derive(Debug, Default)]
pub(super) struct Panel {
    blocks: Vec<PanelBlock>,
    /// Weights that are not quantized, by column: `plain[col][row]`.
    plain: Vec<[f32; ROWS]>,
}

impl Panel {
    /// Unpacks rows `first..first + 16` of `matrix`, whose type has the form `form`; rows beyond the
    /// last count as zeros. `flip` is xored to every value: 0x80 makes values with a bias of 128
    /// signed.
    ///
    /// # Errors
    ///
    /// A scale or minimum that is not finite.
    #[inline(always)]
    pub(super) fn unpack(
        &mut self,
        matrix: &Matrix<'_>,
        form: Form,
        first: usize,
        flip: u8,
    ) -> Result<&[PanelBlock], NonFiniteWeight> {
        let groups = matrix.cols / GROUP;
        self.blocks.resize(groups, PanelBlock::ZERO);
        let rows = ROWS.min(matrix.rows - first);
        for row in 0..rows {
            let bytes = matrix.row(first + row);
            for (group, block) in self.blocks.iter_mut().enumerate() {
                let unpacked = unpack(matrix.dtype, bytes, group);
                if !unpacked.is_finite() {
                    return Err(NonFiniteWeight { row: first + row, element: group * GROUP });
                }
                let quads = unpacked.values.as_chunks::<QUAD>().0;
                for (column, quad) in block.quads.iter_mut().zip(quads) {
                    column.as_chunks_mut::<QUAD>().0[row] = quad.map(|value| value ^ flip);
                }
                let sum = |half: &[u8]| -> i32 {
                    half.iter().map(|value| i32::from(*value)).sum::<i32>()
                        - form.bias * (GROUP / 2) as i32
                };
                let sums = [sum(&unpacked.values[..16]), sum(&unpacked.values[16..])];
                block.sums[row] = if form.halves {
                    (sums[1] as f32)
                        .mul_add(unpacked.scales[1], sums[0] as f32 * unpacked.scales[0])
                } else {
                    (sums[0] + sums[1]) as f32 * unpacked.scales[0]
                };
                for half in 0..2 {
                    block.scales[half][row] = unpacked.scales[half];
                    block.minimums[half][row] = unpacked.minimums[half];
                }
            }
        }
        if rows < ROWS {
            for block in &mut self.blocks {
                for half in 0..2 {
                    block.scales[half][rows..].fill(0.0);
                    block.minimums[half][rows..].fill(0.0);
                }
                block.sums[rows..].fill(0.0);
            }
        }
        Ok(&self.blocks)
    }

    /// Rows `first..first + 16` of a matrix that is not quantized, as f32 by column.
    ///
    /// # Errors
    ///
    /// A weight that is not finite.
    #[inline(always)]
    pub(super) fn unpack_plain(
        &mut self,
        matrix: &Matrix<'_>,
        first: usize,
    ) -> Result<&[[f32; ROWS]], NonFiniteWeight> {
        self.plain.clear();
        self.plain.resize(matrix.cols, [0.0; ROWS]);
        for row in 0..ROWS.min(matrix.rows - first) {
            let bytes = matrix.row(first + row);
            for (element, column) in self.plain.iter_mut().enumerate() {
                let value = plain(matrix.dtype, bytes, element);
                if !value.is_finite() {
                    return Err(NonFiniteWeight { row: first + row, element });
                }
                column[row] = value;
            }
        }
        Ok(&self.plain)
    }
}

/// Element `element` of a row that is not quantized.
///
/// # Panics
///
/// If `dtype` is quantized, or the row has no such element.
#[inline(always)]
pub(super) fn plain(dtype: DType, row: &[u8], element: usize) -> f32 {
    match dtype {
        DType::F32 => f32::from_le_bytes(row.as_chunks().0[element]),
        DType::F16 => f16_to_f32(row.as_chunks().0[element]),
        DType::BF16 => bf16_to_f32(row.as_chunks().0[element]),
        _ => unreachable!("{dtype} is quantized"),
    }
}
