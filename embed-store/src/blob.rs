//! What a file is called in the cache of the hub's files: there it is called by its digest.

use std::path::{Path, PathBuf};

use same_file::is_same_file;

/// Most files of a repository that are looked at: more than one has versions of its models.
const BLOBS_MAX: usize = 4096;

/// The file in `models--OWNER--NAME/blobs/` that `path` is. It leads there by a link, or is that file's
/// second name where Windows lets its user make no links; a copy is another file.
pub fn blob_of(path: &Path) -> Option<PathBuf> {
    let path = path.canonicalize().ok()?;
    let blobs = path.parent().filter(|parent| parent.ends_with("blobs"));
    if blobs.and_then(Path::parent).is_some_and(is_repository) {
        return Some(path);
    }
    let mut folders = path.ancestors().filter(|folder| folder.ends_with("snapshots"));
    let repository =
        folders.find_map(|folder| folder.parent().filter(|above| is_repository(above)))?;
    let blobs = std::fs::read_dir(repository.join("blobs")).ok()?;
    let mut blobs = blobs.take(BLOBS_MAX).flatten().map(|entry| entry.path());
    blobs.find(|blob| is_same_file(blob, &path).unwrap_or(false))
}

fn is_repository(folder: &Path) -> bool {
    folder.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"models--"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    /// A folder with a repository: its blobs `one` and `other`, and a snapshot's folder.
    fn repository() -> (tempfile::TempDir, PathBuf, PathBuf) {
        let folder = tempfile::tempdir().expect("a folder");
        let repository = folder.path().canonicalize().expect("made").join("models--a--b");
        let (blobs, snapshot) =
            (repository.join("blobs"), repository.join("snapshots/0123/snapshots"));
        for folder in [&blobs, &snapshot] {
            fs::create_dir_all(folder).expect("ours");
        }
        for name in ["one", "other"] {
            fs::write(blobs.join(name), "x").expect("ours");
        }
        (folder, blobs, snapshot)
    }

    #[test]
    fn a_blob_is_its_own() {
        let (_folder, blobs, _) = repository();
        assert_eq!(blob_of(&blobs.join("one")), Some(blobs.join("one")));
        assert_eq!(blob_of(&blobs.join("third")), None, "there is none");
    }

    #[cfg(unix)]
    #[test]
    fn a_link_leads_to_its_blob_from_wherever_it_lies() {
        let (folder, blobs, snapshot) = repository();
        for link in [snapshot.join("f.gguf"), folder.path().join("f.gguf")] {
            std::os::unix::fs::symlink(blobs.join("other"), &link).expect("ours");
            assert_eq!(blob_of(&link), Some(blobs.join("other")));
        }
    }

    #[test]
    fn a_second_name_is_found_among_the_blobs() {
        let (_folder, blobs, snapshot) = repository();
        let second = snapshot.join("f.gguf");
        fs::hard_link(blobs.join("other"), &second).expect("ours");
        assert_eq!(blob_of(&second), Some(blobs.join("other")));
        fs::remove_file(blobs.join("other")).expect("ours");
        assert_eq!(blob_of(&second), None);
    }

    #[test]
    fn a_copy_and_a_file_from_elsewhere_have_none() {
        let (folder, blobs, snapshot) = repository();
        let copy = snapshot.join("f.gguf");
        fs::copy(blobs.join("one"), &copy).expect("ours");
        assert_eq!(blob_of(&copy), None);
        let elsewhere = folder.path().join("elsewhere").join("blobs");
        fs::create_dir_all(&elsewhere).expect("ours");
        fs::write(elsewhere.join("one"), "x").expect("ours");
        assert_eq!(blob_of(&elsewhere.join("one")), None);
    }
}
