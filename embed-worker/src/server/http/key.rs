//! The key that a request over HTTP must have.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use embed_protocol::{private_file, secret};
use sha2::{Digest as _, Sha256};

use crate::config::HTTP_KEY_CHARACTERS_MIN;

/// What is read of a file that holds a key: no key is longer.
const KEY_BYTES_MAX: u64 = 4096;

/// How a file is closed to others.
const CLOSE_IT: &str = if cfg!(windows) {
    "`icacls` it with `/inheritance:r /grant:r %USERNAME%:F`"
} else {
    "`chmod 600` it"
};

/// A key, of which only the digest is kept: it is compared in place of the key, so that how long a
/// comparison takes tells nothing of the key, and no log can show it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiKey([u8; 32]);

/// Why there is no key.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// It is too easy to guess.
    #[error(
        "{origin}: has {found} characters, wanted at least {HTTP_KEY_CHARACTERS_MIN}; make one with `openssl rand -hex 32`, or leave it out and one is made"
    )]
    Short {
        /// Where it comes from.
        origin: String,
        /// How many characters it has.
        found: usize,
    },
    /// It cannot stand in a header.
    #[error("{origin}: has a character that no HTTP header can hold; wanted visible ASCII")]
    Characters {
        /// Where it comes from.
        origin: String,
    },
    /// Others can read it, or it is no file.
    #[error("file `{}`: {fault}; {CLOSE_IT}", path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        fault: String,
    },
    /// The system's reason.
    #[error("file `{}`: cannot be read or made", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

impl ApiKey {
    /// The key `text`, which comes from `origin`.
    ///
    /// # Errors
    ///
    /// It is short, or no header can hold it.
    pub fn new(text: &str, origin: &str) -> Result<Self, KeyError> {
        let (text, origin) = (text.trim(), || origin.to_owned());
        if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(KeyError::Characters { origin: origin() });
        }
        if text.len() < HTTP_KEY_CHARACTERS_MIN {
            return Err(KeyError::Short { origin: origin(), found: text.len() });
        }
        Ok(Self(Sha256::digest(text).into()))
    }

    /// The key in a file of this user's that nobody else can read.
    ///
    /// # Errors
    ///
    /// What is wrong with the file, or with the key.
    pub fn of_file(path: &Path) -> Result<Self, KeyError> {
        let failed = |source| KeyError::File { path: path.into(), source };
        let file = private_file::open(OpenOptions::new().read(true), path).map_err(failed)?;
        Self::read(path, file)
    }

    /// The key in the file at `path`, which is made with a new one if it is not there.
    ///
    /// # Errors
    ///
    /// As of [`Self::of_file`]; the file cannot be made.
    pub fn kept_in(path: &Path) -> Result<Self, KeyError> {
        let failed = |source| KeyError::File { path: path.into(), source };
        match private_file::open(OpenOptions::new().read(true), path) {
            Ok(file) => return Self::read(path, file),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(failed(error)),
        }
        let bytes = secret::random().map_err(failed)?;
        let key: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        if let Some(dir) = path.parent() {
            private_file::make_directory(dir).map_err(failed)?;
        }
        let unfinished = path.with_extension(std::process::id().to_string());
        private_file::replace(path, &unfinished, format!("{key}\n").as_bytes()).map_err(failed)?;
        // Of two that make one at once, the later one's stays: both read what is there.
        Self::of_file(path)
    }

    fn read(path: &Path, file: File) -> Result<Self, KeyError> {
        let failed = |source| KeyError::File { path: path.into(), source };
        if let Some(fault) = private_file::secret_fault(&file).map_err(failed)? {
            return Err(KeyError::Open { path: path.into(), fault });
        }
        let mut text = String::new();
        file.take(KEY_BYTES_MAX).read_to_string(&mut text).map_err(failed)?;
        Self::new(&text, &format!("file `{}`", path.display()))
    }

    /// Whether a client's word is this key.
    pub(super) fn is(&self, word: &str) -> bool {
        let digest: [u8; 32] = Sha256::digest(word).into();
        digest == self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_long_and_visible() {
        let longest_refused = "k".repeat(HTTP_KEY_CHARACTERS_MIN - 1);
        for (text, wanted) in [
            ("", "has 0 characters"),
            (longest_refused.as_str(), "has 15 characters"),
            ("a key with blanks in it", "no HTTP header"),
            ("schlüsselschlüssel", "no HTTP header"),
        ] {
            let error = ApiKey::new(text, "EMBED_API_KEY").expect_err(text).to_string();
            assert!(error.starts_with("EMBED_API_KEY") && error.contains(wanted), "{error}");
        }
        let key = ApiKey::new("0123456789abcdef\n", "x").expect("a key");
        assert!(key.is("0123456789abcdef"));
        assert!(!key.is("0123456789abcdeg") && !key.is("") && !key.is("0123456789abcdef\n"));
        assert!(!format!("{key:?}").contains("0123456789abcdef"));
    }

    #[test]
    fn a_key_is_made_once_and_kept() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("new/http.key");
        let made = ApiKey::kept_in(&path).expect("made");
        assert_eq!(ApiKey::kept_in(&path).expect("kept"), made);
        assert_eq!(ApiKey::of_file(&path).expect("kept"), made);
        let text = std::fs::read_to_string(&path).expect("ours");
        assert_eq!(text.trim().len(), 64);
        assert!(made.is(text.trim()));
        assert_eq!(std::fs::read_dir(path.parent().expect("one")).expect("made").count(), 1);
    }

    #[cfg(unix)]
    #[test]
    fn a_key_that_others_can_read_is_refused() {
        use std::os::unix::fs::PermissionsExt as _;

        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("http.key");
        ApiKey::kept_in(&path).expect("made");
        assert_eq!(path.metadata().expect("made").permissions().mode() & 0o777, 0o600);
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).expect("ours");
        let error = ApiKey::kept_in(&path).expect_err("others can read it").to_string();
        assert!(error.contains("chmod 600"), "{error}");
    }
}
