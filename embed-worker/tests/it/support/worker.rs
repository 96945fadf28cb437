//! A worker process of a test's own, at an endpoint of its own; both are gone when the test is.

use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use embed_protocol::Endpoint;
use embed_protocol::secret::KeyFile;

use super::{repository_file, test_data};

/// How long anything may take before a test calls it hung. No test demands that something be quick.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// Pause between two looks at something that is awaited.
const POLL: Duration = Duration::from_millis(10);

/// The model that ships with the package: 384 dimensions, 512 tokens.
pub(crate) fn real_model() -> PathBuf {
    repository_file("models/all-MiniLM-L6-v2.Q8_0.gguf")
}

/// A model of two layers, for tests that are not about vectors: 256 dimensions, 256 tokens.
pub(crate) fn tiny_model() -> PathBuf {
    test_data("golden/bert-mean-Q4_0.gguf")
}

/// How workers listen unless a test says otherwise: so all tests can be run over TCP as well.
pub(crate) fn transport() -> String {
    std::env::var("EMBED_TEST_TRANSPORT").unwrap_or_else(|_| "auto".into())
}

/// A folder for sockets and locks that no other test knows.
pub(crate) struct Home {
    /// Made by the first worker, for this user alone.
    path: PathBuf,
    /// What is around it; none in a program that a test has started.
    parent: Option<tempfile::TempDir>,
}

impl Home {
    pub(crate) fn new() -> Self {
        let parent = tempfile::tempdir().expect("a folder");
        Self { path: parent.path().join("run"), parent: Some(parent) }
    }

    /// With a path that is too long for a socket.
    #[cfg(unix)]
    pub(crate) fn deep() -> Self {
        let parent = tempfile::tempdir().expect("a folder");
        let deep = "d".repeat(embed_protocol::endpoint::SOCKET_PATH_BYTES_MAX);
        Self { path: parent.path().join(deep).join("run"), parent: Some(parent) }
    }

    /// The folder of the test that has started this program.
    pub(crate) fn at(path: PathBuf) -> Self {
        Self { path, parent: None }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// A folder beside it for what workers remember.
    pub(crate) fn cache(&self) -> PathBuf {
        self.path.with_file_name("cache")
    }

    /// The one endpoint in it. Pipes have no folder, so the name is as unique as the folder around.
    pub(crate) fn endpoint(&self) -> Endpoint {
        let parent = self.path.parent().and_then(Path::file_name).expect("has a name");
        Endpoint::in_dir(&self.path, &parent.to_string_lossy())
    }

    /// What a worker has left for its clients, if they have to know something.
    pub(crate) fn key(&self) -> Option<KeyFile> {
        let paths = [self.endpoint().pipe_path(), self.endpoint().tcp_path()];
        let bytes = paths.iter().find_map(|path| std::fs::read(path).ok())?;
        Some(KeyFile::from_bytes(&bytes).expect("written whole"))
    }

    /// What lies in it.
    pub(crate) fn entries(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.path()).into_iter().flatten();
        entries.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into()).collect()
    }

    /// A command that serves `model` here; the environment of the tests' caller does not show.
    pub(crate) fn serve(&self, model: &Path) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_embed-worker"));
        for (name, _) in std::env::vars_os() {
            if name.as_encoded_bytes().starts_with(b"EMBED_") {
                command.env_remove(name);
            }
        }
        command
            .arg("serve")
            .arg("--model")
            .arg(model)
            .arg("--endpoint")
            .arg(self.endpoint().address())
            .env("EMBED_RUNTIME_DIR", self.path())
            .env("EMBED_TRANSPORT", transport())
            .env("EMBED_CACHE_DIR", self.cache())
            .env("EMBED_THREADS", "1");
        command
    }

    /// The workers that run here, whoever has started them.
    #[cfg(unix)]
    pub(crate) fn workers(&self) -> Vec<u32> {
        let address = self.endpoint().to_string();
        let serves = |(_, command): &(u32, String)| command.contains(&address);
        processes().into_iter().filter(serves).map(|(pid, _)| pid).collect()
    }

    /// The worker that serves here, whoever has started it: no list of processes is to be had simply.
    #[cfg(windows)]
    pub(crate) fn workers(&self) -> Vec<u32> {
        let cards = embed_protocol::card::list(self.path()).unwrap_or_default();
        cards.into_iter().map(|card| card.pid).collect()
    }
}

/// Every process with its command line; one that has ended has none.
#[cfg(target_os = "linux")]
fn processes() -> Vec<(u32, String)> {
    let entries = std::fs::read_dir("/proc").expect("a Linux system").flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    pids.filter_map(|pid| {
        let command = std::fs::read(format!("/proc/{pid}/cmdline")).ok()?;
        Some((pid, String::from_utf8_lossy(&command).into_owned()))
    })
    .collect()
}

/// Every process with its command line.
#[cfg(all(unix, not(target_os = "linux")))]
fn processes() -> Vec<(u32, String)> {
    let output = Command::new("ps").args(["-axww", "-o", "pid=,command="]).output().expect("ps");
    let text = String::from_utf8_lossy(&output.stdout);
    text.lines()
        .filter_map(|line| {
            let (pid, command) = line.trim().split_once(' ')?;
            Some((pid.parse().ok()?, command.to_owned()))
        })
        .collect()
}

/// A test that failed may have left workers that its programs had started.
impl Drop for Home {
    fn drop(&mut self) {
        if self.parent.is_none() {
            return;
        }
        for pid in self.workers() {
            // One that has ended meanwhile is as good.
            let _ = embed_protocol::process::kill(pid);
        }
    }
}

/// Sends a signal to a process, unless it has ended.
#[cfg(unix)]
fn kill(pid: u32, signal: rustix::process::Signal) {
    let pid = i32::try_from(pid).ok().and_then(rustix::process::Pid::from_raw);
    let _ = rustix::process::kill_process(pid.expect("a process id"), signal);
}

/// An example of `embed-windows`, which cargo has built beside the worker.
#[cfg(windows)]
pub(crate) fn windows_tool(name: &str) -> Command {
    let profile = Path::new(env!("CARGO_BIN_EXE_embed-worker")).parent().expect("has one");
    Command::new(profile.join("examples").join(name).with_extension("exe"))
}

/// A running worker.
pub(crate) struct Worker {
    child: Child,
    lines: Receiver<String>,
    stderr: Option<JoinHandle<String>>,
}

impl Worker {
    /// Starts a worker and waits until it listens.
    pub(crate) fn ready(command: &mut Command) -> Self {
        let worker = Self::spawn(command);
        let line = worker.line().expect("a line on standard output");
        assert!(line.starts_with(r#"{"ready":"#), "{line}");
        worker
    }

    /// Starts a worker.
    pub(crate) fn spawn(command: &mut Command) -> Self {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the worker starts");
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stdout.expect("piped")).lines().map_while(Result::ok) {
                let _ = sender.send(line);
            }
        });
        let stderr = std::thread::spawn(move || {
            let mut text = Vec::new();
            let _ = stderr.expect("piped").read_to_end(&mut text);
            String::from_utf8_lossy(&text).into_owned()
        });
        Self { child, lines, stderr: Some(stderr) }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits for its end; gives what ended it: an exit code, or a signal.
    #[cfg(unix)]
    pub(crate) fn how_it_ended(self) -> Result<i32, i32> {
        use std::os::unix::process::ExitStatusExt as _;

        let (status, _) = self.end();
        status.code().ok_or_else(|| status.signal().expect("neither a code nor a signal"))
    }

    /// The next line of its standard output; `None` when that has ended.
    pub(crate) fn line(&self) -> Option<String> {
        match self.lines.recv_timeout(PATIENCE) {
            Ok(line) => Some(line),
            Err(RecvTimeoutError::Disconnected) => None,
            Err(RecvTimeoutError::Timeout) => panic!("no line within {PATIENCE:?}"),
        }
    }

    #[cfg(unix)]
    pub(crate) fn signal(&self, signal: rustix::process::Signal) {
        kill(self.pid(), signal);
    }

    /// Stops it where it stands, so that it hangs.
    pub(crate) fn suspend(&self) {
        #[cfg(unix)]
        self.signal(rustix::process::Signal::STOP);
        #[cfg(windows)]
        {
            let status = windows_tool("suspend").arg(self.pid().to_string()).status();
            assert!(status.expect("run `cargo build -p embed-windows --examples`").success());
        }
    }

    pub(crate) fn is_running(&mut self) -> bool {
        self.child.try_wait().expect("is ours").is_none()
    }

    /// Waits for its end; gives its status and what it wrote to standard error.
    pub(crate) fn end(mut self) -> (ExitStatus, String) {
        let give_up = Instant::now() + PATIENCE;
        let status = loop {
            if let Some(status) = self.child.try_wait().expect("is ours") {
                break status;
            }
            assert!(Instant::now() < give_up, "the worker still runs after {PATIENCE:?}");
            std::thread::sleep(POLL);
        };
        assert_eq!(self.line(), None, "a second line on standard output");
        let stderr = self.stderr.take().expect("taken only here").join().expect("only reads");
        (status, stderr)
    }

    /// Waits for its end, which must be a good one, and looks whether it left anything in `home`.
    pub(crate) fn leaves(self, home: &Home) {
        let (status, stderr) = self.end();
        assert!(status.success(), "{status}: {stderr}");
        assert_eq!(home.entries(), Vec::<String>::new(), "left behind");
    }

    /// Kills it as the system would, so that it can clean nothing up.
    pub(crate) fn kill(mut self) {
        self.child.kill().expect("is ours");
        self.child.wait().expect("is ours");
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // Fails if it has ended, which is as good.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
