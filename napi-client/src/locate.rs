//! Where model and worker are, if the caller does not say.

use std::env;
use std::ffi::{OsStr, OsString};
use std::path::{Component, Path, PathBuf};

use embed_client::store::{self, Located, MissingModel, SHIPPED_MODEL_FILE};
use embed_client::{EmbedError, ErrorCode};
use napi::Env;

use crate::errors::Rejection;

/// The worker, from the folder of the addon.
const DEFAULT_WORKER: &str =
    if cfg!(windows) { "bin/embed-worker.exe" } else { "bin/embed-worker" };

/// The two files that a client needs.
pub(crate) struct Paths {
    pub(crate) model: Model,
    pub(crate) worker: PathBuf,
}

/// Where the model is.
pub(crate) enum Model {
    /// In this file.
    Here(PathBuf),
    /// To be fetched first.
    Missing(MissingModel),
}

impl Paths {
    /// `given`, else what the environment says, else the model in the folder `package` and the worker
    /// that lies beside the addon: in the same folder, or in the package for this platform.
    ///
    /// The environment is asked at every call, on the JavaScript thread: `process.env` may change.
    pub(crate) fn find(env: &Env, given: Option<&str>, package: &str) -> Result<Self, Rejection> {
        let model = given.map(OsString::from).or_else(|| variable("EMBED_MODEL"));
        let worker = match variable("EMBED_WORKER_PATH") {
            Some(worker) => worker.into(),
            None => unpacked(addon_dir(env)?.join(DEFAULT_WORKER)),
        };
        let located = match &model {
            Some(model) => store::locate(model, &worker)?,
            None => Located::Shipped,
        };
        let model = match located {
            Located::File(path) => Model::Here(path),
            Located::Shipped => Model::Here(unpacked(Path::new(package).join(SHIPPED_MODEL_FILE))),
            Located::Missing(missing) => Model::Missing(missing),
        };
        Ok(Self { model, worker })
    }
}

fn variable(name: &str) -> Option<OsString> {
    env::var_os(name).filter(|value| !value.is_empty())
}

/// The folder of the addon's file.
fn addon_dir(env: &Env) -> Result<PathBuf, Rejection> {
    let url = env.get_module_file_name()?;
    let path = file_url_to_path(&url);
    path.as_deref().and_then(Path::parent).map(Path::to_owned).ok_or_else(|| {
        Rejection::Ours(EmbedError::new(
            ErrorCode::WorkerUnavailable,
            format!("addon: its own address `{url}` is not a file; set EMBED_WORKER_PATH"),
        ))
    })
}

/// What lies inside Electron's archive can neither be started nor mapped; its copy beside the archive
/// can.
fn unpacked(path: PathBuf) -> PathBuf {
    let archive = |part: Component| part.as_os_str() == "app.asar";
    if !path.components().any(archive) {
        return path;
    }
    path.components()
        .map(|part| if archive(part) { OsStr::new("app.asar.unpacked") } else { part.as_os_str() })
        .collect()
}

/// The path in a `file:` URL, by the rules of Node's `fileURLToPath`.
fn file_url_to_path(url: &str) -> Option<PathBuf> {
    let encoded = url.strip_prefix("file://")?;
    let mut bytes = Vec::with_capacity(encoded.len());
    let mut rest = encoded.as_bytes();
    while let Some((&byte, tail)) = rest.split_first() {
        rest = tail;
        if byte == b'%'
            && let Some((digits, tail)) = rest.split_first_chunk::<2>()
            && let Some(decoded) = hexadecimal(*digits)
        {
            bytes.push(decoded);
            rest = tail;
        } else {
            bytes.push(byte);
        }
    }
    native_path(bytes)
}

fn hexadecimal(digits: [u8; 2]) -> Option<u8> {
    let [high, low] = digits.map(|digit| char::from(digit).to_digit(16));
    u8::try_from(high? * 16 + low?).ok()
}

/// `/home/user/a.node`; file names are bytes.
#[cfg(unix)]
fn native_path(bytes: Vec<u8>) -> Option<PathBuf> {
    use std::os::unix::ffi::OsStringExt;

    bytes.starts_with(b"/").then(|| OsString::from_vec(bytes).into())
}

/// `/C:/folder/a.node`, or `server/share/a.node`.
#[cfg(not(unix))]
fn native_path(bytes: Vec<u8>) -> Option<PathBuf> {
    let path = String::from_utf8(bytes).ok()?.replace('/', "\\");
    Some(match path.strip_prefix('\\') {
        Some(local) => PathBuf::from(local),
        None => PathBuf::from(format!(r"\\{path}")),
    })
}
