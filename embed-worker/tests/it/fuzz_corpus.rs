//! What the fuzzers have found interesting, through the same functions without the fuzzers: see
//! `fuzz/README.md`.

use std::path::Path;

use crate::support::repository_file;

#[path = "../../../fuzz/src/lib.rs"]
#[expect(unreachable_pub, reason = "a library of its own, included for its functions")]
pub(crate) mod fuzz;

/// Runs every file of a target's corpus; the name of the one that fails is in the panic's output.
fn replay(target: &str, run: fn(&[u8])) {
    let folder = repository_file("fuzz/corpus").join(target);
    let entries = std::fs::read_dir(&folder).expect("the corpus is committed");
    let mut paths: Vec<_> = entries.map(|entry| entry.expect("an entry").path()).collect();
    paths.sort();
    assert!(paths.len() >= 20, "{}: only {} files", folder.display(), paths.len());
    for path in paths {
        let input = std::fs::read(&path).expect("readable");
        let named = Named(&path);
        run(&input);
        std::mem::drop(named);
    }
}

/// Tells the file's name if its run panics.
struct Named<'a>(&'a Path);

impl Drop for Named<'_> {
    #[expect(clippy::print_stderr, reason = "tells which file of many has failed")]
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("while it ran {}", self.0.display());
        }
    }
}

#[test]
fn gguf_open_keeps_its_promises() {
    replay("gguf_open", fuzz::gguf_open::run);
}

#[test]
fn frame_decode_keeps_its_promises() {
    replay("frame_decode", fuzz::frame_decode::run);
}

#[test]
fn tokenizer_keeps_its_promises() {
    replay("tokenizer", fuzz::tokenizer::run);
}

/// Its corpus and that of the other tokenizer, and bytes that nobody has chosen.
#[test]
fn tokenizer_bpe_keeps_its_promises() {
    use proptest::prelude::*;

    replay("tokenizer_bpe", fuzz::tokenizer_bpe::run);
    replay("tokenizer", fuzz::tokenizer_bpe::run);
    let config = ProptestConfig { cases: 5000, failure_persistence: None, ..Default::default() };
    let bytes = prop::collection::vec(any::<u8>(), 0..1500);
    proptest::test_runner::TestRunner::new(config)
        .run(&bytes, |bytes| {
            fuzz::tokenizer_bpe::run(&bytes);
            Ok(())
        })
        .expect("no promise is broken");
}

#[test]
fn kernels_keep_their_promises() {
    replay("kernels", fuzz::kernels::run);
}
