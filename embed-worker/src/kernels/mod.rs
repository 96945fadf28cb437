//! Kernels.

pub mod dtype;
pub mod law;

pub use dtype::DType;
pub use law::*;
