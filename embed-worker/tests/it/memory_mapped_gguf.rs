//! GGUF files are used where they are mapped, and no bytes whatever make the reader panic, hang,
//! or allocate what a count claims.

use std::collections::BTreeMap;

use embed_worker::gguf::{GgufError, GgufFile};
use embed_worker::tokenizer::Tokenizer;
use proptest::prelude::*;

use crate::fuzz_corpus::fuzz::gguf_open::look_at_everything;
use crate::support::gguf_writer::GgufWriter;
use crate::support::hostile::Hostile;
#[cfg(target_os = "linux")]
use crate::support::own_process::{in_own_process, peak_bytes, private_bytes};
use crate::support::{repository_file, test_data};

const MODEL: &str = "models/all-MiniLM-L6-v2.Q8_0.gguf";
const F32: u32 = 0;

/// What the two layers under test make of a file: the message of the refusal, if any.
fn refusal(bytes: Vec<u8>) -> Option<String> {
    let file = match GgufFile::from_bytes(bytes) {
        Ok(file) => file,
        Err(error) => return Some(error.to_string()),
    };
    look_at_everything(&file);
    match Tokenizer::from_gguf(&file) {
        Ok(tokenizer) => {
            let mut ids = Vec::new();
            tokenizer.encode("Hello, the [MASK] wörld", 8, &mut ids);
            assert!(ids.iter().all(|id| (*id as usize) < tokenizer.vocabulary()));
            None
        }
        Err(error) => Some(error.to_string()),
    }
}

#[test]
fn the_shipped_model_is_read_with_its_shapes_and_types() {
    let file = GgufFile::open(&repository_file(MODEL)).expect("the model");
    assert_eq!(file.str("general.architecture").expect("typed"), Some("bert"));
    assert_eq!(file.u32("bert.embedding_length").expect("typed"), Some(384));
    assert_eq!(file.f32("bert.attention.layer_norm_epsilon").expect("typed"), Some(1e-12));
    assert_eq!(file.bool("bert.attention.causal").expect("typed"), Some(false));
    let tokens = file.strings("tokenizer.ggml.tokens").expect("typed").expect("present");
    assert_eq!((tokens.len(), tokens.get(101)), (30_522, Some(&b"[CLS]"[..])));
    assert_eq!(file.tensors().len(), 101);
    let embedding = file.tensor("token_embd.weight").expect("the tensor");
    assert_eq!((embedding.shape(), embedding.rows()), (&[384, 30_522][..], 30_522));
    assert_eq!(file.main_dtype().map(|dtype| dtype.to_string()).as_deref(), Some("Q8_0"));
    look_at_everything(&file);
}

#[test]
fn tensors_are_where_the_file_has_them_and_nowhere_else() {
    let path = repository_file(MODEL);
    let file = GgufFile::open(&path).expect("the model");
    let bytes = std::fs::read(&path).expect("the model");
    let first = &file.tensors()[0];
    let map_start = first.bytes().as_ptr() as usize - first.offset();
    for tensor in file.tensors() {
        assert_eq!(tensor.bytes().as_ptr() as usize - tensor.offset(), map_start);
        assert_eq!(tensor.bytes(), &bytes[tensor.offset()..][..tensor.bytes().len()]);
    }
}

#[test]
fn the_fingerprint_tells_headers_apart_and_not_weights() {
    let file = |hidden: u32, weight: f32| {
        let file = GgufWriter::new()
            .u32("bert.embedding_length", hidden)
            .tensor("w", &[1], F32, 0)
            .data(&weight.to_le_bytes());
        GgufFile::from_bytes(file.finish()).expect("a valid file").fingerprint()
    };
    assert_eq!(file(8, 1.0), file(8, 2.0));
    assert_ne!(file(8, 1.0), file(9, 1.0));
}

/// A tensor of 4 GiB: the size of model that must not cost memory.
#[cfg(target_os = "linux")]
#[test]
fn a_file_of_four_gigabytes_costs_no_private_memory() {
    in_own_process("memory_mapped_gguf::a_file_of_four_gigabytes_costs_no_private_memory", || {
        const GROWTH_BYTES_MAX: usize = 2 << 20;
        let header = GgufWriter::new().tensor("w", &[1 << 15, 1 << 15], F32, 0).finish();
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("big.gguf");
        std::fs::write(&path, &header).expect("room for a header");
        // Sparse: takes no room on the disk.
        let big = std::fs::File::options().write(true).open(&path).expect("the file");
        big.set_len(header.len() as u64 + (4 << 30)).expect("a sparse file");

        let before = private_bytes();
        let file = GgufFile::open(&path).expect("a valid file");
        let tensor = file.tensor("w").expect("the tensor");
        assert_eq!(tensor.bytes().len(), 4 << 30);
        // Pages that are read belong to the file, not to this process.
        let sum: u64 = tensor.bytes().iter().step_by(1 << 16).map(|byte| u64::from(*byte)).sum();
        assert_eq!(sum, 0);
        let growth = private_bytes().saturating_sub(before);
        assert!(growth < GROWTH_BYTES_MAX, "private memory grew by {growth} bytes");
    });
}

#[cfg(target_os = "linux")]
#[test]
fn a_vocabulary_of_thirty_thousand_costs_half_a_megabyte() {
    in_own_process(
        "memory_mapped_gguf::a_vocabulary_of_thirty_thousand_costs_half_a_megabyte",
        || {
            const GROWTH_BYTES_MAX: usize = 768 << 10;
            let before = private_bytes();
            let file = GgufFile::open(&repository_file(MODEL)).expect("the model");
            let tokenizer = Tokenizer::from_gguf(&file).expect("its vocabulary");
            let mut ids = Vec::new();
            tokenizer.encode("The quick brown fox jumps over the lazy dog.", 512, &mut ids);
            let growth = private_bytes().saturating_sub(before);
            assert!(growth < GROWTH_BYTES_MAX, "private memory grew by {growth} bytes");
        },
    );
}

/// A model store replaces files under running workers.
#[test]
fn a_file_that_is_replaced_or_deleted_stays_readable() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("model.gguf");
    std::fs::copy(repository_file(MODEL), &path).expect("room for a copy");
    let file = GgufFile::open(&path).expect("the model");
    let moved = folder.path().join("moved.gguf");
    std::fs::rename(&path, &moved).expect("a mapped file can be renamed");
    std::fs::write(&path, b"another").expect("its name can be taken");
    #[cfg(unix)]
    std::fs::remove_file(&moved).expect("a mapped file can be deleted");
    look_at_everything(&file);
    assert!(Tokenizer::from_gguf(&file).is_ok());
}

#[test]
fn what_is_no_file_is_told_by_its_path() {
    let folder = tempfile::tempdir().expect("a folder");
    let missing = folder.path().join("missing.gguf");
    let error = GgufFile::open(&missing).expect_err("nothing there");
    assert!(matches!(&error, GgufError::Open { path, .. } if *path == missing), "{error}");
    let error = GgufFile::open(folder.path()).expect_err("a folder");
    assert!(matches!(&error, GgufError::NotAFile { path } if path == folder.path()), "{error}");
    let empty = folder.path().join("empty.gguf");
    std::fs::write(&empty, b"").expect("an empty file");
    let error = GgufFile::open(&empty).expect_err("an empty file").to_string();
    assert_eq!(error, "magic: needs 4 bytes at 0, file ends at 0");
}

/// Files whose structure and vocabulary are sound: what is wrong with them is for the model, whose
/// tests take up this list.
pub(crate) const JUDGED_BY_THE_MODEL: &[&str] = &[
    "arch-missing",
    "arch-unknown",
    "blocks-2",
    "blocks-2p32m1",
    "ctx-2p32m1",
    "ctx-bigger",
    "dims-swapped",
    "embd-0",
    "embd-2p32m1",
    "embd-mismatch",
    "ffn-0",
    "ffn-mismatch",
    "heads-0",
    "heads-3",
    "heads-64",
    "key-length-0",
    "key-length-2p31",
    "missing-block_count",
    "missing-feed_forward_length",
    "missing-head_count",
    "moe-count-2p32m1",
    "moe-count-8",
    "moe-used-0",
    "n_tensors-zero",
    "rope-dim-odd",
    "swa-missing",
    "tensor-missing-pos",
    "token-types-0",
    "token-types-big",
    "token-types-missing",
];

#[test]
fn every_hostile_file_is_refused_with_what_and_where() {
    let table = std::fs::read_to_string(test_data("hostile/refusals.tsv")).expect("the table");
    let mut wanted: BTreeMap<&str, &str> =
        table.lines().map(|line| line.split_once('\t').expect("file, tab, message")).collect();
    let mut failures = Vec::new();
    for hostile in Hostile::all() {
        let name = hostile.file.trim_end_matches(".gguf");
        let found = refusal(hostile.bytes());
        if found.as_deref() != wanted.remove(name) {
            failures.push(format!("{name} ({}): {found:?}", hostile.what));
        }
        let right = match hostile.expect.as_str() {
            "ok" => found.is_none(),
            "reject" if JUDGED_BY_THE_MODEL.contains(&name) => found.is_none(),
            "reject" => found.is_some(),
            "either" | "reject-or-default" | "error-no-nan" | "reject-or-error-no-nan" => true,
            other => panic!("unknown expectation {other}"),
        };
        if !right {
            failures.push(format!("{name}: expected {}, found {found:?}", hostile.expect));
        }
    }
    assert!(wanted.is_empty(), "not among the files: {wanted:?}");
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn every_cut_of_a_file_is_refused() {
    let whole = std::fs::read(test_data("hostile/ok-bert.gguf")).expect("the control");
    assert_eq!(refusal(whole.clone()), None);
    for n_bytes in 0..whole.len() {
        assert!(refusal(whole[..n_bytes].to_vec()).is_some(), "cut at {n_bytes}");
    }
}

/// Every bit of metadata and tensor table, one at a time, and every byte at its extremes.
#[cfg(target_os = "linux")]
#[test]
fn no_changed_byte_of_a_header_panics_or_takes_memory() {
    in_own_process(
        "memory_mapped_gguf::no_changed_byte_of_a_header_panics_or_takes_memory",
        || {
            // The file has 15 kB; a count that is believed would take gigabytes.
            const PEAK_BYTES_MAX: usize = 64 << 20;
            let whole = std::fs::read(test_data("hostile/ok-bert.gguf")).expect("the control");
            let header_bytes =
                GgufFile::from_bytes(whole.clone()).expect("valid").tensors()[0].offset();
            let mut refused = 0;
            for at in 0..header_bytes {
                let byte = whole[at];
                let flips = (0..8).map(|bit| byte ^ (1 << bit));
                for changed in flips.chain([0, 0x7f, 0x80, 0xff]) {
                    let mut bytes = whole.clone();
                    bytes[at] = changed;
                    refused += usize::from(refusal(bytes).is_some());
                }
            }
            assert!(refused > 10_000, "only {refused} changes were noticed");
            assert!(peak_bytes() < PEAK_BYTES_MAX, "took {} bytes", peak_bytes());
        },
    );
}

fn control() -> impl Strategy<Value = Vec<u8>> {
    let names = vec!["ok-bert", "ok-qwen3", "ok-ugm", "ok-gemma", "ok-moe"];
    prop::sample::select(names).prop_map(|name| {
        std::fs::read(test_data(&format!("hostile/{name}.gguf"))).expect("the control")
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..Default::default() })]

    #[test]
    fn no_mutation_of_a_file_panics(
        mut bytes in control(),
        edits in prop::collection::vec(
            (any::<prop::sample::Index>(), 0_usize..24, prop::collection::vec(any::<u8>(), 0..24)),
            1..6,
        ),
    ) {
        for (at, taken, put) in edits {
            let at = at.index(bytes.len().min(4096));
            let end = (at + taken).min(bytes.len());
            bytes.splice(at..end, put);
        }
        refusal(bytes);
    }

    #[test]
    fn no_random_bytes_after_a_valid_start_panic(
        n_tensors in 0_u64..4,
        n_keys in 0_u64..4,
        rest in prop::collection::vec(any::<u8>(), 0..512),
    ) {
        let mut bytes = b"GGUF\x03\0\0\0".to_vec();
        bytes.extend(n_tensors.to_le_bytes());
        bytes.extend(n_keys.to_le_bytes());
        bytes.extend(rest);
        refusal(bytes);
    }
}

fn message(file: GgufWriter) -> String {
    GgufFile::from_bytes(file.finish()).map(|_| ()).expect_err("refused").to_string()
}

#[test]
fn names_must_be_unique() {
    let twice = GgufWriter::new().u32("a", 1).u32("b", 1).u32("a", 1);
    assert_eq!(message(twice), "key `a`: appears twice, at byte 32 and at byte 66");
    let twice =
        GgufWriter::new().tensor("w", &[1], F32, 0).tensor("w", &[1], F32, 32).data(&[0; 64]);
    assert_eq!(message(twice), "tensor `w`: appears twice, at byte 32 and at byte 65");
}

#[test]
fn arrays_in_arrays_end_at_a_depth() {
    assert!(GgufFile::from_bytes(GgufWriter::new().nested("a", 4).finish()).is_ok());
    for depth in [5, 500, 100_000] {
        let error = message(GgufWriter::new().nested("a", depth));
        assert_eq!(error, "key `a`: depth of arrays: found 5 at byte 85, at most 4 accepted");
    }
}

#[test]
fn long_and_strange_names_are_shown_short_and_escaped() {
    let long = format!("\u{1b}[2J{}", "x".repeat(60_000));
    let error = message(GgufWriter::new().u32(&long, 1).u32(&long, 1));
    assert!(error.starts_with("key `\\u{1b}[2Jxxx") && error.len() < 300, "{error}");
}

#[test]
fn more_strings_than_any_vocabulary_are_refused_when_asked_for() {
    let strings = vec![""; (1 << 20) + 1];
    let file = GgufWriter::new().strings("tokenizer.ggml.tokens", &strings);
    let file = GgufFile::from_bytes(file.finish()).expect("a valid file");
    let error = file.strings("tokenizer.ggml.tokens").expect_err("too many").to_string();
    assert_eq!(
        error,
        "key `tokenizer.ggml.tokens`: found 1048577 at byte 69, at most 1048576 accepted"
    );
}

#[test]
fn text_that_is_not_utf8_is_told_where_it_stands() {
    let error = message(GgufWriter::new().raw(b"k\xff", 4, &[0; 4]));
    assert_eq!(error, "key 0: is not UTF-8 at byte 32");
    let value = [&3_u64.to_le_bytes()[..], b"a\xffb"].concat();
    let file = GgufWriter::new().raw(b"general.name", 8, &value).finish();
    let file = GgufFile::from_bytes(file).expect("values are judged when asked for");
    let error = file.str("general.name").expect_err("not UTF-8").to_string();
    assert_eq!(error, "key `general.name`: is not UTF-8 at byte 56");
}

#[test]
fn a_boolean_is_zero_or_one() {
    let error = message(GgufWriter::new().raw(b"flag", 7, &[2]));
    assert_eq!(error, "key `flag`: found boolean 2 at byte 40, wanted 0 or 1");
}

#[test]
fn integers_of_any_type_do_if_they_fit() {
    let file = GgufWriter::new()
        .raw(b"u8", 0, &[200])
        .raw(b"i64", 11, &7_i64.to_le_bytes())
        .raw(b"u64", 10, &u64::MAX.to_le_bytes())
        .raw(b"i8", 1, &(-1_i8).to_le_bytes())
        .raw(b"f64", 12, &0.5_f64.to_le_bytes());
    let file = GgufFile::from_bytes(file.finish()).expect("a valid file");
    assert_eq!(file.u32("u8").expect("fits"), Some(200));
    assert_eq!(file.u32("i64").expect("fits"), Some(7));
    assert_eq!(file.f32("f64").expect("fits"), Some(0.5));
    let wanted = "wanted an integer from 0 to 4294967295";
    for (key, found) in [("u64", "u64 18446744073709551615"), ("i8", "i8 -1"), ("f64", "f64 0.5")] {
        let error = file.u32(key).expect_err("does not fit").to_string();
        assert_eq!(error, format!("key `{key}`: found {found}, {wanted}"));
    }
}

/// The file is as long as its header claims, so only the limit stands between a string and reading
/// all of it.
#[test]
fn a_header_of_hundreds_of_megabytes_is_refused() {
    const STRING_BYTES: u64 = 300 << 20;
    let header = GgufWriter::new().raw(b"k", 8, &STRING_BYTES.to_le_bytes()).finish();
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("long.gguf");
    std::fs::write(&path, &header).expect("room for a header");
    let long = std::fs::File::options().write(true).open(&path).expect("the file");
    long.set_len(header.len() as u64 + STRING_BYTES).expect("a sparse file");
    let error = GgufFile::open(&path).expect_err("too long").to_string();
    assert_eq!(error, "key `k`: needs 314572800 bytes at 45, metadata may take 268435456 bytes");
}
