//! Activations as int8: `x ≈ d * q + m`, where `m` is the middle of a range and `d` a step of which
//! 254 cover it, so that `q` uses all of -127..=127 whatever the mean of the values is. -128 is left
//! out: its negative does not exist, and the AVX2 kernels negate.
//!
//! In the small form the step is then set anew, to what leaves the smallest squares with these `q`:
//! of 32 values that takes away one thirty-second of the error, of 256 it would be nothing.
//!
//! There are two forms, after the blocks of the weights that they meet:
//!
//! | form | for blocks of | `d` for each | `m` for each |
//! |---|---|---|---|
//! | small | 32 weights | 32 columns | 64 columns |
//! | large | 256 weights | 256 columns | 256 columns |
//!
//! The coarser a step's and a middle's share, the fewer multiplications stand between the dots of a
//! product: see ARCHITECTURE.md for what was measured of speed and error.

use std::ops::Range;

use bytemuck::{Pod, Zeroable};

use super::block::GROUP;
use super::buffer::Buffer;
use super::float::fused;
use super::memory::{Cell, SharedOut};
use super::panel::{BLOCKS, QUAD, SLICE, slices};
use super::simd::{LANES, Op, ROUND, Simd, dispatch};
use super::{DType, Isa};

/// Reaches up to here count as zero: 127 times their inverse would leave f32.
const REACH_MIN: f32 = 5e-37;

/// Which forms are wanted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Forms {
    pub(super) small: bool,
    /// The small form with the sums that minimums are multiplied with.
    pub(super) sums: bool,
    pub(super) large: bool,
}

impl Forms {
    /// Whether none is wanted.
    pub fn is_none(self) -> bool {
        self == Self::default()
    }

    /// Those that weights of these types meet; weights that are not quantized need neither.
    pub fn of(dtypes: impl IntoIterator<Item = DType>) -> Self {
        dtypes.into_iter().filter(|dtype| dtype.is_quantized()).fold(
            Self::default(),
            |forms, dtype| {
                let large = dtype.block_elements() == SLICE;
                let sums = !large && dtype.has_minimum();
                Self {
                    small: forms.small || !large,
                    sums: forms.sums || sums,
                    large: forms.large || large,
                }
            },
        )
    }
}

/// The int8 values of 256 columns of a row, in two's complement, or with an offset of 128, as the
/// instruction set wants them: by block and quad.
pub(super) type Values = [[[u8; QUAD]; GROUP / QUAD]; BLOCKS];

/// The same by block.
#[inline(always)]
fn bytes_mut(values: &mut Values) -> &mut [[u8; GROUP]; BLOCKS] {
    let bytes = values.as_flattened_mut().as_flattened_mut();
    let Some(blocks) = bytes.as_chunks_mut().0.first_chunk_mut() else { unreachable!("256 bytes") };
    blocks
}

/// What a kernel needs to know of 256 columns of a row in the small form.
#[derive(Clone, Copy, Debug, Default, PartialEq, Pod, Zeroable)]
#[repr(C)]
pub(super) struct Small {
    /// Steps, by block.
    pub(super) d: [f32; BLOCKS],
    /// Middles, by pair of blocks.
    pub(super) m: [f32; BLOCKS / 2],
    /// Sums of the 32 values `d * q + m`, by block.
    pub(super) sums: [f32; BLOCKS],
}

/// What a kernel needs to know of 256 columns of a row in the large form: first what most formats
/// want, so that it lies in one cache line as a rule.
#[derive(Clone, Copy, Debug, Default, PartialEq, Pod, Zeroable)]
#[repr(C)]
pub(super) struct Large {
    /// Step.
    pub(super) d: f32,
    /// Middle.
    pub(super) m: f32,
    /// Sums of `q`, by block.
    pub(super) blocks: [f32; BLOCKS],
    /// Sums of `q`, by half a block.
    pub(super) halves: [f32; SLICE / LANES],
}

/// One form of some rows: slice by slice of columns, and row by row in each, so that the rows of a
/// tile lie side by side.
#[derive(Debug)]
pub(super) struct Form<M> {
    /// `[slices, rows]`; beyond the last column without meaning.
    pub(super) values: Buffer<Values>,
    /// `[slices, rows]`
    pub(super) meta: Buffer<M>,
    rows: usize,
}

impl<M> Default for Form<M> {
    fn default() -> Self {
        Self { values: Buffer::default(), meta: Buffer::default(), rows: 0 }
    }
}

impl<M: Pod> Form<M> {
    /// Makes room for `rows` rows of `cols` columns.
    fn reset(&mut self, rows: usize, cols: usize) {
        self.rows = rows;
        self.values.grow(rows * slices(cols));
        self.meta.grow(rows * slices(cols));
    }

    fn held_bytes(&self) -> usize {
        self.values.bytes() + self.meta.bytes()
    }

    fn share(&mut self, shape: (usize, usize, usize), chunk: usize) -> SharedForm<'_, M> {
        SharedForm {
            values: SharedOut::new(&mut self.values, shape, (1, chunk)),
            meta: SharedOut::new(&mut self.meta, shape, (1, chunk)),
        }
    }

    /// Slice `slice` of the rows from `first` on.
    pub(super) fn slice(&self, slice: usize, first: usize) -> (&[Values], &[M]) {
        let rows = slice * self.rows + first..(slice + 1) * self.rows;
        (&self.values[rows.clone()], &self.meta[rows])
    }
}

/// Rows of int8 activations, reused from one product to the next.
#[derive(Debug, Default)]
pub struct QuantizedRows {
    forms: Forms,
    cols: usize,
    rows: usize,
    pub(super) small: Form<Small>,
    pub(super) large: Form<Large>,
    /// `[slices, rows]`
    broken: Vec<bool>,
}

impl QuantizedRows {
    /// Bytes that are held.
    pub fn held_bytes(&self) -> usize {
        let Self { small, large, broken, .. } = self;
        small.held_bytes() + large.held_bytes() + broken.capacity()
    }

    /// Bytes that `rows` rows of `cols` columns take in these forms.
    pub fn bytes(rows: usize, cols: usize, forms: Forms) -> usize {
        let small = if forms.small { size_of::<Values>() + size_of::<Small>() } else { 0 };
        let large = if forms.large { size_of::<Values>() + size_of::<Large>() } else { 0 };
        rows * slices(cols) * (small + large + size_of::<bool>())
    }

    /// Marks the rows that held a value that is not finite, or whose double is not. Slices of them
    /// count as zeros.
    pub fn mark_broken(&self, rows: &mut [bool]) {
        for slice in self.broken.chunks_exact(self.rows.max(1)) {
            for (row, broken) in rows.iter_mut().zip(slice) {
                *row |= broken;
            }
        }
    }

    /// Whether these are `rows` rows of `cols` columns in what form weights of `dtype` want.
    pub(super) fn fit(&self, dtype: DType, rows: usize, cols: usize) -> bool {
        let wanted = Forms::of([dtype]);
        self.rows == rows
            && self.cols == cols
            && (!wanted.small || self.forms.small)
            && (!wanted.sums || self.forms.sums)
            && (!wanted.large || self.forms.large)
    }

    /// Makes room for `rows` rows of `cols` columns.
    pub(super) fn reset(&mut self, rows: usize, cols: usize, forms: Forms) {
        (self.forms, self.rows, self.cols) = (forms, rows, cols);
        if forms.small {
            self.small.reset(rows, cols);
        }
        if forms.large {
            self.large.reset(rows, cols);
        }
        self.broken.clear();
        self.broken.resize(slices(cols) * rows, false);
    }

    /// The parts that quantizers fill side by side: cells of `chunk` rows of a slice.
    pub(super) fn share(&mut self, chunk: usize) -> SharedRows<'_> {
        let (rows, forms) = (self.rows, self.forms);
        let shape = (slices(self.cols), rows, rows);
        let Self { small, large, broken, .. } = self;
        SharedRows {
            small: forms.small.then(|| small.share(shape, chunk)),
            large: forms.large.then(|| large.share(shape, chunk)),
            broken: SharedOut::new(broken, shape, (1, chunk)),
            sums: forms.sums,
        }
    }
}

/// Rows that tasks quantize side by side.
pub(super) struct SharedRows<'a> {
    small: Option<SharedForm<'a, Small>>,
    large: Option<SharedForm<'a, Large>>,
    broken: SharedOut<'a, bool>,
    sums: bool,
}

impl SharedRows<'_> {
    /// Quantizes slice `slice` of the rows of chunk `chunk`: the columns `columns` of `x`, whose rows
    /// lie `stride` apart. Nothing happens if that cell was filled before.
    pub(super) fn fill(
        &self,
        isa: Isa,
        (slice, chunk): (usize, usize),
        x: &[f32],
        stride: usize,
        columns: Range<usize>,
    ) {
        let Some(mut broken) = self.broken.take(slice, chunk) else { return };
        let mut small = self.small.as_ref().and_then(|form| form.take(slice, chunk));
        let mut large = self.large.as_ref().and_then(|form| form.take(slice, chunk));
        let quantize = Quantize {
            x,
            stride,
            columns,
            small: small.as_mut().map(FormCell::part),
            large: large.as_mut().map(FormCell::part),
            broken: broken.row_mut(0),
            offset: isa.activation_offset(),
            sums: self.sums,
        };
        dispatch(isa, quantize);
    }
}

/// A form that tasks fill side by side.
struct SharedForm<'a, M> {
    values: SharedOut<'a, Values>,
    meta: SharedOut<'a, M>,
}

impl<M> SharedForm<'_, M> {
    fn take(&self, slice: usize, chunk: usize) -> Option<FormCell<'_, M>> {
        let (values, meta) = (self.values.take(slice, chunk)?, self.meta.take(slice, chunk)?);
        Some(FormCell { values, meta })
    }
}

struct FormCell<'a, M> {
    values: Cell<'a, Values>,
    meta: Cell<'a, M>,
}

impl<M> FormCell<'_, M> {
    fn part(&mut self) -> Part<'_, M> {
        Part { values: self.values.row_mut(0), meta: self.meta.row_mut(0) }
    }
}

/// One form of a slice of some rows, to be filled by [`Quantize`].
struct Part<'a, M> {
    /// `[rows]`
    values: &'a mut [Values],
    /// `[rows]`
    meta: &'a mut [M],
}

/// Quantizes a slice of columns of some rows.
struct Quantize<'a> {
    /// `[rows, stride]`
    x: &'a [f32],
    stride: usize,
    /// A multiple of 32 of them, or 256 for the large form.
    columns: Range<usize>,
    small: Option<Part<'a, Small>>,
    large: Option<Part<'a, Large>>,
    /// `[rows]`: set where something was not finite.
    broken: &'a mut [bool],
    /// Added to every `q`: 128 for instructions whose activations are unsigned.
    offset: u8,
    /// Whether the small form's sums are wanted.
    sums: bool,
}

impl Op for Quantize<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(mut self, simd: S) {
        for (row, (x, broken)) in self.x.chunks_exact(self.stride).zip(self.broken).enumerate() {
            let x = x[self.columns.clone()].as_chunks::<GROUP>().0;
            let mut sound = true;
            if let Some(Part { values, meta }) = &mut self.small {
                let (q, how) = (bytes_mut(&mut values[row]), (self.offset, self.sums));
                sound &= quantize_small(simd, x, how, q, &mut meta[row]);
            }
            if let (Some(Part { values, meta }), Some(x)) = (&mut self.large, x.as_array()) {
                let q = bytes_mut(&mut values[row]);
                sound &= quantize_large(simd, x, self.offset, q, &mut meta[row]);
            }
            *broken = !sound;
        }
    }
}

/// 16 values in steps from the middle, as floats.
struct Lanes<S: Simd> {
    /// Whole ones.
    q: S::F32,
    /// As they are.
    exact: S::F32,
}

/// Quantizes 16 values.
///
/// None comes out beyond 127: the distance is rounded no further than the reach, which is the
/// distance of one of them, and their quotient falls to a whole number.
#[inline(always)]
fn quantize_lanes<S: Simd>(
    simd: S,
    x: &[f32; LANES],
    (middle, inverse): (f32, f32),
    offset: u8,
    q: &mut [u8; LANES],
) -> Lanes<S> {
    let (distance, inverse) = (simd.sub(simd.load(x), simd.splat(middle)), simd.splat(inverse));
    let shifted = simd.fma(distance, inverse, simd.splat(ROUND));
    simd.store_low_bytes(simd.add(shifted, simd.splat(f32::from(offset))), q);
    Lanes { q: simd.sub(shifted, simd.splat(ROUND)), exact: simd.mul(distance, inverse) }
}

/// Quantizes up to 256 columns with steps for each block and middles for each two; says whether all
/// of them were finite. If not, they count as zeros.
#[inline(always)]
fn quantize_small<S: Simd>(
    simd: S,
    x: &[[f32; GROUP]],
    (offset, sums): (u8, bool),
    q: &mut [[u8; GROUP]; BLOCKS],
    meta: &mut Small,
) -> bool {
    let blocks = x.len().min(BLOCKS);
    // Largest values, then largest negatives of the smallest.
    let (zero, mut poison) = (simd.splat(0.0), simd.splat(0.0));
    let mut ends = [zero; LANES];
    for block in 0..blocks {
        let (x, _) = x[block].as_chunks::<LANES>();
        let (a, b) = (simd.load(&x[0]), simd.load(&x[1]));
        // Zero times a number is zero, and times NaN or infinity it is not.
        poison = simd.fma(b, zero, simd.fma(a, zero, poison));
        ends[block] = simd.max(a, b);
        ends[BLOCKS + block] = simd.sub(zero, simd.min(a, b));
    }
    let mut lanes = [0.0; LANES];
    simd.store(simd.max_lanes(&ends), &mut lanes);
    let (mut middles, mut reaches) = ([0.0; BLOCKS], [0.0; LANES]);
    *meta = Small::default();
    for pair in 0..blocks.div_ceil(2) {
        let (a, b) = (2 * pair, (2 * pair + 1).min(blocks - 1));
        let (highs, lows) = ([lanes[a], lanes[b]], [-lanes[BLOCKS + a], -lanes[BLOCKS + b]]);
        let middle = shared_middle(lows, highs);
        meta.m[pair] = middle;
        for index in 0..2 {
            let (above, below) = (highs[index] - middle, middle - lows[index]);
            middles[2 * pair + index] = middle;
            reaches[2 * pair + index] = if above > below { above } else { below };
        }
    }
    let mut inverses = [0.0; LANES];
    simd.store(simd.div(simd.splat(127.0), simd.load(&reaches)), &mut inverses);
    let mut finite = true;
    // Of each block the products of `q` with the exact values, then its squares.
    let mut products = [zero; LANES];
    for block in 0..blocks {
        // A reach so small that its inverse may overflow is a constant block: the middle says it all.
        let inverse = if reaches[block] > REACH_MIN { inverses[block] } else { 0.0 };
        let how = (middles[block], inverse);
        let ((x, _), (q, _)) = (x[block].as_chunks(), q[block].as_chunks_mut());
        let first = quantize_lanes(simd, &x[0], how, offset, &mut q[0]);
        let second = quantize_lanes(simd, &x[1], how, offset, &mut q[1]);
        products[block] = simd.fma(first.q, first.exact, simd.mul(second.q, second.exact));
        products[BLOCKS + block] = simd.fma(first.q, first.q, simd.mul(second.q, second.q));
        if sums {
            meta.sums[block] = simd.sum(simd.add(first.q, second.q));
        }
        finite &= reaches[block].is_finite() & middles[block].is_finite();
    }
    simd.store(simd.sums(&products), &mut lanes);
    for block in 0..blocks {
        let (step, squares) = (reaches[block] * (1.0 / 127.0), lanes[BLOCKS + block]);
        meta.d[block] = if squares > 0.0 { step * (lanes[block] / squares) } else { step };
        if sums {
            let sum = meta.d[block] * meta.sums[block];
            meta.sums[block] = fused(middles[block], GROUP as f32, sum);
        }
    }
    finite &= simd.sum(poison) == 0.0;
    if !finite {
        *meta = Small::default();
    }
    finite
}

/// The middle for two blocks: where the larger of their reaches, squared and added, is smallest, as
/// far as it lies between the blocks' own middles.
#[inline(always)]
fn shared_middle(lows: [f32; 2], highs: [f32; 2]) -> f32 {
    let [a, b] = [(lows[0] + highs[0]) * 0.5, (lows[1] + highs[1]) * 0.5];
    let (lower, upper) = if a < b { (0, 1) } else { (1, 0) };
    let (least, most) = if a < b { (a, b) } else { (b, a) };
    let middle = (lows[lower] + highs[upper]) * 0.5;
    let middle = if middle < least { least } else { middle };
    if middle > most { most } else { middle }
}

/// Quantizes 256 columns with one step and one middle; says whether all of them were finite. If not,
/// they count as zeros.
#[inline(always)]
fn quantize_large<S: Simd>(
    simd: S,
    x: &[[f32; GROUP]; BLOCKS],
    offset: u8,
    q: &mut [[u8; GROUP]; BLOCKS],
    meta: &mut Large,
) -> bool {
    let (x, _) = x.as_flattened().as_chunks::<LANES>();
    let (zero, mut poison) = (simd.splat(0.0), simd.splat(0.0));
    let (mut low, mut high) = (simd.load(&x[0]), simd.load(&x[0]));
    for x in x {
        let x = simd.load(x);
        poison = simd.fma(x, zero, poison);
        low = simd.min(x, low);
        high = simd.max(x, high);
    }
    let (low, high) = (simd.min_lane(low), simd.max_lane(high));
    let middle = (high + low) * 0.5;
    let (above, below) = (high - middle, middle - low);
    let reach = if above > below { above } else { below };
    let how = (middle, if reach > REACH_MIN { 127.0 / reach } else { 0.0 });
    let mut values = [zero; SLICE / LANES];
    let (q, _) = q.as_flattened_mut().as_chunks_mut::<LANES>();
    for half in 0..SLICE / LANES {
        values[half] = quantize_lanes(simd, &x[half], how, offset, &mut q[half]).q;
    }
    simd.store(simd.sums(&values), &mut meta.halves);
    for block in 0..BLOCKS {
        meta.blocks[block] = meta.halves[2 * block] + meta.halves[2 * block + 1];
    }
    (meta.d, meta.m) = (reach * (1.0 / 127.0), middle);
    let finite = middle.is_finite() & reach.is_finite() & (simd.sum(poison) == 0.0);
    if !finite {
        *meta = Large::default();
    }
    finite
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::{Isa, Kernels, Workspace};

    /// One row as the portable kernels quantize it, in both forms if it is long enough.
    fn quantized(x: &[f32]) -> QuantizedRows {
        let mut rows = QuantizedRows::default();
        let large = x.len().is_multiple_of(SLICE);
        let forms = Forms { small: true, sums: true, large };
        Kernels::new(Isa::Portable).quantize(&mut Workspace::new(1), x, x.len(), forms, &mut rows);
        rows
    }

    /// The int8 values of one row in the small form, or in the large form.
    fn q(rows: &QuantizedRows, large: bool) -> Vec<i8> {
        let values = if large { &rows.large.values } else { &rows.small.values };
        let bytes = values.iter().flat_map(|values| values.as_flattened().as_flattened());
        bytes.take(rows.cols).map(|q| q.cast_signed()).collect()
    }

    /// What the forms stand for, with the step of each value.
    fn forms(rows: &QuantizedRows) -> Vec<Vec<(f32, f32)>> {
        let small = q(rows, false).into_iter().enumerate().map(|(i, q)| {
            let meta = rows.small.meta[i / SLICE];
            let (d, m) = (meta.d[i % SLICE / GROUP], meta.m[i % SLICE / (2 * GROUP)]);
            (fused(f32::from(q), d, m), d)
        });
        let large = q(rows, true).into_iter().enumerate().map(|(i, q)| {
            let Large { d, m, .. } = rows.large.meta[i / SLICE];
            (fused(f32::from(q), d, m), d)
        });
        vec![small.collect(), large.collect()]
    }

    /// The sum of the squares that the small form leaves with steps `factor` times as large.
    fn squares(x: &[f32], rows: &QuantizedRows, block: usize, factor: f32) -> f64 {
        let meta = rows.small.meta[block / BLOCKS];
        let (d, m) = (meta.d[block % BLOCKS] * factor, meta.m[block % BLOCKS / 2]);
        let columns = block * GROUP..(block + 1) * GROUP;
        let q = q(rows, false);
        let back = q[columns.clone()].iter().map(|q| fused(f32::from(*q), d, m));
        x[columns].iter().zip(back).map(|(x, back)| f64::from(x - back).powi(2)).sum()
    }

    #[test]
    fn no_other_step_of_the_small_form_leaves_smaller_squares() {
        let x: Vec<f32> = (0..512).map(|i| ((i * i * 37 % 1009) as f32 - 300.0) * 0.01).collect();
        let rows = quantized(&x);
        for block in 0..x.len() / GROUP {
            let of = |factor| squares(&x, &rows, block, factor);
            assert!(of(1.0) < of(1.001) && of(1.0) < of(0.999), "block {block}");
        }
    }

    #[test]
    fn a_value_is_off_by_half_a_step_at_most() {
        for scale in [1e-30_f32, 1e-3, 1.0, 1e30] {
            for offset in [0.0, 0.3, -5.0] {
                for cols in [32, 64, 96, 256, 512] {
                    let x: Vec<f32> = (0..cols)
                        .map(|i| ((i * 37 % 32) as f32 / 31.0 + offset + (i / 32) as f32) * scale)
                        .collect();
                    for form in forms(&quantized(&x)) {
                        for (x, (back, step)) in x.iter().zip(form) {
                            let slack = x.abs() * 1e-6;
                            assert!((x - back).abs() <= step * 0.5001 + slack, "{x} became {back}");
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn the_whole_range_of_int8_is_used_but_minus_128() {
        let x: Vec<f32> = (0..256).map(|i| (i % 32) as f32).collect();
        let rows = quantized(&x);
        for large in [false, true] {
            let q = q(&rows, large);
            assert_eq!((q.iter().min(), q.iter().max()), (Some(&-127), Some(&127)));
        }
    }

    #[test]
    fn a_constant_row_is_exact() {
        for value in [0.0, -0.0, 1.5, f32::MIN_POSITIVE, f32::from_bits(1), -1e30] {
            for cols in [32, 64, 256] {
                let rows = quantized(&vec![value; cols]);
                assert!(!rows.broken[0]);
                for form in forms(&rows) {
                    assert!(form.iter().all(|(back, _)| *back == value), "{value}: {form:?}");
                }
            }
        }
    }

    #[test]
    fn two_blocks_share_the_middle_that_serves_both() {
        assert_eq!(shared_middle([-1.0, -1.0], [1.0, 1.0]), 0.0);
        // The reaches are 2 and 2.
        assert_eq!(shared_middle([-1.0, 1.0], [1.0, 3.0]), 1.0);
        assert_eq!(shared_middle([1.0, -1.0], [3.0, 1.0]), 1.0);
        // The wider block has its own middle.
        assert_eq!(shared_middle([-4.0, 1.0], [4.0, 1.5]), 0.0);
    }

    #[test]
    fn sums_are_those_of_the_values() {
        let x: Vec<f32> = (0..256).map(|i| ((i * 29 % 64) as f32 - 9.0) * 0.25).collect();
        let rows = quantized(&x);
        let form = &forms(&rows)[0];
        for (index, block) in form.chunks(GROUP).enumerate() {
            let sum: f32 = block.iter().map(|(x, _)| x).sum();
            let found = rows.small.meta[0].sums[index];
            assert!((found - sum).abs() < 1e-3, "{found}, {sum}");
        }
        let meta = &rows.large.meta[0];
        for (index, q) in q(&rows, true).chunks(LANES).enumerate() {
            let sum: i32 = q.iter().copied().map(i32::from).sum();
            assert_eq!(meta.halves[index], sum as f32);
        }
        assert!((0..8).all(|i| meta.blocks[i] == meta.halves[2 * i] + meta.halves[2 * i + 1]));
    }

    #[test]
    fn what_is_not_finite_breaks_its_row_wherever_it_stands() {
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            for place in (0..96).chain([128, 255]) {
                let mut x = vec![1.0; 256];
                x[place] = bad;
                let rows = quantized(&x);
                assert!(rows.broken[0], "{bad} at {place}");
                assert!(rows.small.meta.iter().all(|meta| *meta == Small::default()));
                assert!(rows.large.meta.iter().all(|meta| *meta == Large::default()));
            }
        }
        assert!(quantized(&[f32::MAX; 256]).broken[0], "the middle's double is beyond f32");
    }
}
