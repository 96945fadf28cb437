//! Servers that mean harm, or do not know better: nobody waits for ever, and no disk fills for nothing.

use std::fs;
use std::io::Write;
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use embed_pull::PullError;
use embed_store::ModelName;

use crate::server::{Server, empty, head, whole};
use crate::support::{Gguf, Notes, World, contents};

/// A world whose network answers everything so.
fn world(answer: impl Fn(&mut TcpStream) + Send + Sync + 'static) -> World {
    World::new(&contents(), Box::new(move |_, _, stream| answer(stream)))
}

fn fails(world: &World) -> PullError {
    let error = world.pull().expect_err("it is no good server");
    world.assert_nothing_is_stored();
    error
}

#[test]
fn a_byte_now_and_then_is_no_download() {
    let world = world(|stream| {
        let contents = contents();
        head(stream, "200 OK", &[format!("Content-Length: {}", contents.len())]);
        // Never silent for long, until the client has had enough.
        for byte in contents.iter() {
            if stream.write_all(&[*byte]).is_err() {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    });
    let error = fails(&world);
    assert!(matches!(error, PullError::GaveUp { tries: 4, .. }), "{error:?}");
    assert!(error.to_string().contains("sends next to nothing"), "{error}");
}

#[test]
fn a_head_that_does_not_end_is_given_up() {
    let world = world(|stream| {
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n");
        // Megabytes, if somebody takes them.
        for n in 0..100_000 {
            if write!(stream, "X-{n}: {}\r\n", "x".repeat(100)).is_err() {
                return;
            }
        }
    });
    fails(&world);
}

#[test]
fn bytes_that_come_packed_are_not_taken_for_the_file() {
    let world = world(|stream| {
        let lines = ["Content-Encoding: gzip".into(), "Content-Length: 4".into()];
        head(stream, "200 OK", &lines);
        let _ = stream.write_all(b"\x1f\x8b\x08\x00");
    });
    assert!(fails(&world).to_string().contains("packed (`gzip`)"));
}

#[test]
fn what_is_no_model_is_known_by_its_first_bytes() {
    let sent = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&sent);
    let server = Server::start(Box::new(move |_, stream| {
        // As long as somebody takes them.
        head(stream, "200 OK", &["Content-Type: text/html".into()]);
        let page = b"<html>Please sign in</html>".repeat(1000);
        while stream.write_all(&page).is_ok() {
            count.fetch_add(page.len() as u64, Ordering::SeqCst);
        }
    }));
    let world = World::new(&contents(), Box::new(|_, _, _| ()));
    let name = ModelName::Url(format!("{}/model.gguf", server.address));
    let error = world.puller().pull(&name, None, &Gguf, &Notes::default()).expect_err("a page");
    assert!(matches!(error, PullError::NoModel { .. }), "{error:?}");
    assert_eq!(world.store.find(&name), None);
    let folder = world.store.download(&format!("{}/model.gguf", server.address));
    let folder = folder.expect("a place").parent().expect("a folder").to_owned();
    for entry in fs::read_dir(folder).expect("made").map(|entry| entry.expect("an entry")) {
        assert_eq!(entry.metadata().expect("ours").len(), 0, "{entry:?}");
    }
    // What sockets hold, and not what a disk holds.
    assert!(sent.load(Ordering::SeqCst) < 64 << 20);
}

#[test]
fn a_file_that_is_found_wanting_at_its_end_is_not_kept() {
    let broken = [&contents()[..], b"broken"].concat();
    let world = World::new(
        &broken.clone(),
        Box::new(move |_, request, stream| {
            whole(request, stream, &broken, &[]);
        }),
    );
    assert!(matches!(fails(&world), PullError::NoModel { .. }));
    assert_eq!(fs::read_dir(world.blobs()).expect("a folder").count(), 0);
}

#[test]
fn a_last_byte_that_never_comes_is_asked_for_and_nothing_else() {
    let world = World::new(
        &contents(),
        Box::new(|n, request, stream| {
            let contents = contents();
            if n > 0 {
                return whole(request, stream, &contents, &[]);
            }
            head(stream, "200 OK", &[format!("Content-Length: {}", contents.len())]);
            let _ = stream.write_all(&contents[..contents.len() - 1]);
        }),
    );
    let pulled = world.pull().expect("it comes in the end");
    assert_eq!(fs::read(&pulled.path).expect("a file"), *contents());
    let last = world.network.asked("GET").last().and_then(|request| request.from());
    assert_eq!(last, Some(contents().len() - 1));
}

#[test]
fn a_server_that_refers_to_something_else_than_the_web_is_not_followed() {
    for location in ["file:///etc/passwd", "ftp://127.0.0.1/x", "//", "http://", "\\\\x"] {
        let line = format!("Location: {location}");
        let world = world(move |stream| empty(stream, "302 Found", &[&line]));
        let error = fails(&world);
        assert!(!error.to_string().contains("root:"), "{location}: {error}");
    }
}
