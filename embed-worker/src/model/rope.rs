//! Rotary positions: which elements of a head turn together, and how far at each position.
//!
//! Su et al. 2021, arXiv 2104.09864; stretched beyond the positions of the training as in
//! llama.cpp's `ggml_rope_ext`, whose keys files have: linearly (Chen et al. 2023, arXiv 2306.15595)
//! or by YaRN (Peng et al. 2023, arXiv 2309.00071).

use crate::kernels::{Heads, Kernels, Workspace};

/// Parameters of rotary position embedding.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rope {
    /// Base of the wavelengths.
    pub base: f32,
    /// Elements of each head that are rotated; even.
    pub dims: usize,
    /// Which of them turn together.
    pub pairing: Pairing,
    /// How positions are stretched.
    pub scaling: Scaling,
}

/// Which elements of a head turn together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pairing {
    /// `i` and `i + dims/2`.
    Halves,
    /// `2i` and `2i + 1`.
    Neighbours,
}

/// How positions are stretched beyond those of the training.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Scaling {
    /// Not at all.
    None,
    /// All wavelengths are so many times as long.
    Linear {
        /// From 1.
        factor: f32,
    },
    /// Long wavelengths are, short ones are not, and those between partly; scores grow a little.
    Yarn {
        /// From 1.
        factor: f32,
        /// Positions of the training.
        original_context: usize,
        /// A wavelength is short if it fits the training's positions at least so often.
        beta_fast: f32,
        /// It is long if it fits them at most so often.
        beta_slow: f32,
    },
}

impl Rope {
    /// How far each pair turns from one position to the next, in radians, `[dims / 2]`.
    pub(super) fn turns(&self) -> Vec<f64> {
        let (base, dims) = (f64::from(self.base), self.dims as f64);
        let own = |pair: usize| base.powf(-2.0 * pair as f64 / dims);
        let pairs = 0..self.dims / 2;
        match self.scaling {
            Scaling::None => pairs.map(own).collect(),
            Scaling::Linear { factor } => pairs.map(|pair| own(pair) / f64::from(factor)).collect(),
            Scaling::Yarn { factor, original_context, beta_fast, beta_slow } => {
                // The pair whose wavelength fits the training's positions so often.
                let pair_of = |rotations: f32| {
                    let wavelength = original_context as f64 / f64::from(rotations);
                    dims * (wavelength / std::f64::consts::TAU).ln() / (2.0 * base.ln())
                };
                let short = pair_of(beta_fast).floor().max(0.0);
                let long = pair_of(beta_slow).ceil().min(dims - 1.0);
                // A step where both are one pair.
                let width = (long - short).max(0.001);
                let stretched = |pair: usize| {
                    let share = ((pair as f64 - short) / width).clamp(0.0, 1.0);
                    own(pair) * (share / f64::from(factor) + (1.0 - share))
                };
                pairs.map(stretched).collect()
            }
        }
    }

    /// By how much cosines and sines are larger than they are: of queries and keys alike, so that
    /// scores grow with its square.
    pub(super) fn magnitude(&self) -> f64 {
        match self.scaling {
            Scaling::None | Scaling::Linear { .. } => 1.0,
            Scaling::Yarn { factor, .. } => 0.1 * f64::from(factor).ln() + 1.0,
        }
    }

    /// Turns queries and keys, `[tokens, heads.row_width]` with the values beside them, by the
    /// cosines and sines of their positions, `[tokens, dims / 2]` each.
    pub(super) fn turn(
        &self,
        kernels: Kernels,
        workspace: &mut Workspace,
        qkv: &mut [f32],
        heads: Heads,
        table: (&[f32], &[f32]),
    ) {
        match self.pairing {
            Pairing::Halves => kernels.rope(workspace, qkv, heads, table),
            Pairing::Neighbours => kernels.rope_neighbours(workspace, qkv, heads, table),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn turns(scaling: Scaling) -> Vec<f64> {
        Rope { base: 10_000.0, dims: 64, pairing: Pairing::Halves, scaling }.turns()
    }

    #[test]
    fn short_wavelengths_stay_and_long_ones_are_stretched() {
        let own = turns(Scaling::None);
        assert_eq!((own.len(), own[0]), (32, 1.0));
        let linear = turns(Scaling::Linear { factor: 4.0 });
        assert!(own.iter().zip(&linear).all(|(own, linear)| *linear == own / 4.0));
        let scaling =
            Scaling::Yarn { factor: 4.0, original_context: 2048, beta_fast: 32.0, beta_slow: 1.0 };
        let yarn = turns(scaling);
        // Wavelengths of 64 and 2048 positions: pairs 8 and 21 (floor of 8.06, ceiling of 20.1).
        assert_eq!(yarn[..9], own[..9]);
        assert!(yarn[9] < own[9] && yarn[20] > linear[20]);
        assert_eq!(yarn[21..], linear[21..]);
        // In between in equal steps.
        let share = |pair: usize| (yarn[pair] - own[pair]) / (linear[pair] - own[pair]);
        assert!((share(12) - 4.0 / 13.0).abs() < 1e-12, "{}", share(12));
    }

    #[test]
    fn yarn_of_one_pair_and_of_none_is_finite() {
        for original_context in [1, 7, 1 << 20] {
            let (beta_fast, beta_slow) = (32.0, 1.0);
            let scaling = Scaling::Yarn { factor: 4.0, original_context, beta_fast, beta_slow };
            for dims in [2, 64] {
                let rope = Rope { base: 10_000.0, dims, pairing: Pairing::Halves, scaling };
                assert!(rope.turns().iter().all(|turn| turn.is_finite() && *turn > 0.0));
            }
        }
    }
}
