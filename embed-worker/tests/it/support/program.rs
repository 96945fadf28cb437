//! Another program that uses a worker as `embed-client` does: the test binary, run once more.

use std::ffi::OsString;
use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use super::peer::Peer;
use super::worker::{Home, PATIENCE, tiny_model};

/// In the program's environment: the folder of its endpoint.
const HOME: &str = "EMBED_TEST_HOME";

/// What the program prints before the worker's process id.
const WORKER: &str = "the worker is process ";

/// How long a program's worker stays without clients, in seconds. Long enough that on a busy machine
/// the program that started it is there in time.
const IDLE_TIMEOUT: &str = "3";

/// A running program. It ends with the value.
pub(crate) struct Program {
    child: Child,
    stdin: Option<ChildStdin>,
    lines: Receiver<String>,
    worker: Option<u32>,
}

impl Program {
    /// Starts a program that uses the endpoint of `home`. `test` is the name of the calling test as
    /// the harness prints it, which must begin with a call of [`act`].
    pub(crate) fn start(test: &str, home: &Home) -> Self {
        let own = std::env::current_exe().expect("the test binary");
        let mut child = Command::new(own)
            .args(["--exact", test, "--nocapture", "--test-threads", "1"])
            .env(HOME, home.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .expect("the test binary starts");
        let (stdin, stdout) = (child.stdin.take(), child.stdout.take());
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stdout.expect("piped")).lines().map_while(Result::ok) {
                let _ = sender.send(line);
            }
        });
        Self { child, stdin, lines, worker: None }
    }

    /// The process id of the worker that has answered it.
    pub(crate) fn worker(&mut self) -> u32 {
        while self.worker.is_none() {
            let line = self.lines.recv_timeout(PATIENCE).expect("it finds a worker");
            self.worker = line.strip_prefix(WORKER).map(|pid| pid.parse().expect("a number"));
        }
        self.worker.expect("found")
    }

    /// Lets it end by itself, after one more text.
    pub(crate) fn leave(mut self) {
        self.stdin = None;
        until("the program has ended", || {
            let ended = self.child.try_wait().expect("is ours");
            ended.inspect(|status| assert!(status.success(), "{status}")).is_some()
        });
    }

    /// Kills it; it cannot say good-bye.
    pub(crate) fn kill(self) {
        drop(self);
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // Fails if it has ended, which is as good.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Waits until something holds.
pub(crate) fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let give_up = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < give_up, "not within {PATIENCE:?}: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// In a process that [`Program::start`] made, behaves as the program until standard input ends, and
/// is true. Anywhere else does nothing.
pub(crate) async fn act() -> bool {
    let Some(path) = std::env::var_os(HOME) else { return false };
    let home = Home::at(path.into());
    let (mut peer, pid) = reach(&home).await;
    peer.is_served().await;
    let mut stdout = std::io::stdout();
    // The harness has begun a line.
    writeln!(stdout, "\n{WORKER}{pid}").expect("the test reads");
    stdout.flush().expect("the test reads");
    let _ = std::io::stdin().read_to_end(&mut Vec::new());
    peer.is_served().await;
    true
}

/// Connects to the worker at `home`, starting one if nobody listens.
async fn reach(home: &Home) -> (Peer, u32) {
    let mut launch_after = Instant::now();
    loop {
        if let Some((peer, hello)) = Peer::meet(home).await {
            return (peer, hello.pid);
        }
        if Instant::now() >= launch_after {
            launch(home);
            launch_after = Instant::now() + Duration::from_secs(1);
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Starts a worker, or finds out that somebody else has.
fn launch(home: &Home) {
    let mut worker = home
        .serve(&tiny_model())
        .args([OsString::from("--idle-timeout"), IDLE_TIMEOUT.into()])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("the worker starts");
    let mut line = String::new();
    let stdout = worker.stdout.take().expect("piped");
    BufReader::new(stdout).read_line(&mut line).expect("a line");
    let is_known = [r#"{"ready":"#, r#"{"exists":"#].iter().any(|known| line.starts_with(known));
    assert!(is_known, "{line}");
    // One that is ready outlives this program; any other is soon gone.
    std::thread::spawn(move || worker.wait());
}
