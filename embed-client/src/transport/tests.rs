//! Endpoints that are there, missing, unsafe, foreign or taken by somebody else.

use super::*;

use embed_protocol::handshake::WorkerHandshake;
use embed_protocol::secret::{KeyFile, SECRET_BYTES, Secret};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

#[cfg(unix)]
mod unix;
#[cfg(windows)]
mod windows;

/// The worker's secret in these tests.
const SECRET: [u8; SECRET_BYTES] = [0x5e; SECRET_BYTES];

/// How long a worker may take to prove itself.
const PATIENCE: Duration = Duration::from_secs(5);

/// [`super::connect`], with patience.
async fn connect(endpoint: &Endpoint, transport: Transport) -> Result<Reached, Unreachable> {
    super::connect(endpoint, transport, PATIENCE).await
}

/// A directory of this user's alone, in another.
struct Private {
    _parent: tempfile::TempDir,
    path: std::path::PathBuf,
}

impl Private {
    fn new() -> Self {
        let parent = tempfile::tempdir().expect("a directory");
        let path = parent.path().join("run");
        private_file::make_directory(&path).expect("is ours");
        Self { _parent: parent, path }
    }

    fn path(&self) -> &Path {
        &self.path
    }

    /// The endpoint called `name` in it. Pipes have no directory, so that the name must be unique.
    fn endpoint(&self, name: &str) -> Endpoint {
        Endpoint::in_dir(&self.path, &format!("test-{}-{name}", std::process::id()))
    }
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
    let path = endpoint.tcp_path();
    private_file::replace(&path, &path.with_extension("new"), &key.to_bytes()).expect("is ours");
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

#[test]
fn a_missing_directory_is_no_fault() {
    let dir = Private::new();
    assert!(check_directory(&dir.path().join("none")).is_ok());
}

#[tokio::test]
async fn a_missing_socket_means_that_nobody_listens() {
    let dir = Private::new();
    for (_, transport) in Transport::NAMES {
        let found = connect(&dir.endpoint("none"), transport).await;
        assert!(matches!(found, Err(Unreachable::NobodyListens)), "{found:?}");
    }
}

#[tokio::test]
async fn a_worker_on_tcp_is_reached_when_it_has_proven_itself() {
    let dir = Private::new();
    let endpoint = dir.endpoint("tcp");
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
    let dir = Private::new();
    let endpoint = dir.endpoint("stale");
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
    let dir = Private::new();
    let endpoint = dir.endpoint("other");
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
    let dir = Private::new();
    let endpoint = dir.endpoint("silent");
    let _listener = listen(&endpoint).await;
    let found = connect(&endpoint, Transport::Auto).await;
    assert!(matches!(found, Err(Unreachable::Silent { pid: 4711 })), "{found:?}");
}

#[tokio::test]
async fn a_port_at_which_nobody_listens_any_more_is_no_fault() {
    let dir = Private::new();
    let endpoint = dir.endpoint("closed");
    drop(listen(&endpoint).await);
    let found = connect(&endpoint, Transport::Auto).await;
    assert!(matches!(found, Err(Unreachable::NobodyListens)), "{found:?}");
}

#[tokio::test]
async fn nonsense_is_no_key() {
    let dir = Private::new();
    let endpoint = dir.endpoint("nonsense");
    let path = endpoint.tcp_path();
    for length in [0, KeyFile::BYTES - 1, KeyFile::BYTES + 1, 1 << 20] {
        let bytes = vec![b'x'; length];
        private_file::replace(&path, &path.with_extension("new"), &bytes).expect("is ours");
        let found = connect(&endpoint, Transport::Auto).await;
        assert!(matches!(found, Err(Unreachable::NobodyListens)), "{length} bytes: {found:?}");
    }
}

#[tokio::test]
async fn a_directory_in_the_place_of_a_key_is_refused_with_its_name() {
    let dir = Private::new();
    let endpoint = dir.endpoint("folder");
    std::fs::create_dir(endpoint.tcp_path()).expect("is ours");
    let message = refusal(connect(&endpoint, Transport::Auto).await);
    assert!(message.contains("folder.tcp"), "{message}");
}
