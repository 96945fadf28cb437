//! What a caller may choose: for a client, and for one text.
//!
//! Everything that comes from the environment is read here, on the caller's thread, when the options
//! are made: on Unix, reading it while another thread changes it is undefined, and in Node only the
//! main thread changes it.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::time::Duration;

use embed_protocol::endpoint;
use embed_protocol::{Priority, Task, Transport};

/// How long one text may take, unless the caller says otherwise. It includes the start of a worker.
pub const TIMEOUT_DEFAULT: Duration = Duration::from_secs(30);

/// How long a worker waits for another client after its last one has left.
const IDLE_TIMEOUT_DEFAULT: Duration = Duration::from_secs(10);

/// Where a worker logs to, if not to its standard error: see the crate `embed-log`.
const LOG_FILE_VARIABLE: &str = "EMBED_LOG_FILE";

/// Names, besides those that begin with `EMBED_`, that a worker inherits: what the system needs to
/// run a program, and where a user's files are. Nothing else of the caller's environment, which may
/// hold secrets, outlives it in a worker.
const INHERITED: [&str; 13] = [
    "HOME",
    "LANG",
    "LOCALAPPDATA",
    "PATH",
    "RUST_BACKTRACE",
    "SystemRoot",
    "TEMP",
    "TMP",
    "TMPDIR",
    "USERNAME",
    "USERPROFILE",
    "XDG_CACHE_HOME",
    "XDG_RUNTIME_DIR",
];

/// Which model a [`crate::Client`] serves, and with which worker.
#[derive(Clone, Debug)]
pub struct ClientOptions {
    /// The GGUF file.
    pub model: PathBuf,
    /// The `embed-worker` executable.
    pub worker: PathBuf,
    /// Directory of sockets and locks.
    pub runtime_dir: PathBuf,
    /// How a worker may be reached.
    pub transport: Transport,
    /// How long a worker that this client spawns stays without any client.
    pub idle_timeout: Duration,
    /// The whole environment of a worker that this client spawns.
    pub environment: Vec<(OsString, OsString)>,
}

impl ClientOptions {
    /// Options for `model` with the worker at `worker`, the rest from this process's environment:
    /// `EMBED_RUNTIME_DIR`, `EMBED_TRANSPORT`, `EMBED_IDLE_TIMEOUT` (seconds), and what a worker
    /// inherits.
    ///
    /// Relative paths are taken from the current directory now, because a worker runs in another.
    pub fn new(model: &Path, worker: &Path) -> Self {
        let idle_timeout = std::env::var("EMBED_IDLE_TIMEOUT")
            .ok()
            .and_then(|seconds| seconds.trim().parse().ok())
            .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
            .unwrap_or(IDLE_TIMEOUT_DEFAULT);
        Self {
            model: absolute(model),
            worker: absolute(worker),
            runtime_dir: runtime_dir(),
            transport: Transport::from_environment(),
            idle_timeout,
            environment: std::env::vars_os()
                .filter(|(name, _)| is_inherited(name))
                .map(from_the_root)
                .collect(),
        }
    }
}

/// `path` from the root. Fails only for an empty path or a vanished current directory; the path as it
/// is then fails where it is used, with a message that names it.
pub(crate) fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

/// This user's directory of sockets and locks, from the root.
pub(crate) fn runtime_dir() -> PathBuf {
    absolute(&endpoint::runtime_dir())
}

/// The one name that begins with `EMBED_` and is a secret: it is for workers that somebody starts to
/// serve over HTTP, and not for those of clients.
const SECRET_VARIABLE: &str = "EMBED_API_KEY";

/// Whether a worker gets this variable.
fn is_inherited(name: &OsStr) -> bool {
    (name.as_encoded_bytes().starts_with(b"EMBED_") && !name.eq_ignore_ascii_case(SECRET_VARIABLE))
        || INHERITED.iter().any(|inherited| name.eq_ignore_ascii_case(inherited))
}

/// A variable as a worker is given it: what names a file does so from the root.
fn from_the_root((name, value): (OsString, OsString)) -> (OsString, OsString) {
    let is_path = name == LOG_FILE_VARIABLE && !value.is_empty();
    let value = if is_path { absolute(Path::new(&value)).into_os_string() } else { value };
    (name, value)
}

/// What a caller gets when no worker can be had.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Fallback {
    /// The error that says why.
    #[default]
    None,
    /// A deterministic hash embedding of the model's length, marked as such: see
    /// [`crate::Embedding::degraded`].
    Hash,
}

/// How one text is to be embedded.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct EmbedOptions {
    /// What it is embedded for: the model's own words for that are put before it, and count as its
    /// tokens. `None` embeds it as it is. A hash embedding is of the text alone.
    pub task: Option<Task>,
    /// Cut the text at the model's context instead of refusing it.
    pub truncate: bool,
    /// Scale the vector to unit length.
    pub normalize: bool,
    /// Keep only the first so many dimensions; `None` keeps all.
    pub dimensions: Option<u32>,
    /// Which lane the text waits in.
    pub priority: Priority,
    /// How long it may take, from the moment it is sent or a worker is sought for it.
    pub timeout: Duration,
    /// What to give when no worker can be had.
    pub fallback: Fallback,
}

impl Default for EmbedOptions {
    fn default() -> Self {
        Self {
            task: None,
            truncate: false,
            normalize: true,
            dimensions: None,
            priority: Priority::Interactive,
            timeout: TIMEOUT_DEFAULT,
            fallback: Fallback::None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_inherits_no_secrets() {
        assert!(is_inherited(OsStr::new("EMBED_ISA")));
        assert!(is_inherited(OsStr::new("PATH")));
        assert!(is_inherited(OsStr::new("SYSTEMROOT")));
        assert!(!is_inherited(OsStr::new("AWS_SECRET_ACCESS_KEY")));
        assert!(!is_inherited(OsStr::new("NODE_OPTIONS")));
        assert!(!is_inherited(OsStr::new("EMBED_API_KEY")));
        assert!(!is_inherited(OsStr::new("HF_TOKEN")));
    }

    #[test]
    fn paths_do_not_depend_on_a_later_current_directory() {
        let (_, log) = from_the_root((LOG_FILE_VARIABLE.into(), "logs/embed".into()));
        assert!(Path::new(&log).is_absolute() && Path::new(&log).ends_with("logs/embed"));
        let (_, other) = from_the_root(("EMBED_ISA".into(), "avx2".into()));
        assert_eq!(other, "avx2");
        let options = ClientOptions::new(Path::new("m.gguf"), Path::new("bin/embed-worker"));
        assert!(options.model.is_absolute() && options.worker.is_absolute());
        assert!(options.runtime_dir.is_absolute());
    }
}
