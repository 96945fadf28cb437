//! Whether every weight of a file is a number.

use crate::gguf::{GgufFile, Tensor};
use crate::kernels::Kernels;

/// A weight that is not finite, or whose block's scale or minimum is not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadWeight {
    /// Its tensor.
    pub tensor: String,
    /// Its row.
    pub row: usize,
    /// Its column, or the first of those that share its scale.
    pub element: usize,
}

impl std::fmt::Display for BadWeight {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { tensor, row, element } = self;
        let tensor = tensor.escape_debug();
        write!(f, "tensor `{tensor}`: row {row}, at or after element {element}: not finite")
    }
}

/// Reads every block of every tensor of `file`, whether the model uses it or not; gives the first bad
/// weight of each tensor. `progress` is told after each row how many bytes it had.
///
/// Needs no memory but the file's pages.
pub fn check_weights(
    kernels: Kernels,
    file: &GgufFile,
    mut progress: impl FnMut(usize),
) -> Vec<BadWeight> {
    let first_bad = |tensor: &Tensor| {
        let row_bytes = tensor.dtype().row_bytes(tensor.cols()).unwrap_or(usize::MAX);
        let mut bad = None;
        for (row, bytes) in tensor.bytes().chunks_exact(row_bytes).enumerate() {
            progress(bytes.len());
            if bad.is_none() {
                bad = kernels.first_not_finite(tensor.dtype(), bytes).map(|element| (row, element));
            }
        }
        bad
    };
    let bad = file.tensors().iter().map(first_bad).collect::<Vec<_>>();
    file.tensors()
        .iter()
        .zip(bad)
        .filter_map(|(tensor, bad)| {
            let (row, element) = bad?;
            Some(BadWeight { tensor: tensor.name().into(), row, element })
        })
        .collect()
}
