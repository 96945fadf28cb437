//! Where client and worker meet: one endpoint per user, model and protocol version.
//!
//! On Unix an endpoint is the path of a socket inside a directory that only the user may enter; on
//! Windows it is the name of a pipe. The name is a digest, so that it is short whatever the model's
//! path is: socket paths are limited to 103 bytes on macOS and 107 on Linux.
//! This module makes names; binding, connecting and directories' permissions belong to others.

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::UNIX_EPOCH;

use sha2::{Digest, Sha256};

use crate::PROTOCOL_VERSION;

/// Chooses between local endpoint and TCP: see [`Transport`].
pub const TRANSPORT_VARIABLE: &str = "EMBED_TRANSPORT";

/// Overrides the directory of sockets and locks.
pub const RUNTIME_DIR_VARIABLE: &str = "EMBED_RUNTIME_DIR";

/// Longest path of a Unix socket without its final NUL (`sun_path` is 104 bytes on macOS and the
/// BSDs, 108 on Linux).
pub const SOCKET_PATH_BYTES_MAX: usize = 103;

/// Hexadecimal digits of the digest in a name: 80 bits, far beyond chance collisions.
const NAME_DIGITS: usize = 20;

/// Which model, as far as that can be told without reading it.
///
/// A file that was replaced or changed has another size or time, and so another endpoint: clients
/// that start later meet a worker with the new file.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ModelIdentity {
    /// Absolute path with symbolic links resolved.
    pub path: PathBuf,
    /// Size of the file.
    pub bytes: u64,
    /// Time of last modification, in nanoseconds since 1970.
    pub modified_ns: u128,
}

impl ModelIdentity {
    /// Asks the file system.
    ///
    /// # Errors
    ///
    /// Those of resolving the path and reading the file's metadata; a directory is
    /// [`io::ErrorKind::IsADirectory`].
    pub fn of_file(path: &Path) -> io::Result<Self> {
        let path = path.canonicalize().or_else(|error| from_the_root(path, error))?;
        let metadata = path.metadata()?;
        if metadata.is_dir() {
            return Err(io::ErrorKind::IsADirectory.into());
        }
        let modified = metadata.modified()?.duration_since(UNIX_EPOCH).unwrap_or_default();
        Ok(Self { path, bytes: metadata.len(), modified_ns: modified.as_nanos() })
    }
}

/// Some file systems of Windows (RAM disks, and Wine 8's beyond 260 characters) do not tell where a path
/// leads in the end: then it is itself, from the root.
fn from_the_root(path: &Path, error: io::Error) -> io::Result<PathBuf> {
    if cfg!(windows) && error.kind() != io::ErrorKind::NotFound {
        std::path::absolute(path)
    } else {
        Err(error)
    }
}

/// What connects the two programs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Transport {
    /// The local socket or pipe; TCP on 127.0.0.1 where that cannot be made.
    #[default]
    Auto,
    /// Never TCP.
    Local,
    /// TCP, even where a local one could be made.
    Tcp,
}

impl Transport {
    /// Every choice with its name.
    pub const NAMES: [(&'static str, Self); 3] =
        [("auto", Self::Auto), ("local", Self::Local), ("tcp", Self::Tcp)];

    /// Its name, if something was chosen.
    pub fn name(self) -> Option<&'static str> {
        let found = Self::NAMES.into_iter().find(|(_, transport)| *transport == self);
        found.map(|(name, _)| name).filter(|_| self != Self::Auto)
    }

    /// The choice in `EMBED_TRANSPORT`. A word that is none counts as none: the worker, which reads
    /// the same variable, refuses it by name.
    pub fn from_environment() -> Self {
        let word = std::env::var(TRANSPORT_VARIABLE).unwrap_or_default();
        word.parse().unwrap_or_default()
    }
}

/// Not the name of a [`Transport`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("is `{0}`, must be `auto`, `local` or `tcp`")]
pub struct UnknownTransport(String);

impl FromStr for Transport {
    type Err = UnknownTransport;

    fn from_str(word: &str) -> Result<Self, UnknownTransport> {
        let found = Self::NAMES.into_iter().find(|(name, _)| *name == word);
        found.map(|(_, transport)| transport).ok_or_else(|| UnknownTransport(word.to_owned()))
    }
}

/// The address at which a worker listens, and the directory of the files beside it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Endpoint {
    address: PathBuf,
    dir: PathBuf,
}

impl Endpoint {
    /// The endpoint of this user's worker for `model`.
    ///
    /// `version` is that of the package: after an upgrade new clients meet a new worker, and the old
    /// one leaves with its last old client.
    pub fn for_model(model: &ModelIdentity, version: &str) -> Self {
        Self::for_model_in(&runtime_dir(), model, version)
    }

    /// Like [`Endpoint::for_model`], in a directory that [`runtime_dir`] gave earlier.
    ///
    /// Reading the environment while another thread changes it is undefined on Unix, and in Node only
    /// the main thread changes it: so a caller reads the directory there, once, and names endpoints
    /// wherever it likes.
    pub fn for_model_in(dir: &Path, model: &ModelIdentity, version: &str) -> Self {
        let mut digest = Sha256::new();
        for field in [
            PROTOCOL_VERSION.to_le_bytes().as_slice(),
            version.as_bytes(),
            user().as_encoded_bytes(),
            model.path.as_os_str().as_encoded_bytes(),
            &model.bytes.to_le_bytes(),
            &model.modified_ns.to_le_bytes(),
        ] {
            // The length keeps two neighbouring fields from trading bytes.
            digest.update((field.len() as u64).to_le_bytes());
            digest.update(field);
        }
        let digest = digest.finalize();
        let name: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        Self::in_dir(dir, &name[..NAME_DIGITS])
    }

    /// The endpoint called `name` in `dir` (on Windows, where pipes have no directory, the pipe
    /// `embed-NAME`).
    pub fn in_dir(dir: &Path, name: &str) -> Self {
        let address = if cfg!(windows) {
            PathBuf::from(format!(r"\\.\pipe\embed-{name}"))
        } else {
            dir.join(format!("{name}.sock"))
        };
        Self { address, dir: dir.to_owned() }
    }

    /// The endpoint at an address that [`Endpoint::address`] gave, for example on a command line. A
    /// pipe's files lie in [`runtime_dir`].
    pub fn at(address: impl Into<PathBuf>) -> Self {
        let address = address.into();
        let dir = if cfg!(windows) {
            runtime_dir()
        } else {
            address.parent().map(Path::to_owned).unwrap_or_default()
        };
        Self { address, dir }
    }

    /// The endpoint whose lock lies at `path`; `None` if that is no name that
    /// [`Endpoint::for_model_in`] gives to one: other programs have files called `.lock` as well, and
    /// what lies beside theirs is not a worker's to remove.
    pub fn of_lock_file(path: &Path) -> Option<Self> {
        if path.extension().is_none_or(|extension| extension != "lock") {
            return None;
        }
        let stem = path.file_stem()?.to_str()?;
        let name = if cfg!(windows) { stem.strip_prefix("embed-")? } else { stem };
        let is_digit = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        if name.len() != NAME_DIGITS || !name.bytes().all(is_digit) {
            return None;
        }
        Some(Self::in_dir(path.parent()?, name))
    }

    /// The socket's path, or the pipe's whole name.
    pub fn address(&self) -> &Path {
        &self.address
    }

    /// The directory of the files beside it, which only the user may enter.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The file whose exclusive lock makes the worker behind this endpoint the only one.
    pub fn lock_path(&self) -> PathBuf {
        self.beside("lock")
    }

    /// The file in which the worker behind this endpoint says who it is: see [`crate::card`].
    pub fn card_path(&self) -> PathBuf {
        self.beside("json")
    }

    /// The file with port and secret of a worker that listens on TCP.
    pub fn tcp_path(&self) -> PathBuf {
        self.beside("tcp")
    }

    /// The file with the secret of a worker that listens on a named pipe.
    pub fn pipe_path(&self) -> PathBuf {
        self.beside("pipe")
    }

    /// A file of this endpoint's in the user's directory.
    fn beside(&self, extension: &str) -> PathBuf {
        let name = self.address.file_name().unwrap_or(self.address.as_os_str());
        self.dir.join(name).with_extension(extension)
    }
}

impl std::fmt::Display for Endpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.address.display().fmt(f)
    }
}

/// The user's directory for sockets and locks.
///
/// `EMBED_RUNTIME_DIR` if set; else `embed-client` under `XDG_RUNTIME_DIR`; else
/// `embed-client-UID` under the temporary directory. On Windows `embed-client` under
/// `LOCALAPPDATA`, else under the temporary directory.
pub fn runtime_dir() -> PathBuf {
    let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty());
    if let Some(dir) = variable(RUNTIME_DIR_VARIABLE) {
        return PathBuf::from(dir);
    }
    let parent = variable(if cfg!(windows) { "LOCALAPPDATA" } else { "XDG_RUNTIME_DIR" });
    if let Some(parent) = parent.map(PathBuf::from).filter(|parent| parent.is_absolute()) {
        return parent.join("embed-client");
    }
    let mut name = OsString::from("embed-client-");
    name.push(user());
    std::env::temp_dir().join(name)
}

/// What tells this user from the others of the machine.
#[cfg(unix)]
fn user() -> OsString {
    rustix::process::getuid().as_raw().to_string().into()
}

/// What tells this user from the others of the machine: `SID-LEVEL`. Their processes of a lower integrity
/// level may not write to a pipe of a higher one, so that each level has a worker of its own.
#[cfg(windows)]
fn user() -> OsString {
    let user = embed_windows::user::User::current();
    // A process is always told about itself; without it, all would meet under one name.
    user.map(|user| format!("{}-{}", user.sid(), user.integrity()).into()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn model() -> ModelIdentity {
        ModelIdentity { path: "/models/a.gguf".into(), bytes: 1000, modified_ns: 5 }
    }

    #[test]
    fn the_same_model_has_the_same_endpoint() {
        assert_eq!(Endpoint::for_model(&model(), "1.0.0"), Endpoint::for_model(&model(), "1.0.0"));
    }

    #[test]
    fn another_model_or_version_has_another_endpoint() {
        let first = Endpoint::for_model(&model(), "1.0.0");
        let others = [
            Endpoint::for_model(&model(), "1.0.1"),
            Endpoint::for_model(
                &ModelIdentity { path: "/models/b.gguf".into(), ..model() },
                "1.0.0",
            ),
            Endpoint::for_model(&ModelIdentity { bytes: 1001, ..model() }, "1.0.0"),
            Endpoint::for_model(&ModelIdentity { modified_ns: 6, ..model() }, "1.0.0"),
        ];
        for other in others {
            assert_ne!(first, other);
        }
    }

    #[test]
    fn an_endpoint_is_found_by_its_lock() {
        let endpoint = Endpoint::for_model_in(Path::new("/run"), &model(), "1.0.0");
        assert_eq!(Endpoint::of_lock_file(&endpoint.lock_path()), Some(endpoint.clone()));
        assert_eq!(Endpoint::of_lock_file(&endpoint.card_path()), None);
        assert_eq!(Endpoint::of_lock_file(Path::new("/")), None);
        let lock = endpoint.lock_path();
        let name = lock.file_stem().and_then(|stem| stem.to_str()).expect("digits");
        for other in ["composer", "embed.log", "", &name[1..], &name.replace(&name[..1], "g")] {
            let path = Path::new("/run").join(format!("{other}.lock"));
            assert_eq!(Endpoint::of_lock_file(&path), None, "another program's");
        }
    }

    #[test]
    fn a_deep_model_path_does_not_make_the_name_longer() {
        let deep = ModelIdentity { path: "/x".repeat(2000).into(), ..model() };
        let plain = Endpoint::for_model(&model(), "1.0.0");
        let name = |endpoint: &Endpoint| endpoint.address().file_name().map(|n| n.len());
        assert_eq!(name(&Endpoint::for_model(&deep, "1.0.0")), name(&plain));
    }

    #[test]
    #[cfg(unix)]
    fn lock_and_card_lie_beside_the_socket() {
        let endpoint = Endpoint::in_dir(Path::new("/run/user/1/embed-client"), "ab");
        assert_eq!(endpoint.address(), Path::new("/run/user/1/embed-client/ab.sock"));
        assert_eq!(endpoint.lock_path(), Path::new("/run/user/1/embed-client/ab.lock"));
        assert_eq!(endpoint.card_path(), Path::new("/run/user/1/embed-client/ab.json"));
        assert_eq!(endpoint.tcp_path(), Path::new("/run/user/1/embed-client/ab.tcp"));
        assert_eq!(Endpoint::at(endpoint.address()), endpoint);
    }

    #[test]
    fn a_transport_is_one_of_three_words() {
        for (name, transport) in Transport::NAMES {
            assert_eq!(name.parse(), Ok(transport));
            assert_eq!(transport.name(), (name != "auto").then_some(name));
        }
        let error = "TCP".parse::<Transport>().expect_err("another word");
        assert!(error.to_string().contains("`TCP`") && error.to_string().contains("`tcp`"));
    }

    #[test]
    fn a_directory_is_not_a_model() {
        let error = ModelIdentity::of_file(Path::new(".")).expect_err("a directory");
        assert_eq!(error.kind(), io::ErrorKind::IsADirectory);
        let error = ModelIdentity::of_file(Path::new("no/such.gguf")).expect_err("missing");
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }
}
