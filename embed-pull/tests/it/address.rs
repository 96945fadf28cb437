//! Files from addresses that are no hub's.

use std::fs;
use std::io::Write;
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use embed_pull::{PullError, Pulled};
use embed_store::ModelName;

use crate::server::{Request, Server, empty, head, whole};
use crate::support::{Gguf, Notes, World, contents, sha256};

/// A world whose own hub is not used, and an address.
fn world_with(server: &Server) -> (World, ModelName) {
    let world = World::new(&contents(), Box::new(|_, _, _| ()));
    (world, ModelName::Url(format!("{}/m/model.gguf?token=secret", server.address)))
}

fn pull(world: &World, name: &ModelName, sha256: Option<&str>) -> Result<Pulled, PullError> {
    world.puller().pull(name, sha256, &Gguf, &Notes::default())
}

#[test]
fn a_file_from_an_address_is_kept_with_its_digest() {
    let sent = contents();
    let server = Server::start(Box::new(move |request, stream| whole(request, stream, &sent, &[])));
    let (world, name) = world_with(&server);
    let pulled = pull(&world, &name, None).expect("a good server");
    assert!(pulled.path.ends_with("model.gguf") && pulled.path.starts_with(world.folder()));
    let beside = fs::read_to_string(pulled.path.with_file_name("model.gguf.sha256"));
    assert_eq!(beside.expect("written"), format!("{}  model.gguf\n", sha256(&contents())));
    assert_eq!(world.store.find(&name), Some(pulled.path.clone()));
    assert!(!pull(&world, &name, None).expect("it is here").fetched);
    let requests = server.asked("GET");
    assert_eq!(requests.len(), 1);
    assert!(!requests[0].headers.contains_key("authorization"), "the hub's token is the hub's");

    fs::write(&pulled.path, b"GGUF, damaged").expect("ours");
    assert!(pull(&world, &name, None).expect("fetched again").fetched);
    assert_eq!(fs::read(&pulled.path).expect("a file"), *contents());
}

#[test]
fn a_file_that_changes_on_the_server_is_not_put_together_from_two() {
    let (old, new) = (contents(), Arc::new([b"GGUF", &[9; 2 << 20][..]].concat()));
    let expected = Arc::clone(&new);
    let count = AtomicUsize::new(0);
    let server = Server::start(Box::new(move |request, stream| {
        if count.fetch_add(1, Ordering::SeqCst) == 0 {
            let length = format!("Content-Length: {}", old.len());
            head(stream, "200 OK", &[length, "ETag: \"old\"".into()]);
            let _ = stream.write_all(&old[..1_000_000]);
            return;
        }
        assert_eq!(request.headers.get("if-range").map(String::as_str), Some("\"old\""));
        // As RFC 9110 has it: the tag is another's, so the range does not count.
        head(stream, "200 OK", &[format!("Content-Length: {}", new.len()), "ETag: \"new\"".into()]);
        let _ = stream.write_all(&new);
    }));
    let (world, name) = world_with(&server);
    let pulled = pull(&world, &name, None).expect("the new one");
    assert_eq!(fs::read(&pulled.path).expect("a file"), *expected);
}

#[test]
fn an_address_is_held_to_the_digest_that_the_caller_knows_and_to_being_a_model() {
    let sent = contents();
    let server = Server::start(Box::new(move |request, stream| {
        let page = b"<html>".to_vec();
        let contents = if request.path.contains("page") { &page } else { &*sent };
        whole(request, stream, contents, &[]);
    }));
    let (world, name) = world_with(&server);
    let error = pull(&world, &name, Some(&"cd".repeat(32))).expect_err("another").to_string();
    assert!(error.contains("the caller says") && !error.contains("secret"), "{error}");
    assert_eq!(world.store.find(&name), None);
    pull(&world, &name, Some(&sha256(&contents()))).expect("the right one");
    let page = ModelName::Url(format!("{}/page", server.address));
    let error = pull(&world, &page, None).expect_err("a page").to_string();
    assert!(error.contains("is no model"), "{error}");
    assert_eq!(world.store.find(&page), None);
}

/// A server whose first answer has `headers` and breaks off in the middle; `then` gives the others.
fn breaking(
    headers: &[&str],
    then: impl Fn(usize, &Request, &mut TcpStream) + Send + Sync + 'static,
) -> Server {
    let headers: Vec<String> = headers.iter().map(|&header| header.into()).collect();
    let count = AtomicUsize::new(0);
    Server::start(Box::new(move |request, stream| {
        let n = count.fetch_add(1, Ordering::SeqCst);
        if n > 0 {
            return then(n, request, stream);
        }
        let contents = contents();
        let length = [format!("Content-Length: {}", contents.len())];
        head(stream, "200 OK", &[&headers[..], &length].concat());
        let _ = stream.write_all(&contents[..1_000_000]);
    }))
}

/// Another file of the same length.
fn other() -> Vec<u8> {
    let mut other = contents().to_vec();
    other[4..].reverse();
    other
}

#[test]
fn a_part_of_which_nothing_tells_whether_it_is_still_the_files_is_not_gone_on_with() {
    let server = breaking(&[], |_, request, stream| {
        assert_eq!(request.from(), None, "there is nothing to go on with");
        whole(request, stream, &other(), &[]);
    });
    let (world, name) = world_with(&server);
    let pulled = pull(&world, &name, None).expect("all of the other");
    assert_eq!(fs::read(&pulled.path).expect("a file"), other());
}

#[test]
fn a_server_that_knows_of_parts_and_not_of_their_file_is_found_out() {
    // It sends the rest of whatever it has now, under its new name.
    for (old, new) in [
        ("ETag: \"old\"", "ETag: \"new\""),
        (
            "Last-Modified: Thu, 01 Jan 2026 00:00:00 GMT",
            "Last-Modified: Fri, 02 Jan 2026 00:00:00 GMT",
        ),
    ] {
        let server = breaking(&[old], move |_, request, stream| {
            whole(request, stream, &other(), &[new]);
        });
        let (world, name) = world_with(&server);
        let pulled = pull(&world, &name, None).expect("all of the other");
        assert_eq!(fs::read(&pulled.path).expect("a file"), other(), "{new}");
        let asked: Vec<_> = server.asked("GET").iter().map(Request::from).collect();
        assert_eq!(asked, [None, Some(1_000_000), None]);
    }
    // Its new name is not told, but the new length is.
    let server = breaking(&["ETag: \"same\""], |_, request, stream| {
        let longer = [other(), vec![1; 1000]].concat();
        whole(request, stream, &longer, &["ETag: \"same\""]);
    });
    let (world, name) = world_with(&server);
    let pulled = pull(&world, &name, None).expect("all of the other");
    assert!(fs::read(&pulled.path).expect("a file").starts_with(&other()));
}

#[test]
fn a_part_that_is_all_of_it_is_not_fetched_again() {
    let server = Server::start(Box::new(|request, stream| {
        let contents = contents();
        if request.from() == Some(contents.len()) {
            let range = format!("Content-Range: bytes */{}", contents.len());
            return empty(stream, "416 Range Not Satisfiable", &[&range]);
        }
        whole(request, stream, &contents, &["ETag: \"v1\""]);
    }));
    let (world, name) = world_with(&server);
    // As a process has left it that was killed between the last byte and the rename.
    let first = pull(&world, &name, None).expect("a good server");
    let unfinished = first.path.with_file_name("model.gguf.incomplete");
    fs::rename(&first.path, &unfinished).expect("ours");
    fs::write(unfinished.with_file_name("model.gguf.incomplete.validator"), "\"v1\"")
        .expect("ours");
    let again = pull(&world, &name, None).expect("it is all here");
    assert!(again.fetched);
    assert_eq!(fs::read(&again.path).expect("a file"), *contents());
    let asked: Vec<_> = server.asked("GET").iter().map(Request::from).collect();
    assert_eq!(asked, [None, Some(contents().len())]);
}

#[test]
fn how_much_there_is_to_come_is_told_as_soon_as_the_server_says() {
    let sent = contents();
    let server = Server::start(Box::new(move |request, stream| whole(request, stream, &sent, &[])));
    let (world, name) = world_with(&server);
    let notes = Notes::default();
    world.puller().pull(&name, None, &Gguf, &notes).expect("a good server");
    assert!(notes.has(&format!("begins Some({}) 0", contents().len())), "{notes:?}");
}

#[test]
fn an_address_that_is_none_is_told() {
    let (world, _) = world_with(&Server::start(Box::new(|_, _| ())));
    for (address, wanted) in [
        ("http://", "is no address"),
        ("http://exa mple/x", "is no address"),
        ("http://127.0.0.1:9/x", "cannot be reached"),
    ] {
        let error = pull(&world, &ModelName::Url(address.into()), None).expect_err(address);
        assert!(error.to_string().contains(wanted), "{address}: {error}");
    }
}
