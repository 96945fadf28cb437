//! What a file may say about a vocabulary of byte-level BPE: families, merges, special ids,
//! oddities, lies.

use embed_worker::gguf::GgufFile;
use embed_worker::tokenizer::{Tokenizer, TokenizerError};

use crate::support::gguf_writer::GgufWriter;
#[cfg(target_os = "linux")]
use crate::support::own_process::{in_own_process_with, private_bytes};

const NORMAL: i32 = 1;
const CONTROL: i32 = 3;
const USER_DEFINED: i32 = 4;

/// The letters, a blank and two merges: `ab` before `bc`. Ids 0 to 7.
const LETTERS: [&str; 8] = ["a", "b", "c", "'", "\u{120}", "ab", "bc", "\u{120}a"];
const MERGES: [&str; 3] = ["a b", "b c", "\u{120} a"];

/// The file of [`LETTERS`] and some special tokens, the first of which has id 8.
fn writer(pre: &str, special: &[(&str, i32)]) -> GgufWriter {
    let texts: Vec<&str> = LETTERS.into_iter().chain(special.iter().map(|token| token.0)).collect();
    let types: Vec<i32> =
        LETTERS.iter().map(|_| NORMAL).chain(special.iter().map(|token| token.1)).collect();
    plain(pre, &texts, &MERGES).i32s("tokenizer.ggml.token_type", &types)
}

fn plain(pre: &str, tokens: &[impl AsRef<[u8]>], merges: &[impl AsRef<[u8]>]) -> GgufWriter {
    GgufWriter::new()
        .string("tokenizer.ggml.model", "gpt2")
        .string("tokenizer.ggml.pre", pre)
        .strings("tokenizer.ggml.tokens", tokens)
        .strings("tokenizer.ggml.merges", merges)
}

fn load(writer: GgufWriter) -> Result<Tokenizer, TokenizerError> {
    Tokenizer::from_gguf(&GgufFile::from_bytes(writer.finish()).expect("a valid file"))
}

fn ids(tokenizer: &Tokenizer, text: &str) -> Vec<u32> {
    let mut ids = Vec::new();
    assert_eq!(tokenizer.encode(text, usize::MAX, &mut ids).tokens, ids.len());
    ids
}

fn check(writer: GgufWriter, cases: &[(&str, &[u32])]) {
    let tokenizer = load(writer).expect("a valid vocabulary");
    for (text, wanted) in cases {
        assert_eq!(ids(&tokenizer, text), *wanted, "{text:?}");
    }
}

fn refusal(writer: GgufWriter) -> String {
    load(writer).expect_err("refused").to_string()
}

#[test]
fn the_lowest_rank_goes_first_and_of_its_pairs_the_leftmost() {
    check(
        writer("gpt-2", &[]),
        &[("abc", &[5, 2]), ("bc", &[6]), ("aab a", &[0, 5, 7]), ("", &[]), ("bcab", &[6, 5])],
    );
    let doubled = ["a", "aa", "aaaa"];
    check(plain("gpt-2", &doubled, &["a a", "aa aa"]), &[("aaaaaaa", &[2, 1, 0])]);
}

#[test]
fn of_one_pair_twice_the_later_rank_counts() {
    check(plain("gpt-2", &LETTERS, &["a b", "b c", "a b"]), &[("abc", &[0, 6])]);
}

#[test]
fn of_two_equal_tokens_the_lower_id_is_given() {
    check(plain("gpt-2", &["a", "b", "ab", "a", "ab"], &["a b"]), &[("aab", &[0, 2])]);
    // Also where the other one follows what the merge before makes.
    let tokens = ["a", "b", "c", "bc", "ab", "bc"];
    check(plain("gpt-2", &tokens, &["a b", "b c"]), &[("bc", &[3]), ("ab", &[4])]);
}

#[test]
fn bytes_without_a_token_are_passed_over() {
    check(writer("gpt-2", &[]), &[("axb", &[5]), ("x", &[]), ("é", &[]), ("a\nb", &[0, 1])]);
}

#[test]
fn a_word_that_is_a_token_stays_whole_in_one_family_only() {
    let tokens = ["a", "b", "c", "abc", "ab", "bc"];
    let file = |pre| plain(pre, &tokens, &["b c"]).bool("tokenizer.ggml.add_bos_token", false);
    check(file("gpt-2"), &[("abc", &[0, 5])]);
    check(file("llama-bpe"), &[("abc", &[3]), ("abca", &[0, 5, 0])]);
}

#[test]
fn what_the_family_says_about_special_tokens() {
    let special = [("<s>", CONTROL), ("</s>", CONTROL), ("<mask>", CONTROL), (" x", USER_DEFINED)];
    let with_ids = |file: GgufWriter| {
        file.u32("tokenizer.ggml.bos_token_id", 8).u32("tokenizer.ggml.eos_token_id", 9)
    };
    let file = |pre| with_ids(writer(pre, &special));
    // White space before the mask is part of it, and is no other token then.
    check(
        file("roberta-bpe"),
        &[("a <mask>a", &[8, 0, 10, 0, 9]), ("a x<mask>", &[8, 0, 11, 10, 9])],
    );
    check(file("modern-bert"), &[("a <mask> x", &[8, 0, 10, 11, 9]), ("", &[8, 9])]);
    check(file("gpt-2"), &[("a <mask>a", &[0, 4, 10, 0]), ("a</s>", &[0, 9])]);
    check(file("llama-bpe"), &[("a", &[8, 0])]);
    check(file("qwen2"), &[("a", &[0])]);
}

#[test]
fn the_file_has_the_last_word_on_opening_and_closing() {
    let special = [("<s>", CONTROL), ("</s>", CONTROL), ("<sep>", CONTROL)];
    let file = |bos, eos, sep| {
        writer("roberta-bpe", &special)
            .u32("tokenizer.ggml.bos_token_id", 8)
            .u32("tokenizer.ggml.eos_token_id", 9)
            .u32("tokenizer.ggml.seperator_token_id", 10)
            .bool("tokenizer.ggml.add_bos_token", bos)
            .bool("tokenizer.ggml.add_eos_token", eos)
            .bool("tokenizer.ggml.add_sep_token", sep)
    };
    check(file(false, false, false), &[("a", &[0])]);
    check(file(true, false, true), &[("a", &[8, 0, 10])]);
    // The separator is for pairs of texts then.
    check(file(true, true, true), &[("a", &[8, 0, 9])]);
}

#[test]
fn an_embedder_that_pools_the_last_token_closes_unless_the_file_says_no() {
    let special = [("<|endoftext|>", CONTROL), ("<|im_end|>", CONTROL)];
    let file = |eos| {
        writer("qwen2", &special)
            .string("general.architecture", "qwen3")
            .u32("tokenizer.ggml.eos_token_id", eos)
    };
    check(file(8).u32("qwen3.pooling_type", 3), &[("a", &[0, 8])]);
    check(file(8).u32("qwen3.pooling_type", 1), &[("a", &[0])]);
    // A decoder pools the last token where its file does not say.
    check(file(8), &[("a", &[0, 8])]);
    let llama = writer("llama-bpe", &special)
        .string("general.architecture", "llama")
        .u32("tokenizer.ggml.bos_token_id", 9)
        .u32("tokenizer.ggml.eos_token_id", 8);
    check(llama, &[("a", &[9, 0, 8])]);
    let says_no = file(8).u32("qwen3.pooling_type", 3).bool("tokenizer.ggml.add_eos_token", false);
    check(says_no, &[("a", &[0])]);
    // The end of a chat's turn is never the end of a text.
    check(file(9).bool("tokenizer.ggml.add_eos_token", true), &[("a<|im_end|>", &[0, 9, 8])]);
}

#[test]
fn without_types_the_special_tokens_are_those_with_ids() {
    let tokens: Vec<&str> = LETTERS.into_iter().chain(["<s>", "<mask>", "<x>"]).collect();
    for pre in ["roberta-bpe", "modern-bert"] {
        let file = plain(pre, &tokens, &MERGES)
            .u32("tokenizer.ggml.bos_token_id", 8)
            .u32("tokenizer.ggml.eos_token_id", 8)
            .u32("tokenizer.ggml.mask_token_id", 9);
        check(file, &[("a <mask><x><s>", &[8, 0, 9, 8, 8])]);
    }
}

#[test]
fn unknown_families_are_refused_by_name() {
    for pre in ["jina-v2-es", "default", "zzz\u{7}"] {
        assert_eq!(
            refusal(writer(pre, &[])),
            format!(
                "key `tokenizer.ggml.pre`: `{}` is not supported, this version runs `gpt-2`, `qwen2`, `roberta-bpe`, `jina-v2-code`, `modern-bert`, `llama-bpe`",
                pre.escape_debug()
            )
        );
    }
    let file = GgufWriter::new()
        .string("tokenizer.ggml.model", "gpt2")
        .strings("tokenizer.ggml.tokens", &LETTERS);
    assert_eq!(refusal(file), "key `tokenizer.ggml.pre`: is missing");
}

#[test]
fn ids_that_are_needed_must_exist() {
    let file = |id| {
        writer("qwen2", &[])
            .u32("tokenizer.ggml.eos_token_id", id)
            .bool("tokenizer.ggml.add_eos_token", true)
    };
    assert!(load(file(7)).is_ok());
    assert_eq!(
        refusal(file(8)),
        "key `tokenizer.ggml.eos_token_id`: id is 8, the vocabulary has 8 tokens"
    );
    let missing = writer("llama-bpe", &[]);
    assert_eq!(refusal(missing), "key `tokenizer.ggml.bos_token_id`: is missing");
}

#[test]
fn merges_that_make_no_sense_are_refused_by_number() {
    let file = |merge: &[u8]| plain("gpt-2", &LETTERS, &[b"a b", merge]);
    for merge in [&b""[..], b" ", b"ab", b"a ", b" b", b"a  b", b"a b c", b"a \xff"] {
        assert_eq!(
            refusal(file(merge)),
            "key `tokenizer.ggml.merges`: merge 1 is not two pieces with one blank between",
            "{merge:?}"
        );
    }
    for (merge, piece) in [("x a", "x"), ("a x\u{7}", "x\\u{7}"), ("a c", "ac")] {
        assert_eq!(
            refusal(file(merge.as_bytes())),
            format!("key `tokenizer.ggml.merges`: merge 1 names `{piece}`, which no token is")
        );
    }
    let missing = GgufWriter::new()
        .string("tokenizer.ggml.model", "gpt2")
        .string("tokenizer.ggml.pre", "gpt-2")
        .strings("tokenizer.ggml.tokens", &LETTERS);
    assert_eq!(refusal(missing), "key `tokenizer.ggml.merges`: is missing");
}

#[test]
fn pieces_have_a_longest_length() {
    let file = |n: usize| {
        let half = "a".repeat(n / 2);
        let whole = "a".repeat(n);
        plain("gpt-2", &["a", &half, &whole], &[format!("{half} {half}")])
    };
    assert!(load(file(1024)).is_ok());
    assert_eq!(
        refusal(file(1026)),
        "key `tokenizer.ggml.merges`: merge 0 is 1027 bytes long, at most 1025 accepted"
    );
    // A token that no merge makes may have any length: no text contains it.
    assert!(load(plain("gpt-2", &["a".repeat(5000)], &[""; 0])).is_ok());
}

/// Threads share out that many: whoever is the first to find something, the first of them is named.
#[test]
fn of_many_merges_that_make_no_sense_the_first_is_named() {
    let mut merges = vec!["a b"; 200_000];
    for (wrong, index) in [("a", 199_999), ("b", 120_000), ("a  b", 70_001)] {
        merges[index] = wrong;
        let message = refusal(plain("gpt-2", &LETTERS, &merges));
        let named = format!("key `tokenizer.ggml.merges`: merge {index} is not two pieces");
        assert!(message.starts_with(&named), "{message}");
    }
}

/// Equal merges all have one home in the table; they must not make loading quadratic or fail.
#[test]
fn one_merge_many_times_loads() {
    check(plain("gpt-2", &LETTERS, &vec!["a b"; 200_000]), &[("abc", &[5, 2])]);
}

/// A merge for every pair of bytes: as large as published tables.
#[cfg(target_os = "linux")]
#[test]
fn sixty_thousand_merges_cost_two_megabytes() {
    let test = "tokenizer_bpe_vocabulary::sixty_thousand_merges_cost_two_megabytes";
    let make = || {
        let letters: Vec<String> =
            (0..250).map(|i| char::from_u32(0x100 + i).expect("a letter").to_string()).collect();
        let pairs = || letters.iter().flat_map(|a| letters.iter().map(move |b| (a, b)));
        let mut tokens = letters.clone();
        tokens.extend(pairs().map(|(a, b)| format!("{a}{b}")));
        let merges: Vec<String> = pairs().map(|(a, b)| format!("{a} {b}")).collect();
        plain("gpt-2", &tokens, &merges).finish()
    };
    in_own_process_with(test, make, |path| {
        // 12 bytes and 131,072 slots for the merges, 4 bytes for where each token starts; some of it
        // where the table of tokens was. Far less would mean that it was not measured.
        const GROWTH_BYTES: std::ops::Range<usize> = 2 << 19..5 << 19;
        let file = GgufFile::open(path).expect("a valid file");
        let before = private_bytes();
        let tokenizer = Tokenizer::from_gguf(&file).expect("a valid vocabulary");
        let growth = private_bytes().saturating_sub(before);
        assert!(GROWTH_BYTES.contains(&growth), "private memory grew by {growth} bytes");
        assert!(ids(&tokenizer, "\u{1}\u{2}\u{3}").len() == 2);
    });
}
