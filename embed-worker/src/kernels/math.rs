//! Functions of 16 lanes: `exp` and what is made of it.

use super::simd::{ROUND, Simd};

/// `e^x`, within 2 units in the last place between -87 and 88; beyond, the value at the bound.
///
/// `x = n ln 2 + r` with whole `n` and `|r| <= ln(2)/2`; then `e^x = 2^n e^r`, where `e^r` is a
/// polynomial of degree 6 (the coefficients of Cephes' `expf`, Moshier 1992) and `2^n` is made by
/// adding to the exponent. No branch and no table.
#[inline(always)]
pub(super) fn exp<S: Simd>(simd: S, x: S::F32) -> S::F32 {
    // ln 2 in two parts, of which the first times any n here is exact.
    const LN2_HIGH: f32 = 0.693_359_4;
    const LN2_LOW: f32 = -2.121_944_4e-4;
    // With the bound first, a NaN passes through.
    let x = simd.min(simd.splat(88.0), x);
    let x = simd.max(simd.splat(-87.0), x);
    let shifted = simd.fma(x, simd.splat(std::f32::consts::LOG2_E), simd.splat(ROUND));
    let n = simd.sub(shifted, simd.splat(ROUND));
    let r = simd.fma(n, simd.splat(-LN2_HIGH), x);
    let r = simd.fma(n, simd.splat(-LN2_LOW), r);
    let mut p = simd.splat(1.987_569_1e-4);
    for coefficient in [1.398_199_9e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 0.5] {
        p = simd.fma(p, r, simd.splat(coefficient));
    }
    let e_r = simd.add(simd.fma(simd.mul(p, r), r, r), simd.splat(1.0));
    simd.mul(e_r, simd.exp2_rounded(shifted))
}

/// `x / (1 + e^-x)`
#[inline(always)]
pub(super) fn silu<S: Simd>(simd: S, x: S::F32) -> S::F32 {
    simd.div(x, simd.add(simd.splat(1.0), exp(simd, simd.sub(simd.splat(0.0), x))))
}

/// `gelu(x)`: `x` times the normal distribution's `Φ(x)` (Hendrycks and Gimpel 2016, arXiv
/// 1606.08415), within 6e-5.
///
/// `Φ(x) - 1/2` is odd, so it is `x` times a polynomial in `x²`, here of degree 8: of all of them the
/// one whose largest error in `gelu` between -4.2 and 4.2 is smallest (found by linear programming),
/// with 1/2 at 4.2. Beyond, `Φ` is 0 or 1.
/// BERT was trained with this form; the one with `tanh` that llama.cpp computes is 4.7e-4 off. A
/// polynomial takes a third of the time that an exponential and a division do.
#[inline(always)]
pub(super) fn gelu<S: Simd>(simd: S, x: S::F32) -> S::F32 {
    const BOUND: f32 = 4.2;
    // With the bound first, a NaN passes through.
    let low = simd.max(simd.splat(-BOUND), x);
    let inner = simd.min(simd.splat(BOUND), low);
    let square = simd.mul(inner, inner);
    let mut p = simd.splat(5.087_784_4e-11);
    for coefficient in [
        -4.938_597e-9,
        2.123_058_5e-7,
        -5.381_815_3e-6,
        9.073_263e-5,
        -1.090_545_3e-3,
        9.743_287e-3,
        -6.618e-2,
        0.398_730_7,
    ] {
        p = simd.fma(p, square, simd.splat(coefficient));
    }
    // Below the bound `Φ` is zero up to its rounding, which must not meet an `x` of any size.
    simd.mul(low, simd.fma(inner, p, simd.splat(0.5)))
}

/// `gelu(x)` in the form with `tanh`: `x / 2 (1 + tanh(u))` with `u = sqrt(2/π) (x + 0.044715 x³)`,
/// which is `x` times the logistic function of `2u`. Some models were trained with it.
#[inline(always)]
pub(super) fn gelu_tanh<S: Simd>(simd: S, x: S::F32) -> S::F32 {
    // -2 sqrt(2/π), and that times 0.044715.
    const LINEAR: f32 = -1.595_769;
    const CUBIC: f32 = -0.071_354_814;
    let square = simd.mul(x, x);
    let minus_2u = simd.mul(x, simd.fma(square, simd.splat(CUBIC), simd.splat(LINEAR)));
    simd.div(x, simd.add(simd.splat(1.0), exp(simd, minus_2u)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::simd::{LANES, Portable};

    fn exp(x: f32) -> f32 {
        super::exp(Portable, [x; LANES])[0]
    }

    fn gelu(x: f32) -> f32 {
        super::gelu(Portable, [x; LANES])[0]
    }

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

    /// `Φ(x)` by its series, which converges fast enough this near to zero.
    fn normal(x: f64) -> f64 {
        let (mut term, mut sum) = (x, x);
        for n in 1..200 {
            term *= -x * x / (2.0 * f64::from(n));
            sum += term / f64::from(2 * n + 1);
        }
        0.5 + sum / (2.0 * std::f64::consts::PI).sqrt()
    }

    #[test]
    fn gelu_is_x_times_the_normal_distribution() {
        for step in -600..600 {
            let x = f64::from(step) * 0.01;
            let (found, wanted) = (f64::from(gelu(x as f32)), x * normal(x));
            assert!((found - wanted).abs() <= 6e-5, "{x}: {found}, {wanted}");
        }
        for x in [7.0, 100.0, 1e20, f32::MAX] {
            assert!((gelu(x) / x - 1.0).abs() < 1e-6 && gelu(-x).abs() < 6e-5, "{x}");
        }
        assert!(gelu(0.0) == 0.0 && gelu(-0.0) == 0.0 && gelu(f32::NAN).is_nan());
    }

    #[test]
    fn gelu_with_tanh_is_its_formula() {
        for step in -2000..2000 {
            let x = f64::from(step) * 0.01;
            let u = (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044_715 * x.powi(3));
            let wanted = 0.5 * x * (1.0 + u.tanh());
            let found = f64::from(gelu_tanh(Portable, [x as f32; LANES])[0]);
            assert!((found - wanted).abs() <= 1e-6 * x.abs().max(1e-3), "{x}: {found}, {wanted}");
        }
        assert!(gelu_tanh(Portable, [f32::NAN; LANES])[0].is_nan());
    }

    #[test]
    fn silu_is_x_times_the_logistic_function() {
        for step in -2000..2000 {
            let x = f64::from(step) * 0.01;
            let wanted = x / (1.0 + (-x).exp());
            let found = f64::from(silu(Portable, [x as f32; LANES])[0]);
            assert!((found - wanted).abs() <= 1e-6 * x.abs().max(1e-3), "{x}: {found}, {wanted}");
        }
    }
}
