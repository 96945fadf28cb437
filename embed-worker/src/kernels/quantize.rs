//! Activations as int8: `x ≈ d * q + m` for each block of 32 elements of a row.
//!
//! `m` is the middle of the block's range and `d` a 254th of its width, so that `q` uses all of
//! -127..=127 whatever the block's mean is. -128 is left out: its negative does not exist, and the
//! AVX2 kernels negate.

use super::block::GROUP;

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
    /// Sums of the `q` of each half.
    pub(super) q_sums: [i32; 2],
}

/// Rows of int8 activations, reused from one product to the next.
#[derive(Debug, Default)]
pub struct QuantizedRows {
    cols: usize,
    q: Vec<i8>,
    meta: Vec<Meta>,
    broken: Vec<bool>,
}

impl QuantizedRows {
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
    pub(super) fn q(&self, row: usize) -> &[i8] {
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

    /// Quantizes `x`, `[rows, cols]`; `cols` is a multiple of 32.
    #[inline(always)]
    pub(super) fn fill(&mut self, x: &[f32]) {
        let blocks = self.cols / GROUP;
        let rows = x.chunks_exact(self.cols).zip(self.q.chunks_exact_mut(self.cols));
        let rows = rows.zip(self.meta.chunks_exact_mut(blocks)).zip(&mut self.broken);
        for (((x, q), meta), broken) in rows {
            let mut sound = true;
            let (x, q) = (x.as_chunks::<GROUP>().0, q.as_chunks_mut::<GROUP>().0);
            for ((x, q), meta) in x.iter().zip(q.iter_mut()).zip(meta.iter_mut()) {
                sound &= quantize_block(x, q, meta);
            }
            *broken = !sound;
            if !sound {
                zero(q, meta);
            }
        }
    }
}

/// A broken row as zeros.
fn zero(q: &mut [[i8; GROUP]], meta: &mut [Meta]) {
    q.fill([0; GROUP]);
    meta.fill(Meta::default());
}

/// Quantizes one block; says whether all of it was finite.
#[inline(always)]
fn quantize_block(x: &[f32; GROUP], q: &mut [i8; GROUP], meta: &mut Meta) -> bool {
    // 16 lanes, then a tree: the same steps in every instruction set. `a > b` is false for NaN, so
    // a NaN could hide from the search; `poison` cannot miss it: 0 * x is 0 for every finite x.
    let mut low: [f32; 16] = std::array::from_fn(|i| x[i]);
    let mut high = low;
    let mut poison = [0.0_f32; 16];
    for i in 0..16 {
        let other = x[16 + i];
        poison[i] = low[i] * 0.0 + other * 0.0;
        low[i] = if other < low[i] { other } else { low[i] };
        high[i] = if other > high[i] { other } else { high[i] };
    }
    let mut width = 8;
    while width > 0 {
        for i in 0..width {
            low[i] = if low[i + width] < low[i] { low[i + width] } else { low[i] };
            high[i] = if high[i + width] > high[i] { high[i + width] } else { high[i] };
            poison[i] += poison[i + width];
        }
        width /= 2;
    }
    let (low, high) = (low[0], high[0]);
    let (range, sum) = (high - low, high + low);
    let (d, m) = (range * (1.0 / 254.0), sum * 0.5);
    if poison[0] != 0.0 || !(range.is_finite() && sum.is_finite()) {
        return false;
    }
    // A range so small that its inverse may overflow is a constant block: m says it all.
    let inverse = if range > RANGE_MIN { 254.0 / range } else { 0.0 };
    let mut sums = [0_i32; 2];
    for i in 0..GROUP {
        // Adding 1.5 * 2^23 rounds to the nearest whole number, ties to even, and leaves it in the
        // lowest bits; |x - m| * inverse is at most 127 and a rounding error.
        let shifted = (x[i] - m).mul_add(inverse, 12_582_912.0);
        let value = (shifted.to_bits() as i32 - 0x4b40_0000).clamp(-127, 127);
        q[i] = value as i8;
        sums[i / 16] += value;
    }
    *meta = Meta {
        d,
        m,
        sum: m.mul_add(32.0, d * (sums[0] + sums[1]) as f32),
        half_sums: sums.map(|sum| m.mul_add(16.0, d * sum as f32)),
        q_sums: sums,
    };
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    fn quantized(x: &[f32; GROUP]) -> (QuantizedRows, Vec<f32>) {
        let mut rows = QuantizedRows::default();
        rows.reset(1, GROUP);
        rows.fill(x);
        let meta = rows.meta(0)[0];
        let back = rows.q(0).iter().map(|q| f32::from(*q) * meta.d + meta.m).collect();
        (rows, back)
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
        assert_eq!((rows.q(0)[0], rows.q(0)[31]), (-127, 127));
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
