//! The digests of files that were read to the end before, so that a start need not read them again.
//!
//! A small file of this user. What it says is believed as far as the files that it speaks of are what
//! they were, which their identities tell; whoever can write to it could as well write to the models.

use std::fs::OpenOptions;
use std::io::{self, Read as _};
use std::path::Path;

use embed_protocol::private_file;
use serde::{Deserialize, Serialize};

use super::digest::FileDigest;
use crate::gguf::FileIdentity;

/// Files that are remembered: more models than anybody uses in turn. The latest come first.
const FILES_MAX: usize = 64;

/// A memory larger than [`FILES_MAX`] lines could be is none.
const MEMORY_BYTES_MAX: u64 = 64 * 1024;

/// The name of the file.
const NAME: &str = "digests.json";

/// What is remembered.
#[derive(Debug, Default, Deserialize, Serialize)]
struct Memory {
    files: Vec<Line>,
}

#[derive(Debug, Deserialize, Serialize)]
struct Line {
    device: u64,
    index: u64,
    bytes: u64,
    modified_ns: i64,
    changed_ns: i64,
    sha256: String,
}

/// The digest that this file had when it was last read to the end, if that is remembered in `dir`.
pub(super) fn recall(dir: &Path, file: FileIdentity) -> Option<FileDigest> {
    let line = load(dir).files.into_iter().find(|line| line.is(file))?;
    line.sha256.parse().ok()
}

/// Remembers in `dir` that this file has this digest.
///
/// # Errors
///
/// The system's. Nothing is lost but time at the next start.
pub(super) fn remember(dir: &Path, file: FileIdentity, sha256: FileDigest) -> io::Result<()> {
    let mut memory = load(dir);
    // What it had before it was changed is of no use.
    memory.files.retain(|line| (line.device, line.index) != (file.device, file.index));
    memory.files.insert(0, Line::new(file, sha256));
    memory.files.truncate(FILES_MAX);
    let text = serde_json::to_vec(&memory)?;
    private_file::make_directory(dir)?;
    let temporary = dir.join(format!("{NAME}.{}", std::process::id()));
    private_file::replace(&dir.join(NAME), &temporary, &text)
}

impl Line {
    fn new(file: FileIdentity, sha256: FileDigest) -> Self {
        let FileIdentity { device, index, bytes, modified_ns, changed_ns } = file;
        Self { device, index, bytes, modified_ns, changed_ns, sha256: sha256.to_string() }
    }

    fn is(&self, file: FileIdentity) -> bool {
        let Self { device, index, bytes, modified_ns, changed_ns, .. } = *self;
        file == FileIdentity { device, index, bytes, modified_ns, changed_ns }
    }
}

/// What is remembered; nothing, if it cannot be read or is not to be believed.
fn load(dir: &Path) -> Memory {
    let read = || -> io::Result<Memory> {
        let file = private_file::open(OpenOptions::new().read(true), &dir.join(NAME))?;
        // Only what nobody else can have written is believed.
        if let Some(fault) = private_file::secret_fault(&file)? {
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, fault));
        }
        let mut text = Vec::new();
        file.take(MEMORY_BYTES_MAX).read_to_end(&mut text)?;
        Ok(serde_json::from_slice(&text)?)
    };
    read().unwrap_or_else(|error| {
        if error.kind() != io::ErrorKind::NotFound {
            tracing::debug!(dir = %dir.display(), %error, "digests of files are not remembered");
        }
        Memory::default()
    })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn file(index: u64) -> FileIdentity {
        FileIdentity { device: u64::MAX, index, bytes: 1, modified_ns: -5, changed_ns: i64::MAX }
    }

    fn digest(byte: u8) -> FileDigest {
        format!("{byte:02x}").repeat(32).parse().expect("64 digits")
    }

    #[test]
    fn a_digest_is_remembered_for_the_very_file() {
        let folder = tempfile::tempdir().expect("a folder");
        let dir = folder.path().join("a/b");
        assert_eq!(recall(&dir, file(1)), None);
        remember(&dir, file(1), digest(1)).expect("ours");
        remember(&dir, file(2), digest(2)).expect("ours");
        assert_eq!(recall(&dir, file(1)), Some(digest(1)));
        assert_eq!(recall(&dir, file(2)), Some(digest(2)));
        for other in [
            FileIdentity { device: 0, ..file(1) },
            FileIdentity { bytes: 2, ..file(1) },
            FileIdentity { modified_ns: 5, ..file(1) },
            FileIdentity { changed_ns: 5, ..file(1) },
        ] {
            assert_eq!(recall(&dir, other), None);
        }
        let names: Vec<_> =
            fs::read_dir(&dir).expect("made").map(|e| e.expect("one").file_name()).collect();
        assert_eq!(names, [NAME], "nothing else is left");
    }

    #[test]
    fn so_many_files_are_remembered_and_the_oldest_is_forgotten() {
        let folder = tempfile::tempdir().expect("a folder");
        let dir = folder.path();
        let last = FILES_MAX as u64;
        for index in 0..=last {
            remember(dir, file(index), digest(7)).expect("ours");
        }
        assert_eq!(recall(dir, file(0)), None);
        assert_eq!(recall(dir, file(1)), Some(digest(7)));
        assert_eq!(recall(dir, file(last)), Some(digest(7)));
        let bytes = dir.join(NAME).metadata().expect("written").len();
        assert!(bytes < MEMORY_BYTES_MAX / 2, "{bytes}");
    }

    #[test]
    fn garbage_is_no_memory_and_is_replaced() {
        let folder = tempfile::tempdir().expect("a folder");
        let dir = folder.path();
        for garbage in ["", "{}", "[1]", r#"{"files":[{"device":1}]}"#, "\0\0"] {
            fs::write(dir.join(NAME), garbage).expect("ours");
            assert_eq!(recall(dir, file(1)), None, "{garbage}");
            remember(dir, file(1), digest(1)).expect("ours");
            assert_eq!(recall(dir, file(1)), Some(digest(1)), "{garbage}");
        }
    }

    #[cfg(unix)]
    #[test]
    fn only_this_user_reads_it_and_what_others_could_write_is_not_believed() {
        use std::os::unix::fs::PermissionsExt as _;

        let folder = tempfile::tempdir().expect("a folder");
        let (dir, path) = (folder.path().join("new"), folder.path().join("new").join(NAME));
        remember(&dir, file(1), digest(1)).expect("ours");
        let mode = |path: &Path| path.metadata().expect("there").permissions().mode() & 0o777;
        assert_eq!((mode(&dir), mode(&path)), (0o700, 0o600));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o622)).expect("ours");
        assert_eq!(recall(&dir, file(1)), None);
        fs::rename(&path, folder.path().join("elsewhere")).expect("ours");
        std::os::unix::fs::symlink(folder.path().join("elsewhere"), &path).expect("ours");
        assert_eq!(recall(&dir, file(1)), None, "a link");
        remember(&dir, file(1), digest(2)).expect("replaces the link");
        assert!(path.symlink_metadata().expect("there").is_file());
    }
}
