//! One worker at an endpoint, whatever lies there and whoever else wants it.

use std::sync::atomic::{AtomicBool, Ordering};

use embed_protocol::card::list;
use embed_protocol::{Endpoint, WorkerCard};

use super::serve;
use crate::support::peer::Peer;
use crate::support::worker::{Home, Worker, tiny_model};

/// Waits for a worker that cannot serve; gives what it says.
fn refuses(worker: Worker) -> String {
    let line = worker.line().expect("a line on standard output");
    assert!(line.contains("EMBED_WORKER_UNAVAILABLE"), "{line}");
    let (status, _) = worker.end();
    assert_eq!(status.code(), Some(1), "{line}");
    line
}

#[tokio::test]
async fn of_many_workers_started_at_once_one_serves_and_the_others_leave_in_peace() {
    let home = Home::new();
    let mut commands: Vec<_> = (0..6).map(|_| home.serve(&tiny_model())).collect();
    let workers: Vec<_> = commands.iter_mut().map(Worker::spawn).collect();
    let mut winner = None;
    for worker in workers {
        let line = worker.line().expect("a line on standard output");
        if line.starts_with(r#"{"ready":"#) {
            assert!(winner.replace(worker).is_none(), "two are ready");
        } else {
            assert!(line.starts_with(r#"{"exists":"#), "{line}");
            let (status, stderr) = worker.end();
            assert!(status.success(), "{status}: {stderr}");
        }
    }
    let winner = winner.expect("one is ready");
    let (mut peer, hello) = Peer::introduced(&home).await;
    assert_eq!(hello.pid, winner.pid());
    peer.is_served().await;
}

#[tokio::test]
async fn what_a_killed_worker_left_is_taken_over() {
    let (home, killed) = serve("30");
    let mut peer = Peer::open(&home).await;
    peer.is_served().await;
    assert_eq!(card(&home).map(|card| card.pid), Some(killed.pid()));
    killed.kill();
    assert_eq!(peer.next().await, None);
    assert_eq!(card(&home), None, "a dead worker's");
    if cfg!(unix) {
        assert_eq!(home.entries().len(), 3, "a killed worker leaves socket, lock and card");
    }
    let successor = Worker::ready(home.serve(&tiny_model()).args(["--idle-timeout", "0"]));
    let (mut peer, hello) = Peer::introduced(&home).await;
    assert_eq!(hello.pid, successor.pid());
    assert_eq!(card(&home).map(|card| card.pid), Some(successor.pid()));
    peer.is_served().await;
    drop(peer);
    successor.leaves(&home);
}

#[tokio::test]
async fn what_a_killed_worker_left_at_another_endpoint_is_swept_away() {
    let (home, killed) = serve("30");
    Peer::open(&home).await.is_served().await;
    killed.kill();
    // As if the model had changed since: no successor comes to the endpoint where it lies.
    let other = format!("{}{}", if cfg!(windows) { "embed-" } else { "" }, "0".repeat(20));
    for entry in home.entries() {
        let left = home.path().join(&entry);
        let extension = left.extension().expect("has one").to_os_string();
        std::fs::rename(&left, left.with_file_name(&other).with_extension(extension))
            .expect("ours");
    }
    let others = ["composer.json", "composer.lock", "notes.txt"];
    for name in others {
        std::fs::write(home.path().join(name), "not ours to remove").expect("ours");
    }
    let successor = Worker::ready(home.serve(&tiny_model()).args(["--idle-timeout", "0"]));
    Peer::open(&home).await.is_served().await;
    let (status, stderr) = successor.end();
    assert!(status.success(), "{status}: {stderr}");
    let mut left = home.entries();
    left.sort();
    assert_eq!(left, others, "left behind, or removed");
}

/// The card of the worker that serves here.
fn card(home: &Home) -> Option<WorkerCard> {
    let mut cards = list(home.path()).expect("readable");
    assert!(cards.len() <= 1, "{cards:?}");
    cards.pop()
}

#[test]
fn a_ready_worker_has_left_its_card() {
    let (home, worker) = serve("30");
    let card = card(&home).expect("a card");
    assert_eq!(card.pid, worker.pid());
    assert_eq!(Endpoint::at(card.endpoint).address(), home.endpoint().address());
    let model = tiny_model().canonicalize().expect("committed");
    assert_eq!(card.model, model.to_string_lossy());
    assert_eq!(card.version, env!("CARGO_PKG_VERSION"));
    let year_2020 = 1_577_836_800_000;
    assert!(card.started_ms > year_2020, "{}", card.started_ms);
}

/// Whoever reads cards looks at the lock; a worker that starts meanwhile must not take that for a
/// worker that serves.
#[test]
fn a_lock_that_is_looked_at_is_not_held() {
    let (home, killed) = serve("30");
    killed.kill();
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                card(&home);
            }
        });
        for _ in 0..10 {
            Worker::ready(&mut home.serve(&tiny_model())).kill();
        }
        stop.store(true, Ordering::Relaxed);
    });
}

#[cfg(unix)]
mod unix {
    use std::fs;
    use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
    use std::os::unix::net::UnixListener;

    use super::*;
    use embed_protocol::endpoint::SOCKET_PATH_BYTES_MAX;

    fn private_home() -> Home {
        let home = Home::new();
        fs::DirBuilder::new().mode(0o700).create(home.path()).expect("ours");
        home
    }

    #[tokio::test]
    async fn a_socket_without_a_lock_is_taken_over() {
        let home = private_home();
        let address = home.endpoint().address().to_owned();
        drop(UnixListener::bind(&address).expect("binds"));
        assert!(address.exists(), "a socket outlives its listener");
        let worker = Worker::ready(home.serve(&tiny_model()).args(["--idle-timeout", "0"]));
        Peer::open(&home).await.is_served().await;
        worker.leaves(&home);
    }

    #[test]
    fn a_file_that_is_no_socket_is_not_touched() {
        let home = private_home();
        fs::write(home.endpoint().address(), "precious").expect("ours");
        let said = refuses(Worker::spawn(&mut home.serve(&tiny_model())));
        assert!(said.contains("not a socket"), "{said}");
        let text = fs::read_to_string(home.endpoint().address()).expect("still there");
        assert_eq!(text, "precious");
        assert_eq!(home.entries().len(), 1, "nothing else is left");
    }

    #[test]
    fn a_folder_that_others_may_enter_is_refused() {
        let home = private_home();
        fs::set_permissions(home.path(), fs::Permissions::from_mode(0o755)).expect("ours");
        let said = refuses(Worker::spawn(&mut home.serve(&tiny_model())));
        assert!(said.contains("has mode 755") && said.contains("EMBED_RUNTIME_DIR"), "{said}");
        assert_eq!(home.entries(), Vec::<String>::new());
    }

    #[test]
    fn a_lock_that_is_a_link_is_not_followed() {
        let home = private_home();
        let precious = home.path().join("precious");
        fs::write(&precious, "precious").expect("ours");
        std::os::unix::fs::symlink(&precious, home.endpoint().lock_path()).expect("links");
        let said = refuses(Worker::spawn(&mut home.serve(&tiny_model())));
        assert!(said.contains(".lock"), "{said}");
        assert_eq!(fs::read_to_string(&precious).expect("still there"), "precious");
        assert!(home.endpoint().lock_path().is_symlink(), "not removed either");
    }

    #[test]
    fn a_lock_that_is_no_file_is_refused() {
        let home = private_home();
        let made = std::process::Command::new("mkfifo").arg(home.endpoint().lock_path()).status();
        assert!(made.expect("a system tool").success());
        let said = refuses(Worker::spawn(&mut home.serve(&tiny_model())));
        assert!(said.contains("is not a regular file"), "{said}");
    }

    #[test]
    fn a_folder_that_is_a_link_is_refused() {
        let home = Home::new();
        let elsewhere = tempfile::tempdir().expect("a folder of ours with mode 700");
        std::os::unix::fs::symlink(elsewhere.path(), home.path()).expect("links");
        let said = refuses(Worker::spawn(&mut home.serve(&tiny_model())));
        assert!(said.contains("symbolic link"), "{said}");
        assert_eq!(home.entries(), Vec::<String>::new());
    }

    #[test]
    fn folder_socket_and_lock_are_for_their_user_alone() {
        let home = Home::new();
        let mut command = home.serve(&tiny_model());
        let _worker = Worker::ready(command.args(["--transport", "local"]));
        let mode = |path: &std::path::Path| {
            fs::symlink_metadata(path).expect("is there").permissions().mode() & 0o777
        };
        assert_eq!(mode(home.path()), 0o700);
        assert_eq!(mode(home.endpoint().address()), 0o600);
        assert_eq!(mode(&home.endpoint().lock_path()), 0o600);
    }

    #[test]
    fn a_path_too_long_for_a_socket_is_refused_with_both_numbers() {
        let home = Home::new();
        let address = home.path().join("x".repeat(SOCKET_PATH_BYTES_MAX)).join("a.sock");
        let bytes = address.as_os_str().len().to_string();
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_embed-worker"));
        command.arg("serve").arg("--model").arg(tiny_model()).arg("--endpoint").arg(address);
        command.args(["--transport", "local"]);
        let said = refuses(Worker::spawn(&mut command));
        assert!(said.contains(&bytes) && said.contains("103"), "{said}");
    }
}

#[cfg(windows)]
mod windows {
    use std::path::Path;

    use embed_protocol::private_file;

    use super::*;
    use crate::support::worker::windows_tool;

    /// Lets everyone write to `path`.
    fn open_to_everyone(path: &Path) {
        let status = windows_tool("let_in").arg(path).status();
        assert!(status.expect("run `cargo build -p embed-windows --examples`").success());
    }

    #[test]
    fn a_folder_that_others_may_write_to_is_refused() {
        let home = Home::new();
        private_file::make_directory(home.path()).expect("ours");
        open_to_everyone(home.path());
        let said = refuses(Worker::spawn(&mut home.serve(&tiny_model())));
        assert!(said.contains("may be written to by everyone"), "{said}");
        assert!(said.contains("EMBED_RUNTIME_DIR"), "{said}");
        assert_eq!(home.entries(), Vec::<String>::new());
    }

    #[test]
    fn folder_key_and_lock_are_for_their_user_alone() {
        let home = Home::new();
        let _worker = Worker::ready(&mut home.serve(&tiny_model()));
        assert_eq!(private_file::directory_fault(home.path()).expect("is told"), None);
        let file = |path: &Path| std::fs::File::open(path).expect("is there");
        let key = [home.endpoint().pipe_path(), home.endpoint().tcp_path()];
        let key = key.iter().find(|path| path.exists()).expect("left");
        assert_eq!(private_file::secret_fault(&file(key)).expect("is told"), None);
        let card = file(&home.endpoint().card_path());
        assert_eq!(private_file::secret_fault(&card).expect("is told"), None);
        let lock = file(&home.endpoint().lock_path());
        assert_eq!(private_file::fault(&lock).expect("is told"), None);
    }
}
