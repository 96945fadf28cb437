//! Whether the weights of a row are numbers, without unpacking them.

use std::marker::PhantomData;

use super::block::{Format, GROUP, with_format};
use super::plain::{Plain, with_plain};
use super::simd::{Op, Simd, dispatch};
use super::{DType, Kernels};

impl Kernels {
    /// The first weight in `bytes`, whole blocks of `dtype` one after the other, that is not finite;
    /// of a weight in a block, the first of its group. Values of blocks always are; scales and
    /// minimums need not be.
    ///
    /// # Panics
    ///
    /// If `bytes` is not a whole number of blocks.
    pub fn first_not_finite(self, dtype: DType, bytes: &[u8]) -> Option<usize> {
        assert!(bytes.len().is_multiple_of(dtype.block_bytes()), "whole blocks");
        with_format!(
            dtype,
            F => dispatch(self.isa, FirstNotFinite::<F> { bytes, format: PhantomData }),
            plain => with_plain!(dtype, P => {
                P::elements(bytes).iter().position(|element| !P::value(element).is_finite())
            })
        )
    }
}

/// Some blocks.
struct FirstNotFinite<'a, F> {
    bytes: &'a [u8],
    format: PhantomData<F>,
}

impl<F: Format> Op for FirstNotFinite<'_, F> {
    type Output = Option<usize>;

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) -> Option<usize> {
        let halves = if F::HALVES { 2 } else { 1 };
        for (block, bytes) in F::blocks(self.bytes).iter().enumerate() {
            let found = F::scales(simd, bytes);
            for index in 0..F::PARTS * halves {
                if !(found.scales[index].is_finite() && found.minimums[index].is_finite()) {
                    return Some(block * F::DTYPE.block_elements() + index / halves * GROUP);
                }
            }
        }
        None
    }
}
