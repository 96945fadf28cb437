//! Panels: 16 rows of weights, unpacked side by side into a scratch that the caches hold.
//!
//! A panel is made once a product and used for every token of the tile, so that unpacking is a small
//! part of the work; nothing else of the weights is ever copied.

use super::block::{Format, GROUP};
use super::plain::Plain;
use super::simd::Simd;
use super::{Matrix, NonFiniteWeight};

/// Rows of a panel: the f32 lanes of the widest registers, and twice those of AVX2.
pub(super) const ROWS: usize = 16;

/// Panels of one task.
pub(super) const PANELS: usize = 2;

/// Values of one row that a dot instruction takes at once.
pub(super) const QUAD: usize = 4;

/// 32 columns of 16 rows.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
pub(super) struct PanelBlock {
    /// Values by quads of columns: `quads[c][4 * row + i]` is column `4 * c + i` of `row`.
    pub(super) quads: [[i8; ROWS * QUAD]; GROUP / QUAD],
    /// Sums of each row's two halves, times -128: where a dot with unsigned activations begins.
    /// Here and below, what holds for the whole row stands in the first half if the format has no
    /// halves.
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
        let quantized = cols / GROUP * size_of::<PanelBlock>();
        quantized.max(cols * size_of::<[f32; ROWS]>())
    }

    /// Unpacks rows `first..first + 16` of `matrix`; beyond the last row it is repeated.
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
        let mut rows = [&[] as &[F::Block]; ROWS];
        for (row, blocks) in rows.iter_mut().enumerate() {
            *blocks = F::blocks(matrix.row((first + row).min(matrix.rows - 1)));
        }
        let zero = simd.splat(0.0);
        let mut poison = zero;
        for (index, blocks) in self.blocks.chunks_mut(F::PARTS).enumerate() {
            unpack_scales::<S, F>(simd, &rows, index, blocks);
            for (part, block) in blocks.iter_mut().enumerate() {
                let mut values = [[0; GROUP]; ROWS];
                for row in 0..ROWS {
                    values[row] = F::values(&rows[row][index], part);
                }
                simd.interleave(&values, &mut block.quads);
                finish::<S, F>(simd, block);
                // Zero times a number is zero, and times NaN or infinity it is not.
                for half in 0..if F::HALVES { 2 } else { 1 } {
                    poison = simd.fma(simd.load(&block.scales[half]), zero, poison);
                    if F::MINIMUM {
                        poison = simd.fma(simd.load(&block.minimums[half]), zero, poison);
                    }
                }
            }
        }
        if simd.sum(poison) == 0.0 {
            Ok(&self.blocks)
        } else {
            Err(self.first_not_finite::<F>(first))
        }
    }

    /// The first row of a panel with a scale that is not finite, and where.
    #[cold]
    fn first_not_finite<F: Format>(&self, first: usize) -> NonFiniteWeight {
        let halves = if F::HALVES { 2 } else { 1 };
        for row in 0..ROWS {
            for (index, block) in self.blocks.iter().enumerate() {
                let minimums = &block.minimums[..if F::MINIMUM { halves } else { 0 }];
                let scales = block.scales[..halves].iter().chain(minimums);
                if scales.into_iter().any(|scales| !scales[row].is_finite()) {
                    return NonFiniteWeight { row: first + row, element: index * GROUP };
                }
            }
        }
        unreachable!("a scale that is not finite was seen")
    }

    /// Rows `first..first + 16` of a matrix that is not quantized, as f32 by column; beyond the last
    /// row it is repeated.
    ///
    /// # Errors
    ///
    /// A weight that is not finite.
    #[inline(always)]
    pub(super) fn unpack_plain<S: Simd, P: Plain>(
        &mut self,
        simd: S,
        matrix: &Matrix<'_>,
        first: usize,
    ) -> Result<&[[f32; ROWS]], NonFiniteWeight> {
        self.plain.resize(matrix.cols, [0.0; ROWS]);
        let mut rows = [&[] as &[P::Element]; ROWS];
        for (row, elements) in rows.iter_mut().enumerate() {
            *elements = P::elements(matrix.row((first + row).min(matrix.rows - 1)));
        }
        let zero = simd.splat(0.0);
        let mut poison = zero;
        for (index, columns) in self.plain.chunks_mut(EIGHT).enumerate() {
            let mut values = [[0.0; EIGHT]; ROWS];
            for (values, row) in values.iter_mut().zip(&rows) {
                for (value, element) in values.iter_mut().zip(&row[EIGHT * index..]) {
                    *value = P::value(element);
                }
            }
            let mut eight = [[0.0; ROWS]; EIGHT];
            simd.interleave_floats(&values, &mut eight);
            for (column, values) in columns.iter_mut().zip(&eight) {
                poison = simd.fma(simd.load(values), zero, poison);
                *column = *values;
            }
        }
        if simd.sum(poison) == 0.0 { Ok(&self.plain) } else { Err(self.first_plain(first)) }
    }

    /// The first row of a panel with a weight that is not finite, and which.
    #[cold]
    fn first_plain(&self, first: usize) -> NonFiniteWeight {
        for row in 0..ROWS {
            for (element, column) in self.plain.iter().enumerate() {
                if !column[row].is_finite() {
                    return NonFiniteWeight { row: first + row, element };
                }
            }
        }
        unreachable!("a weight that is not finite was seen")
    }
}

/// Columns that are turned from rows at once.
const EIGHT: usize = 8;

/// Unpacks the scales of block `index` of each of 16 rows.
#[inline(always)]
fn unpack_scales<S: Simd, F: Format>(
    simd: S,
    rows: &[&[F::Block]; ROWS],
    index: usize,
    blocks: &mut [PanelBlock],
) {
    if F::SCALES == 1 {
        for (row, row_blocks) in rows.iter().enumerate() {
            let scales = F::scales(simd, &row_blocks[index]);
            blocks[0].scales[0][row] = scales.scales[0];
            if F::MINIMUM {
                blocks[0].minimums[0][row] = scales.minimums[0];
            }
        }
        return;
    }
    let mut scales = [[[0.0; 8]; ROWS]; 2];
    let mut minimums = [[[0.0; 8]; ROWS]; 2];
    for (row, row_blocks) in rows.iter().enumerate() {
        let unpacked = F::scales(simd, &row_blocks[index]);
        for half in 0..F::SCALES / 8 {
            scales[half][row] = unpacked.scales.as_chunks().0[half];
            minimums[half][row] = unpacked.minimums.as_chunks().0[half];
        }
    }
    let per_part = F::SCALES / F::PARTS;
    let mut columns = [[0.0; ROWS]; 8];
    for half in 0..F::SCALES / 8 {
        simd.interleave_floats(&scales[half], &mut columns);
        for (index, column) in columns.iter().enumerate() {
            let index = 8 * half + index;
            blocks[index / per_part].scales[index % per_part] = *column;
        }
        if F::MINIMUM {
            simd.interleave_floats(&minimums[half], &mut columns);
            for (index, column) in columns.iter().enumerate() {
                let index = 8 * half + index;
                blocks[index / per_part].minimums[index % per_part] = *column;
            }
        }
    }
}

/// What follows from a block's values and scales.
#[inline(always)]
fn finish<S: Simd, F: Format>(simd: S, block: &mut PanelBlock) {
    let (low, high) = block.quads.split_at(GROUP / QUAD / 2);
    if F::HALVES {
        let sums = [simd.quad_sums(low), simd.quad_sums(high)];
        for row in 0..ROWS {
            let [low, high] = [sums[0][row], sums[1][row]];
            block.starts[0][row] = -128 * low;
            block.starts[1][row] = -128 * high;
            let scaled = low as f32 * block.scales[0][row];
            block.sums[row] = (high as f32).mul_add(block.scales[1][row], scaled);
        }
    } else {
        let sums = simd.quad_sums(&block.quads);
        for row in 0..ROWS {
            block.starts[0][row] = -128 * sums[row];
            block.sums[row] = sums[row] as f32 * block.scales[0][row];
        }
    }
}
