//! Runs a test in a process of its own, whose memory no other test disturbs.

use std::process::Command;

const CHILD: &str = "EMBED_TEST_CHILD";

/// Runs `body` in a fresh process: `test` is the name of the calling test as the harness prints it.
pub(crate) fn in_own_process(test: &str, body: impl FnOnce()) {
    if std::env::var_os(CHILD).is_some_and(|child| child == test) {
        return body();
    }
    let own = std::env::current_exe().expect("the test binary");
    let output = Command::new(own)
        .args(["--exact", test, "--nocapture", "--test-threads", "1"])
        .env(CHILD, test)
        .output()
        .expect("the test binary starts");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    // A name that matches no test would succeed without having run.
    assert!(text.contains("1 passed"), "{test} did not run: {text}");
}

/// Memory that this process has allocated or copied: what the promise of 50 MB counts.
///
/// Not `Private_Dirty`: that counts mapped pages of a file that was written a moment ago, until
/// the disk has them.
#[cfg(target_os = "linux")]
pub(crate) fn private_bytes() -> usize {
    let rollup = std::fs::read_to_string("/proc/self/smaps_rollup").expect("Linux 4.14 or later");
    kibibytes(&rollup, "Anonymous:") * 1024
}

/// The most memory that this process ever had in RAM, mapped files included.
#[cfg(target_os = "linux")]
pub(crate) fn peak_bytes() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").expect("a Linux process");
    kibibytes(&status, "VmHWM:") * 1024
}

#[cfg(target_os = "linux")]
fn kibibytes(text: &str, name: &str) -> usize {
    let line = text.lines().find_map(|line| line.strip_prefix(name)).expect("the line");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
}
