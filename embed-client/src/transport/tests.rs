//! Endpoints that are there, missing, unsafe, foreign or taken by somebody else.

use super::*;
use std::fs::{Permissions, set_permissions};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;

use embed_protocol::handshake::WorkerHandshake;
use embed_protocol::secret::{KeyFile, SECRET_BYTES, Secret};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// The worker's secret in these tests.
const SECRET: [u8; SECRET_BYTES] = [0x5e; SECRET_BYTES];

/// How long a worker may take to prove itself.
const PATIENCE: Duration = Duration::from_secs(5);

/// [`super::connect`], with patience.
async fn connect(endpoint: &Endpoint, transport: Transport) -> Result<Reached, Unreachable> {
    super::connect(endpoint, transport, PATIENCE).await
}

fn directory(mode: u32) -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("a directory");
    set_permissions(dir.path(), Permissions::from_mode(mode)).expect("is ours");
    dir
}

/// What a client reads that may not go on.
fn refusal(found: Result<Reached, Unreachable>) -> String {
    match found {
        Err(Unreachable::Forbidden(error)) => error.message(),
        other => panic!("{other:?}"),
    }
}

/// Leaves a key as a worker that listens on `port` does.
fn leave_key(endpoint: &Endpoint, port: u16) {
    let key = KeyFile { port, pid: 4711, secret: Secret::from_bytes(SECRET) };
    std::fs::write(endpoint.tcp_path(), key.to_bytes()).expect("is ours");
    set_permissions(endpoint.tcp_path(), Permissions::from_mode(0o600)).expect("is ours");
}

/// A port at which the key of `endpoint` says that a worker listens.
async fn listen(endpoint: &Endpoint) -> TcpListener {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    leave_key(endpoint, listener.local_addr().expect("bound").port());
    listener
}

/// The worker's part of the handshake.
async fn prove(stream: &mut TcpStream, secret: [u8; SECRET_BYTES]) {
    let mut nonce = [0; SECRET_BYTES];
    stream.read_exact(&mut nonce).await.expect("a nonce");
    let secret = Secret::from_bytes(secret);
    let handshake = WorkerHandshake::new(&secret, [9; SECRET_BYTES], nonce);
    stream.write_all(&handshake.challenge()).await.expect("room");
    let mut proof = [0; SECRET_BYTES];
    if stream.read_exact(&mut proof).await.is_ok() {
        handshake.finish(&proof).expect("the client knows the secret");
    }
}

#[tokio::test]
async fn a_directory_that_others_may_enter_is_refused_by_every_way() {
    for mode in [0o755, 0o770, 0o701] {
        let dir = directory(mode);
        for (_, transport) in Transport::NAMES {
            let message = refusal(connect(&Endpoint::in_dir(dir.path(), "a"), transport).await);
            assert!(message.contains(&format!("{mode:o}")), "{message}");
            assert!(message.contains("EMBED_RUNTIME_DIR"), "{message}");
        }
    }
    let dir = directory(0o700);
    assert!(check_directory(dir.path()).is_ok());
}

#[test]
fn a_link_to_a_directory_is_refused() {
    let dir = directory(0o700);
    let link = dir.path().join("link");
    std::os::unix::fs::symlink(dir.path(), &link).expect("links");
    assert!(check_directory(&link).is_err());
}

#[test]
fn a_missing_directory_is_no_fault() {
    let dir = directory(0o700);
    assert!(check_directory(&dir.path().join("none")).is_ok());
}

#[tokio::test]
async fn a_path_too_long_for_a_socket_is_refused_with_both_numbers_unless_there_is_another_way() {
    let of_bytes =
        |bytes: usize| Endpoint::at(Path::new("/none").join("x".repeat(bytes - "/none/".len())));
    let message = refusal(connect(&of_bytes(104), Transport::Local).await);
    assert!(message.contains("104") && message.contains("103"), "{message}");
    for (bytes, transport) in [(103, Transport::Local), (104, Transport::Auto)] {
        let found = connect(&of_bytes(bytes), transport).await;
        assert!(matches!(found, Err(Unreachable::NobodyListens)), "{found:?}");
    }
}

#[tokio::test]
async fn a_missing_socket_means_that_nobody_listens() {
    let dir = directory(0o700);
    for (_, transport) in Transport::NAMES {
        let found = connect(&Endpoint::in_dir(dir.path(), "none"), transport).await;
        assert!(matches!(found, Err(Unreachable::NobodyListens)), "{found:?}");
    }
}

#[tokio::test]
async fn a_socket_without_a_listener_means_that_nobody_listens() {
    let dir = directory(0o700);
    let endpoint = Endpoint::in_dir(dir.path(), "stale");
    drop(UnixListener::bind(endpoint.address()).expect("binds"));
    let found = connect(&endpoint, Transport::Auto).await;
    assert!(matches!(found, Err(Unreachable::NobodyListens)), "{found:?}");
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn the_process_at_the_other_end_is_known_before_it_says_a_word() {
    let dir = directory(0o700);
    let endpoint = Endpoint::in_dir(dir.path(), "mute");
    let _listener = UnixListener::bind(endpoint.address()).expect("binds");
    let reached = connect(&endpoint, Transport::Auto).await.expect("somebody listens");
    assert_eq!(reached.pid, Some(std::process::id()));
}

#[tokio::test]
async fn a_worker_on_tcp_is_reached_when_it_has_proven_itself() {
    let dir = directory(0o700);
    let endpoint = Endpoint::in_dir(dir.path(), "tcp");
    let listener = listen(&endpoint).await;
    let worker = tokio::spawn(async move {
        for _ in 0..2 {
            let (mut stream, _) = listener.accept().await.expect("a client");
            prove(&mut stream, SECRET).await;
            stream.write_all(b"frames").await.expect("room");
        }
    });
    for transport in [Transport::Auto, Transport::Tcp] {
        let mut reached = connect(&endpoint, transport).await.expect("is the worker");
        assert_eq!(reached.pid, Some(4711), "the one in the key");
        let mut frames = [0; 6];
        reached.stream.read_exact(&mut frames).await.expect("what follows");
        assert_eq!(&frames, b"frames");
    }
    worker.await.expect("both were reached");
    let found = connect(&endpoint, Transport::Local).await;
    assert!(matches!(found, Err(Unreachable::NobodyListens)), "forbidden by choice: {found:?}");
}

#[tokio::test]
async fn who_has_taken_the_port_of_a_dead_worker_hears_one_nonce_and_nothing_else() {
    let dir = directory(0o700);
    let endpoint = Endpoint::in_dir(dir.path(), "stale");
    let listener = listen(&endpoint).await;
    let impostor = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.expect("a client");
        let mut heard = vec![0; SECRET_BYTES];
        stream.read_exact(&mut heard).await.expect("a nonce");
        // It echoes what it has heard, for want of anything better.
        stream.write_all(&heard.repeat(2)).await.expect("room");
        stream.read_to_end(&mut heard).await.expect("the end");
        heard
    });
    let found = connect(&endpoint, Transport::Auto).await;
    assert!(matches!(found, Err(Unreachable::NobodyListens)), "{found:?}");
    let heard = impostor.await.expect("no panic");
    assert_eq!(heard.len(), SECRET_BYTES);
    assert!(!heard.windows(4).any(|bytes| bytes == &SECRET[..4]), "the secret does not travel");
}

#[tokio::test]
async fn a_worker_with_another_secret_is_not_believed() {
    let dir = directory(0o700);
    let endpoint = Endpoint::in_dir(dir.path(), "other");
    let listener = listen(&endpoint).await;
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.expect("a client");
        prove(&mut stream, [0; SECRET_BYTES]).await;
    });
    let found = connect(&endpoint, Transport::Tcp).await;
    assert!(matches!(found, Err(Unreachable::NobodyListens)), "{found:?}");
}

#[tokio::test(start_paused = true)]
async fn who_accepts_and_says_nothing_is_not_awaited_for_ever_and_named() {
    let dir = directory(0o700);
    let endpoint = Endpoint::in_dir(dir.path(), "silent");
    let _listener = listen(&endpoint).await;
    let found = connect(&endpoint, Transport::Auto).await;
    assert!(matches!(found, Err(Unreachable::Silent { pid: 4711 })), "{found:?}");
}

#[tokio::test]
async fn a_port_at_which_nobody_listens_any_more_is_no_fault() {
    let dir = directory(0o700);
    let endpoint = Endpoint::in_dir(dir.path(), "closed");
    drop(listen(&endpoint).await);
    let found = connect(&endpoint, Transport::Auto).await;
    assert!(matches!(found, Err(Unreachable::NobodyListens)), "{found:?}");
}

#[tokio::test]
async fn a_key_that_others_could_have_read_or_written_is_refused_with_its_name() {
    let dir = directory(0o700);
    let endpoint = Endpoint::in_dir(dir.path(), "open");
    leave_key(&endpoint, 1);
    let path = endpoint.tcp_path();
    for mode in [0o644, 0o660, 0o602] {
        set_permissions(&path, Permissions::from_mode(mode)).expect("is ours");
        let message = refusal(connect(&endpoint, Transport::Auto).await);
        assert!(message.contains(&format!("{mode:o}")), "{message}");
        assert!(message.contains("open.tcp"), "{message}");
    }
}

#[tokio::test]
async fn a_key_that_is_a_link_a_directory_or_a_pipe_is_refused_and_nonsense_is_no_key() {
    let dir = directory(0o700);
    let endpoint = Endpoint::in_dir(dir.path(), "odd");
    let path = endpoint.tcp_path();
    leave_key(&endpoint, 1);
    let elsewhere = dir.path().join("elsewhere");
    std::fs::rename(&path, &elsewhere).expect("is ours");
    std::os::unix::fs::symlink(&elsewhere, &path).expect("links");
    refusal(connect(&endpoint, Transport::Auto).await);
    std::fs::remove_file(&path).expect("is ours");
    std::fs::create_dir(&path).expect("is ours");
    refusal(connect(&endpoint, Transport::Auto).await);
    std::fs::remove_dir(&path).expect("is ours");
    // Opening it would wait for a writer for ever.
    let made = std::process::Command::new("mkfifo").arg(&path).status();
    assert!(made.expect("a system tool").success());
    let message = refusal(connect(&endpoint, Transport::Auto).await);
    assert!(message.contains("regular"), "{message}");
    std::fs::remove_file(&path).expect("is ours");
    for length in [0, KeyFile::BYTES - 1, KeyFile::BYTES + 1, 1 << 20] {
        std::fs::write(&path, vec![b'x'; length]).expect("is ours");
        set_permissions(&path, Permissions::from_mode(0o600)).expect("is ours");
        let found = connect(&endpoint, Transport::Auto).await;
        assert!(matches!(found, Err(Unreachable::NobodyListens)), "{length} bytes: {found:?}");
    }
}

/// Other users' things, tried for real. Only root may make them, as CI is; elsewhere these say that
/// they were skipped.
#[cfg(target_os = "linux")]
mod foreign {
    use super::*;
    use std::io::Write;
    use std::os::unix::fs::chown;
    use std::os::unix::process::CommandExt;
    use std::process::{Child, Command, Stdio};

    /// `nobody` on every Linux.
    const NOBODY: u32 = 65_534;

    /// In the environment of the other user's process: where it is to listen.
    const SOCKET: &str = "EMBED_TEST_FOREIGN_SOCKET";

    fn is_root(test: &str) -> bool {
        let is_root = rustix::process::geteuid().is_root();
        if !is_root {
            // Past the harness, which keeps what a passing test prints.
            let _ = writeln!(std::io::stderr(), "SKIPPED, since it takes root: {test}");
        }
        is_root
    }

    #[tokio::test]
    async fn a_directory_of_another_user_is_refused_whatever_lies_in_it() {
        if !is_root("a_directory_of_another_user_is_refused_whatever_lies_in_it") {
            return;
        }
        let dir = directory(0o700);
        let endpoint = Endpoint::in_dir(dir.path(), "squatted");
        let _squatter = UnixListener::bind(endpoint.address()).expect("binds");
        let _listener = listen(&endpoint).await;
        chown(dir.path(), Some(NOBODY), Some(NOBODY)).expect("root may");
        for (_, transport) in Transport::NAMES {
            let message = refusal(connect(&endpoint, transport).await);
            assert!(message.contains("belongs to user 65534, not to 0"), "{message}");
            assert!(message.contains("EMBED_RUNTIME_DIR"), "{message}");
        }
    }

    #[tokio::test]
    async fn a_key_of_another_user_is_refused() {
        if !is_root("a_key_of_another_user_is_refused") {
            return;
        }
        let dir = directory(0o700);
        let endpoint = Endpoint::in_dir(dir.path(), "foreign");
        let _listener = listen(&endpoint).await;
        chown(endpoint.tcp_path(), Some(NOBODY), Some(NOBODY)).expect("root may");
        let message = refusal(connect(&endpoint, Transport::Auto).await);
        assert!(message.contains("belongs to user 65534, not to 0"), "{message}");
    }

    /// Ends with the value.
    struct Squatter(Child);

    impl Drop for Squatter {
        fn drop(&mut self) {
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }

    /// The directory is the first wall; the client asks the system who listens, as if there were none.
    #[tokio::test]
    async fn a_socket_at_which_another_users_process_listens_is_refused() {
        let test = "a_socket_at_which_another_users_process_listens_is_refused";
        if let Some(path) = std::env::var_os(SOCKET) {
            let _listener = UnixListener::bind(path).expect("the directory stands open");
            return std::future::pending().await;
        }
        if !is_root(test) {
            return;
        }
        let dir = directory(0o777);
        let endpoint = Endpoint::in_dir(dir.path(), "foreign");
        // By this name, and not by its path, which may lead through directories that nobody may enter.
        let squatter = Command::new("/proc/self/exe")
            .args(["--exact", &format!("transport::tests::foreign::{test}")])
            .env(SOCKET, endpoint.address())
            .current_dir("/")
            .stdout(Stdio::null())
            .uid(NOBODY)
            .gid(NOBODY)
            .spawn()
            .expect("the test binary starts");
        let _squatter = Squatter(squatter);
        let give_up = tokio::time::Instant::now() + Duration::from_secs(30);
        let message = loop {
            match local::connect(&endpoint, PATIENCE).await {
                Err(Unreachable::NobodyListens) => {}
                found => break refusal(found),
            }
            assert!(tokio::time::Instant::now() < give_up, "nobody listens");
            tokio::time::sleep(Duration::from_millis(10)).await;
        };
        assert!(message.contains("runs as user 65534, not as user 0"), "{message}");
    }
}
