//! Products over mapped blocks, and what stands between them.
//!
//! [`Kernels`] is a handle on one instruction set; its operations are safe, say their shapes, and
//! give the same bits on every instruction set and any number of threads. The portable one is the law
//! that all others are tested against.
//!
//! ```text
//! block     what the bytes of a row mean, for every type
//! unpack    the same for 16 rows at once
//! panel     16 rows of weights side by side, a slice of columns at a time
//! quantize  activations as int8
//! tile      a panel by a few rows of activations: the inner product
//! matmul    panels x tokens, over the pool
//! feed_forward  the same, quantized as it is made
//! simd      16 lanes on any instruction set, for all that is not an inner product
//! ```
//!
//! Nothing here knows files, tensors' names or models.
#![expect(
    clippy::needless_range_loop,
    reason = "lanes and tokens are counted over several arrays at once"
)]

mod attention;
mod block;
mod buffer;
mod dequantize;
pub mod dtype;
mod elementwise;
mod feed_forward;
mod finite;
mod float;
pub mod isa;
mod math;
mod matmul;
mod memory;
mod panel;
mod plain;
mod quantize;
pub mod roof;
mod simd;
mod tile;
mod unpack;
mod workspace;

#[cfg(test)]
mod tests;

pub use attention::{Attention, Heads, KeyValues, Queries, Seen, Sight};
pub use buffer::Buffer;
pub use dtype::DType;
pub use elementwise::Norm;
pub use isa::{Isa, IsaError};
pub use matmul::{Activation, Epilogue, Output, Product};
pub use quantize::{Forms, QuantizedRows};
pub use workspace::Workspace;

/// The operations, on one instruction set.
#[derive(Clone, Copy, Debug)]
pub struct Kernels {
    isa: Isa,
}

impl Kernels {
    /// The operations on `isa`.
    pub fn new(isa: Isa) -> Self {
        Self { isa }
    }

    /// The instruction set.
    pub fn isa(self) -> Isa {
        self.isa
    }

    /// Architecture and instruction set, for example `x86_64-avx2`.
    pub fn name(self) -> String {
        format!("{}-{}", std::env::consts::ARCH, self.isa)
    }
}

/// A matrix of weights where it is mapped.
#[derive(Clone, Copy, Debug)]
pub struct Matrix<'a> {
    dtype: DType,
    rows: usize,
    cols: usize,
    row_bytes: usize,
    data: &'a [u8],
}

impl<'a> Matrix<'a> {
    /// `rows` rows of `cols` weights of `dtype` in `data`, row by row.
    ///
    /// # Panics
    ///
    /// If `data` has not exactly the size of that.
    pub fn new(dtype: DType, rows: usize, cols: usize, data: &'a [u8]) -> Self {
        let row_bytes = dtype.row_bytes(cols);
        let bytes = row_bytes.and_then(|bytes| bytes.checked_mul(rows));
        assert!(bytes == Some(data.len()), "{rows} x {cols} of {dtype} in {} bytes", data.len());
        Self { dtype, rows, cols, row_bytes: row_bytes.unwrap_or(0), data }
    }

    /// Its type, rows and columns.
    pub fn shape(&self) -> (DType, usize, usize) {
        (self.dtype, self.rows, self.cols)
    }

    /// The bytes of one row.
    fn row(&self, row: usize) -> &'a [u8] {
        &self.data[row * self.row_bytes..][..self.row_bytes]
    }
}

/// Rows of activations in both forms; which one a product reads depends on its weights.
#[derive(Clone, Copy, Debug)]
pub struct Activations<'a> {
    /// How many rows there are.
    pub tokens: usize,
    /// `[tokens, cols]`; may be empty if no weights are of a type that is not quantized.
    pub rows: &'a [f32],
    /// The same as int8.
    pub quantized: &'a QuantizedRows,
}

/// A weight, or a block's scale or minimum, that is NaN or infinite: the file is damaged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("weight in row {row}, at or after element {element}: not finite")]
pub struct NonFiniteWeight {
    /// Row of the matrix.
    pub row: usize,
    /// The element, or the first of its block.
    pub element: usize,
}
