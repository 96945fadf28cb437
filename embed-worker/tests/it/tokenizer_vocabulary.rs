//! What a file may say about its vocabulary: types, special ids, doubles, oddities.

use embed_worker::gguf::GgufFile;
use embed_worker::tokenizer::{Tokenizer, TokenizerError};

use crate::support::gguf_writer::GgufWriter;

const NORMAL: i32 = 1;
const CONTROL: i32 = 3;
const USER_DEFINED: i32 = 4;

const UNK: u32 = 0;
const CLS: u32 = 1;
const SEP: u32 = 2;

/// `[UNK]`, `[CLS]`, `[SEP]` and what is given, in the converter's spelling.
fn tokens<'a>(more: &[(&'a str, i32)]) -> Vec<(&'a str, i32)> {
    let special = [("[UNK]", CONTROL), ("[CLS]", CONTROL), ("[SEP]", CONTROL)];
    special.iter().chain(more).copied().collect()
}

fn writer(tokens: &[(&str, i32)]) -> GgufWriter {
    let (texts, types): (Vec<&str>, Vec<i32>) = tokens.iter().copied().unzip();
    GgufWriter::new()
        .string("tokenizer.ggml.model", "bert")
        .strings("tokenizer.ggml.tokens", &texts)
        .i32s("tokenizer.ggml.token_type", &types)
}

fn with_ids(writer: GgufWriter) -> GgufWriter {
    writer
        .u32("tokenizer.ggml.unknown_token_id", UNK)
        .u32("tokenizer.ggml.bos_token_id", CLS)
        .u32("tokenizer.ggml.seperator_token_id", SEP)
}

fn load(writer: GgufWriter) -> Result<Tokenizer, TokenizerError> {
    Tokenizer::from_gguf(&GgufFile::from_bytes(writer.finish()).expect("a valid file"))
}

/// The ids between the outer special tokens.
fn inner(tokenizer: &Tokenizer, text: &str) -> Vec<u32> {
    let mut ids = Vec::new();
    tokenizer.encode(text, usize::MAX, &mut ids);
    assert_eq!((ids[0], ids[ids.len() - 1]), (CLS, SEP));
    ids[1..ids.len() - 1].to_vec()
}

fn check(more: &[(&str, i32)], cases: &[(&str, &[u32])]) {
    let tokenizer = load(with_ids(writer(&tokens(more)))).expect("a valid vocabulary");
    for (text, wanted) in cases {
        assert_eq!(inner(&tokenizer, text), *wanted, "{text:?}");
    }
}

#[test]
fn initial_and_continuation_pieces_are_told_apart() {
    check(
        &[("▁un", NORMAL), ("able", NORMAL), ("▁able", NORMAL), ("un", NORMAL)],
        &[("unable", &[3, 4]), ("able", &[5]), ("ununable", &[3, 6, 4]), ("unablex", &[UNK])],
    );
}

#[test]
fn the_longest_piece_wins_even_where_a_shorter_one_would_have_worked() {
    check(
        &[("▁ab", NORMAL), ("▁abc", NORMAL), ("cd", NORMAL)],
        &[("abcd", &[UNK]), ("ab", &[3]), ("abc", &[4])],
    );
}

#[test]
fn of_two_equal_tokens_the_lower_id_is_given() {
    check(&[("▁a", NORMAL), ("▁b", NORMAL), ("▁a", NORMAL)], &[("a b a", &[3, 4, 3])]);
}

#[test]
fn empty_tokens_match_nothing() {
    check(
        &[("", NORMAL), ("▁a", NORMAL), ("", CONTROL), ("", USER_DEFINED)],
        &[("a", &[4]), ("", &[]), ("ab", &[UNK])],
    );
}

#[test]
fn the_word_mark_alone_is_the_character_within_a_word() {
    check(&[("▁a", NORMAL), ("▁", NORMAL), ("▁▁", NORMAL)], &[("a▁", &[3, 4]), ("▁", &[5])]);
}

#[test]
fn special_tokens_match_verbatim_leftmost_and_longest() {
    check(
        &[
            ("<a>", CONTROL),
            ("<a><b>", CONTROL),
            ("<a><c>x", CONTROL),
            ("▁w", NORMAL),
            ("▁tok", USER_DEFINED),
        ],
        &[
            ("<a>", &[3]),
            ("<a><b>", &[4]),
            ("<a><b", &[3, UNK, UNK]),
            // The longest token before the text in order is `<a><b>`; what matches is its parent.
            ("<a><bx", &[3, UNK, UNK]),
            ("<a><c>y", &[3, UNK, UNK, UNK, UNK]),
            ("w<a>w", &[6, 3, 6]),
            ("<A>", &[UNK, UNK, UNK]),
            ("[CLS][SEP][UNK]", &[CLS, SEP, UNK]),
            // User-defined tokens carry the mark of a word's start, which their text has not.
            ("wtokw", &[6, 7, 6]),
            ("▁tok", &[UNK, 7]),
        ],
    );
}

#[test]
fn special_tokens_that_are_not_utf8_cut_no_character() {
    let file = GgufWriter::new()
        .string("tokenizer.ggml.model", "bert")
        .strings("tokenizer.ggml.tokens", &[&b"[UNK]"[..], b"[CLS]", b"[SEP]", b"\xa4", b"\xc3"])
        .i32s("tokenizer.ggml.token_type", &[CONTROL; 5]);
    let tokenizer = load(with_ids(file)).expect("a valid vocabulary");
    assert_eq!(inner(&tokenizer, "ä ä"), [UNK, UNK]);
}

#[test]
fn without_types_the_special_tokens_are_those_with_ids() {
    let file = |marked| {
        let texts =
            if marked { ["▁[UNK]", "▁[CLS]", "▁[SEP]"] } else { ["[UNK]", "[CLS]", "[SEP]"] };
        let texts: Vec<&str> = texts.into_iter().chain(["[MASK]", "▁a"]).collect();
        let file = GgufWriter::new()
            .string("tokenizer.ggml.model", "bert")
            .strings("tokenizer.ggml.tokens", &texts)
            .u32("tokenizer.ggml.mask_token_id", 3);
        load(with_ids(file)).expect("a valid vocabulary")
    };
    for marked in [false, true] {
        assert_eq!(inner(&file(marked), "a[MASK]a [CLS]"), [4, 3, 4, CLS]);
    }
}

#[test]
fn absent_ids_are_those_of_bert_and_must_exist() {
    let small = load(writer(&tokens(&[]))).expect_err("no token 101");
    assert_eq!(
        small.to_string(),
        "key `tokenizer.ggml.bos_token_id`: id is 101 by default, the vocabulary has 3 tokens"
    );
    let large: Vec<(&str, i32)> = [("▁a", NORMAL)].into_iter().cycle().take(103).collect();
    let mut ids = Vec::new();
    load(writer(&large)).expect("all three exist").encode("a b", 8, &mut ids);
    assert_eq!(ids, [101, 0, 100, 102]);
}

#[test]
fn cls_and_eos_stand_in_for_bos_and_separator() {
    let file = writer(&tokens(&[]))
        .u32("tokenizer.ggml.unknown_token_id", UNK)
        .u32("tokenizer.ggml.cls_token_id", CLS)
        .u32("tokenizer.ggml.eos_token_id", SEP);
    assert!(inner(&load(file).expect("a valid vocabulary"), "").is_empty());
}

#[test]
fn other_kinds_of_tokenizer_are_refused_by_name() {
    for (name, kind) in [("whitespace", "whitespace splitting"), ("x\u{7}", "unknown")] {
        let file = GgufWriter::new().string("tokenizer.ggml.model", name);
        let error = load(file).expect_err("not supported").to_string();
        let name = name.escape_debug();
        assert_eq!(
            error,
            format!(
                "key `tokenizer.ggml.model`: `{name}` ({kind}) is not supported, this version runs `bert` (WordPiece), `gpt2` (byte-level BPE), `t5` (Unigram) and `llama` (SentencePiece BPE)"
            )
        );
    }
}

#[test]
fn a_special_token_longer_than_any_text_has_is_refused() {
    let long = "x".repeat(257);
    let error = load(with_ids(writer(&tokens(&[(&long, CONTROL)])))).expect_err("too long");
    assert_eq!(error.to_string(), "token 3: is special and 257 bytes long, at most 256 accepted");
}

/// Equal tokens all have one home in the table; they must not make loading quadratic or fail.
#[test]
fn a_vocabulary_of_one_token_many_times_loads() {
    let same: Vec<(&str, i32)> = std::iter::repeat_n(("▁same", NORMAL), 200_000).collect();
    check(&same, &[("same", &[3])]);
}
