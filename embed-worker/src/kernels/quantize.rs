//! Activations as int8: `x ≈ d * q + m` for each block of 32 elements of a row.
//!
//! `m` is the middle of the block's range and `d` a 254th of its width, so that `q` uses all of
//! -127..=127 whatever the block's mean is. -128 is left out: its negative does not exist, and the
//! AVX2 kernels negate.

use super::block::GROUP;
use super::simd::{LANES, Op, ROUND, Simd};

/// Ranges up to here count as zero: 254 times their inverse would leave f32.
const RANGE_MIN: f32 = 1e-36;

/// What a kernel needs to know of one block of one row.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[repr(C)]
pub(super) struct Meta {
    /// Step.
    pub(super) d: f32,
    /// Middle.
    pub(super) m: f32,
    /// Sum of the 32 values `d * q + m`.
    pub(super) sum: f32,
    /// Sums of the first and the last 16 of them.
    pub(super) half_sums: [f32; 2],
}

/// Rows of int8 activations, reused from one product to the next.
#[derive(Debug, Default)]
pub struct QuantizedRows {
    cols: usize,
    /// Values in two's complement, or with an offset of 128, as the instruction set wants them.
    q: Vec<u8>,
    meta: Vec<Meta>,
    broken: Vec<bool>,
}

impl QuantizedRows {
    /// Bytes that `rows` rows of `cols` columns take.
    pub fn bytes(rows: usize, cols: usize) -> usize {
        rows * (cols + cols / GROUP * size_of::<Meta>() + 1)
    }

    /// Rows that held a value that is not finite, or a range wider than f32. They count as zeros.
    pub fn broken(&self) -> &[bool] {
        &self.broken
    }

    pub(super) fn rows(&self) -> usize {
        self.broken.len()
    }

    pub(super) fn cols(&self) -> usize {
        self.cols
    }

    /// The int8 values of row `row`, `[cols]`.
    pub(super) fn q(&self, row: usize) -> &[u8] {
        &self.q[row * self.cols..][..self.cols]
    }

    /// The blocks of row `row`, `[cols / 32]`.
    pub(super) fn meta(&self, row: usize) -> &[Meta] {
        &self.meta[row * (self.cols / GROUP)..][..self.cols / GROUP]
    }

    /// Makes room for `rows` rows of `cols` columns.
    pub(super) fn reset(&mut self, rows: usize, cols: usize) {
        let blocks = cols / GROUP;
        self.cols = cols;
        self.q.resize(rows * cols, 0);
        self.meta.resize(rows * blocks, Meta::default());
        self.broken.resize(rows, false);
    }

    /// The parts that a quantizer fills: values, blocks, and which rows are broken.
    pub(super) fn parts_mut(&mut self) -> (&mut [u8], &mut [Meta], &mut [bool]) {
        (&mut self.q, &mut self.meta, &mut self.broken)
    }
}

/// Quantizes rows of `x`, `[rows, cols]`.
pub(super) struct Quantize<'a> {
    /// `[rows, cols]`, `cols` a multiple of 32.
    pub(super) x: &'a [f32],
    /// `[rows, cols]`
    pub(super) q: &'a mut [u8],
    /// `[rows, cols / 32]`
    pub(super) meta: &'a mut [Meta],
    /// `[rows]`
    pub(super) broken: &'a mut [bool],
    /// Added to every `q`: 128 for instructions whose activations are unsigned.
    pub(super) offset: u8,
}

impl Op for Quantize<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let rows = self.broken.len();
        let blocks = self.meta.len() / rows.max(1);
        let (x, q) = (self.x.as_chunks::<GROUP>().0, self.q.as_chunks_mut::<GROUP>().0);
        for row in 0..rows {
            let mut sound = true;
            for block in row * blocks..(row + 1) * blocks {
                let (q, meta) = (&mut q[block], &mut self.meta[block]);
                sound &= quantize_block(simd, &x[block], self.offset, q, meta);
            }
            self.broken[row] = !sound;
            if !sound {
                // A broken row counts as zeros.
                q[row * blocks..(row + 1) * blocks].fill([self.offset; GROUP]);
                self.meta[row * blocks..(row + 1) * blocks].fill(Meta::default());
            }
        }
    }
}

/// Quantizes one block; says whether all of it was finite.
#[inline(always)]
fn quantize_block<S: Simd>(
    simd: S,
    x: &[f32; GROUP],
    offset: u8,
    q: &mut [u8; GROUP],
    meta: &mut Meta,
) -> bool {
    let (x, _) = x.as_chunks::<LANES>();
    let halves = [simd.load(&x[0]), simd.load(&x[1])];
    let low = simd.min_lane(simd.min(halves[0], halves[1]));
    let high = simd.max_lane(simd.max(halves[0], halves[1]));
    let (range, middle) = (high - low, (high + low) * 0.5);
    // A range so small that its inverse may overflow is a constant block: the middle says it all.
    let inverse = if range > RANGE_MIN { 254.0 / range } else { 0.0 };
    let mut sums = [0.0_f32; 2];
    let (q, _) = q.as_chunks_mut::<LANES>();
    for half in 0..2 {
        let distance = simd.sub(halves[half], simd.splat(middle));
        let shifted = simd.fma(distance, simd.splat(inverse), simd.splat(ROUND));
        // The inverse is rounded, and so is the middle: what lies at the ends may come out beyond.
        // With the bound first, a NaN passes through.
        let shifted = simd.min(simd.splat(ROUND + 127.0), shifted);
        let shifted = simd.max(simd.splat(ROUND - 127.0), shifted);
        sums[half] = simd.sum(simd.sub(shifted, simd.splat(ROUND)));
        simd.store_low_bytes(simd.add(shifted, simd.splat(f32::from(offset))), &mut q[half]);
    }
    // A NaN may hide from the search for low and high, but not from the sums.
    if !(range.is_finite() && middle.is_finite() && (sums[0] + sums[1]).is_finite()) {
        return false;
    }
    let d = range * (1.0 / 254.0);
    *meta = Meta {
        d,
        m: middle,
        sum: middle.mul_add(32.0, d * (sums[0] + sums[1])),
        half_sums: [middle.mul_add(16.0, d * sums[0]), middle.mul_add(16.0, d * sums[1])],
    };
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::{Isa, Kernels, Workspace};

    /// One block as the portable kernels quantize it, and what it stands for.
    fn quantized(x: &[f32; GROUP]) -> (QuantizedRows, [f32; GROUP]) {
        let mut rows = QuantizedRows::default();
        Kernels::new(Isa::Portable).quantize(&mut Workspace::new(1), x, GROUP, &mut rows);
        let meta = rows.meta(0)[0];
        let back = std::array::from_fn(|i| f32::from(value(&rows, i)) * meta.d + meta.m);
        (rows, back)
    }

    fn value(rows: &QuantizedRows, index: usize) -> i8 {
        rows.q(0)[index].cast_signed()
    }

    #[test]
    fn a_value_is_off_by_half_a_step_at_most() {
        for scale in [1e-30_f32, 1e-3, 1.0, 1e30] {
            for offset in [0.0, 0.3, -5.0] {
                let x = std::array::from_fn(|i| ((i * 37 % 32) as f32 / 31.0 + offset) * scale);
                let (rows, back) = quantized(&x);
                let step = rows.meta(0)[0].d;
                for (x, back) in x.iter().zip(back) {
                    let slack = x.abs() * 1e-6;
                    assert!((x - back).abs() <= step * 0.5001 + slack, "{x} became {back}");
                }
            }
        }
    }

    #[test]
    fn the_whole_range_of_int8_is_used_but_minus_128() {
        let x = std::array::from_fn(|i| i as f32);
        let (rows, _) = quantized(&x);
        assert_eq!((value(&rows, 0), value(&rows, 31)), (-127, 127));
    }

    #[test]
    fn a_constant_block_is_exact() {
        for value in [0.0, -0.0, 1.5, f32::MIN_POSITIVE, f32::from_bits(1), -1e30] {
            let (rows, back) = quantized(&[value; GROUP]);
            assert!(!rows.broken()[0] && back == [value; GROUP], "{value}: {back:?}");
        }
    }

    #[test]
    fn sums_are_those_of_the_values() {
        let x = std::array::from_fn(|i| (i as f32 - 9.0) * 0.25);
        let (rows, back) = quantized(&x);
        let meta = rows.meta(0)[0];
        let sum: f32 = back.iter().sum();
        assert!((meta.sum - sum).abs() < 1e-4);
        assert!((meta.half_sums[0] + meta.half_sums[1] - sum).abs() < 1e-4);
    }

    #[test]
    fn what_is_not_finite_breaks_its_row_wherever_it_stands() {
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            for place in 0..GROUP {
                let mut x = [1.0; GROUP];
                x[place] = bad;
                let (rows, _) = quantized(&x);
                assert!(rows.broken()[0], "{bad} at {place}");
                assert!(rows.q(0).iter().all(|q| *q == 0) && rows.meta(0)[0] == Meta::default());
            }
        }
        let mut wide = [0.0; GROUP];
        (wide[0], wide[1]) = (f32::MAX, -f32::MAX);
        assert!(quantized(&wide).0.broken()[0], "the range is wider than f32");
    }
}
