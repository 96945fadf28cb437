//! Whether a model file is what it should be: its SHA-256 where one is known, its weights' numbers,
//! and that nobody changes it while it is mapped.
//!
//! What the file's structure must be is the reader's business, and what its tensors must be the
//! model's; both check that whenever a file is opened. Here is what costs time or has to be asked
//! again.

mod digest;
mod known;
mod remembered;
mod watch;
mod weights;

pub use digest::{FileDigest, FileDigestError, sha256_of};
pub use known::{KnownDigest, KnownDigestError, known_digest};
pub use watch::{DigestMismatch, Unsound, Watch};
pub use weights::{BadWeight, check_weights};
