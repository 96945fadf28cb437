//! Sockets, modes, links, and what other users have put there.

use super::*;
use std::fs::{Permissions, set_permissions};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;

#[tokio::test]
async fn a_directory_that_others_may_enter_is_refused_by_every_way() {
    for mode in [0o755, 0o770, 0o701] {
        let dir = Private::new();
        set_permissions(dir.path(), Permissions::from_mode(mode)).expect("is ours");
        for (_, transport) in Transport::NAMES {
            let message = refusal(connect(&dir.endpoint("a"), transport).await);
            assert!(message.contains(&format!("{mode:o}")), "{message}");
            assert!(message.contains("EMBED_RUNTIME_DIR"), "{message}");
        }
    }
    let dir = Private::new();
    assert!(check_directory(dir.path()).is_ok());
}

#[test]
fn a_link_to_a_directory_is_refused() {
    let dir = Private::new();
    let link = dir.path().join("link");
    std::os::unix::fs::symlink(dir.path(), &link).expect("links");
    assert!(check_directory(&link).is_err());
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
async fn a_socket_without_a_listener_means_that_nobody_listens() {
    let dir = Private::new();
    let endpoint = dir.endpoint("stale");
    drop(UnixListener::bind(endpoint.address()).expect("binds"));
    let found = connect(&endpoint, Transport::Auto).await;
    assert!(matches!(found, Err(Unreachable::NobodyListens)), "{found:?}");
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn the_process_at_the_other_end_is_known_before_it_says_a_word() {
    let dir = Private::new();
    let endpoint = dir.endpoint("mute");
    let _listener = UnixListener::bind(endpoint.address()).expect("binds");
    let reached = connect(&endpoint, Transport::Auto).await.expect("somebody listens");
    assert_eq!(reached.pid, Some(std::process::id()));
}

#[tokio::test]
async fn a_key_that_others_could_have_read_or_written_is_refused_with_its_name() {
    let dir = Private::new();
    let endpoint = dir.endpoint("open");
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
async fn a_key_that_is_a_link_a_directory_or_a_pipe_is_refused() {
    let dir = Private::new();
    let endpoint = dir.endpoint("odd");
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
        let dir = Private::new();
        let endpoint = dir.endpoint("squatted");
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
        let dir = Private::new();
        let endpoint = dir.endpoint("foreign");
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
        let dir = Private::new();
        set_permissions(dir.path(), Permissions::from_mode(0o777)).expect("is ours");
        let endpoint = dir.endpoint("foreign");
        // By this name, and not by its path, which may lead through directories that nobody may enter.
        let squatter = Command::new("/proc/self/exe")
            .args(["--exact", &format!("transport::tests::unix::foreign::{test}")])
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
