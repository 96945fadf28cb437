//! Panels: 16 rows of weights, unpacked side by side into a scratch that the first-level cache holds.
//!
//! A scratch takes 256 columns of two panels at a time. They are unpacked once and used for every
//! token of the tile, so that unpacking is a small part of the work; nothing else of the weights is
//! ever copied.

use super::block::{Format, GROUP};
use super::buffer::Buffer;
use super::memory::BlockRows;
use super::plain::Plain;
use super::simd::Simd;
use super::unpack::Unpack;
use super::{Matrix, NonFiniteWeight};

/// Rows of a panel: the f32 lanes of the widest registers, and twice those of AVX2.
pub(super) const ROWS: usize = 16;

/// Panels of one task.
pub(super) const PANELS: usize = 2;

/// Values of one row that a dot instruction takes at once.
pub(super) const QUAD: usize = 4;

/// Columns that are unpacked at once: as many as the largest blocks have.
pub(super) const SLICE: usize = 256;

/// Blocks of a slice.
pub(super) const BLOCKS: usize = SLICE / GROUP;

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
}

impl PanelBlock {
    const ZERO: Self = Self {
        quads: [[0; ROWS * QUAD]; GROUP / QUAD],
        starts: [[0; ROWS]; 2],
        scales: [[0.0; ROWS]; 2],
        minimums: [[0.0; ROWS]; 2],
    };
}

/// Up to 256 columns of 16 rows.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
pub(super) struct PanelSlice {
    pub(super) blocks: [PanelBlock; BLOCKS],
    /// Sums of the weights that meet the same middle of the activations: by two blocks and without
    /// minimums in small formats, of all blocks and with minimums in large ones.
    pub(super) sums: [[f32; ROWS]; BLOCKS / 2],
}

impl PanelSlice {
    const ZERO: Self = Self { blocks: [PanelBlock::ZERO; BLOCKS], sums: [[0.0; ROWS]; BLOCKS / 2] };
}

/// A thread's panels, reused from one slice to the next.
#[derive(Debug)]
pub(super) struct Panels {
    pub(super) slices: Box<[PanelSlice; PANELS]>,
    /// Weights that are not quantized, by column: `plain[col][row]`.
    plain: Buffer<[f32; ROWS]>,
}

impl Default for Panels {
    fn default() -> Self {
        Self { slices: Box::new([PanelSlice::ZERO; PANELS]), plain: Buffer::default() }
    }
}

impl Panels {
    /// Bytes for matrices that are not quantized of up to `cols` columns.
    pub(super) fn bytes(cols: usize) -> usize {
        size_of::<[PanelSlice; PANELS]>() + cols * size_of::<[f32; ROWS]>()
    }

    /// Bytes that are held.
    pub(super) fn held_bytes(&self) -> usize {
        size_of::<[PanelSlice; PANELS]>() + self.plain.bytes()
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
        self.plain.grow(matrix.cols);
        let plain = &mut self.plain[..matrix.cols];
        let mut rows = [&[] as &[P::Element]; ROWS];
        for (row, elements) in rows.iter_mut().enumerate() {
            *elements = P::elements(matrix.row((first + row).min(matrix.rows - 1)));
        }
        let zero = simd.splat(0.0);
        let mut poison = zero;
        for (index, columns) in plain.chunks_mut(EIGHT).enumerate() {
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
        if simd.sum(poison) == 0.0 { Ok(plain) } else { Err(first_plain(plain, first)) }
    }
}

/// The first row of a panel with a weight that is not finite, and which.
#[cold]
fn first_plain(plain: &[[f32; ROWS]], first: usize) -> NonFiniteWeight {
    for row in 0..ROWS {
        for (element, column) in plain.iter().enumerate() {
            if !column[row].is_finite() {
                return NonFiniteWeight { row: first + row, element };
            }
        }
    }
    unreachable!("a weight that is not finite was seen")
}

/// Columns that are turned from rows at once.
const EIGHT: usize = 8;

/// Slices of `cols` columns.
pub(super) fn slices(cols: usize) -> usize {
    cols.div_ceil(SLICE)
}

/// Blocks of slice `slice` of `cols` columns.
pub(super) fn slice_blocks(cols: usize, slice: usize) -> usize {
    (cols - slice * SLICE).min(SLICE) / GROUP
}

/// Rows `first..first + 16` of `matrix` in blocks; beyond the last row it is repeated.
pub(super) fn panel_rows<'a, F: Format>(
    matrix: &Matrix<'a>,
    first: usize,
) -> BlockRows<'a, F::Block> {
    let row = |row: usize| F::blocks(matrix.row((first + row).min(matrix.rows - 1)));
    BlockRows::new(&std::array::from_fn(row))
}

/// Unpacks slice `slice` of some rows, of `count` blocks of 32 columns.
///
/// # Errors
///
/// A scale or minimum that is not finite; `row` counts from the panel's first.
#[inline(always)]
pub(super) fn unpack_slice<S: Simd, F: Unpack>(
    simd: S,
    rows: &BlockRows<'_, F::Block>,
    slice: usize,
    count: usize,
    out: &mut PanelSlice,
) -> Result<(), NonFiniteWeight> {
    let first = slice * (SLICE / F::DTYPE.block_elements());
    let blocks = &mut out.blocks[..count];
    let (zero, mut poison) = (simd.splat(0.0), simd.splat(0.0));
    for (index, blocks) in blocks.chunks_exact_mut(F::PARTS).enumerate() {
        F::unpack(simd, rows, first + index, blocks);
        for block in blocks {
            // Zero times a number is zero, and times NaN or infinity it is not.
            for half in 0..if F::HALVES { 2 } else { 1 } {
                poison = simd.fma(simd.load(&block.scales[half]), zero, poison);
                if F::MINIMUM {
                    poison = simd.fma(simd.load(&block.minimums[half]), zero, poison);
                }
            }
        }
    }
    let together = if F::LARGE { BLOCKS } else { 2 };
    for (blocks, sums) in blocks.chunks_mut(together).zip(&mut out.sums) {
        finish::<S, F>(simd, blocks, sums);
    }
    if simd.sum(poison) == 0.0 {
        Ok(())
    } else {
        let NonFiniteWeight { row, element } = first_not_finite::<F>(blocks);
        Err(NonFiniteWeight { row, element: slice * SLICE + element })
    }
}

/// The first row with a scale that is not finite, and where.
#[cold]
fn first_not_finite<F: Format>(blocks: &[PanelBlock]) -> NonFiniteWeight {
    let halves = if F::HALVES { 2 } else { 1 };
    for row in 0..ROWS {
        for (index, block) in blocks.iter().enumerate() {
            let minimums = &block.minimums[..if F::MINIMUM { halves } else { 0 }];
            let scales = block.scales[..halves].iter().chain(minimums);
            if scales.into_iter().any(|scales| !scales[row].is_finite()) {
                return NonFiniteWeight { row, element: index * GROUP };
            }
        }
    }
    unreachable!("a scale that is not finite was seen")
}

/// What follows from values and scales of the blocks that meet the same middle.
#[inline(always)]
fn finish<S: Simd, F: Format>(simd: S, blocks: &mut [PanelBlock], out: &mut [f32; ROWS]) {
    let halves = if F::HALVES { 2 } else { 1 };
    let zero = simd.splat_bits(0);
    let mut sums = simd.splat(0.0);
    for block in blocks.iter_mut() {
        for half in 0..halves {
            let quads = GROUP / QUAD / halves;
            let mut sum = zero;
            for column in half * quads..(half + 1) * quads {
                sum = simd.add_bytes(sum, simd.load_bits(&block.quads[column]));
            }
            simd.store_words(simd.sub_words(zero, simd.shl::<7>(sum)), &mut block.starts[half]);
            sums = simd.fma(simd.to_floats(sum), simd.load(&block.scales[half]), sums);
            if F::LARGE && F::MINIMUM {
                let count = simd.splat((GROUP / halves) as f32);
                sums = simd.fma(simd.load(&block.minimums[half]), count, sums);
            }
        }
    }
    simd.store(sums, out);
}
