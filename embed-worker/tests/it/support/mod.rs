//! What several tests need.

pub(crate) mod encoder;
pub(crate) mod gguf_writer;
pub(crate) mod hostile;
pub(crate) mod judge;
#[cfg(target_os = "linux")]
pub(crate) mod other_user;
pub(crate) mod own_process;
pub(crate) mod peer;
pub(crate) mod program;
pub(crate) mod worker;

use std::path::PathBuf;

/// A file of the repository.
pub(crate) fn repository_file(path: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..").join(path)
}

/// A file under `tests/data`.
pub(crate) fn test_data(path: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests").join("data").join(path)
}
