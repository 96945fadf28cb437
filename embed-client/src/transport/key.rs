//! Reading the key that a worker has left.

use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::path::Path;

use embed_protocol::secret::KeyFile;

use super::EndpointError;

/// The key at `path`, if a worker has left one. A file that is no key, for example after the power
/// failed, counts as none: the next worker replaces it.
///
/// # Errors
///
/// It is there, but it is not a regular file of this user that nobody else may read.
pub(super) fn read(path: &Path) -> Result<Option<KeyFile>, EndpointError> {
    let name = || path.display().to_string();
    let file = match open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(EndpointError::Key(name(), error)),
    };
    let failed = |error| EndpointError::Key(name(), error);
    if let Some(what) = fault(&file).map_err(failed)? {
        return Err(EndpointError::UnsafeKey { path: name(), what });
    }
    let mut bytes = Vec::new();
    // One byte more than a key has tells it from a longer file.
    file.take(KeyFile::BYTES as u64 + 1).read_to_end(&mut bytes).map_err(failed)?;
    let key = KeyFile::from_bytes(&bytes);
    Ok(key.inspect_err(|error| tracing::debug!(%error, path = name(), "no key")).ok())
}

/// Opens it, but not what a symbolic link in its place leads to, and without waiting for a pipe.
fn open(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true);
    #[cfg(unix)]
    {
        use rustix::fs::OFlags;
        use std::os::unix::fs::OpenOptionsExt;
        let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
        options.custom_flags(flags.bits().cast_signed());
    }
    options.open(path)
}

/// Why an open file is not to be trusted, if it is not.
#[cfg(unix)]
fn fault(file: &File) -> io::Result<Option<String>> {
    use std::os::unix::fs::MetadataExt;

    let metadata = file.metadata()?;
    let user = rustix::process::geteuid().as_raw();
    Ok(if !metadata.is_file() {
        Some("is not a regular file".into())
    } else if metadata.uid() != user {
        Some(format!("belongs to user {}, not to {user}", metadata.uid()))
    } else if metadata.mode() & 0o077 != 0 {
        Some(format!("has mode {:o}, not 600", metadata.mode() & 0o777))
    } else {
        None
    })
}

/// Why an open file is not to be trusted, if it is not. The user's profile keeps others from it.
#[cfg(not(unix))]
fn fault(file: &File) -> io::Result<Option<String>> {
    Ok((!file.metadata()?.is_file()).then(|| "is not a regular file".into()))
}
