//! Programs in jobs that let them go, and in jobs that do not: this test's own, run twice more.
//!
//! ```text
//! test -> job { starter } -> detached
//! ```

use std::io::{BufRead, BufReader, Read, Write};
use std::os::windows::io::{FromRawHandle, OwnedHandle};
use std::process::Stdio;

use windows_sys::Win32::System::Console::GetConsoleWindow;
use windows_sys::Win32::System::JobObjects::{
    AssignProcessToJobObject, CreateJobObjectW, JOB_OBJECT_LIMIT_BREAKAWAY_OK,
    JOB_OBJECT_LIMIT_KILL_ON_JOB_CLOSE, JOBOBJECT_EXTENDED_LIMIT_INFORMATION,
    JobObjectExtendedLimitInformation, SetInformationJobObject,
};

use super::*;

/// Tells the test's own program what it is.
const ROLE: &str = "EMBED_TEST_ROLE";

/// A job that ends its processes with itself.
struct Job(OwnedHandle);

impl Job {
    fn new(lets_go: bool) -> Self {
        // SAFETY: neither attributes nor a name.
        let job = unsafe { CreateJobObjectW(std::ptr::null(), std::ptr::null()) };
        assert!(!job.is_null(), "{}", io::Error::last_os_error());
        // SAFETY: it was just made, and nobody else closes it.
        let job = unsafe { OwnedHandle::from_raw_handle(job) };
        let mut limits = JOBOBJECT_EXTENDED_LIMIT_INFORMATION::default();
        limits.BasicLimitInformation.LimitFlags = JOB_OBJECT_LIMIT_KILL_ON_JOB_CLOSE
            | if lets_go { JOB_OBJECT_LIMIT_BREAKAWAY_OK } else { 0 };
        let size = size_of_val(&limits) as u32;
        // SAFETY: the structure is that of the class, and has this size.
        let set = unsafe {
            SetInformationJobObject(
                job.as_raw_handle(),
                JobObjectExtendedLimitInformation,
                (&raw const limits).cast(),
                size,
            )
        };
        assert_ne!(set, 0, "{}", io::Error::last_os_error());
        Self(job)
    }

    fn take(&self, child: &Child) {
        // SAFETY: both handles are open.
        let taken =
            unsafe { AssignProcessToJobObject(self.0.as_raw_handle(), child.as_raw_handle()) };
        assert_ne!(taken, 0, "{}", io::Error::last_os_error());
    }
}

/// This program once more, as `role`.
fn own(role: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().expect("this"));
    command
        .args(["--exact", "detach::tests::plays_its_role", "--nocapture", "--test-threads", "1"])
        .env(ROLE, role)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped());
    command
}

/// What a program says after `name`, on a line of its own.
fn said(lines: &mut impl BufRead, name: &str) -> String {
    loop {
        let mut line = String::new();
        assert_ne!(lines.read_line(&mut line).expect("text"), 0, "it ended without {name}");
        if let Some(word) = line.trim_end().strip_prefix(name) {
            return word.to_owned();
        }
    }
}

fn say(line: &str) {
    let mut stdout = io::stdout();
    // The harness has begun a line.
    writeln!(stdout, "\n{line}").and_then(|()| stdout.flush()).expect("the test reads");
}

/// In a program that [`own`] has made.
#[test]
fn plays_its_role() {
    match std::env::var(ROLE).as_deref() {
        Ok("starter") => {
            // Until it is in the job.
            io::stdin().read_exact(&mut [0]).expect("the test writes");
            let mut detached = spawn(own("detached")).expect("starts");
            let stdout = detached.child.stdout.take().expect("piped");
            let window = said(&mut BufReader::new(stdout), "window: ");
            say(&format!("window: {window}"));
            say(&format!("in job: {}", detached.is_in_job));
            say(&format!("process: {}", detached.child.id()));
            let _ = io::stdin().read_to_end(&mut Vec::new());
        }
        Ok("detached") => {
            // SAFETY: it takes nothing.
            let has_window = !unsafe { GetConsoleWindow() }.is_null();
            say(&format!("window: {has_window}"));
            std::thread::sleep(std::time::Duration::from_secs(60));
        }
        _ => {}
    }
}

/// A program in a job, and what it has started; both are ended with the value.
struct Scene {
    job: Option<Job>,
    starter: Child,
    detached: u32,
    is_in_job: bool,
}

impl Scene {
    fn new(lets_go: bool) -> Self {
        let job = Job::new(lets_go);
        let mut starter = own("starter").spawn().expect("starts");
        job.take(&starter);
        starter.stdin.as_mut().expect("piped").write_all(b".").expect("it reads");
        let mut lines = BufReader::new(starter.stdout.take().expect("piped"));
        assert_eq!(said(&mut lines, "window: "), "false", "a console that shows");
        let is_in_job = said(&mut lines, "in job: ") == "true";
        let detached = said(&mut lines, "process: ").parse().expect("a number");
        Self { job: Some(job), starter, detached, is_in_job }
    }

    /// Ends the job, and what is in it; says whether the detached program has gone with it.
    fn ends_with_the_job(&mut self) -> bool {
        drop(self.job.take());
        self.starter.wait().expect("ours");
        let give_up = std::time::Instant::now() + std::time::Duration::from_secs(2);
        while crate::process::is_running(self.detached).expect("ours") {
            if std::time::Instant::now() > give_up {
                return false;
            }
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        true
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        drop(self.job.take());
        let _ = self.starter.kill();
        let _ = crate::process::end(self.detached);
    }
}

#[test]
fn a_job_that_lets_it_go_does_not_end_it() {
    let mut scene = Scene::new(true);
    assert!(!scene.ends_with_the_job(), "it went with the job of whoever started it");
    // Under a harness that has put this test into a job it is still in that.
    let own_job = is_in_job_of_this_test();
    assert!(own_job || !scene.is_in_job, "it says that it is in a job");
}

#[test]
fn in_a_job_that_lets_nobody_go_it_is_started_all_the_same_and_that_is_told() {
    let mut scene = Scene::new(false);
    assert!(scene.is_in_job, "it says that it is outside");
    assert!(scene.ends_with_the_job(), "the job has let it go");
}

fn is_in_job_of_this_test() -> bool {
    let mut found = 0;
    // SAFETY: this process's own number, no job, which means any, and a local.
    let told = unsafe {
        IsProcessInJob(
            windows_sys::Win32::System::Threading::GetCurrentProcess(),
            std::ptr::null_mut(),
            &mut found,
        )
    };
    assert_ne!(told, 0, "{}", io::Error::last_os_error());
    found != 0
}

/// Wine shows no windows here, so that nobody would see one: what Windows is asked for is looked at.
#[test]
fn it_is_asked_for_no_window_and_a_group_of_its_own() {
    // winbase.h
    assert_eq!(ALONE, 0x0800_0000 | 0x0000_0200);
    assert_eq!(CREATE_BREAKAWAY_FROM_JOB, 0x0100_0000);
}
