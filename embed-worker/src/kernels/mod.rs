//! Kernels.

pub mod dtype;

pub use dtype::DType;
