//! Files from addresses that are no hub's.

use std::fs;
use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use embed_pull::{PullError, Pulled};
use embed_store::ModelName;

use crate::server::{Server, head, whole};
use crate::support::{Notes, World, check, contents, sha256};

/// A world whose own hub is not used, and an address.
fn world_with(server: &Server) -> (World, ModelName) {
    let world = World::new(&contents(), Box::new(|_, _, _| ()));
    (world, ModelName::Url(format!("{}/m/model.gguf?token=secret", server.address)))
}

fn pull(world: &World, name: &ModelName, sha256: Option<&str>) -> Result<Pulled, PullError> {
    world.puller().pull(name, sha256, &check, &Notes::default())
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
