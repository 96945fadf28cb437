//! What cargo has built beside this test, a place for a test's workers, and programs that use them.

use std::ffi::OsString;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use embed_client::{Client, ClientOptions, EmbedOptions};
use embed_protocol::card::{self, WorkerCard};
use embed_protocol::process::kill;

/// How long anything may take before a test calls it hung. No test demands that something be quick.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// In a program's environment: the folder of its [`Place`].
const PLACE: &str = "EMBED_TEST_PLACE";

/// What a program prints when it has a vector.
const SERVED: &str = "served";

/// What `cargo test --workspace` has built beside this test, in the folder of its profile.
pub(crate) fn built(name: &str) -> PathBuf {
    let test = std::env::current_exe().expect("this test has a path");
    let profile = test.parent().and_then(Path::parent).expect("target/PROFILE/deps/TEST");
    let path = profile.join(name).with_extension(std::env::consts::EXE_EXTENSION);
    assert!(
        path.exists(),
        "{}: is not built; run `cargo build --workspace --bins --examples`",
        path.display()
    );
    path
}

/// The model that ships with the package.
pub(crate) fn model() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/all-MiniLM-L6-v2.Q8_0.gguf")
}

/// A folder in which a test's workers meet their clients, and what both are told.
pub(crate) struct Place {
    pub(crate) options: ClientOptions,
    /// None in a program that a test has started.
    dir: Option<tempfile::TempDir>,
}

impl Place {
    /// With workers that stay for `idle_timeout` without a client.
    pub(crate) fn new(idle_timeout: Duration) -> Self {
        let dir = tempfile::Builder::new().prefix("embed-").tempdir().expect("a directory");
        let options = Self::at(dir.path(), idle_timeout).options.clone();
        Self { options, dir: Some(dir) }
    }

    fn at(dir: &Path, idle_timeout: Duration) -> Self {
        let environment = [("EMBED_CACHE_DIR", dir.join("cache")), ("EMBED_THREADS", "1".into())];
        let options = ClientOptions {
            runtime_dir: dir.join("run"),
            idle_timeout,
            environment: environment
                .map(|(name, value)| (name.into(), value.into()))
                .into_iter()
                .chain(system_variables())
                .collect(),
            ..ClientOptions::new(&model(), &built("embed-worker"))
        };
        Self { options, dir: None }
    }

    pub(crate) fn client(&self) -> Client {
        Client::new(self.options.clone())
    }

    /// The workers that serve here.
    pub(crate) fn workers(&self) -> Vec<WorkerCard> {
        card::list(&self.options.runtime_dir).expect("ours")
    }

    /// The process of the one worker that serves here.
    pub(crate) fn worker(&self) -> u32 {
        let workers = self.workers();
        let [worker] = &workers[..] else { panic!("not one worker: {workers:?}") };
        worker.pid
    }

    /// Waits until no worker serves here; fails if one has left anything.
    pub(crate) async fn is_left(&self) {
        until("every worker has left", || self.workers().is_empty()).await;
        // The card goes a moment before the rest.
        until("nothing is left behind", || {
            std::fs::read_dir(&self.options.runtime_dir).expect("ours").next().is_none()
        })
        .await;
    }

    /// Starts a program that uses a worker here: the test binary, run once more. `test` is the name of the
    /// calling test as the harness prints it, which must begin with a call of [`act`].
    pub(crate) fn program(&self, test: &str) -> Program {
        let mut child = Command::new(std::env::current_exe().expect("this test has a path"))
            .args(["--exact", test, "--nocapture", "--test-threads", "1"])
            .env(PLACE, self.options.runtime_dir.parent().expect("has one"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the test binary starts");
        let stdout = child.stdout.take().expect("piped");
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                let _ = sender.send(line);
            }
        });
        Program { child, lines }
    }
}

/// Workers that a failed test has left.
impl Drop for Place {
    fn drop(&mut self) {
        if self.dir.is_some() {
            for worker in card::list(&self.options.runtime_dir).unwrap_or_default() {
                let _ = kill(worker.pid);
            }
        }
    }
}

/// What a program wants of its environment to run at all.
fn system_variables() -> Vec<(OsString, OsString)> {
    let names = ["SystemRoot", "TEMP", "TMP"];
    names.iter().filter_map(|name| Some((name.into(), std::env::var_os(name)?))).collect()
}

/// A running program. It is killed with the value.
pub(crate) struct Program {
    child: Child,
    lines: Receiver<String>,
}

impl Program {
    /// Waits until it has had a vector.
    pub(crate) fn is_served(&self) {
        while self.lines.recv_timeout(PATIENCE).expect("it says so") != SERVED {}
    }

    /// Kills it; it can say good-bye to nobody.
    pub(crate) fn kill(self) {
        drop(self);
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// In a process that [`Place::program`] has made, embeds text after text until it is killed, and is true.
/// Anywhere else does nothing.
pub(crate) async fn act() -> bool {
    let Some(dir) = std::env::var_os(PLACE) else { return false };
    let place = Place::at(Path::new(&dir), IDLE_TIMEOUT);
    let client = place.client();
    // Ends with the test, however that ends.
    std::thread::spawn(|| {
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        std::process::abort();
    });
    loop {
        let text = "a text that takes its time ".repeat(20);
        client.embed(&text, &EmbedOptions::default()).await.expect("a vector");
        let mut stdout = std::io::stdout();
        // The harness has begun a line.
        writeln!(stdout, "\n{SERVED}").and_then(|()| stdout.flush()).expect("the test reads");
    }
}

/// How long a program's worker stays without clients.
const IDLE_TIMEOUT: Duration = Duration::from_secs(3);

/// Waits until something holds. A connection that was dropped ends meanwhile: on Windows that takes its
/// runtime.
pub(crate) async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let give_up = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < give_up, "not within {PATIENCE:?}: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
