//! Where the files of models lie: in the cache that Hugging Face's own programs use, so that what one has
//! fetched all have, and, for files from elsewhere, in this package's own.
//!
//! ```text
//! HF_HUB_CACHE/models--owner--name/blobs/SHA256                     the bytes
//!                                 /snapshots/COMMIT/FILE            a link to them
//!                                 /refs/main                        COMMIT
//!             /.locks/models--owner--name/SHA256.lock               held while they are fetched
//! EMBED_CACHE_DIR/downloads/DIGEST-OF-ADDRESS/FILE                  with FILE.sha256 beside it
//! ```

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

use crate::name::{HubFile, ModelName};

/// The hub, unless `HF_ENDPOINT` names another.
const ENDPOINT: &str = "https://huggingface.co";

/// What is read of a file that names a commit: its 40 digits, and room for a line's end.
const REF_BYTES_MAX: u64 = 64;

/// Digits of an address's digest in a folder's name: 64 bits, far beyond chance collisions.
const ADDRESS_DIGITS: usize = 16;

/// The directories of model files, and where they come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Store {
    /// The cache of the hub's files.
    pub hub: PathBuf,
    /// The directory of files from other addresses; none if nobody says where caches are.
    pub downloads: Option<PathBuf>,
    /// The hub's address, without a slash at its end.
    pub endpoint: String,
    /// The network is not to be used.
    pub offline: bool,
    /// A model that is not here is to be fetched when it is first used.
    pub auto_pull: bool,
}

impl Store {
    /// The store of this process's environment: `HF_HUB_CACHE`, `HF_HOME`, `XDG_CACHE_HOME`,
    /// `HF_ENDPOINT`, `HF_HUB_OFFLINE`, as Hugging Face's own programs read them, and
    /// `EMBED_CACHE_DIR` and `EMBED_AUTO_PULL`.
    pub fn from_env() -> Self {
        let endpoint = text("HF_ENDPOINT").unwrap_or_else(|| ENDPOINT.into());
        Self {
            hub: hub_cache(),
            downloads: cache_dir().map(|dir| dir.join("downloads")),
            endpoint: endpoint.trim_end_matches('/').into(),
            offline: is_on("HF_HUB_OFFLINE"),
            auto_pull: is_on("EMBED_AUTO_PULL"),
        }
    }

    /// The file of a model, if it is on this machine. Files and the shipped model are the caller's.
    pub fn find(&self, name: &ModelName) -> Option<PathBuf> {
        let path = match name {
            ModelName::File(_) | ModelName::Shipped => return None,
            ModelName::Hub(file) => self.snapshot(file, &self.commit(file)?),
            ModelName::Url(url) => self.download(url)?,
        };
        path.is_file().then_some(path)
    }

    /// The commit that a file's revision means here, as far as that was seen when something was
    /// fetched.
    pub fn commit(&self, file: &HubFile) -> Option<String> {
        if is_commit(&file.revision) {
            return Some(file.revision.clone());
        }
        let mut commit = String::new();
        let reference = File::open(self.reference(file)).ok()?;
        reference.take(REF_BYTES_MAX).read_to_string(&mut commit).ok()?;
        Some(commit.trim().to_owned()).filter(|commit| is_commit(commit))
    }

    /// The folder of a file's repository.
    pub fn repository(&self, file: &HubFile) -> PathBuf {
        self.hub.join(repository_folder(file))
    }

    /// The file that says which commit a revision is.
    pub fn reference(&self, file: &HubFile) -> PathBuf {
        self.repository(file).join("refs").join(&file.revision)
    }

    /// A file as a commit has it: a link to its bytes.
    pub fn snapshot(&self, file: &HubFile, commit: &str) -> PathBuf {
        let folder = self.repository(file).join("snapshots").join(commit);
        file.file.split('/').fold(folder, |path, part| path.join(part))
    }

    /// The bytes that the hub calls `etag`.
    pub fn blob(&self, file: &HubFile, etag: &str) -> PathBuf {
        self.repository(file).join("blobs").join(etag)
    }

    /// What is locked by whoever fetches them.
    pub fn lock(&self, file: &HubFile, etag: &str) -> PathBuf {
        self.hub.join(".locks").join(repository_folder(file)).join(format!("{etag}.lock"))
    }

    /// Where a file from an address lies; the name is the address's last part.
    pub fn download(&self, url: &str) -> Option<PathBuf> {
        let digest = Sha256::digest(url.as_bytes());
        let digits: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        let path = url.split(['?', '#']).next().unwrap_or(url);
        let name: String = path
            .rsplit('/')
            .next()
            .unwrap_or_default()
            .chars()
            .map(|c| if c.is_ascii_alphanumeric() || "-_.".contains(c) { c } else { '_' })
            .collect();
        let name = name.trim_start_matches('.');
        let name = if name.is_empty() { "model.gguf" } else { name };
        Some(self.downloads.as_ref()?.join(&digits[..ADDRESS_DIGITS]).join(name))
    }
}

fn repository_folder(file: &HubFile) -> String {
    format!("models--{}", file.repo.replace('/', "--"))
}

/// Whether a revision is a commit's whole name.
pub fn is_commit(revision: &str) -> bool {
    revision.len() == 40 && revision.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// The directory of what this package keeps and may lose: `EMBED_CACHE_DIR`, else `embed-client` where
/// the system wants caches; none if nobody says where that is. Paths that are not absolute mean
/// nothing, since a worker runs in a directory that nobody has chosen.
pub fn cache_dir() -> Option<PathBuf> {
    let absolute = |path: PathBuf| path.is_absolute().then_some(path);
    if let Some(dir) = path("EMBED_CACHE_DIR").and_then(absolute) {
        return Some(dir);
    }
    let named = if cfg!(windows) { "LOCALAPPDATA" } else { "XDG_CACHE_HOME" };
    let named = path(named).and_then(absolute);
    let usual = if cfg!(windows) {
        "AppData/Local"
    } else if cfg!(target_os = "macos") {
        "Library/Caches"
    } else {
        ".cache"
    };
    let parent = named.or_else(|| Some(std::env::home_dir().and_then(absolute)?.join(usual)))?;
    Some(parent.join("embed-client"))
}

/// As `huggingface_hub` has it, on every system.
fn hub_cache() -> PathBuf {
    let named = ["HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"].into_iter().find_map(path);
    named.unwrap_or_else(|| hub_home().join("hub"))
}

/// The directory of everything of Hugging Face's: its cache, and its token.
fn hub_home() -> PathBuf {
    path("HF_HOME").unwrap_or_else(|| {
        let cache = path("XDG_CACHE_HOME").unwrap_or_else(|| home().join(".cache"));
        cache.join("huggingface")
    })
}

fn home() -> PathBuf {
    std::env::home_dir().unwrap_or_default()
}

/// A path from the environment; `~` is the user's home, as Python's programs take it.
fn path(variable: &str) -> Option<PathBuf> {
    let value = std::env::var_os(variable).filter(|value| !value.is_empty())?;
    let path = Path::new(&value);
    Some(match path.strip_prefix("~") {
        Ok(rest) => home().join(rest),
        Err(_) => path.to_owned(),
    })
}

fn text(variable: &str) -> Option<String> {
    std::env::var(variable).ok().map(|value| value.trim().to_owned()).filter(|v| !v.is_empty())
}

fn is_on(variable: &str) -> bool {
    text(variable).is_some_and(|value| {
        ["1", "true", "yes", "on"].contains(&value.to_ascii_lowercase().as_str())
    })
}

/// The token for the hub: `HF_TOKEN`, else what `hf auth login` has left.
pub fn token() -> Option<String> {
    let named = ["HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"].into_iter().find_map(text);
    named.or_else(|| {
        let file = path("HF_TOKEN_PATH").unwrap_or_else(|| hub_home().join("token"));
        let token = std::fs::read_to_string(file).ok()?.trim().to_owned();
        (!token.is_empty()).then_some(token)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

    fn store(dir: &Path) -> Store {
        Store {
            hub: dir.join("hub"),
            downloads: Some(dir.join("downloads")),
            endpoint: ENDPOINT.into(),
            offline: false,
            auto_pull: false,
        }
    }

    fn file() -> HubFile {
        HubFile { repo: "a/b".into(), revision: "main".into(), file: "d/f.gguf".into() }
    }

    #[test]
    fn a_file_is_found_where_hugging_faces_programs_put_it() {
        let folder = tempfile::tempdir().expect("a folder");
        let store = store(folder.path());
        let name = ModelName::Hub(file());
        assert_eq!(store.find(&name), None);
        let repository = folder.path().join("hub/models--a--b");
        let snapshot = repository.join("snapshots").join(COMMIT).join("d");
        fs::create_dir_all(repository.join("refs")).expect("ours");
        fs::write(repository.join("refs/main"), COMMIT).expect("ours");
        assert_eq!(store.find(&name), None, "the commit is known, the file is not there");
        fs::create_dir_all(&snapshot).expect("ours");
        fs::write(snapshot.join("f.gguf"), "x").expect("ours");
        assert_eq!(store.find(&name), Some(snapshot.join("f.gguf")));
        let pinned = HubFile { revision: COMMIT.into(), ..file() };
        assert_eq!(store.find(&ModelName::Hub(pinned)), Some(snapshot.join("f.gguf")));
        let other = HubFile { revision: "v2".into(), ..file() };
        assert_eq!(store.find(&ModelName::Hub(other)), None);
    }

    #[test]
    fn a_reference_that_is_no_commit_leads_nowhere() {
        let folder = tempfile::tempdir().expect("a folder");
        let store = store(folder.path());
        let reference = store.reference(&file());
        fs::create_dir_all(reference.parent().expect("has one")).expect("ours");
        for garbage in ["", "..", "../../../etc", &"g".repeat(40), &"a".repeat(41)] {
            fs::write(&reference, garbage).expect("ours");
            assert_eq!(store.commit(&file()), None, "{garbage}");
        }
        fs::write(&reference, format!("{COMMIT}\n")).expect("ours");
        assert_eq!(store.commit(&file()).as_deref(), Some(COMMIT));
    }

    #[test]
    fn an_address_has_a_place_of_its_own_with_a_harmless_name() {
        let store = store(Path::new("/s"));
        let path = |url| store.download(url).expect("a place");
        assert!(path("https://x/a/m.gguf?b=1#c").ends_with("m.gguf"));
        assert_ne!(path("https://x/a/m.gguf"), path("https://y/a/m.gguf"));
        for url in ["https://x/..", "https://x/", "https://x/a/..%2f..%2fb", "https://x"] {
            let path = path(url);
            assert!(path.starts_with("/s/downloads"), "{path:?}");
            let name = path.file_name().expect("a name").to_string_lossy().into_owned();
            assert!(!name.starts_with('.') && !name.contains(['/', '%']), "{name}");
            assert_eq!(path.components().count(), 5, "{path:?}");
        }
        assert_eq!(Store { downloads: None, ..store.clone() }.download("https://x/m"), None);
    }
}
