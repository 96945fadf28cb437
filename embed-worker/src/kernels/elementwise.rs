//! What happens between the products: layer norm, activations, rotary positions, softmax.
//!
//! Each body is written once over arrays of 16 lanes and compiled for every instruction set by
//! [`with_features`]. Sums go over 16 fixed lanes and a fixed tree, so that all give the same bits.

use super::block::{Form, GROUP, unpack};
use super::dispatch::with_features;
use super::panel::plain;
use super::quantize::QuantizedRows;
use super::{DType, Kernels, NonFiniteWeight};

/// Lanes of a sum.
const LANES: usize = 16;

impl Kernels {
    /// Quantizes `x`, `[rows, cols]`, for products with quantized weights. Rows whose columns are no
    /// multiple of 32 can only meet weights that are not quantized, and are left alone.
    pub fn quantize(self, x: &[f32], cols: usize, out: &mut QuantizedRows) {
        out.reset(x.len() / cols, if cols.is_multiple_of(GROUP) { cols } else { 0 });
        if cols.is_multiple_of(GROUP) {
            with_features(self.isa, || out.fill(x));
        }
    }

    /// Layer norm of `x + delta` in place of `x`: `(y - mean) / sqrt(variance + epsilon) * weight +
    /// bias` over each row.
    ///
    /// # Shapes
    ///
    /// `x` and `delta` are `[tokens, hidden]`, `weight` and `bias` `[hidden]`.
    pub fn layer_norm(
        self,
        x: &mut [f32],
        delta: Option<&[f32]>,
        weight: &[f32],
        bias: &[f32],
        epsilon: f32,
    ) {
        let hidden = weight.len();
        with_features(self.isa, || {
            if let Some(delta) = delta {
                add(x, delta);
            }
            for row in x.chunks_exact_mut(hidden) {
                layer_norm_row(row, weight, bias, epsilon);
            }
        });
    }

    /// `x + delta` in place of `x`.
    pub fn add(self, x: &mut [f32], delta: &[f32]) {
        with_features(self.isa, || add(x, delta));
    }

    /// `gelu(x)` in place, in the form with `tanh` that llama.cpp computes (Hendrycks and Gimpel
    /// 2016, arXiv 1606.08415): `0.5 x (1 + tanh(u))` with `u = sqrt(2/pi) (x + 0.044715 x^3)`, which
    /// is `x / (1 + exp(-2 u))`.
    ///
    /// BERT was trained with `erf` instead; the two differ by at most 4.7e-4, and the vectors'
    /// cosine by some 1e-8.
    pub fn gelu(self, x: &mut [f32]) {
        with_features(self.isa, || for_each(x, gelu));
    }

    /// `silu(gate) * up` in place of `up`, where `silu(g) = g / (1 + exp(-g))`.
    pub fn silu_mul(self, up: &mut [f32], gate: &[f32]) {
        with_features(self.isa, || {
            for (up, gate) in up.iter_mut().zip(gate) {
                *up *= gate / (1.0 + exp(-gate));
            }
        });
    }

    /// Rotates the first `2 * cos.len()` elements of each head of one token: element `i` with
    /// element `i + cos.len()`, by the angle of pair `i`.
    ///
    /// # Shapes
    ///
    /// `x` is `[heads, head_dim]`, `cos` and `sin` `[pairs]`.
    pub fn rope(self, x: &mut [f32], head_dim: usize, cos: &[f32], sin: &[f32]) {
        with_features(self.isa, || {
            for head in x.chunks_exact_mut(head_dim) {
                let (first, rest) = head.split_at_mut(cos.len());
                let pairs = first.iter_mut().zip(rest).zip(cos.iter().zip(sin));
                for ((a, b), (cos, sin)) in pairs {
                    (*a, *b) = (a.mul_add(*cos, -(*b * sin)), a.mul_add(*sin, *b * cos));
                }
            }
        });
    }
}

/// Unpacks one row of `out.len()` weights.
///
/// # Errors
///
/// A weight or scale that is not finite; its `row` is 0.
///
/// # Panics
///
/// If `bytes` is not a row of that length.
pub fn dequantize_row(dtype: DType, bytes: &[u8], out: &mut [f32]) -> Result<(), NonFiniteWeight> {
    let Some(form) = Form::of(dtype) else {
        for (element, out) in out.iter_mut().enumerate() {
            *out = plain(dtype, bytes, element);
            if !out.is_finite() {
                return Err(NonFiniteWeight { row: 0, element });
            }
        }
        return Ok(());
    };
    for (index, out) in out.as_chunks_mut::<GROUP>().0.iter_mut().enumerate() {
        let group = unpack(dtype, bytes, index);
        if !group.is_finite() {
            return Err(NonFiniteWeight { row: 0, element: index * GROUP });
        }
        for (column, out) in out.iter_mut().enumerate() {
            let value = (i32::from(group.values[column]) - form.bias) as f32;
            let half = column / (GROUP / 2);
            *out = value.mul_add(group.scales[half], group.minimums[half]);
        }
    }
    Ok(())
}

#[inline(always)]
fn add(x: &mut [f32], delta: &[f32]) {
    for (x, delta) in x.iter_mut().zip(delta) {
        *x += delta;
    }
}

#[inline(always)]
fn for_each(x: &mut [f32], f: impl Fn(f32) -> f32) {
    let (chunks, rest) = x.as_chunks_mut::<LANES>();
    for chunk in chunks {
        for value in chunk {
            *value = f(*value);
        }
    }
    for value in rest {
        *value = f(*value);
    }
}

/// Sum of `f` over `x` in 16 lanes and a tree.
#[inline(always)]
pub(super) fn sum(x: &[f32], f: impl Fn(f32, f32) -> f32) -> f32 {
    let (chunks, rest) = x.as_chunks::<LANES>();
    let mut lanes = [0.0_f32; LANES];
    for chunk in chunks {
        for (lane, value) in lanes.iter_mut().zip(chunk) {
            *lane = f(*value, *lane);
        }
    }
    for (lane, value) in lanes.iter_mut().zip(rest) {
        *lane = f(*value, *lane);
    }
    let mut width = LANES / 2;
    while width > 0 {
        for lane in 0..width {
            lanes[lane] += lanes[lane + width];
        }
        width /= 2;
    }
    lanes[0]
}

#[inline(always)]
fn layer_norm_row(row: &mut [f32], weight: &[f32], bias: &[f32], epsilon: f32) {
    let count = row.len() as f32;
    let mean = sum(row, |value, sum| value + sum) / count;
    // Differences before squares: a variance from squares loses its digits where the mean is large.
    let variance = sum(row, |value, sum| (value - mean).mul_add(value - mean, sum)) / count;
    let scale = 1.0 / (variance + epsilon).sqrt();
    for ((value, weight), bias) in row.iter_mut().zip(weight).zip(bias) {
        *value = ((*value - mean) * scale).mul_add(*weight, *bias);
    }
}

#[inline(always)]
fn gelu(x: f32) -> f32 {
    const SQRT_2_OVER_PI: f32 = 0.797_884_56;
    let u = SQRT_2_OVER_PI * (0.044_715 * x * x).mul_add(x, x);
    x / (1.0 + exp(-2.0 * u))
}

/// `e^x`, within 2 units in the last place between -87 and 88; beyond, the value at the bound.
///
/// `x = n ln 2 + r` with whole `n` and `|r| <= ln(2)/2`; then `e^x = 2^n e^r`, where `e^r` is a
/// polynomial of degree 6 (the coefficients of Cephes' `expf`, Moshier 1992) and `2^n` is made by
/// adding to the exponent. No branch and no table, so that compilers vectorise it.
#[inline(always)]
pub(super) fn exp(x: f32) -> f32 {
    // ln 2 in two parts, of which the first times any n here is exact.
    const LN2_HIGH: f32 = 0.693_359_4;
    const LN2_LOW: f32 = -2.121_944_4e-4;
    // Adding it rounds to a whole number and leaves that in the lowest bits.
    const ROUND: f32 = 12_582_912.0;
    // Comparisons this way round let a NaN pass through.
    let x = if x > 88.0 { 88.0 } else { x };
    let x = if x < -87.0 { -87.0 } else { x };
    let shifted = x.mul_add(std::f32::consts::LOG2_E, ROUND);
    let n = shifted - ROUND;
    let r = n.mul_add(-LN2_LOW, n.mul_add(-LN2_HIGH, x));
    let mut p = 1.987_569_1e-4_f32;
    for coefficient in [1.398_199_9e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 0.5_f32] {
        p = p.mul_add(r, coefficient);
    }
    let e_r = (p * r).mul_add(r, r) + 1.0;
    let exponent = shifted.to_bits().wrapping_shl(23);
    e_r * f32::from_bits(exponent.wrapping_add(0x3f80_0000))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::Isa;

    /// Distance to `wanted` in units of its last place as f32.
    fn ulps(found: f32, wanted: f64) -> f64 {
        let unit =
            f64::from(f32::from_bits((wanted as f32).to_bits() + 1)) - f64::from(wanted as f32);
        ((f64::from(found) - wanted) / unit).abs()
    }

    #[test]
    fn exp_is_within_two_units_in_the_last_place() {
        let mut worst = 0.0_f64;
        for step in -870_000..880_000 {
            let x = step as f32 * 1e-4;
            worst = worst.max(ulps(exp(x), f64::from(x).exp()));
        }
        assert!(worst <= 2.0, "{worst} units");
    }

    #[test]
    fn exp_is_bounded_and_passes_nan_on() {
        assert!(exp(f32::INFINITY).is_finite() && exp(1e30) > 1e38);
        assert!(exp(f32::NEG_INFINITY) > 0.0 && exp(-1e30) < 2e-38);
        assert!(exp(f32::NAN).is_nan());
        assert_eq!(exp(0.0), 1.0);
    }

    #[test]
    fn gelu_is_the_tanh_form() {
        for step in -2000..2000 {
            let x = f64::from(step) * 0.01;
            let u = (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044_715 * x.powi(3));
            let wanted = 0.5 * x * (1.0 + u.tanh());
            let found = f64::from(gelu(x as f32));
            assert!((found - wanted).abs() <= 1e-6 * x.abs().max(1e-3), "{x}: {found}, {wanted}");
        }
        for x in [f32::MAX, -f32::MAX, 1e20, -1e20, 0.0, -0.0] {
            assert!(gelu(x).is_finite(), "{x}");
        }
        assert!(gelu(f32::NAN).is_nan());
    }

    #[test]
    fn layer_norm_has_the_mean_and_variance_it_promises() {
        let kernels = Kernels::new(Isa::Portable);
        for hidden in [1_usize, 5, 16, 17, 384] {
            let mut x: Vec<f32> = (0..hidden).map(|i| 1000.0 + (i * 7 % 13) as f32).collect();
            let delta = vec![2.0; hidden];
            kernels.layer_norm(&mut x, Some(&delta), &vec![3.0; hidden], &vec![0.5; hidden], 1e-12);
            let mean: f32 = x.iter().sum::<f32>() / hidden as f32;
            assert!((mean - 0.5).abs() < 1e-3, "{hidden}: mean {mean}");
            if hidden > 1 {
                let variance = x.iter().map(|x| (x - mean).powi(2)).sum::<f32>() / hidden as f32;
                assert!((variance - 9.0).abs() < 1e-2, "{hidden}: variance {variance}");
            }
        }
    }

    #[test]
    fn rope_rotates_pairs_and_leaves_the_rest() {
        let kernels = Kernels::new(Isa::Portable);
        let mut x = [1.0, 2.0, 0.0, 0.0, 9.0, 1.0, 2.0, 0.0, 0.0, 9.0];
        // Two heads of five; two pairs, turned by a right angle and by nothing.
        kernels.rope(&mut x, 5, &[0.0, 1.0], &[1.0, 0.0]);
        assert_eq!(x, [0.0, 2.0, 1.0, 0.0, 9.0, 0.0, 2.0, 1.0, 0.0, 9.0]);
    }
}
