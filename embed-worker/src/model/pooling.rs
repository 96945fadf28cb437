//! From token vectors to one vector a text, and from that to what the caller asked for.

use super::architecture::Pooling;

/// Why a pooled row is no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum VectorError {
    /// An element is NaN or infinite: the model's weights overflow on this text.
    #[error("vector: element {element} is not finite; the model's weights overflow on this text")]
    NotFinite {
        /// Index of the first such element.
        element: usize,
    },
    /// All elements are zero: there is no direction to normalise.
    #[error("vector: all of its elements are zero; the model says nothing about this text")]
    Zero,
}

/// Pools `states`, `[tokens, hidden]` of one text, into `out`, `[hidden]`.
///
/// # Panics
///
/// If there are no tokens.
pub fn pool(pooling: Pooling, states: &[f32], out: &mut [f32]) {
    let hidden = out.len();
    match pooling {
        Pooling::Cls => out.copy_from_slice(&states[..hidden]),
        Pooling::Last => out.copy_from_slice(&states[states.len() - hidden..]),
        Pooling::Mean => {
            out.fill(0.0);
            let mut tokens = 0_u32;
            for state in states.chunks_exact(hidden) {
                for (sum, value) in out.iter_mut().zip(state) {
                    *sum += value;
                }
                tokens += 1;
            }
            assert!(tokens > 0, "a text has at least its special tokens");
            // f32 holds every count up to 2^24, far beyond any context.
            let count = tokens as f32;
            for sum in out {
                *sum /= count;
            }
        }
    }
}

/// What keeps a vector without spread from a division by zero: PyTorch's, as models' cards have it.
const CENTRED_EPSILON: f64 = 1e-5;

/// A pooled row with its mean taken off and its spread made one, as some models want it before it is
/// cut.
pub fn centred(row: &[f32]) -> Vec<f32> {
    let mean = |values: &mut dyn Iterator<Item = f64>| values.sum::<f64>() / row.len() as f64;
    let centre = mean(&mut row.iter().map(|value| f64::from(*value)));
    let variance = mean(&mut row.iter().map(|value| (f64::from(*value) - centre).powi(2)));
    let scale = (variance + CENTRED_EPSILON).sqrt().recip();
    row.iter().map(|value| ((f64::from(*value) - centre) * scale) as f32).collect()
}

/// The caller's vector: the first `dimensions` elements of a pooled row, of unit length if
/// `normalize`.
///
/// Matryoshka models are trained so that the first elements alone are a vector of their own, after
/// normalisation (Kusupati et al. 2022, arXiv 2205.13147).
///
/// # Errors
///
/// A row that is not finite or all zero is no answer.
pub fn finish(row: &[f32], dimensions: usize, normalize: bool) -> Result<Vec<f32>, VectorError> {
    if let Some(element) = row.iter().position(|value| !value.is_finite()) {
        return Err(VectorError::NotFinite { element });
    }
    let kept = &row[..dimensions];
    // In f64 neither overflow nor underflow is possible: squares of f32 span 1e-90 to 1e77.
    let squares: f64 = kept.iter().map(|value| f64::from(*value) * f64::from(*value)).sum();
    if squares == 0.0 {
        return Err(VectorError::Zero);
    }
    if !normalize {
        return Ok(kept.to_vec());
    }
    let scale = squares.sqrt().recip();
    Ok(kept.iter().map(|value| (f64::from(*value) * scale) as f32).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mean_is_over_all_tokens_cls_is_the_first_and_last_the_last() {
        let states = [1.0, 2.0, 3.0, 6.0, 5.0, 1.0];
        let mut out = [0.0; 2];
        pool(Pooling::Mean, &states, &mut out);
        assert_eq!(out, [3.0, 3.0]);
        pool(Pooling::Cls, &states, &mut out);
        assert_eq!(out, [1.0, 2.0]);
        pool(Pooling::Last, &states, &mut out);
        assert_eq!(out, [5.0, 1.0]);
    }

    #[test]
    fn a_centred_row_has_no_mean_and_a_spread_of_one() {
        // As torch.nn.functional.layer_norm gives it.
        assert_eq!(centred(&[1.0, 2.0, 3.0, 6.0]), [-1.069_043_4, -0.534_521_7, 0.0, 1.603_565_2]);
        assert_eq!(centred(&[0.5, 0.5]), [0.0, 0.0]);
        assert!(centred(&[1.0, f32::NAN]).iter().all(|value| value.is_nan()));
    }

    #[test]
    fn a_vector_has_unit_length_also_after_cutting() {
        assert_eq!(finish(&[3.0, 4.0], 2, true), Ok(vec![0.6, 0.8]));
        assert_eq!(finish(&[3.0, 4.0], 1, true), Ok(vec![1.0]));
        assert_eq!(finish(&[3.0, 4.0], 2, false), Ok(vec![3.0, 4.0]));
    }

    #[test]
    fn extreme_rows_neither_overflow_nor_vanish() {
        let huge = finish(&[f32::MAX, f32::MAX], 2, true).expect("finite");
        assert!((huge[0] - 0.5_f32.sqrt()).abs() < 1e-6);
        let tiny = finish(&[f32::from_bits(1), 0.0], 2, true).expect("not zero");
        assert_eq!(tiny, [1.0, 0.0]);
    }

    #[test]
    fn no_answer_is_made_of_nothing_or_of_nan() {
        assert_eq!(finish(&[0.0, -0.0], 2, true), Err(VectorError::Zero));
        assert_eq!(finish(&[0.0, 1.0], 1, true), Err(VectorError::Zero));
        assert_eq!(finish(&[0.0, f32::NAN], 2, true), Err(VectorError::NotFinite { element: 1 }));
        assert_eq!(finish(&[f32::INFINITY], 1, false), Err(VectorError::NotFinite { element: 0 }));
        // Cutting does not hide a damaged row.
        assert_eq!(finish(&[1.0, f32::NAN], 1, true), Err(VectorError::NotFinite { element: 1 }));
    }
}
