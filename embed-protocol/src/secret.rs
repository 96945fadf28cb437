//! A worker's secret, and the file in which it and the port are left for the user's clients.
//!
//! A Unix socket lies in a directory of the user and tells who is at its other end. A TCP port is open
//! to every program of the machine, and after a crash anybody may get the same one; a named pipe can
//! be made by whoever is first. There both sides prove that they know this secret, which only
//! the user can read; see [`crate::handshake`].

use std::fmt;
use std::fs::OpenOptions;
use std::io::{self, Read};
use std::path::Path;

use crate::private_file;

/// Bytes of a secret, of a nonce and of a proof: what HMAC-SHA256 takes and gives.
pub const SECRET_BYTES: usize = 32;

/// How a file of [`KeyFile`] begins.
const MAGIC: [u8; 12] = *b"embed-key 1\n";

/// 32 bytes that only a worker and the user's clients know.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret([u8; SECRET_BYTES]);

impl Secret {
    /// A new one from the system's generator.
    ///
    /// # Errors
    ///
    /// The system has no randomness to give.
    pub fn random() -> io::Result<Self> {
        random().map(Self)
    }

    /// The secret of these bytes.
    pub fn from_bytes(bytes: [u8; SECRET_BYTES]) -> Self {
        Self(bytes)
    }

    /// For the handshake, and for nobody's eyes.
    pub(crate) fn bytes(&self) -> &[u8; SECRET_BYTES] {
        &self.0
    }
}

/// So that no log and no error text can show one.
impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// 32 bytes from the system's generator: a secret, or a nonce.
///
/// # Errors
///
/// The system has no randomness to give.
pub fn random() -> io::Result<[u8; SECRET_BYTES]> {
    let mut bytes = [0; SECRET_BYTES];
    getrandom::fill(&mut bytes).map_err(|error| io::Error::other(error.to_string()))?;
    Ok(bytes)
}

/// What a worker leaves for the user's clients in a file that nobody else can read: fixed places, so
/// that a reader knows beforehand how many bytes to ask for.
///
/// ```text
/// 12 bytes  "embed-key 1\n"
///  2 bytes  port, u16 little-endian; 0: the local endpoint itself
///  4 bytes  process, u32 little-endian
/// 32 bytes  secret
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyFile {
    /// The port on 127.0.0.1; 0 in the file of a named pipe.
    pub port: u16,
    /// The worker's process.
    pub pid: u32,
    /// What both sides must know.
    pub secret: Secret,
}

/// What is wrong with a file that should be a [`KeyFile`]. It says nothing of the contents.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyFileError {
    /// Another length.
    #[error("has {found} bytes instead of {}", KeyFile::BYTES)]
    Length {
        /// Its length.
        found: usize,
    },
    /// Another beginning.
    #[error("is not a worker's key, or one of another version")]
    Magic,
}

/// Why a file is not looked into.
#[derive(Debug, thiserror::Error)]
pub enum KeyReadError {
    /// The system does not let us, for example because a symbolic link has its name.
    #[error("cannot be read")]
    Io(#[from] io::Error),
    /// It is not a regular file of this user that nobody else may read.
    #[error("{0}")]
    Unsafe(String),
}

impl KeyFile {
    /// The key at `path`, if a worker has left one. A file that is no key, for example after the power
    /// failed, counts as none: the next worker replaces it.
    ///
    /// # Errors
    ///
    /// It is there, but it is not a regular file of this user that nobody else may read.
    pub fn read(path: &Path) -> Result<Option<Self>, KeyReadError> {
        let file = match private_file::open(OpenOptions::new().read(true), path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        if let Some(what) = private_file::secret_fault(&file)? {
            return Err(KeyReadError::Unsafe(what));
        }
        let mut bytes = Vec::new();
        // One byte more than a key has tells it from a longer file.
        file.take(Self::BYTES as u64 + 1).read_to_end(&mut bytes)?;
        Ok(Self::from_bytes(&bytes).ok())
    }

    /// Bytes of the file.
    pub const BYTES: usize = MAGIC.len() + 2 + 4 + SECRET_BYTES;

    /// The file's contents.
    pub fn to_bytes(&self) -> [u8; Self::BYTES] {
        let fields: [&[u8]; 4] =
            [&MAGIC, &self.port.to_le_bytes(), &self.pid.to_le_bytes(), self.secret.bytes()];
        let mut bytes = [0; Self::BYTES];
        let mut rest = &mut bytes[..];
        for field in fields {
            let (place, after) = rest.split_at_mut(field.len());
            place.copy_from_slice(field);
            rest = after;
        }
        bytes
    }

    /// What the file says.
    ///
    /// # Errors
    ///
    /// It is no such file.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, KeyFileError> {
        let length = KeyFileError::Length { found: bytes.len() };
        let (magic, rest) = bytes.split_first_chunk().ok_or(length)?;
        let (port, rest) = rest.split_first_chunk().ok_or(length)?;
        let (pid, rest) = rest.split_first_chunk().ok_or(length)?;
        let secret = rest.try_into().map_err(|_| length)?;
        if *magic != MAGIC {
            return Err(KeyFileError::Magic);
        }
        Ok(Self {
            port: u16::from_le_bytes(*port),
            pid: u32::from_le_bytes(*pid),
            secret: Secret(secret),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> KeyFile {
        KeyFile { port: 49_152, pid: 4242, secret: Secret::from_bytes([7; SECRET_BYTES]) }
    }

    #[test]
    fn a_key_comes_back_as_it_was_written() {
        assert_eq!(KeyFile::from_bytes(&key().to_bytes()), Ok(key()));
    }

    #[test]
    fn another_length_or_beginning_is_no_key() {
        let bytes = key().to_bytes();
        for length in 0..bytes.len() {
            let found = KeyFile::from_bytes(&bytes[..length]);
            assert_eq!(found, Err(KeyFileError::Length { found: length }));
        }
        let longer = [&bytes[..], &[0]].concat();
        let found = KeyFile::from_bytes(&longer);
        assert_eq!(found, Err(KeyFileError::Length { found: KeyFile::BYTES + 1 }));
        let mut other = bytes;
        other[10] = b'2';
        assert_eq!(KeyFile::from_bytes(&other), Err(KeyFileError::Magic));
    }

    #[test]
    fn a_secret_is_not_shown() {
        let shown = format!("{:?} {:#?}", key(), key().secret);
        assert!(shown.contains("Secret(..)"), "{shown}");
        assert!(!shown.contains("7, 7") && !shown.contains("0707"), "{shown}");
    }

    #[test]
    fn two_secrets_are_two() {
        let (first, second) = (Secret::random(), Secret::random());
        assert_ne!(first.expect("the system gives"), second.expect("the system gives"));
    }
}
