//! A hub with one file, the network that its bytes come from, and a store to fetch it to.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use embed_pull::{Check, Patience, Proxies, PullError, Pulled, Puller, Watcher};
use embed_store::{HubFile, ModelName, Store};
use sha2::{Digest as _, Sha256};

use crate::server::{Request, Server, empty, head, whole};

pub(crate) const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";
pub(crate) const TOKEN: &str = "hf_secret";

/// Larger than what counts as progress, and than what sockets hold.
const BYTES: usize = 3 << 20;

/// Short, so that tests are; no test needs a try to be the first or the last.
pub(crate) const PATIENCE: Patience = Patience {
    connect: Duration::from_secs(10),
    answer: Duration::from_secs(10),
    stall: Duration::from_millis(500),
    stall_bytes: 1_000,
    pause: Duration::from_millis(5),
    tries: 4,
    wait_max: Duration::from_secs(10),
};

/// What a model file looks like to these tests.
pub(crate) fn contents() -> Arc<Vec<u8>> {
    let mut bytes = b"GGUF".to_vec();
    bytes.extend((0..BYTES - 4).map(|at| (at * 31 % 251) as u8));
    Arc::new(bytes)
}

pub(crate) fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A model is what begins with four letters, and does not end with the word `broken`.
pub(crate) struct Gguf;

impl Check for Gguf {
    fn begins(&self, first: &[u8]) -> Result<(), String> {
        if first.starts_with(b"GGUF") { Ok(()) } else { Err("does not begin with GGUF".into()) }
    }

    fn is_model(&self, path: &Path) -> Result<(), String> {
        let bytes = std::fs::read(path).map_err(|error| error.to_string())?;
        if bytes.ends_with(b"broken") {
            return Err("is broken".into());
        }
        self.begins(&bytes)
    }
}

/// Where the bytes come from: what is to be done about the request of this number.
type Network = Box<dyn Fn(usize, &Request, &mut std::net::TcpStream) + Send + Sync>;

/// A hub, its network, and an empty store.
pub(crate) struct World {
    pub(crate) hub: Server,
    pub(crate) network: Server,
    pub(crate) store: Store,
    pub(crate) file: HubFile,
    folder: tempfile::TempDir,
}

impl World {
    /// The hub tells of `contents`, whatever the network sends.
    pub(crate) fn new(contents: &[u8], network: Network) -> Self {
        let count = AtomicUsize::new(0);
        let network = Server::start(Box::new(move |request, stream| {
            network(count.fetch_add(1, Ordering::SeqCst), request, stream);
        }));
        let headers = [
            format!("Location: {}/bytes?signature=x", network.address),
            format!("X-Linked-Etag: \"{}\"", sha256(contents)),
            format!("X-Linked-Size: {}", contents.len()),
            format!("X-Repo-Commit: {COMMIT}"),
            "ETag: \"of the redirect\"".into(),
            "Content-Length: 0".into(),
        ];
        let sent = contents.to_vec();
        let hub = Server::start(Box::new(move |request, stream| match request.path.as_str() {
            "/a/b/resolve/main/d/f.gguf" => head(stream, "302 Found", &headers),
            "/old/b/resolve/main/d/f.gguf" => {
                let moved = "Location: /a/b/resolve/main/d/f.gguf";
                empty(stream, "307 Temporary Redirect", &[moved]);
            }
            "/gated/b/resolve/main/d/f.gguf" => {
                empty(stream, "401 Unauthorized", &["X-Error-Code: GatedRepo"]);
            }
            "/none/b/resolve/main/d/f.gguf" => {
                empty(stream, "401 Unauthorized", &["X-Error-Code: RepoNotFound"]);
            }
            "/loop/b/resolve/main/d/f.gguf" => {
                let itself = "Location: /loop/b/resolve/main/d/f.gguf";
                empty(stream, "302 Found", &[itself]);
            }
            "/portal/b/resolve/main/d/f.gguf" => empty(stream, "200 OK", &[]),
            "/small/b/resolve/main/d/f.gguf" => {
                // What a hub calls a file that is kept in git itself.
                let etag = "ETag: \"0123456789abcdef0123456789abcdef01234567\"";
                if request.method == "HEAD" {
                    return head(
                        stream,
                        "200 OK",
                        &[etag.into(), format!("X-Repo-Commit: {COMMIT}")],
                    );
                }
                whole(request, stream, &sent, &[etag]);
            }
            "/api/models/listed/b/revision/main" => {
                let files = r#"{"siblings":[{"rfilename":"f16.gguf"},{"rfilename":"README.md"},
                    {"rfilename":"../x.gguf"},{"rfilename":"d/g.Q8_0.gguf","size":1}],"sha":"x"}"#;
                head(stream, "200 OK", &[format!("Content-Length: {}", files.len())]);
                let _ = stream.write_all(files.as_bytes());
            }
            _ => empty(stream, "404 Not Found", &["X-Error-Code: EntryNotFound"]),
        }));
        let folder = tempfile::tempdir().expect("a folder");
        let store = Store {
            hub: folder.path().join("hub"),
            downloads: Some(folder.path().join("downloads")),
            endpoint: hub.address.clone(),
            offline: false,
            auto_pull: false,
        };
        let file = HubFile::parse("a/b:d/f.gguf").expect("one").expect("a good one");
        Self { hub, network, store, file, folder }
    }

    pub(crate) fn puller(&self) -> Puller {
        self.puller_with(TOKEN)
    }

    pub(crate) fn puller_with(&self, token: &str) -> Puller {
        Puller::new(self.store.clone(), Some(token.into()), Proxies::default(), PATIENCE)
    }

    pub(crate) fn pull(&self) -> Result<Pulled, PullError> {
        self.pull_watched(&Notes::default())
    }

    pub(crate) fn pull_watched(&self, notes: &Notes) -> Result<Pulled, PullError> {
        self.puller().pull(&ModelName::Hub(self.file.clone()), None, &Gguf, notes)
    }

    pub(crate) fn of(&self, owner: &str) -> ModelName {
        ModelName::Hub(HubFile { repo: format!("{owner}/b"), ..self.file.clone() })
    }

    pub(crate) fn blobs(&self) -> PathBuf {
        self.store.repository(&self.file).join("blobs")
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Nothing stands under a name that somebody could take for a model's.
    pub(crate) fn assert_nothing_is_stored(&self) {
        assert_eq!(self.store.find(&ModelName::Hub(self.file.clone())), None);
        let entries = std::fs::read_dir(self.blobs()).into_iter().flatten();
        for entry in entries {
            let name = entry.expect("an entry").file_name().to_string_lossy().into_owned();
            assert!(name.ends_with(".incomplete"), "{name}");
        }
    }
}

/// What a watcher was told.
#[derive(Debug, Default)]
pub(crate) struct Notes(Mutex<Vec<String>>);

impl Notes {
    fn note(&self, text: String) {
        self.0.lock().expect("no test panics here").push(text);
    }

    pub(crate) fn has(&self, text: &str) -> bool {
        self.0.lock().expect("no test panics here").iter().any(|note| note.contains(text))
    }
}

impl Watcher for Notes {
    fn begins(&self, bytes: Option<u64>, here: u64) {
        self.note(format!("begins {bytes:?} {here}"));
    }

    fn waits(&self, reason: &str, pause: Duration) {
        self.note(format!("waits {pause:?}: {reason}"));
    }

    fn waits_for_another(&self) {
        self.note("waits for another".into());
    }

    fn finds_damage(&self, path: &Path) {
        self.note(format!("damage {}", path.display()));
    }

    fn goes_without_the_hub(&self, error: &PullError) {
        self.note(format!("without the hub: {error}"));
    }
}
