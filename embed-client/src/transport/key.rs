//! Reading the key that a worker has left.

use std::path::Path;

use embed_protocol::secret::{KeyFile, KeyReadError};

use super::EndpointError;

/// The key at `path`, if a worker has left one; see [`KeyFile::read`].
pub(super) fn read(path: &Path) -> Result<Option<KeyFile>, EndpointError> {
    let name = path.display().to_string();
    KeyFile::read(path).map_err(|error| match error {
        KeyReadError::Io(error) => EndpointError::Key(name, error),
        KeyReadError::Unsafe(what) => EndpointError::UnsafeKey { path: name, what },
    })
}
