//! What can be wrong with a model, beyond the structure of its file.

use crate::gguf::GgufError;
use crate::kernels::DType;

/// Why a model cannot be opened, or not be computed with.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    /// The file's structure or a key's type is wrong.
    #[error(transparent)]
    Gguf(#[from] GgufError),
    /// The architecture is not in the table.
    #[error("architecture `{found}`: not supported, this version runs {supported}")]
    Architecture {
        /// `general.architecture` of the file.
        found: String,
        /// The names that would do.
        supported: String,
    },
    /// A key that the architecture needs is not there.
    #[error("key `{key}`: missing, the model needs it")]
    KeyMissing {
        /// Name of the key.
        key: String,
    },
    /// A key has a value that makes no sense, alone or beside another.
    #[error("key `{key}`: is {found}, must be {wanted}")]
    KeyValue {
        /// Name of the key.
        key: String,
        /// Its value.
        found: String,
        /// What it should be.
        wanted: String,
    },
    /// The model does something that this version does not.
    #[error("key `{key}`: {found} is not supported, {wanted}")]
    KeyUnsupported {
        /// Name of the key.
        key: String,
        /// Its value.
        found: String,
        /// What would do.
        wanted: &'static str,
    },
    /// A tensor that the architecture needs is not there.
    #[error("tensor `{tensor}`: missing, the model needs it")]
    TensorMissing {
        /// Name of the tensor.
        tensor: String,
    },
    /// A tensor is there that the architecture's row in the table has not.
    #[error("tensor `{tensor}`: is not supported, this variant of the architecture does not run")]
    TensorUnsupported {
        /// Name of the tensor.
        tensor: String,
    },
    /// A tensor has not the shape that the keys announce.
    #[error("tensor `{tensor}`: has shape {found}, the model's keys ask for {wanted}")]
    TensorShape {
        /// Name of the tensor.
        tensor: String,
        /// Its shape, fastest dimension first as in the file.
        found: String,
        /// The shape it should have.
        wanted: String,
    },
    /// A tensor that must be plain numbers is quantized.
    #[error("tensor `{tensor}`: has type {found}, this version wants F32 here")]
    TensorType {
        /// Name of the tensor.
        tensor: String,
        /// Its type.
        found: DType,
    },
    /// A weight is NaN or infinite.
    #[error(
        "tensor `{tensor}`: the weight or scale at row {row}, element {element} is not finite; the file is damaged"
    )]
    NotFinite {
        /// Name of the tensor.
        tensor: String,
        /// Row of the matrix.
        row: usize,
        /// First element of the block within the row.
        element: usize,
    },
}
