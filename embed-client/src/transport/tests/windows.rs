//! Pipes, and access lists of directories and keys.

use std::process::Command;

use embed_windows::pipe::Listener;

use super::*;

/// Lets everyone write to `path`.
fn open_to_everyone(path: &Path) {
    let test = std::env::current_exe().expect("this test has a path");
    let profile = test.parent().and_then(Path::parent).expect("target/PROFILE/deps/TEST");
    let tool = profile.join("examples").join("let_in.exe");
    let status = Command::new(&tool).arg(path).status();
    let status = status.expect("run `cargo build -p embed-windows --examples`");
    assert!(status.success(), "{} failed", tool.display());
}

#[tokio::test]
async fn a_directory_that_others_may_write_to_is_refused_by_every_way() {
    let dir = Private::new();
    open_to_everyone(dir.path());
    for (_, transport) in Transport::NAMES {
        let message = refusal(connect(&dir.endpoint("a"), transport).await);
        assert!(message.contains("may be written to by everyone"), "{message}");
        assert!(message.contains("EMBED_RUNTIME_DIR"), "{message}");
    }
}

#[tokio::test]
async fn a_key_that_others_could_have_read_is_refused_with_its_name() {
    let dir = Private::new();
    let endpoint = dir.endpoint("open");
    leave_key(&endpoint, 1);
    open_to_everyone(&endpoint.tcp_path());
    let message = refusal(connect(&endpoint, Transport::Auto).await);
    assert!(message.contains("open.tcp") && message.contains("everyone"), "{message}");
}

/// Whoever was first with the name; here it is this user, so that only the secret is missing.
#[tokio::test]
async fn a_pipe_whose_maker_does_not_know_the_secret_hears_one_nonce_and_nothing_else() {
    let dir = Private::new();
    let endpoint = dir.endpoint("squatted");
    let pipe = Listener::bind(endpoint.address()).expect("nobody has it");
    let key = KeyFile { port: 0, pid: 4711, secret: Secret::from_bytes(SECRET) };
    let path = endpoint.pipe_path();
    private_file::replace(&path, &path.with_extension("new"), &key.to_bytes()).expect("is ours");
    let impostor = tokio::spawn(async move {
        let mut pipe = pipe.accept().await.expect("a client");
        let mut heard = vec![0; SECRET_BYTES];
        pipe.read_exact(&mut heard).await.expect("a nonce");
        pipe.write_all(&heard.repeat(2)).await.expect("room");
        pipe.read_to_end(&mut heard).await.expect("the end");
        heard
    });
    let found = connect(&endpoint, Transport::Local).await;
    assert!(matches!(found, Err(Unreachable::NobodyListens)), "{found:?}");
    let heard = impostor.await.expect("no panic");
    assert_eq!(heard.len(), SECRET_BYTES, "more than a nonce");
}

#[tokio::test]
async fn a_pipe_without_a_key_is_nobodys() {
    let dir = Private::new();
    let endpoint = dir.endpoint("keyless");
    let _pipe = Listener::bind(endpoint.address()).expect("nobody has it");
    let found = connect(&endpoint, Transport::Auto).await;
    assert!(matches!(found, Err(Unreachable::NobodyListens)), "{found:?}");
}
