//! Another user of the machine, tried for real: can neither connect, nor read the secret, nor take the
//! name first, nor remove what is there.

use std::fs::{self, Permissions};
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::time::Duration;

use crate::support::other_user::{NOBODY, can_become_nobody, intruder, try_as_nobody};
use crate::support::peer::Peer;
use crate::support::worker::{Home, Worker, tiny_model};

/// A worker in a folder that lies where everybody may make one, as under `/tmp`.
fn serve(transport: &str) -> (Home, Worker) {
    let home = Home::new();
    open(home.path().parent().expect("has one"), 0o1777);
    let mut command = home.serve(&tiny_model());
    let worker = Worker::ready(command.args(["--transport", transport]));
    (home, worker)
}

fn open(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).expect("ours");
}

/// Fails unless the system forbids it.
fn is_forbidden<T: std::fmt::Debug>(what: &str, outcome: std::io::Result<T>) {
    let kind = outcome.as_ref().map_err(std::io::Error::kind);
    assert_eq!(kind.err(), Some(ErrorKind::PermissionDenied), "{what}: {outcome:?}");
}

/// What the worker says to one who has sent a hello.
fn answer_to_hello(mut stream: impl Read + Write) -> Vec<u8> {
    let hello =
        b"\x27\0\0\0\x81\xa5hello\x83\xa8protocol\x01\xa7version\xa50.1.0\xa3pid\xcd\x10\x92";
    // May be closed already.
    let _ = stream.write_all(hello);
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    answer
}

#[tokio::test]
async fn can_not_enter_read_write_remove_or_move_anything() {
    if let Some(intruder) = intruder() {
        let home = Home::at(intruder.home);
        let (endpoint, dir) = (home.endpoint(), home.path());
        is_forbidden("list", fs::read_dir(dir));
        is_forbidden("connect", UnixStream::connect(endpoint.address()));
        is_forbidden("read the key", fs::read(endpoint.tcp_path()));
        is_forbidden("lock", fs::File::open(endpoint.lock_path()));
        is_forbidden("remove the socket", fs::remove_file(endpoint.address()));
        is_forbidden("remove the lock", fs::remove_file(endpoint.lock_path()));
        is_forbidden("add a file", fs::write(dir.join("mine.sock"), ""));
        is_forbidden("bind beside it", UnixListener::bind(dir.join("mine.sock")));
        // The folder around is everybody's, but sticky.
        let moved = fs::rename(dir, dir.with_extension("moved"));
        is_forbidden("move the folder", moved);
        is_forbidden("open the folder", fs::set_permissions(dir, Permissions::from_mode(0o777)));
        return;
    }
    let test = "other_user::can_not_enter_read_write_remove_or_move_anything";
    if !can_become_nobody(test) {
        return;
    }
    for transport in ["local", "tcp"] {
        let (home, _worker) = serve(transport);
        try_as_nobody(test, home.path(), 0);
        Peer::open(&home).await.is_served().await;
    }
}

/// The directory is the first wall; the worker asks the system who connects, as if there were none.
#[tokio::test]
async fn is_not_listened_to_even_where_the_folder_and_the_socket_stand_open() {
    if let Some(intruder) = intruder() {
        let home = Home::at(intruder.home);
        let stream = UnixStream::connect(home.endpoint().address()).expect("stands open");
        stream.set_read_timeout(Some(Duration::from_secs(20))).expect("a socket");
        assert_eq!(answer_to_hello(stream), b"");
        return;
    }
    let test = "other_user::is_not_listened_to_even_where_the_folder_and_the_socket_stand_open";
    if !can_become_nobody(test) {
        return;
    }
    let (home, worker) = serve("local");
    let mut neighbour = Peer::open(&home).await;
    open(home.path(), 0o777);
    open(home.endpoint().address(), 0o666);
    try_as_nobody(test, home.path(), 0);
    neighbour.is_served().await;
    assert_eq!(neighbour.stats().await.connections, 1);
    drop(neighbour);
    worker.signal(rustix::process::Signal::TERM);
    let (_, stderr) = worker.end();
    assert!(stderr.contains("another user") && stderr.contains("65534"), "{stderr}");
}

#[tokio::test]
async fn reaches_the_port_but_neither_the_secret_nor_the_worker() {
    if let Some(intruder) = intruder() {
        let home = Home::at(intruder.home);
        is_forbidden("read the key", fs::read(home.endpoint().tcp_path()));
        let stream = TcpStream::connect(("127.0.0.1", intruder.port)).expect("a port is open");
        stream.set_read_timeout(Some(Duration::from_secs(20))).expect("a socket");
        // The hello is a nonce for the worker, and what should be the proof is missing or wrong.
        let answer = answer_to_hello(&stream);
        assert!(answer.is_empty() || answer.len() == 64, "{answer:?}");
        return;
    }
    let test = "other_user::reaches_the_port_but_neither_the_secret_nor_the_worker";
    if !can_become_nobody(test) {
        return;
    }
    let (home, _worker) = serve("tcp");
    let mut neighbour = Peer::open(&home).await;
    let port = home.key().expect("left").port;
    // As if the folder's permissions had been spoilt: the file has its own.
    open(home.path(), 0o755);
    try_as_nobody(test, home.path(), port);
    neighbour.is_served().await;
    assert_eq!(neighbour.stats().await.connections, 1);
}

#[tokio::test]
async fn may_take_the_folders_name_first_but_then_it_is_not_used() {
    if let Some(intruder) = intruder() {
        let home = Home::at(intruder.home);
        fs::DirBuilder::new().mode(0o700).create(home.path()).expect("everybody may");
        // Ready for the victim's texts.
        let _squatter = UnixListener::bind(home.endpoint().address()).expect("binds");
        fs::write(home.endpoint().tcp_path(), [0; 50]).expect("its own");
        return;
    }
    let test = "other_user::may_take_the_folders_name_first_but_then_it_is_not_used";
    if !can_become_nobody(test) {
        return;
    }
    let home = Home::new();
    open(home.path().parent().expect("has one"), 0o1777);
    try_as_nobody(test, home.path(), 0);
    let laid = home.entries();
    for mode in [0o700, 0o777] {
        open(home.path(), mode);
        for transport in ["auto", "tcp"] {
            let worker = Worker::spawn(home.serve(&tiny_model()).args(["--transport", transport]));
            let line = worker.line().expect("a line on standard output");
            assert!(line.contains("EMBED_WORKER_UNAVAILABLE"), "{line}");
            assert!(line.contains(&format!("belongs to user {NOBODY}, not to 0")), "{line}");
            assert!(line.contains("EMBED_RUNTIME_DIR"), "{line}");
            assert_eq!(worker.end().0.code(), Some(1));
        }
    }
    assert_eq!(home.entries(), laid, "nothing of it was touched");
}

#[tokio::test]
async fn lays_a_lock_or_a_link_where_it_could_and_it_is_refused() {
    let test = "other_user::lays_a_lock_or_a_link_where_it_could_and_it_is_refused";
    if !can_become_nobody(test) {
        return;
    }
    // As if the folder had stood open for a while.
    let home = Home::new();
    fs::DirBuilder::new().mode(0o700).create(home.path()).expect("ours");
    let lock = home.endpoint().lock_path();
    fs::write(&lock, "").expect("ours");
    std::os::unix::fs::chown(&lock, Some(NOBODY), Some(NOBODY)).expect("root may");
    let worker = Worker::spawn(&mut home.serve(&tiny_model()));
    let line = worker.line().expect("a line on standard output");
    assert!(line.contains(&format!("belongs to user {NOBODY}")), "{line}");
    assert!(line.contains("remove it"), "{line}");
    assert_eq!(worker.end().0.code(), Some(1));
    fs::remove_file(&lock).expect("ours");
    // A key of another's that a link leads to is replaced, and what the link leads to is not touched.
    let precious = home.path().join("precious");
    fs::write(&precious, "precious").expect("ours");
    for name in [home.endpoint().tcp_path(), home.endpoint().tcp_path().with_extension("new")] {
        std::os::unix::fs::symlink(&precious, name).expect("links");
    }
    let _worker = Worker::ready(home.serve(&tiny_model()).args(["--transport", "tcp"]));
    assert!(!home.endpoint().tcp_path().is_symlink());
    assert_eq!(fs::read_to_string(&precious).expect("still there"), "precious");
    Peer::open(&home).await.is_served().await;
}
