//! What the SHA-256 of a model file should be, as far as somebody has said so.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use embed_store::blob_of;

use super::digest::{FileDigest, FileDigestError};

/// What is read of a file beside a model: `sha256sum` writes the digest first and the name after it.
const SIDECAR_BYTES_MAX: u64 = 8 * 1024;

/// The models that ship with the package, as `models/SHA256SUMS` has them: name, size, SHA-256.
///
/// Size and name together are taken for the file: other conversions of the same model have other
/// metadata and so other sizes. A file beside the model overrides this.
const SHIPPED: [(&str, u64, &str); 1] = [(
    "all-MiniLM-L6-v2.Q8_0.gguf",
    25_282_304,
    "eeb38ea216990116b2b5007aab736adcd278c56e2aecaa7788f9309ea2de9710",
)];

/// What a file's SHA-256 should be, and who says so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KnownDigest {
    /// The SHA-256.
    pub sha256: FileDigest,
    /// Who says so, for a sentence.
    pub origin: String,
}

/// Why it cannot be told what a file's SHA-256 should be, although somebody wanted to say so.
#[derive(Debug, thiserror::Error)]
pub enum KnownDigestError {
    /// The file beside the model cannot be read.
    #[error("file `{}`: cannot be read", path.display())]
    Unreadable {
        /// The file beside the model.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// The file beside the model does not begin with a SHA-256.
    #[error("file `{}`", path.display())]
    NoDigest {
        /// The file beside the model.
        path: PathBuf,
        /// What it begins with instead.
        source: FileDigestError,
    },
}

/// What the SHA-256 of the model file `path`, of `bytes` bytes, should be: as `path.sha256` says, in
/// the form that `sha256sum` writes, else as this program knows of the models that it ships with, else
/// as the file is called, if it lies in Hugging Face's cache: there it is called by its digest.
///
/// # Errors
///
/// There is such a file, and it says nothing.
pub fn known_digest(path: &Path, bytes: u64) -> Result<Option<KnownDigest>, KnownDigestError> {
    if let Some(known) = beside(path)? {
        return Ok(Some(known));
    }
    let shipped = SHIPPED.iter().find(|(name, size, _)| {
        path.file_name().is_some_and(|found| found == *name) && bytes == *size
    });
    let shipped = shipped.and_then(|(_, _, digest)| {
        Some(KnownDigest { sha256: digest.parse().ok()?, origin: "`models/SHA256SUMS`".into() })
    });
    Ok(shipped.or_else(|| in_the_hubs_cache(path)))
}

/// A file's name in the cache, if its digest is its name.
fn in_the_hubs_cache(path: &Path) -> Option<KnownDigest> {
    let sha256 = blob_of(path)?.file_name()?.to_str()?.parse().ok()?;
    Some(KnownDigest { sha256, origin: "its name in the Hugging Face cache".into() })
}

fn beside(model: &Path) -> Result<Option<KnownDigest>, KnownDigestError> {
    let mut path = OsString::from(model);
    path.push(".sha256");
    let path = PathBuf::from(path);
    let text = match read(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(KnownDigestError::Unreadable { path, source }),
    };
    let word = text.split_whitespace().next().unwrap_or_default();
    // With a name that it has to escape, `sha256sum` begins the line with a backslash.
    match word.trim_start_matches('\\').parse() {
        Ok(sha256) => Ok(Some(KnownDigest { sha256, origin: format!("`{}`", path.display()) })),
        Err(source) => Err(KnownDigestError::NoDigest { path, source }),
    }
}

fn read(path: &Path) -> io::Result<String> {
    // Asked before opening, because opening a named pipe would wait for its writer.
    if !std::fs::metadata(path)?.is_file() {
        return Err(io::Error::other("is not a regular file"));
    }
    let mut bytes = Vec::new();
    File::open(path)?.take(SIDECAR_BYTES_MAX).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_that_of_the_models_folder() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../models");
        let sums = std::fs::read_to_string(folder.join("SHA256SUMS")).expect("committed");
        let lines: Vec<String> =
            SHIPPED.iter().map(|(name, _, digest)| format!("{digest}  {name}")).collect();
        assert_eq!(sums.lines().collect::<Vec<_>>(), lines);
        for (name, bytes, digest) in SHIPPED {
            let path = folder.join(name);
            let found = path.metadata().expect("committed").len();
            assert_eq!(found, bytes);
            let known = known_digest(&path, bytes).expect("no file beside it").expect("known");
            assert_eq!(known.sha256.to_string(), digest);
            assert_eq!(known_digest(&path, bytes + 1).expect("no file beside it"), None);
        }
    }

    #[test]
    fn a_file_of_the_hubs_cache_is_called_by_its_digest() {
        let folder = tempfile::tempdir().expect("a folder");
        let digest = "ab".repeat(32);
        for (dir, name, known) in [
            ("models--a--b/blobs", digest.as_str(), true),
            ("models--a--b/blobs", "ab.gguf", false),
            ("models--a--b/other", &digest, false),
            ("elsewhere/blobs", &digest, false),
        ] {
            let blobs = folder.path().join(dir);
            std::fs::create_dir_all(&blobs).expect("ours");
            let path = blobs.join(name);
            std::fs::write(&path, "x").expect("ours");
            let found = known_digest(&path, 1).expect("no file beside it");
            assert_eq!(found.is_some(), known, "{dir}/{name}");
            #[cfg(unix)]
            if known {
                let link = folder.path().join("m.gguf");
                std::os::unix::fs::symlink(&path, &link).expect("ours");
                assert_eq!(known_digest(&link, 1).expect("no file beside it"), found);
            }
        }
    }

    #[test]
    fn a_file_beside_the_model_says_what_its_digest_is() {
        let folder = tempfile::tempdir().expect("a folder");
        let (name, bytes, _) = SHIPPED[0];
        let (model, beside) =
            (folder.path().join(name), folder.path().join(name.to_owned() + ".sha256"));
        let digest = "ab".repeat(32);
        for text in [digest.clone(), format!("{digest}  {name}\n"), format!("\n \\{digest} *x\n")] {
            std::fs::write(&beside, &text).expect("ours");
            let known = known_digest(&model, bytes).expect("readable").expect("known");
            assert_eq!(known.sha256.to_string(), digest, "{text:?}");
            assert!(known.origin.contains(".gguf.sha256"), "{}", known.origin);
        }
        for text in [String::new(), "SHA256 (a) = ab".into(), "x".repeat(20_000)] {
            std::fs::write(&beside, &text).expect("ours");
            let error = known_digest(&model, bytes).expect_err("says nothing");
            assert!(error.to_string().contains(".gguf.sha256"), "{error}");
        }
    }
}
