//! The test binary, run once more as a user who has nothing to do with ours. That takes root, as CI
//! has; elsewhere such a test says that it was skipped.

use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// `nobody` on every Linux.
pub(crate) const NOBODY: u32 = 65_534;

/// In the other user's environment: the folder in question.
const HOME: &str = "EMBED_TEST_FOREIGN_HOME";

/// In the other user's environment: the port in question.
const PORT: &str = "EMBED_TEST_FOREIGN_PORT";

/// What the other user is told, in the process that [`try_as_nobody`] made.
pub(crate) struct Intruder {
    /// The folder of somebody else's worker.
    pub(crate) home: PathBuf,
    /// The port of a worker that listens on one.
    pub(crate) port: u16,
}

/// In a process of the other user's: what it is to try. Anywhere else `None`.
pub(crate) fn intruder() -> Option<Intruder> {
    let home = std::env::var_os(HOME)?.into();
    let port = std::env::var(PORT).ok().and_then(|port| port.parse().ok()).unwrap_or(0);
    assert_eq!(rustix::process::geteuid().as_raw(), NOBODY);
    Some(Intruder { home, port })
}

/// Whether this process may become another user; says so aloud if not.
pub(crate) fn can_become_nobody(test: &str) -> bool {
    let can = rustix::process::geteuid().is_root();
    if !can {
        // Past the harness, which keeps what a passing test prints.
        let _ = writeln!(std::io::stderr(), "SKIPPED, since it takes root: {test}");
    }
    can
}

/// Runs the test called `test` as nobody, where [`intruder`] tells it so. It must succeed.
pub(crate) fn try_as_nobody(test: &str, home: &Path, port: u16) {
    // By this name, and not by its path, which may lead through folders that nobody may enter.
    let output = Command::new("/proc/self/exe")
        .args(["--exact", test, "--nocapture", "--test-threads", "1"])
        .env_clear()
        .env(HOME, home)
        .env(PORT, port.to_string())
        .current_dir("/")
        .uid(NOBODY)
        .gid(NOBODY)
        .output()
        .expect("the test binary starts");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    // A name that matches no test would succeed without having run.
    assert!(text.contains("1 passed"), "{test} did not run: {text}");
}
