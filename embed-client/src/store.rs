//! A model by its name: where its file is, and what to do if it is not here.
//!
//! Nothing is fetched unless the user has said so; then the worker's program does it, in a process of its
//! own, so that no byte of a model and no HTTP comes into this one.

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{LazyLock, Mutex, PoisonError};
use std::time::Duration;

use embed_protocol::ErrorCode;
pub use embed_store::SHIPPED_MODEL_FILE;
use embed_store::{ModelName, Store};
use tokio::sync::watch;

use crate::error::EmbedError;
use crate::launch::detach;

/// How much of what a download complains of is kept for the error message.
const COMPLAINT_BYTES_MAX: u64 = 8 * 1024;

/// Where a model is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Located {
    /// In this file, as far as its name tells.
    File(PathBuf),
    /// It is the one that ships with the package.
    Shipped,
    /// Not on this machine, but it may be fetched.
    Missing(MissingModel),
}

/// A model that is not on this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MissingModel {
    name: String,
    /// What the process that fetches it is given: read when this was made, see [`crate::options`].
    environment: Vec<(OsString, OsString)>,
}

/// What became of a download; none while it goes on.
type Outcome = Option<Result<PathBuf, EmbedError>>;

/// Downloads by the model's name and the worker that fetches it.
type Downloads = HashMap<(String, PathBuf), watch::Receiver<Outcome>>;

/// Those that go on: whoever wants the same model waits for the same one.
static DOWNLOADS: LazyLock<Mutex<Downloads>> = LazyLock::new(Mutex::default);

/// Finds a model by what its user calls it: a path, a known name, `owner/name:file.gguf`, an address.
/// Reads the environment.
///
/// # Errors
///
/// It is no name ([`ErrorCode::BadArgument`]), or is not here and may not be fetched
/// ([`ErrorCode::ModelNotFound`]); `worker` is the program that would fetch it.
pub fn locate(model: &OsStr, worker: &Path) -> Result<Located, EmbedError> {
    locate_in(Store::from_env, model, worker)
}

/// `store` is asked for only if the model is not simply a file: then nothing is read.
fn locate_in(
    store: impl FnOnce() -> Store,
    model: &OsStr,
    worker: &Path,
) -> Result<Located, EmbedError> {
    let name = ModelName::parse(model)
        .map_err(|error| EmbedError::new(ErrorCode::BadArgument, error.to_string()))?;
    match &name {
        ModelName::File(path) => return Ok(Located::File(path.clone())),
        ModelName::Shipped => return Ok(Located::Shipped),
        ModelName::Hub(_) | ModelName::Url(_) => {}
    }
    let store = store();
    if let Some(path) = store.find(&name) {
        return Ok(Located::File(path));
    }
    let model = model.to_string_lossy();
    if store.auto_pull {
        let environment = std::env::vars_os().collect();
        return Ok(Located::Missing(MissingModel { name: model.into_owned(), environment }));
    }
    Err(EmbedError::new(
        ErrorCode::ModelNotFound,
        format!(
            "model `{model}`: is not on this machine; fetch it with `\"{}\" pull {model}`, or set EMBED_AUTO_PULL=1 to have it fetched when it is first used",
            worker.display()
        ),
    ))
}

impl MissingModel {
    /// Has `worker` fetch it, and gives its file. Who does not wait to the end leaves the download
    /// running; the next one who asks waits for the same.
    ///
    /// # Errors
    ///
    /// Why it was not fetched, or that it is not here after `patience`.
    pub async fn pull(self, worker: &Path, patience: Duration) -> Result<PathBuf, EmbedError> {
        let name = self.name.clone();
        let mut outcome = self.download(worker)?;
        let Ok(done) = tokio::time::timeout(patience, outcome.wait_for(Option::is_some)).await
        else {
            return Err(EmbedError::new(
                ErrorCode::Timeout,
                format!(
                    "model `{name}`: is still being fetched after {} ms; try again later, or fetch it beforehand with `embed-worker pull {name}`",
                    patience.as_millis()
                ),
            ));
        };
        match done.map(|outcome| outcome.clone()) {
            Ok(Some(outcome)) => outcome,
            // Its thread has panicked.
            Ok(None) | Err(_) => Err(EmbedError::new(
                ErrorCode::Internal,
                format!("model `{name}`: its download was lost by a defect; try again"),
            )),
        }
    }

    /// The download that goes on, or a new one.
    fn download(self, worker: &Path) -> Result<watch::Receiver<Outcome>, EmbedError> {
        let key = (self.name.clone(), worker.to_owned());
        let mut downloads = DOWNLOADS.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(outcome) = downloads.get(&key) {
            return Ok(outcome.clone());
        }
        let (sender, outcome) = watch::channel(None);
        let worker = worker.to_owned();
        let thread = {
            let key = key.clone();
            std::thread::Builder::new().name("embed-pull".into()).spawn(move || {
                let result = self.run(&worker);
                let mut downloads = DOWNLOADS.lock().unwrap_or_else(PoisonError::into_inner);
                downloads.remove(&key);
                drop(downloads);
                let _ = sender.send(Some(result));
            })
        };
        thread.map_err(|error| {
            EmbedError::with_source(ErrorCode::Internal, "a thread: cannot be started", error)
        })?;
        downloads.insert(key, outcome.clone());
        Ok(outcome)
    }

    /// Runs the worker's program to the end of the download.
    fn run(self, worker: &Path) -> Result<PathBuf, EmbedError> {
        let unavailable = |error| {
            let what = format!("worker `{}`: cannot be started", worker.display());
            EmbedError::with_source(ErrorCode::WorkerUnavailable, what, error)
        };
        let mut command = Command::new(worker);
        command
            .args(["pull", "--quiet", "--"])
            .arg(&self.name)
            .env_clear()
            .envs(self.environment)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = detach(command).map_err(unavailable)?;
        let (mut path, mut complaint) = (String::new(), Vec::new());
        // A path is short and comes at the end; a complaint is one line. Neither fills its pipe before
        // the other is read.
        if let Some(stdout) = &mut child.stdout {
            let _ = stdout.read_to_string(&mut path);
        }
        if let Some(stderr) = child.stderr.take() {
            let _ = stderr.take(COMPLAINT_BYTES_MAX).read_to_end(&mut complaint);
        }
        let status = child.wait().map_err(unavailable)?;
        let path = path.trim_end_matches(['\r', '\n']);
        if status.success() && !path.is_empty() {
            return Ok(path.into());
        }
        let complaint = String::from_utf8_lossy(&complaint);
        let complaint = complaint.trim().trim_start_matches("error: ");
        let why = if complaint.is_empty() { status.to_string() } else { complaint.to_owned() };
        Err(EmbedError::new(
            ErrorCode::ModelNotFound,
            format!("model `{}`: cannot be fetched: {why}", self.name),
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn store(dir: &Path, auto_pull: bool) -> Store {
        Store {
            hub: dir.join("hub"),
            downloads: None,
            endpoint: "http://127.0.0.1:9".into(),
            offline: false,
            auto_pull,
        }
    }

    fn locate(dir: &Path, auto_pull: bool, model: &str) -> Result<Located, EmbedError> {
        locate_in(|| store(dir, auto_pull), OsStr::new(model), Path::new("/w/embed-worker"))
    }

    #[test]
    fn a_model_that_is_not_here_is_an_error_with_the_cure_unless_it_may_be_fetched() {
        let folder = tempfile::tempdir().expect("a folder");
        let error = locate(folder.path(), false, "bge-m3").expect_err("is not here");
        assert_eq!(error.code(), ErrorCode::ModelNotFound);
        let cure = "`\"/w/embed-worker\" pull bge-m3`";
        assert!(error.message().contains(cure) && error.message().contains("EMBED_AUTO_PULL=1"));
        let missing = locate(folder.path(), true, "bge-m3").expect("may be fetched");
        assert!(matches!(missing, Located::Missing(_)), "{missing:?}");
        let error = locate(folder.path(), true, "a/b:../c").expect_err("no name");
        assert_eq!(error.code(), ErrorCode::BadArgument);
        let file = locate(folder.path(), true, "m.gguf").expect("a path");
        assert_eq!(file, Located::File("m.gguf".into()));
        assert_eq!(
            locate(folder.path(), true, "all-minilm-l6-v2").expect("ours"),
            Located::Shipped
        );
    }

    /// A program in the worker's place, and a model that it is asked for.
    #[cfg(unix)]
    fn missing(dir: &Path, name: &str, script: &str) -> (MissingModel, PathBuf) {
        use std::os::unix::fs::PermissionsExt as _;

        let worker = dir.join(format!("{name}.sh"));
        std::fs::write(&worker, format!("#!/bin/sh\n{script}")).expect("ours");
        let executable = std::fs::Permissions::from_mode(0o700);
        std::fs::set_permissions(&worker, executable).expect("ours");
        let environment = vec![("PATH".into(), std::env::var_os("PATH").unwrap_or_default())];
        (MissingModel { name: name.into(), environment }, worker)
    }

    #[cfg(unix)]
    #[tokio::test]
    async fn all_who_want_a_model_wait_for_one_download() {
        let folder = tempfile::tempdir().expect("a folder");
        let log = folder.path().join("log");
        let script = format!("echo \"$@\" >> {}; sleep 0.2; echo /a/path", log.display());
        let (model, worker) = missing(folder.path(), "once", &script);
        let pulls = (0..5).map(|_| model.clone().pull(&worker, Duration::from_secs(30)));
        for path in futures_util::future::join_all(pulls).await {
            assert_eq!(path.expect("fetched"), Path::new("/a/path"));
        }
        assert_eq!(std::fs::read_to_string(log).expect("ran"), "pull --quiet -- once\n");
    }

    #[cfg(unix)]
    #[tokio::test]
    async fn a_download_that_fails_says_why_and_the_next_tries_again() {
        let folder = tempfile::tempdir().expect("a folder");
        let once = folder.path().join("failed");
        let script = format!(
            "if [ -e {0} ]; then echo /a/path; exit; fi\ntouch {0}; echo 'error: no network' >&2; exit 1",
            once.display()
        );
        let (model, worker) = missing(folder.path(), "again", &script);
        let error = model.clone().pull(&worker, Duration::from_secs(30)).await.expect_err("fails");
        assert_eq!(error.code(), ErrorCode::ModelNotFound);
        assert_eq!(error.message(), "model `again`: cannot be fetched: no network");
        let path = model.pull(&worker, Duration::from_secs(30)).await.expect("fetched");
        assert_eq!(path, Path::new("/a/path"));
    }

    #[cfg(unix)]
    #[tokio::test]
    async fn who_has_no_patience_leaves_the_download_running() {
        let folder = tempfile::tempdir().expect("a folder");
        let script = "sleep 0.5; echo /a/path";
        let (model, worker) = missing(folder.path(), "slow", script);
        let error = model.clone().pull(&worker, Duration::from_millis(1)).await.expect_err("slow");
        assert_eq!(error.code(), ErrorCode::Timeout);
        assert!(error.message().contains("still being fetched"), "{}", error.message());
        let path = model.pull(&worker, Duration::from_secs(30)).await.expect("fetched");
        assert_eq!(path, Path::new("/a/path"));
    }
}
