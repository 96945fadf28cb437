//! Runs a test in a process of its own, whose memory no other test disturbs.

use std::io::Write as _;
use std::path::Path;
use std::process::Command;

const CHILD: &str = "EMBED_TEST_CHILD";

/// Runs `body` in a fresh process: `test` is the name of the calling test as the harness prints it. What
/// it writes to standard error is shown with `--nocapture`.
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
    // What it said past the harness is said past this one's as well.
    let _ = std::io::stderr().write_all(&output.stderr);
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    // A name that matches no test would succeed without having run.
    assert!(text.contains("1 passed"), "{test} did not run: {text}");
}

/// The same with a file that is made here and used there: what is freed after it was made is no longer
/// free memory that what is measured could take.
pub(crate) fn in_own_process_with(
    test: &str,
    make: impl FnOnce() -> Vec<u8>,
    body: impl FnOnce(&Path),
) {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let name = |process: u32| folder.join(format!("{}-{process}", test.replace("::", "-")));
    if std::env::var_os(CHILD).is_some_and(|child| child == test) {
        return body(&name(std::os::unix::process::parent_id()));
    }
    let path = name(std::process::id());
    std::fs::write(&path, make()).expect("room");
    let outcome = std::panic::catch_unwind(|| in_own_process(test, || ()));
    std::fs::remove_file(&path).expect("was written above");
    outcome.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
}

/// Memory that this process has allocated or copied: what the promise of 50 MB counts.
///
/// Not `Private_Dirty`: that counts mapped pages of a file that was written a moment ago, until
/// the disk has them.
pub(crate) fn private_bytes() -> usize {
    memory("self", "smaps_rollup", "Anonymous:")
}

/// The most memory that this process ever had in RAM, mapped files included.
pub(crate) fn peak_bytes() -> usize {
    memory("self", "status", "VmHWM:")
}

/// What the system tells of a process's memory, in bytes: the line of `/proc/PROCESS/FILE` that
/// begins with `name`.
pub(crate) fn memory(process: &str, file: &str, name: &str) -> usize {
    let text = std::fs::read_to_string(format!("/proc/{process}/{file}")).expect("it runs");
    let line = text.lines().find_map(|line| line.strip_prefix(name)).expect("the line");
    line.trim().trim_end_matches(" kB").parse::<usize>().expect("a number") * 1024
}
