//! Files of the hub: where they are put, when they are fetched, and who is told what.

use std::fs;
use std::sync::{Arc, Barrier};

use embed_pull::{Proxies, PullError};
use embed_store::{ModelName, Store};

use crate::server::whole;
use crate::support::{COMMIT, Gguf, Notes, PATIENCE, TOKEN, World, contents, sha256};

fn good_world() -> (World, Arc<Vec<u8>>) {
    let contents = contents();
    let sent = Arc::clone(&contents);
    let world = World::new(
        &contents,
        Box::new(move |_, request, stream| {
            whole(request, stream, &sent, &[]);
        }),
    );
    (world, contents)
}

#[test]
fn a_file_lies_where_hugging_faces_programs_look_for_it() {
    let (world, contents) = good_world();
    let pulled = world.pull().expect("a good hub");
    assert!(pulled.fetched);
    assert_eq!(
        (pulled.bytes, pulled.sha256.as_str()),
        (contents.len() as u64, &*sha256(&contents))
    );
    let repository = world.folder().join("hub/models--a--b");
    assert_eq!(pulled.path, repository.join(format!("snapshots/{COMMIT}/d/f.gguf")));
    assert_eq!(fs::read(&pulled.path).expect("a file"), *contents);
    assert_eq!(fs::read_to_string(repository.join("refs/main")).expect("written"), COMMIT);
    let blob = repository.join("blobs").join(sha256(&contents));
    assert_eq!(fs::read(&blob).expect("a file"), *contents);
    #[cfg(unix)]
    assert_eq!(
        fs::read_link(&pulled.path).expect("a link"),
        std::path::Path::new("../../../blobs").join(sha256(&contents)),
        "relative, so that the cache can be moved"
    );
    let left = fs::read_dir(repository.join("blobs")).expect("a folder").count();
    assert_eq!(left, 1, "nothing unfinished");
    assert_eq!(world.store.find(&ModelName::Hub(world.file.clone())), Some(pulled.path));
}

#[test]
fn a_file_that_is_here_is_not_fetched_again() {
    let (world, _) = good_world();
    assert!(world.pull().expect("a good hub").fetched);
    assert!(!world.pull().expect("a good hub").fetched);
    assert_eq!(world.network.asked("GET").len(), 1);
}

#[test]
fn the_token_goes_to_the_hub_and_nowhere_else() {
    let (world, _) = good_world();
    world.pull().expect("a good hub");
    let told: Vec<_> = [world.hub.asked("HEAD"), world.hub.asked("GET")].concat();
    assert_eq!(told.len(), 2);
    for request in told {
        assert_eq!(request.headers["authorization"], format!("Bearer {TOKEN}"));
    }
    for request in world.network.asked("GET") {
        assert!(!request.headers.contains_key("authorization"), "{request:?}");
    }
}

#[test]
fn a_damaged_file_is_noticed_and_fetched_again() {
    let (world, contents) = good_world();
    world.pull().expect("a good hub");
    let blob = world.blobs().join(sha256(&contents));
    let mut damaged = contents.to_vec();
    damaged[1_000_000] ^= 1;
    for damaged in [damaged, contents[..1000].to_vec(), Vec::new()] {
        fs::write(&blob, &damaged).expect("ours");
        let notes = Notes::default();
        let pulled = world.pull_watched(&notes).expect("a good hub");
        assert!(pulled.fetched && notes.has("damage"));
        assert_eq!(fs::read(&pulled.path).expect("a file"), *contents);
    }
}

#[test]
fn a_link_that_was_lost_is_made_again_without_a_download() {
    let (world, contents) = good_world();
    let pulled = world.pull().expect("a good hub");
    fs::remove_dir_all(world.store.repository(&world.file).join("snapshots")).expect("ours");
    let again = world.pull().expect("a good hub");
    assert_eq!((again.fetched, &again.path), (false, &pulled.path));
    assert_eq!(fs::read(&again.path).expect("a file"), *contents);
}

#[test]
fn of_two_who_want_a_file_at_once_one_fetches_it() {
    let (world, contents) = good_world();
    let start = Barrier::new(4);
    let paths: Vec<_> = std::thread::scope(|scope| {
        let pullers: Vec<_> = (0..4)
            .map(|_| {
                scope.spawn(|| {
                    start.wait();
                    world.pull().expect("a good hub")
                })
            })
            .collect();
        pullers.into_iter().map(|puller| puller.join().expect("no panic")).collect()
    });
    assert_eq!(paths.iter().filter(|pulled| pulled.fetched).count(), 1);
    assert_eq!(world.network.asked("GET").len(), 1);
    assert_eq!(fs::read(&paths[0].path).expect("a file"), *contents);
}

#[test]
fn a_repository_that_was_renamed_is_followed() {
    let (world, contents) = good_world();
    let pulled = world.puller().pull(&world.of("old"), None, &Gguf, &Notes::default());
    let pulled = pulled.expect("the hub says where it is");
    assert_eq!(fs::read(&pulled.path).expect("a file"), *contents);
}

#[test]
fn what_the_hub_refuses_is_told_with_its_cure() {
    let (world, _) = good_world();
    let pull = |name: ModelName| {
        let pulled = world.puller().pull(&name, None, &Gguf, &Notes::default());
        pulled.expect_err("refused").to_string()
    };
    for (owner, wanted) in [
        ("gated", &["HF_TOKEN", "accept", "/gated/b"][..]),
        ("none", &["has no such repository", "embed-worker models"]),
        ("other", &["has no such file", "other/b:FILE", "huggingface.co shows"]),
        ("listed", &["has no such file", "listed/b:FILE: it has d/g.Q8_0.gguf, f16.gguf"]),
        ("loop", &["refers to another place"]),
        ("portal", &["no hub", "HF_ENDPOINT", "sign in"]),
    ] {
        let error = pull(world.of(owner));
        for word in wanted {
            assert!(error.contains(word), "{owner}: {error}");
        }
    }
    assert!(world.network.asked("GET").is_empty());
    for (name, wanted) in [
        ("f.gguf", "nothing to fetch"),
        ("listed/b", "is a repository; name a file of it as listed/b:FILE: it has d/g.Q8_0.gguf"),
        ("nobody/b", "has no such repository"),
        ("a/b/c", "nothing to fetch"),
    ] {
        let error = pull(ModelName::File(name.into()));
        assert!(error.contains(wanted), "{name}: {error}");
    }
}

#[test]
fn a_digest_that_only_the_caller_knows_is_demanded_as_well() {
    let (world, contents) = good_world();
    // The hub calls a small file by something that is no SHA-256.
    let name = world.of("small");
    let pull = |sha256: &str| world.puller().pull(&name, Some(sha256), &Gguf, &Notes::default());
    let error = pull(&"ab".repeat(32)).expect_err("another file").to_string();
    assert!(error.contains(&sha256(&contents)) && error.contains("the caller says"), "{error}");
    assert_eq!(world.store.find(&name), None);
    let pulled = pull(&sha256(&contents)).expect("the right one");
    assert_eq!(fs::read(&pulled.path).expect("a file"), *contents);
    let again = pull(&"ab".repeat(32)).expect_err("it is here, and another file");
    assert!(matches!(again, PullError::Digest { .. }), "{again}");
    assert_eq!(fs::read(&pulled.path).expect("still there"), *contents);
}

#[test]
fn a_token_that_no_header_can_hold_is_told_and_not_shown() {
    let (world, _) = good_world();
    let name = ModelName::Hub(world.file.clone());
    for token in ["hf_two\nlines", "hf_gänsefuß", "hf blank"] {
        let pulled = world.puller_with(token).pull(&name, None, &Gguf, &Notes::default());
        let error = pulled.expect_err("no request can have it").to_string();
        assert!(error.starts_with("HF_TOKEN") && !error.contains("hf_"), "{error}");
    }
    assert!(world.hub.asked("HEAD").is_empty());
}

/// Whether this process is root, whom no mode of a file keeps out.
#[cfg(unix)]
fn may_write_anywhere(folder: &std::path::Path) -> bool {
    fs::write(folder.join("try"), "").is_ok()
}

#[cfg(unix)]
#[test]
fn a_folder_that_may_not_be_written_to_is_told_with_its_cure() {
    use std::os::unix::fs::PermissionsExt as _;

    let (world, _) = good_world();
    let hub = world.folder().join("hub");
    fs::create_dir(&hub).expect("ours");
    fs::set_permissions(&hub, fs::Permissions::from_mode(0o500)).expect("ours");
    if may_write_anywhere(&hub) {
        return;
    }
    let error = world.pull().expect_err("nothing can be kept").to_string();
    assert!(error.contains("Permission denied") && error.contains("HF_HOME"), "{error}");
    fs::set_permissions(&hub, fs::Permissions::from_mode(0o700)).expect("ours");
}

#[test]
fn a_file_where_a_folder_should_be_is_told_with_its_cure() {
    let (world, _) = good_world();
    fs::write(world.folder().join("hub"), "a file").expect("ours");
    let error = world.pull().expect_err("nothing can be kept").to_string();
    assert!(error.contains("a file stands where a folder should be"), "{error}");
}

#[test]
fn a_cache_in_which_nothing_can_be_locked_is_as_good_if_the_file_is_whole() {
    let (world, contents) = good_world();
    let pulled = world.pull().expect("a good hub");
    // As in an image whose layers nobody may write to: no lock can be made.
    let locks = world.folder().join("hub/.locks");
    fs::remove_dir_all(&locks).expect("ours");
    fs::write(&locks, "").expect("ours");
    let again = world.pull().expect("it is whole");
    assert_eq!((again.fetched, &again.path), (false, &pulled.path));
    fs::write(world.blobs().join(sha256(&contents)), "GGUF, damaged").expect("ours");
    let error = world.pull().expect_err("it is damaged, and nothing can be kept").to_string();
    assert!(error.contains(".locks"), "{error}");
}

#[test]
fn a_digest_that_the_caller_knows_is_demanded() {
    let (world, contents) = good_world();
    let name = ModelName::Hub(world.file.clone());
    let pull = |sha256: &str| world.puller().pull(&name, Some(sha256), &Gguf, &Notes::default());
    let error = pull(&"ab".repeat(32)).expect_err("another file").to_string();
    assert!(error.contains(&sha256(&contents)) && error.contains("the caller says"), "{error}");
    assert!(world.network.asked("GET").is_empty(), "known before a byte was fetched");
    world.assert_nothing_is_stored();
    pull(&sha256(&contents).to_uppercase()).expect("the right one");
}

#[test]
fn without_the_network_what_is_here_is_taken_if_it_is_whole() {
    let (world, contents) = good_world();
    let name = ModelName::Hub(world.file.clone());
    // A port that nobody listens at.
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr());
    let endpoint = format!("http://{}", nobody.expect("a port"));
    let pull = |offline: bool, notes: &Notes| {
        let store = Store { endpoint: endpoint.clone(), offline, ..world.store.clone() };
        embed_pull::Puller::new(store, None, Proxies::default(), PATIENCE)
            .pull(&name, None, &Gguf, notes)
    };
    let error = pull(false, &Notes::default()).expect_err("nothing is here");
    assert!(matches!(error, PullError::Unreachable { .. }), "{error:?}");
    assert!(error.to_string().contains("connect to the network"), "{error}");
    let error = pull(true, &Notes::default()).expect_err("nothing is here").to_string();
    assert!(error.contains("HF_HUB_OFFLINE"), "{error}");

    world.pull().expect("a good hub");
    let notes = Notes::default();
    assert!(!pull(false, &notes).expect("it is here").fetched);
    assert!(notes.has("without the hub"));
    assert!(!pull(true, &Notes::default()).expect("it is here").fetched);

    fs::write(world.blobs().join(sha256(&contents)), b"GGUF and damaged").expect("ours");
    let error = pull(true, &Notes::default()).expect_err("damaged").to_string();
    assert!(error.contains("its name in the cache says"), "{error}");
}
