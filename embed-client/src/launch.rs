//! Starting a worker, hearing whether it is ready, and seeing it to its end.
//!
//! The worker is nobody's child in spirit: it serves every client of its user and outlives the one
//! that started it. So it gets its own process group, another directory and a bare environment.
//!
//! Two plain threads watch its pipes, and one of them waits for its exit so that no zombie is left.
//! tokio's own process support is not used: it takes over `SIGCHLD`, which inside Node belongs to
//! libuv.

use std::collections::VecDeque;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use embed_protocol::endpoint::{RUNTIME_DIR_VARIABLE, TRANSPORT_VARIABLE};
use embed_protocol::process::kill;
use embed_protocol::{Endpoint, ErrorCode};
use serde::Deserialize;
use tokio::sync::{oneshot, watch};

use crate::error::EmbedError;
use crate::options::ClientOptions;

/// Longest first line that is believed to be the worker's.
const FIRST_LINE_BYTES_MAX: u64 = 64 * 1024;

/// How much of the end of a worker's stderr is kept for error messages.
const LAST_WORDS_BYTES_MAX: usize = 2048;

/// How long the end of a worker that has closed its connection is awaited, for the error message.
const EXIT_PATIENCE: Duration = Duration::from_millis(250);

/// How long a worker may take until it is ready or says why not. It maps its model and reads of it
/// what a vocabulary needs: milliseconds, or seconds from a cold disk.
const START_PATIENCE: Duration = Duration::from_secs(10);

/// Stack of a thread that only reads a pipe.
const WATCHER_STACK_BYTES: usize = 128 * 1024;

/// What became of starting a worker.
#[derive(Debug)]
pub(crate) enum Launched {
    /// It listens.
    Ready(Arc<Witness>),
    /// Another worker serves this endpoint, or is about to.
    Exists,
}

/// Why no worker was started.
#[derive(Debug)]
pub(crate) enum NotLaunched {
    /// It ended, or did not say what a worker says. The next one may do better.
    Died(EmbedError),
    /// It said why it cannot serve, or there is none: the next one would say the same.
    Refused(EmbedError),
}

/// The first line of a worker's stdout.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
enum FirstLine {
    Ready {},
    Exists {},
    Error { code: ErrorCode, message: String },
}

/// Why a worker did not start.
#[derive(Debug, thiserror::Error)]
enum LaunchError {
    #[error(
        "worker `{0}`: no such file; build it with `npm run build`, or set EMBED_WORKER_PATH to one"
    )]
    NotFound(PathBuf),
    #[error("worker `{0}`: cannot be started")]
    Spawn(PathBuf, #[source] io::Error),
    #[error("worker `{worker}`: {exit} before it was ready{last_words}")]
    Ended { worker: PathBuf, exit: String, last_words: String },
    #[error("worker `{worker}`: said `{line}` instead of whether it is ready")]
    Unintelligible { worker: PathBuf, line: String, source: serde_json::Error },
}

/// Starts the worker of `options` at `endpoint` and waits for its first line.
///
/// Dropping the future leaves the worker alone: it exits by itself if nobody connects.
pub(crate) async fn launch(
    options: &ClientOptions,
    endpoint: &Endpoint,
) -> Result<Launched, NotLaunched> {
    launch_within(options, endpoint, START_PATIENCE).await
}

async fn launch_within(
    options: &ClientOptions,
    endpoint: &Endpoint,
    patience: Duration,
) -> Result<Launched, NotLaunched> {
    let worker = &options.worker;
    let child = spawn(options, endpoint).map_err(|error| {
        unavailable(match error.kind() {
            io::ErrorKind::NotFound if !worker.exists() => LaunchError::NotFound(worker.clone()),
            _ => LaunchError::Spawn(worker.clone(), error),
        })
    })?;
    let pid = child.id();
    let (first_line, witness) = watch_over(child)
        .map_err(|error| unavailable(LaunchError::Spawn(worker.clone(), error)))?;
    let line = match tokio::time::timeout(patience, first_line).await {
        // A closed channel is a pipe that ended without a line.
        Ok(line) => line.unwrap_or_default(),
        // It holds its endpoint's lock and would keep every successor from it.
        Err(_) => {
            tracing::warn!(pid, "ending a worker that does not get ready");
            if let Err(error) = kill(pid) {
                tracing::warn!(pid, %error, "a worker that does not get ready cannot be ended");
            }
            String::new()
        }
    };
    if line.trim().is_empty() {
        let (exit, last_words) = (witness.exit().await, witness.last_words());
        return Err(unavailable(LaunchError::Ended { worker: worker.clone(), exit, last_words }));
    }
    match serde_json::from_str(&line) {
        Ok(FirstLine::Ready {}) => {
            tracing::debug!(pid, %endpoint, "started a worker");
            Ok(Launched::Ready(witness))
        }
        Ok(FirstLine::Exists {}) => Ok(Launched::Exists),
        Ok(FirstLine::Error { code: ErrorCode::WorkerUnavailable, message }) => {
            Err(NotLaunched::Died(EmbedError::new(ErrorCode::WorkerUnavailable, message)))
        }
        Ok(FirstLine::Error { code, message }) => {
            Err(NotLaunched::Refused(EmbedError::new(code, message)))
        }
        Err(source) => {
            // Whatever it is, nobody will talk to it.
            let _ = kill(pid);
            let line = line.chars().take(200).collect();
            Err(unavailable(LaunchError::Unintelligible { worker: worker.clone(), line, source }))
        }
    }
}

fn unavailable(error: LaunchError) -> NotLaunched {
    let message = error.to_string();
    let code = ErrorCode::WorkerUnavailable;
    match error {
        LaunchError::NotFound(_) => NotLaunched::Refused(EmbedError::new(code, message)),
        LaunchError::Ended { .. } => NotLaunched::Died(EmbedError::new(code, message)),
        LaunchError::Spawn(_, source) => {
            NotLaunched::Died(EmbedError::with_source(code, message, source))
        }
        LaunchError::Unintelligible { source, .. } => {
            NotLaunched::Died(EmbedError::with_source(code, message, source))
        }
    }
}

fn spawn(options: &ClientOptions, endpoint: &Endpoint) -> io::Result<Child> {
    let mut command = Command::new(&options.worker);
    command
        .arg("serve")
        .arg("--model")
        .arg(&options.model)
        .arg("--endpoint")
        .arg(endpoint.address())
        .arg("--idle-timeout")
        .arg(options.idle_timeout.as_secs_f64().to_string())
        .env_clear()
        .envs(options.environment.iter().map(|(name, value)| (name, value)))
        // Where a pipe's files are to lie, which its name does not tell.
        .env(RUNTIME_DIR_VARIABLE, endpoint.dir())
        .current_dir(neutral_directory(options))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    // Left as it is if nothing was chosen: a word that is no choice is the worker's to refuse.
    if let Some(name) = options.transport.name() {
        command.env(TRANSPORT_VARIABLE, name);
    }
    detach(command)
}

/// A directory that always exists and that nobody wants to remove or unmount.
fn neutral_directory(options: &ClientOptions) -> PathBuf {
    if cfg!(windows) {
        let root =
            options.environment.iter().find(|(name, _)| name.eq_ignore_ascii_case("SystemRoot"));
        root.map_or_else(|| PathBuf::from(r"C:\"), |(_, value)| PathBuf::from(value))
    } else {
        Path::new("/").to_owned()
    }
}

/// Spawns it in a process group of its own: Ctrl-C in the terminal is for the client, not for it.
#[cfg(unix)]
pub(crate) fn detach(mut command: Command) -> io::Result<Child> {
    use std::os::unix::process::CommandExt;

    command.process_group(0).spawn()
}

/// Spawns it without a console window, deaf to the client's Ctrl-C, and outside the job that would
/// end it with the client; a job may forbid that, and then it stays inside.
#[cfg(windows)]
pub(crate) fn detach(command: Command) -> io::Result<Child> {
    let embed_windows::detach::Detached { child, is_in_job } =
        embed_windows::detach::spawn(command)?;
    if is_in_job {
        let pid = child.id();
        tracing::warn!(
            pid,
            "a job of this process lets nobody leave it: what was started ends with it"
        );
    }
    Ok(child)
}

/// What is known of a worker that this process started.
#[derive(Debug)]
pub(crate) struct Witness {
    pid: u32,
    stderr_tail: Mutex<VecDeque<u8>>,
    exit: watch::Receiver<Option<String>>,
}

impl Witness {
    /// The worker's process.
    pub(crate) fn pid(&self) -> u32 {
        self.pid
    }

    /// How it ended and its last words, ready to be appended to a sentence, as far as is known now.
    pub(crate) fn end_so_far(&self) -> String {
        match &*self.exit.borrow() {
            Some(exit) => format!("; the worker {exit}{}", self.last_words()),
            None => self.last_words(),
        }
    }

    /// How it ended, or that it still runs.
    pub(crate) async fn exit(&self) -> String {
        let mut exit = self.exit.clone();
        let ended = tokio::time::timeout(EXIT_PATIENCE, exit.wait_for(Option::is_some)).await;
        match ended {
            Ok(Ok(status)) => status.clone().unwrap_or_default(),
            _ => "closed its pipes and still runs".to_owned(),
        }
    }

    /// The last lines of its stderr, ready to be appended to a sentence; empty if there are none.
    pub(crate) fn last_words(&self) -> String {
        let tail = self.stderr_tail.lock().unwrap_or_else(PoisonError::into_inner);
        let bytes: Vec<u8> = tail.iter().copied().collect();
        let text = String::from_utf8_lossy(&bytes);
        if text.trim().is_empty() {
            String::new()
        } else {
            format!("; its last words: {}", text.trim())
        }
    }

    fn remember(&self, bytes: &[u8]) {
        let mut tail = self.stderr_tail.lock().unwrap_or_else(PoisonError::into_inner);
        tail.extend(bytes);
        let excess = tail.len().saturating_sub(LAST_WORDS_BYTES_MAX);
        tail.drain(..excess);
    }
}

/// Starts the two threads that read the pipes of `child`.
fn watch_over(mut child: Child) -> io::Result<(oneshot::Receiver<String>, Arc<Witness>)> {
    let pid = child.id();
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let (line_sender, first_line) = oneshot::channel();
    let (exit_sender, exit) = watch::channel(None);
    let witness = Arc::new(Witness { pid, stderr_tail: Mutex::default(), exit });
    let remembering = Arc::clone(&witness);
    // Should the first thread not start, the second is not tried and the worker is left to its
    // idle timeout; should the second not start, the first still ends with the pipe.
    std::thread::Builder::new()
        .name("embed-worker-out".into())
        .stack_size(WATCHER_STACK_BYTES)
        .spawn(move || {
            let _ = line_sender.send(stdout.map(read_first_line).unwrap_or_default());
        })?;
    std::thread::Builder::new()
        .name("embed-worker-err".into())
        .stack_size(WATCHER_STACK_BYTES)
        .spawn(move || {
            if let Some(stderr) = stderr {
                read_to_the_end(stderr, &remembering);
            }
            let exit = child.wait().map_or_else(|error| error.to_string(), describe);
            tracing::debug!(exit, "a worker ended");
            let _ = exit_sender.send(Some(exit));
        })?;
    Ok((first_line, witness))
}

fn read_first_line(stdout: ChildStdout) -> String {
    let mut line = String::new();
    match BufReader::new(stdout.take(FIRST_LINE_BYTES_MAX)).read_line(&mut line) {
        Ok(_) => line,
        Err(error) => error.to_string(),
    }
}

fn read_to_the_end(mut stderr: ChildStderr, witness: &Witness) {
    let mut buffer = [0; 1024];
    loop {
        match stderr.read(&mut buffer) {
            Ok(0) => return,
            Ok(n_bytes) => witness.remember(&buffer[..n_bytes]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => return,
        }
    }
}

/// How a process ended, as the end of the sentence "the worker …".
fn describe(status: ExitStatus) -> String {
    // On Unix the status reads "exit status: 1" or "signal: 9 (SIGKILL)".
    format!("ended with {status}")
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;
    use embed_protocol::Transport;
    use std::os::unix::fs::PermissionsExt;

    /// A "worker" that is a shell script: how real processes start, speak and end is the subject here.
    struct Script {
        dir: tempfile::TempDir,
        _turn: tokio::sync::MutexGuard<'static, ()>,
    }

    /// A process forked by one test while another writes its script holds that file open for a moment,
    /// and running it fails with "text file busy": so the tests take turns.
    static TURN: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

    impl Script {
        async fn new(body: &str) -> Self {
            let turn = TURN.lock().await;
            let dir = tempfile::tempdir().expect("a directory");
            let path = dir.path().join("worker");
            std::fs::write(&path, format!("#!/bin/sh\n{body}\n")).expect("writes");
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o700)).expect("ours");
            Self { dir, _turn: turn }
        }

        fn options(&self) -> ClientOptions {
            let model = self.dir.path().join("model.gguf");
            ClientOptions::new(&model, &self.dir.path().join("worker"))
        }

        async fn launch(&self) -> Result<Launched, NotLaunched> {
            launch(&self.options(), &Endpoint::in_dir(self.dir.path(), "test")).await
        }

        async fn launch_within(&self, patience: Duration) -> Result<Launched, NotLaunched> {
            let endpoint = Endpoint::in_dir(self.dir.path(), "test");
            launch_within(&self.options(), &endpoint, patience).await
        }

        /// The error of a worker after which another one is tried.
        async fn death(&self) -> EmbedError {
            died(self.launch().await)
        }
    }

    fn died(launched: Result<Launched, NotLaunched>) -> EmbedError {
        match launched {
            Err(NotLaunched::Died(error)) => error,
            other => panic!("did not die: {other:?}"),
        }
    }

    fn refused(launched: Result<Launched, NotLaunched>) -> EmbedError {
        match launched {
            Err(NotLaunched::Refused(error)) => error,
            other => panic!("did not refuse: {other:?}"),
        }
    }

    #[tokio::test]
    async fn a_ready_worker_is_witnessed_to_its_end() {
        let script = Script::new(
            r#"echo '{"ready":{"endpoint":"x","pid":1}}'; exec >&-; echo farewell >&2; exit 3"#,
        )
        .await;
        let Ok(Launched::Ready(witness)) = script.launch().await else { panic!("not ready") };
        assert_eq!(witness.exit().await, "ended with exit status: 3");
        assert_eq!(witness.last_words(), "; its last words: farewell");
    }

    #[tokio::test]
    async fn another_worker_may_have_won() {
        let script = Script::new(r#"echo '{"exists":{"endpoint":"x"}}'"#).await;
        assert!(matches!(script.launch().await, Ok(Launched::Exists)));
    }

    #[tokio::test]
    async fn the_error_of_a_worker_arrives_with_its_code() {
        let script = Script::new(
            r#"echo '{"error":{"code":"EMBED_MODEL_INVALID","message":"no magic"}}'; exit 1"#,
        )
        .await;
        let error = refused(script.launch().await);
        assert_eq!((error.code(), error.message()), (ErrorCode::ModelInvalid, "no magic".into()));
    }

    #[tokio::test]
    async fn a_worker_that_dies_silently_is_described() {
        let error = Script::new("echo 'illegal instruction' >&2; kill -9 $$").await.death().await;
        assert_eq!(error.code(), ErrorCode::WorkerUnavailable);
        let message = error.message();
        assert!(message.contains("signal: 9"), "{message}");
        assert!(message.contains("its last words: illegal instruction"), "{message}");
    }

    #[tokio::test]
    async fn a_worker_that_does_not_get_ready_is_ended() {
        let script = Script::new("exec sleep 1000").await;
        let launched = script.launch_within(Duration::from_millis(50)).await;
        let message = died(launched).message();
        assert!(message.contains("signal: 9"), "{message}");
    }

    #[tokio::test]
    async fn a_worker_that_talks_nonsense_is_quoted() {
        let message = Script::new("echo hello").await.death().await.message();
        assert!(message.contains("said `hello"), "{message}");
    }

    #[tokio::test]
    async fn a_missing_worker_is_named_with_the_cure() {
        let mut options = Script::new("").await.options();
        options.worker = "/no/such/embed-worker".into();
        let error = refused(launch(&options, &Endpoint::at("/no/such.sock")).await);
        assert_eq!(error.code(), ErrorCode::WorkerUnavailable);
        let message = error.message();
        assert!(message.contains("/no/such/embed-worker"), "{message}");
        assert!(message.contains("npm run build"), "{message}");
    }

    #[tokio::test]
    async fn only_the_end_of_a_long_stderr_is_kept() {
        let script = Script::new(
            r"i=0; while [ $i -lt 2000 ]; do echo line $i >&2; i=$((i+1)); done; exit 1",
        )
        .await;
        let message = script.death().await.message();
        assert!(message.ends_with("line 1999"), "{message}");
        assert!(message.len() < LAST_WORDS_BYTES_MAX + 300, "{} bytes", message.len());
    }

    #[tokio::test]
    async fn a_worker_is_told_model_endpoint_and_idle_timeout_and_little_else() {
        let script = Script::new(
            r#"echo "$*" "$(pwd)" "$EMBED_RUNTIME_DIR $EMBED_TRANSPORT" "SECRET=$SECRET" >&2; exit 1"#,
        )
        .await;
        let mut options = script.options();
        options.idle_timeout = Duration::from_millis(1500);
        options.transport = Transport::Local;
        let endpoint = Endpoint::in_dir(script.dir.path(), "test");
        let error = died(launch(&options, &endpoint).await);
        let wanted = format!(
            "serve --model {} --endpoint {endpoint} --idle-timeout 1.5 / {} local SECRET=",
            options.model.display(),
            script.dir.path().display()
        );
        assert!(error.message().ends_with(&wanted), "{}", error.message());
    }
}
