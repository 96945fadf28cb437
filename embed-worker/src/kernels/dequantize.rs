//! Single rows of a matrix as f32: what looking up a token's embedding is.

use super::block::{Format, GROUP, with_format};
use super::float::fused;
use super::plain::{Plain, with_plain};
use super::simd::{LANES, Op, Simd, dispatch};
use super::{DType, Kernels, NonFiniteWeight};

impl Kernels {
    /// Unpacks one row of `out.len()` weights.
    ///
    /// # Errors
    ///
    /// A weight or scale that is not finite; its `row` is 0.
    ///
    /// # Panics
    ///
    /// If `bytes` is not a row of that length.
    pub fn dequantize_row(
        self,
        dtype: DType,
        bytes: &[u8],
        out: &mut [f32],
    ) -> Result<(), NonFiniteWeight> {
        assert!(dtype.row_bytes(out.len()) == Some(bytes.len()), "a row of that length");
        with_format!(
            dtype,
            F => {
                let format = std::marker::PhantomData::<F>;
                dispatch(self.isa, Row { bytes, out, format });
            },
            plain => with_plain!(dtype, P => {
                for (out, element) in out.iter_mut().zip(P::elements(bytes)) {
                    *out = P::value(element);
                }
            })
        );
        // A scale that is not finite shows in the weights, whatever their values are: zero times
        // infinity is NaN.
        let element = out.iter().position(|value| !value.is_finite());
        let block = if dtype.is_quantized() { GROUP } else { 1 };
        element.map_or(Ok(()), |element| {
            Err(NonFiniteWeight { row: 0, element: element / block * block })
        })
    }
}

/// One row of blocks.
struct Row<'a, F> {
    bytes: &'a [u8],
    out: &'a mut [f32],
    format: std::marker::PhantomData<F>,
}

impl<F: Format> Op for Row<'_, F> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let blocks = F::blocks(self.bytes);
        let rows = self.out.chunks_exact_mut(F::DTYPE.block_elements());
        for (block, out) in blocks.iter().zip(rows) {
            let scales = F::scales(simd, block);
            for (part, out) in out.chunks_exact_mut(GROUP).enumerate() {
                let values = F::values(block, part);
                for (half, out) in out.chunks_exact_mut(LANES).enumerate() {
                    let index = if F::HALVES { 2 * part + half } else { part };
                    let (scale, minimum) = (scales.scales[index], scales.minimums[index]);
                    for (out, value) in out.iter_mut().zip(&values[LANES * half..]) {
                        *out = fused(f32::from(*value), scale, minimum);
                    }
                }
            }
        }
    }
}
