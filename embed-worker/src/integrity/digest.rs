//! SHA-256 of a file, read beside the map.

use std::fmt;
use std::io;
use std::str::FromStr;

use sha2::{Digest as _, Sha256};

use crate::gguf::SourceFile;

/// Bytes that are read at once: as much as the second-level cache holds beside everything else.
const CHUNK_BYTES: usize = 64 * 1024;

/// A SHA-256.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct FileDigest([u8; 32]);

/// Text that is no SHA-256.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("SHA-256: is {found} characters long or not hexadecimal, wanted 64 hexadecimal digits")]
pub struct FileDigestError {
    found: usize,
}

impl FromStr for FileDigest {
    type Err = FileDigestError;

    fn from_str(text: &str) -> Result<Self, FileDigestError> {
        let wrong = || FileDigestError { found: text.chars().count() };
        let (pairs, rest) = text.as_bytes().as_chunks::<2>();
        let mut digest = [0; 32];
        if pairs.len() != digest.len() || !rest.is_empty() {
            return Err(wrong());
        }
        for (byte, pair) in digest.iter_mut().zip(pairs) {
            let digit = |digit: u8| char::from(digit).to_digit(16).ok_or_else(wrong);
            *byte = (digit(pair[0])? << 4 | digit(pair[1])?) as u8;
        }
        Ok(Self(digest))
    }
}

impl fmt::Display for FileDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for FileDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The SHA-256 of `file` as it is now. `progress` is told after each piece how many bytes it had.
///
/// Reads and does not map: pages that the model has not touched do not become the process's, and a
/// file that somebody cuts meanwhile is an error and not a signal.
///
/// # Errors
///
/// The system's; a file that is shorter than when it was opened is [`io::ErrorKind::UnexpectedEof`].
pub fn sha256_of(file: &SourceFile, mut progress: impl FnMut(usize)) -> io::Result<FileDigest> {
    let mut digest = Sha256::new();
    let mut buffer = vec![0; CHUNK_BYTES];
    let (mut offset, bytes) = (0, file.identity().bytes);
    while offset < bytes {
        let read = match file.read_at(&mut buffer, offset) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        digest.update(&buffer[..read]);
        offset += read as u64;
        progress(read);
    }
    Ok(FileDigest(digest.finalize().into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_reads_back_in_either_case() {
        let text = "eeb38ea216990116b2b5007aab736adcd278c56e2aecaa7788f9309ea2de9710";
        let digest: FileDigest = text.parse().expect("64 digits");
        assert_eq!(digest.to_string(), text);
        assert_eq!(text.to_uppercase().parse(), Ok(digest));
    }

    #[test]
    fn what_is_no_digest_is_refused() {
        for text in ["", "ab", &"a".repeat(63), &"a".repeat(65), &"g".repeat(64), &"é".repeat(32)]
        {
            assert!(text.parse::<FileDigest>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_file_has_the_digest_of_its_bytes() {
        let folder = tempfile::tempdir().expect("a folder");
        for bytes in [0, 1, CHUNK_BYTES, CHUNK_BYTES + 1, 3 * CHUNK_BYTES - 1] {
            let path = folder.path().join(bytes.to_string());
            let contents: Vec<u8> = (0..bytes).map(|at| (at * 7) as u8).collect();
            std::fs::write(&path, &contents).expect("ours");
            let file = SourceFile::open(&path).expect("opens");
            let mut told = 0;
            let digest = sha256_of(&file, |bytes| told += bytes).expect("readable");
            assert_eq!(digest, FileDigest(Sha256::digest(&contents).into()));
            assert_eq!(told, bytes);
        }
    }

    #[test]
    fn a_file_that_was_cut_has_none() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("cut");
        std::fs::write(&path, [1; 1000]).expect("ours");
        let file = SourceFile::open(&path).expect("opens");
        std::fs::File::options().write(true).open(&path).and_then(|f| f.set_len(10)).expect("ours");
        let error = sha256_of(&file, |_| ()).expect_err("cut");
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
    }
}
