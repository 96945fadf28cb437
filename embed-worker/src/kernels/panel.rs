//! Panels: 16 rows of weights, unpacked side by side into a scratch that the caches hold.
//!
//! A panel is made once a product and used for every token of the tile, so that unpacking is a small
//! part of the work; nothing else of the weights is ever copied.

use super::block::{Format, GROUP};
use super::simd::Simd;
use super::{DType, Matrix, NonFiniteWeight, bf16_to_f32, f16_to_f32};

/// Rows of a panel: the f32 lanes of the widest registers, and twice those of AVX2.
pub(super) const ROWS: usize = 16;

/// Values of one row that a dot instruction takes at once.
pub(super) const QUAD: usize = 4;

/// 32 columns of 16 rows.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
pub(super) struct PanelBlock {
    /// Values by quads of columns: `quads[c][4 * row + i]` is column `4 * c + i` of `row`.
    pub(super) quads: [[i8; ROWS * QUAD]; GROUP / QUAD],
    /// Sums of each row's two halves, times -128: where a dot with unsigned activations begins.
    pub(super) starts: [[i32; ROWS]; 2],
    /// Scales of each row's two halves.
    pub(super) scales: [[f32; ROWS]; 2],
    /// Minimums of each row's two halves.
    pub(super) minimums: [[f32; ROWS]; 2],
    /// Sum of `scale * value` over each row.
    pub(super) sums: [f32; ROWS],
}

impl PanelBlock {
    const ZERO: Self = Self {
        quads: [[0; ROWS * QUAD]; GROUP / QUAD],
        starts: [[0; ROWS]; 2],
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
    /// Bytes of a panel of `cols` columns.
    pub(super) fn bytes(cols: usize) -> usize {
        cols / GROUP * size_of::<PanelBlock>()
    }

    /// Unpacks rows `first..first + 16` of `matrix`; rows beyond the last count as zeros.
    ///
    /// # Errors
    ///
    /// A scale or minimum that is not finite.
    #[inline(always)]
    pub(super) fn unpack<S: Simd, F: Format>(
        &mut self,
        simd: S,
        matrix: &Matrix<'_>,
        first: usize,
    ) -> Result<&[PanelBlock], NonFiniteWeight> {
        self.blocks.resize(matrix.cols / GROUP, PanelBlock::ZERO);
        let rows = ROWS.min(matrix.rows - first);
        let bytes = F::DTYPE.block_bytes();
        let mut poison = simd.splat(0.0);
        for (index, blocks) in self.blocks.chunks_mut(F::PARTS).enumerate() {
            for row in 0..rows {
                let block = &matrix.row(first + row)[index * bytes..][..bytes];
                let scales = F::scales(simd, block);
                for (part, block) in blocks.iter_mut().enumerate() {
                    block.scales[0][row] = scales.scales[2 * part];
                    block.scales[1][row] = scales.scales[2 * part + 1];
                    block.minimums[0][row] = scales.minimums[2 * part];
                    block.minimums[1][row] = scales.minimums[2 * part + 1];
                }
            }
            for (part, block) in blocks.iter_mut().enumerate() {
                let mut values = [[0; GROUP]; ROWS];
                for row in 0..rows {
                    let block = &matrix.row(first + row)[index * bytes..][..bytes];
                    values[row] = F::values(block, part);
                }
                for row in rows..ROWS {
                    for half in 0..2 {
                        (block.scales[half][row], block.minimums[half][row]) = (0.0, 0.0);
                    }
                }
                simd.interleave(&values, &mut block.quads);
                let (low, high) = block.quads.split_at(GROUP / QUAD / 2);
                let sums = [simd.quad_sums(low), simd.quad_sums(high)];
                finish::<F>(block, sums);
                for half in 0..2 {
                    // Zero times a number is zero, and NaN times anything, or infinity, is not.
                    let zero = simd.splat(0.0);
                    poison = simd.fma(simd.load(&block.scales[half]), zero, poison);
                    poison = simd.fma(simd.load(&block.minimums[half]), zero, poison);
                }
            }
        }
        if simd.sum(poison) == 0.0 { Ok(&self.blocks) } else { Err(self.first_not_finite(first)) }
    }

    /// The first row of a panel with a scale that is not finite, and where.
    #[cold]
    fn first_not_finite(&self, first: usize) -> NonFiniteWeight {
        for row in 0..ROWS {
            for (index, block) in self.blocks.iter().enumerate() {
                let scales = block.scales.iter().chain(&block.minimums);
                if scales.into_iter().any(|scales| !scales[row].is_finite()) {
                    return NonFiniteWeight { row: first + row, element: index * GROUP };
                }
            }
        }
        unreachable!("a scale that is not finite was seen")
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

/// What follows from a block's values: `sums` holds those of each row's halves.
#[inline(always)]
fn finish<F: Format>(block: &mut PanelBlock, sums: [[i32; ROWS]; 2]) {
    for row in 0..ROWS {
        let [low, high] = [sums[0][row], sums[1][row]];
        if F::HALVES {
            block.starts[0][row] = -128 * low;
            block.starts[1][row] = -128 * high;
            let scaled = low as f32 * block.scales[0][row];
            block.sums[row] = (high as f32).mul_add(block.scales[1][row], scaled);
        } else {
            block.starts[0][row] = -128 * (low + high);
            block.sums[row] = (low + high) as f32 * block.scales[0][row];
        }
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
