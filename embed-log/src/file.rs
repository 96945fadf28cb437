//! A log file that several processes write, each line at once, and that is put aside when it is full.
//!
//! The file is opened anew for each line, to append: so a line that is written while another process
//! puts the file aside is in the old file or in the new one, whole, and nobody holds on to a file that
//! has gone. That costs some microseconds a line; what is logged all the time is not logged by default.

use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::PathBuf;

/// Bytes of a log file before it is put aside: some 50,000 lines.
pub const LOG_FILE_BYTES_MAX: u64 = 8 * 1024 * 1024;

/// Files that were put aside and are kept, `FILE.1` the youngest.
pub const OLD_LOG_FILES_MAX: u32 = 3;

/// How many times its size a file may have if it cannot be put aside, for example because a process
/// that was about to is stopped; beyond it lines are dropped.
const OVERFLOW: u64 = 2;

/// See the module's documentation.
#[derive(Debug)]
pub(crate) struct RotatingFile {
    path: PathBuf,
    bytes_max: u64,
    old_max: u32,
}

impl RotatingFile {
    pub(crate) fn new(path: PathBuf) -> Self {
        Self::with_limits(path, LOG_FILE_BYTES_MAX, OLD_LOG_FILES_MAX)
    }

    pub(crate) fn with_limits(path: PathBuf, bytes_max: u64, old_max: u32) -> Self {
        Self { path, bytes_max, old_max }
    }

    /// Makes the file if there is none, and finds out whether it can be written.
    pub(crate) fn try_open(&self) -> io::Result<()> {
        self.open().map(drop)
    }

    /// Writes whole lines at the end, at once.
    ///
    /// # Errors
    ///
    /// The system cannot, or the file is full and cannot be put aside.
    pub(crate) fn append(&self, lines: &[u8]) -> io::Result<()> {
        let mut file = self.open()?;
        let after = |file: &File| Ok(file.metadata()?.len() + lines.len() as u64);
        if after(&file)? > self.bytes_max {
            // If it fails, others may succeed; what counts is how large the file is then.
            let _ = self.put_aside();
            file = self.open()?;
            let bytes: io::Result<u64> = after(&file);
            if bytes? > OVERFLOW * self.bytes_max {
                return Err(io::ErrorKind::FileTooLarge.into());
            }
        }
        file.write_all(lines)
    }

    fn open(&self) -> io::Result<File> {
        let mut options = OpenOptions::new();
        options.append(true).create(true);
        owner_only(&mut options);
        options.open(&self.path)
    }

    /// Puts the file aside, unless another process has done so or is about to.
    fn put_aside(&self) -> io::Result<()> {
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(false);
        owner_only(&mut options);
        let lock = options.open(self.with_suffix("lock"))?;
        // Not awaited: its holder may have been stopped, and we would hang with it.
        if lock.try_lock().is_err() {
            return Ok(());
        }
        let done = self.shift();
        // And not only by closing it: a child that this process is just starting has it open as well.
        lock.unlock()?;
        done
    }

    /// Every file becomes one older. The lock must be held.
    fn shift(&self) -> io::Result<()> {
        // Another may have put it aside since we looked.
        if self.path.metadata()?.len() <= self.bytes_max / 2 {
            return Ok(());
        }
        for n in (1..self.old_max).rev() {
            // The older ones may not be there yet.
            let _ = std::fs::rename(self.old(n), self.old(n + 1));
        }
        std::fs::rename(&self.path, self.old(1))
    }

    fn old(&self, n: u32) -> PathBuf {
        self.with_suffix(&n.to_string())
    }

    fn with_suffix(&self, suffix: &str) -> PathBuf {
        let mut name = OsString::from(&self.path);
        name.push(".");
        name.push(suffix);
        name.into()
    }
}

/// Makes files that nobody else may read.
fn owner_only(options: &mut OpenOptions) {
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt;
        options.mode(0o600);
    }
    #[cfg(not(unix))]
    let _ = options;
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;
    use std::process::Command;

    fn lines(path: &Path) -> Vec<String> {
        let text = std::fs::read_to_string(path).expect("a log");
        assert!(text.ends_with('\n'), "a line does not end");
        text.lines().map(String::from).collect()
    }

    #[test]
    fn a_full_file_is_put_aside_and_the_oldest_is_forgotten() {
        let dir = tempfile::tempdir().expect("a folder");
        let file = RotatingFile::with_limits(dir.path().join("log"), 30, 2);
        for n in 0..10 {
            file.append(format!("line {n:04}\n").as_bytes()).expect("ours");
        }
        // Ten bytes each, three to a file.
        assert_eq!(lines(&file.path), ["line 0009"]);
        assert_eq!(lines(&file.old(1)), ["line 0006", "line 0007", "line 0008"]);
        assert_eq!(lines(&file.old(2)), ["line 0003", "line 0004", "line 0005"]);
        assert!(!file.old(3).exists());
    }

    #[test]
    fn a_file_that_cannot_be_put_aside_stays_bounded() {
        let dir = tempfile::tempdir().expect("a folder");
        let file = RotatingFile::with_limits(dir.path().join("log"), 30, 2);
        let stopped = File::create(file.with_suffix("lock")).expect("ours");
        stopped.try_lock().expect("nobody has it");
        let written = (0..100).filter(|_| file.append(b"line 0000\n").is_ok()).count();
        assert_eq!(written, 6, "twice its size");
        drop(stopped);
        file.append(b"line 0001\n").expect("it can be put aside again");
        assert_eq!(lines(&file.path), ["line 0001"]);
        assert_eq!(lines(&file.old(1)).len(), 6);
    }

    #[cfg(unix)]
    #[test]
    fn a_log_is_for_its_user_alone() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().expect("a folder");
        let file = RotatingFile::new(dir.path().join("log"));
        file.append(b"line\n").expect("ours");
        let mode = file.path.metadata().expect("is there").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    /// In the environment of a process that a test has started: the file that it is to write.
    const WRITES: &str = "EMBED_TEST_LOG";

    const LINES: usize = 2000;

    /// Few enough that the file is put aside some 25 times, and enough files that none is forgotten.
    fn shared(path: PathBuf) -> RotatingFile {
        RotatingFile::with_limits(path, 10_000, 100)
    }

    #[test]
    fn two_processes_mix_no_lines_and_lose_none() {
        if let Some(path) = std::env::var_os(WRITES) {
            let file = shared(path.into());
            for n in 0..LINES {
                let line = format!("{} {n} {}\n", std::process::id(), "x".repeat(n % 100));
                // The other may be kept from its turn just while it puts the file aside.
                while let Err(error) = file.append(line.as_bytes()) {
                    assert_eq!(error.kind(), io::ErrorKind::FileTooLarge, "{error}");
                    std::thread::yield_now();
                }
            }
            return;
        }
        let dir = tempfile::tempdir().expect("a folder");
        let file = shared(dir.path().join("log"));
        let own = std::env::current_exe().expect("the test binary");
        let test = "file::tests::two_processes_mix_no_lines_and_lose_none";
        let start = || {
            let mut command = Command::new(&own);
            command.args(["--exact", test]).env(WRITES, &file.path);
            command.stdout(std::process::Stdio::null()).spawn().expect("starts")
        };
        let mut writers = [start(), start()];
        for writer in &mut writers {
            assert!(writer.wait().expect("ours").success());
        }
        let files = (1..=100).rev().map(|n| file.old(n)).filter(|path| path.exists());
        let files: Vec<PathBuf> = files.chain([file.path.clone()]).collect();
        assert!(files.len() > 5 && files.len() < 100, "{} files", files.len());
        let all: Vec<String> = files.iter().flat_map(|path| lines(path)).collect();
        for writer in &writers {
            let prefix = format!("{} ", writer.id());
            let mut own: Vec<usize> = all
                .iter()
                .filter_map(|line| line.strip_prefix(&prefix))
                .map(|rest| {
                    let (n, tail) = rest.split_once(' ').expect("whole");
                    let n = n.parse().expect("a number");
                    assert_eq!(tail, "x".repeat(n % 100), "line {n}");
                    n
                })
                .collect();
            // A line may be in a younger file than the next one, if it was put aside in between.
            own.sort_unstable();
            assert!(own.iter().copied().eq(0..LINES), "{} of {LINES} lines", own.len());
        }
        assert_eq!(all.len(), 2 * LINES, "somebody else's lines");
        for path in &files {
            // One line of each process may come to a file that is just put aside.
            let bytes = path.metadata().expect("is there").len();
            assert!(bytes <= OVERFLOW * 10_000 + 2 * 120, "{bytes} bytes");
        }
    }
}
