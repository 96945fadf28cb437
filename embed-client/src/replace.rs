//! Ending a worker that hangs, so that its endpoint is free for a successor.
//!
//! Nothing is ended but what has left its card at the endpoint and still holds its lock: whatever
//! else listens there is somebody's program and not ours to kill.

use std::time::Duration;

use embed_protocol::Endpoint;
use embed_protocol::card::WorkerCard;
use embed_protocol::process::kill;
use tokio::time::{Instant, sleep};

/// How long a killed process may take to be gone: it may be in the middle of reading a slow disk.
const END_PATIENCE: Duration = Duration::from_secs(2);

/// How often it is looked at meanwhile.
const END_POLL: Duration = Duration::from_millis(5);

/// Ends the worker of `endpoint` and waits until its endpoint is free; `pid` is the process that
/// hangs, where it is known. False if that is no worker of ours, or will not end.
pub(crate) async fn end_worker(endpoint: &Endpoint, pid: Option<u32>) -> bool {
    let Some(card) = card_of(endpoint).await else { return false };
    if pid.is_some_and(|pid| pid != card.pid) {
        // It was replaced already, or what hangs is no worker.
        return false;
    }
    if !card.is_in_reach() {
        tracing::warn!(pid = card.pid, %endpoint, "a worker that hangs runs in another container");
        return false;
    }
    tracing::warn!(pid = card.pid, %endpoint, "ending a worker that hangs");
    if let Err(error) = kill(card.pid) {
        tracing::warn!(pid = card.pid, %error, "a worker that hangs cannot be ended");
        return false;
    }
    let give_up = Instant::now() + END_PATIENCE;
    while card_of(endpoint).await.is_some_and(|current| current.pid == card.pid) {
        if Instant::now() >= give_up {
            return false;
        }
        sleep(END_POLL).await;
    }
    true
}

/// The card of the worker that holds the lock of `endpoint`, read off the runtime's thread.
async fn card_of(endpoint: &Endpoint) -> Option<WorkerCard> {
    let endpoint = endpoint.clone();
    let read = move || WorkerCard::read(&endpoint);
    match tokio::task::spawn_blocking(read).await {
        Ok(Ok(card)) => card,
        Ok(Err(error)) => {
            tracing::warn!(%error, "the card of a worker cannot be read");
            None
        }
        Err(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::process::{Child, Command, Stdio};
    use std::sync::{Arc, Mutex};

    /// A process that will not answer anybody, and an endpoint at which its card lies.
    struct Hanging {
        _dir: tempfile::TempDir,
        endpoint: Endpoint,
        lock: Option<File>,
        pid: u32,
        process: Arc<Mutex<Child>>,
    }

    impl Hanging {
        fn new() -> Self {
            let dir = tempfile::tempdir().expect("a directory");
            let endpoint = Endpoint::in_dir(dir.path(), "hangs");
            let lock = File::create(endpoint.lock_path()).expect("ours");
            lock.try_lock().expect("nobody has it");
            let process = Command::new(std::env::current_exe().expect("this"))
                .args(["--exact", "replace::tests::waits", "--ignored"])
                .stdin(Stdio::piped())
                .stdout(Stdio::null())
                .spawn()
                .expect("waits");
            let pid = process.id();
            let card = WorkerCard::here(&endpoint, dir.path(), crate::VERSION);
            WorkerCard { pid, ..card }.write(&endpoint).expect("ours");
            let process = Arc::new(Mutex::new(process));
            Self { _dir: dir, endpoint, lock: Some(lock), pid, process }
        }

        fn is_running(&self) -> bool {
            has_ended(&self.process).is_none()
        }

        /// The lock goes with the process that holds it; here that is this one.
        fn let_go_of_lock_when_it_ends(&mut self) -> std::thread::JoinHandle<()> {
            let (lock, process) = (self.lock.take(), Arc::clone(&self.process));
            std::thread::spawn(move || {
                while has_ended(&process).is_none() {
                    std::thread::sleep(Duration::from_millis(1));
                }
                drop(lock);
            })
        }
    }

    fn has_ended(process: &Mutex<Child>) -> Option<std::process::ExitStatus> {
        process.lock().expect("no panic").try_wait().expect("our child")
    }

    impl Drop for Hanging {
        fn drop(&mut self) {
            let mut process = self.process.lock().expect("no panic");
            let _ = process.kill();
            let _ = process.wait();
        }
    }

    #[test]
    #[ignore = "the process that the others end"]
    fn waits() {
        let mut line = String::new();
        std::io::stdin().read_line(&mut line).expect("the end");
    }

    #[tokio::test]
    async fn the_worker_on_the_card_is_ended() {
        let mut hanging = Hanging::new();
        let letting_go = hanging.let_go_of_lock_when_it_ends();
        assert!(end_worker(&hanging.endpoint, Some(hanging.pid)).await);
        assert!(!hanging.is_running());
        letting_go.join().expect("no panic");
    }

    #[tokio::test]
    async fn another_process_than_that_on_the_card_is_left_alone() {
        let hanging = Hanging::new();
        assert!(!end_worker(&hanging.endpoint, Some(std::process::id())).await);
        assert!(hanging.is_running());
    }

    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn a_process_that_only_has_the_number_of_another_containers_worker_is_left_alone() {
        let hanging = Hanging::new();
        let pid = hanging.pid;
        let card = WorkerCard::read(&hanging.endpoint).expect("readable").expect("a card");
        let there = WorkerCard { pid_space: Some("another boot pid:[1]".into()), ..card };
        there.write(&hanging.endpoint).expect("ours");
        assert!(!end_worker(&hanging.endpoint, Some(pid)).await);
        assert!(hanging.is_running());
    }

    #[tokio::test]
    async fn the_process_on_a_stale_card_is_left_alone() {
        let mut hanging = Hanging::new();
        hanging.lock = None;
        // A program that another test is just starting has it, too, until it runs.
        while card_of(&hanging.endpoint).await.is_some() {
            sleep(END_POLL).await;
        }
        assert!(!end_worker(&hanging.endpoint, Some(hanging.pid)).await);
        assert!(hanging.is_running(), "its id may be another program's by now");
    }

    #[tokio::test]
    async fn a_process_without_a_card_is_left_alone() {
        let hanging = Hanging::new();
        WorkerCard::remove(&hanging.endpoint).expect("ours");
        assert!(!end_worker(&hanging.endpoint, None).await);
        assert!(hanging.is_running());
    }
}
