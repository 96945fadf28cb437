//! The worker on a port of 127.0.0.1: chosen by itself or by wish, and deaf to whoever does not know
//! its secret.

use std::time::Duration;

use embed_protocol::secret::{KeyFile, SECRET_BYTES};
use embed_worker::config::STRANGERS_MAX;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::peer::Peer;
use crate::support::worker::{Home, PATIENCE, Worker, tiny_model};

/// A worker on TCP, where it lives, and what it has left for its clients.
fn serve(idle_timeout: &str) -> (Home, Worker, KeyFile) {
    let home = Home::new();
    let mut command = home.serve(&tiny_model());
    command.args(["--transport", "tcp", "--idle-timeout", idle_timeout]);
    let worker = Worker::ready(&mut command);
    let key = home.key().expect("left before it is ready");
    (home, worker, key)
}

/// Connects, and proves nothing.
async fn stranger(key: &KeyFile) -> TcpStream {
    TcpStream::connect(("127.0.0.1", key.port)).await.expect("the worker listens")
}

/// Everything that the worker says to `stream` before it closes it.
async fn heard(stream: &mut TcpStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    let end = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut bytes)).await;
    // Closed while something that we sent lay unread is as good.
    let _ = end.expect("the worker closes the connection");
    bytes
}

#[tokio::test]
async fn a_worker_on_tcp_serves_and_leaves_nothing_behind() {
    let (home, worker, key) = serve("0");
    assert_eq!(key.pid, worker.pid());
    let (mut peer, hello) = Peer::introduced(&home).await;
    assert_eq!(hello.pid, worker.pid());
    peer.is_served().await;
    let mut names = home.entries();
    names.sort();
    assert_eq!(names.len(), 3, "card, key and lock, no socket: {names:?}");
    drop(peer);
    worker.leaves(&home);
}

#[cfg(unix)]
#[tokio::test]
async fn a_path_too_long_for_a_socket_makes_it_choose_tcp_by_itself() {
    let home = Home::deep();
    let worker = Worker::spawn(home.serve(&tiny_model()).args(["--idle-timeout", "0"]));
    let line = worker.line().expect("a line on standard output");
    assert!(line.contains(r#""transport":"tcp""#), "{line}");
    Peer::open(&home).await.is_served().await;
    worker.leaves(&home);
}

#[tokio::test]
async fn the_environment_chooses_and_a_word_that_is_no_choice_is_named() {
    for (word, said) in [("tcp", r#""transport":"tcp""#), ("local", r#""transport":"local""#)] {
        let home = Home::new();
        let worker = Worker::spawn(home.serve(&tiny_model()).env("EMBED_TRANSPORT", word));
        let line = worker.line().expect("a line on standard output");
        assert!(line.contains(said), "{line}");
        Peer::open(&home).await.is_served().await;
    }
    let home = Home::new();
    let (status, stderr) =
        Worker::spawn(home.serve(&tiny_model()).env("EMBED_TRANSPORT", "udp")).end();
    assert_eq!(status.code(), Some(2), "{stderr}");
    assert!(stderr.contains("`udp`") && stderr.contains("`local`"), "{stderr}");
}

#[tokio::test]
async fn a_second_worker_that_may_not_use_tcp_says_why_it_is_of_no_use() {
    let (home, _worker, _) = serve("30");
    let second = Worker::spawn(home.serve(&tiny_model()).args(["--transport", "local"]));
    let line = second.line().expect("a line on standard output");
    assert!(line.contains("EMBED_WORKER_UNAVAILABLE") && line.contains("=local"), "{line}");
    assert_eq!(second.end().0.code(), Some(1));
    for transport in ["auto", "tcp"] {
        let third = Worker::spawn(home.serve(&tiny_model()).args(["--transport", transport]));
        let line = third.line().expect("a line on standard output");
        assert!(line.starts_with(r#"{"exists":"#), "{line}");
        assert!(third.end().0.success());
    }
    Peer::open(&home).await.is_served().await;
}

#[tokio::test]
async fn a_killed_workers_key_is_replaced_by_one_with_another_secret() {
    let (home, killed, old) = serve("30");
    killed.kill();
    assert_eq!(home.key().as_ref(), Some(&old), "a killed worker leaves its key");
    let mut command = home.serve(&tiny_model());
    let worker = Worker::ready(command.args(["--transport", "tcp", "--idle-timeout", "0"]));
    let new = home.key().expect("left");
    assert_ne!(new.secret, old.secret);
    assert_eq!(new.pid, worker.pid());
    Peer::open(&home).await.is_served().await;
    worker.leaves(&home);
}

/// Else a client would find the port of a dead worker, which may be anybody's.
#[tokio::test]
async fn a_killed_workers_key_is_gone_when_its_successor_has_a_socket() {
    let (home, killed, _) = serve("30");
    killed.kill();
    let mut command = home.serve(&tiny_model());
    let worker = Worker::ready(command.args(["--transport", "local", "--idle-timeout", "0"]));
    assert!(!home.endpoint().tcp_path().exists());
    Peer::open(&home).await.is_served().await;
    worker.leaves(&home);
}

#[tokio::test]
async fn who_does_not_know_the_secret_hears_a_challenge_and_nothing_else() {
    let (home, worker, key) = serve("30");
    let mut neighbour = Peer::open(&home).await;
    let hello = b"\x27\x00\x00\x00\x81\xa5hello and so on, as if there were no handshake";
    for proof in [[0; SECRET_BYTES], [0xff; SECRET_BYTES]] {
        let mut stranger = stranger(&key).await;
        stranger.write_all(&[&[1; SECRET_BYTES][..], &proof, hello].concat()).await.expect("room");
        let heard = heard(&mut stranger).await;
        assert_eq!(heard.len(), 2 * SECRET_BYTES, "{heard:?}");
    }
    for sent in [&b""[..], b"GET / HTTP/1.1\r\n\r\n"] {
        let mut stranger = stranger(&key).await;
        stranger.write_all(sent).await.expect("room");
        stranger.shutdown().await.expect("still open");
        assert_eq!(heard(&mut stranger).await, b"", "after {sent:?}");
    }
    neighbour.is_served().await;
    assert_eq!(neighbour.stats().await.connections, 1, "strangers hold no place");
    assert_eq!(neighbour.stats().await.errors, 0);
    drop(worker);
}

#[tokio::test]
async fn strangers_neither_lock_clients_out_nor_are_kept_for_ever() {
    let (home, _worker, key) = serve("30");
    let mut strangers = Vec::new();
    for _ in 0..STRANGERS_MAX * 3 {
        strangers.push(stranger(&key).await);
        if strangers.len() % STRANGERS_MAX == 0 {
            Peer::open(&home).await.is_served().await;
        }
    }
    // The oldest made room at once, the newest have had their time.
    for mut stranger in strangers {
        assert_eq!(heard(&mut stranger).await, b"");
    }
    Peer::open(&home).await.is_served().await;
}

#[tokio::test]
async fn strangers_do_not_keep_a_worker_alive() {
    let (home, worker, key) = serve("0.2");
    Peer::open(&home).await.is_served().await;
    let port = key.port;
    let visits = tokio::spawn(async move {
        while let Ok(stream) = TcpStream::connect(("127.0.0.1", port)).await {
            tokio::time::sleep(Duration::from_millis(20)).await;
            drop(stream);
        }
    });
    let lingering = stranger(&key).await;
    tokio::time::timeout(PATIENCE, visits).await.expect("the port is closed").expect("no panic");
    worker.leaves(&home);
    drop(lingering);
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn the_secret_is_in_its_file_and_nowhere_else_that_can_be_read() {
    use std::os::unix::fs::PermissionsExt;

    use embed_protocol::secret::Secret;

    let home = Home::new();
    let mut command = home.serve(&tiny_model());
    command.args(["--transport", "tcp", "--idle-timeout", "0"]).env("EMBED_LOG", "trace");
    let worker = Worker::spawn(&mut command);
    let line = worker.line().expect("a line on standard output");
    let path = home.endpoint().tcp_path();
    let mode = std::fs::metadata(&path).expect("left").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let key = std::fs::read(&path).expect("ours");
    let secret = &key[KeyFile::BYTES - SECRET_BYTES..];
    assert_ne!(KeyFile::from_bytes(&key).expect("whole").secret, Secret::from_bytes([0; 32]));
    let process = |file: &str| std::fs::read(format!("/proc/{}/{file}", worker.pid())).expect(file);
    let (arguments, environment) = (process("cmdline"), process("environ"));
    let mut failed = stranger(&home.key().expect("left")).await;
    failed.write_all(&[7; 2 * SECRET_BYTES]).await.expect("room");
    heard(&mut failed).await;
    Peer::open(&home).await.is_served().await;
    let (status, stderr) = worker.end();
    assert!(status.success() && stderr.contains("DEBUG"), "{stderr}");
    let hex: String = secret.iter().map(|byte| format!("{byte:02x}")).collect();
    for (name, bytes) in [
        ("arguments", &arguments[..]),
        ("environment", &environment),
        ("ready line", line.as_bytes()),
        ("log", stderr.as_bytes()),
    ] {
        let shown = String::from_utf8_lossy(bytes).to_lowercase();
        assert!(!bytes.windows(4).any(|part| part == &secret[..4]), "raw in the {name}");
        assert!(!shown.contains(&hex[..8]), "as digits in the {name}");
    }
}
