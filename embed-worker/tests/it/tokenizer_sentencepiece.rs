//! Unigram and SentencePiece BPE: ids equal Hugging Face's, for real, random and pathological
//! texts; what a file may say about its vocabulary, and what is refused.
//!
//! The judge is the `tokenizers` crate, set up from the same file as Hugging Face's converters set
//! up such models.

use std::collections::BTreeMap;

use embed_worker::gguf::GgufFile;
use embed_worker::tokenizer::{Tokenizer, TokenizerError};
use proptest::prelude::*;
use serde_json::{Value, json};
use tokenizers::Tokenizer as Judge;

use crate::support::gguf_writer::GgufWriter;
use crate::support::judge::{self, corpus, ids, judged, recorded_ids, recorded_texts};
#[cfg(target_os = "linux")]
use crate::support::own_process::{in_own_process_with, private_bytes};
use crate::support::test_data;

const NORMAL: i32 = 1;
const UNKNOWN: i32 = 2;
const CONTROL: i32 = 3;
const USER_DEFINED: i32 = 4;
const UNUSED: i32 = 5;

const XLMR: &str = "golden/bert-xlmr-Q4_K_M.gguf";
const GEMMA: &str = "tokenizer/gemma-vocab.gguf";
const LLAMA: &str = "golden/llama.gguf";

/// A vocabulary as Hugging Face spells it.
struct Spec {
    tokens: Vec<String>,
    types: Vec<i64>,
    scores: Vec<f64>,
}

impl Spec {
    fn of_file(file: &GgufFile) -> Self {
        let types = file.integers("tokenizer.ggml.token_type").expect("typed").expect("present");
        let tokens = file.strings("tokenizer.ggml.tokens").expect("typed").expect("present");
        let scores = file.floats("tokenizer.ggml.scores").expect("typed").expect("present");
        let types: Vec<i64> = types.iter().collect();
        let tokens = tokens.iter().zip(&types).map(|(token, kind)| {
            let token = String::from_utf8(token.to_vec()).expect("UTF-8");
            if *kind == i64::from(USER_DEFINED) { token.replace(' ', "\u{2581}") } else { token }
        });
        let tokens = tokens.collect();
        let is_piece = |id: &usize| types[*id] == i64::from(NORMAL) || types[*id] == 6;
        let score = |id| if is_piece(&id) { scores.get(id).expect("a score").into() } else { 0.0 };
        let scores = (0..types.len()).map(score).collect();
        Self { tokens, types, scores }
    }

    fn added(&self) -> Vec<Value> {
        let special = (0..self.tokens.len()).filter(|id| (2..=4).contains(&self.types[*id]));
        let added = special.map(|id| {
            json!({
                "id": id, "content": self.tokens[id], "special": self.types[id] != 4,
                "normalized": false, "single_word": false, "lstrip": false, "rstrip": false,
            })
        });
        added.collect()
    }

    /// As `XLMRobertaConverter` made the published `tokenizer.json`.
    fn unigram(&self, charsmap: &[u8]) -> Judge {
        let vocab: Vec<Value> =
            self.tokens.iter().zip(&self.scores).map(|pair| json!(pair)).collect();
        let metaspace = json!({
            "type": "Metaspace", "replacement": "\u{2581}", "prepend_scheme": "always",
            "split": true,
        });
        let words = json!([{"type": "WhitespaceSplit"}, metaspace]);
        judge(&json!({
            "version": "1.0",
            "added_tokens": self.added(),
            "normalizer": {"type": "Precompiled", "precompiled_charsmap": base64(charsmap)},
            "pre_tokenizer": {"type": "Sequence", "pretokenizers": words},
            "post_processor": template("<s>", 0, "</s>", 2),
            "model": {"type": "Unigram", "unk_id": 3, "vocab": vocab, "byte_fallback": false},
        }))
    }

    /// As `GemmaConverter` makes it, merges included; or as `LlamaConverter` does, which marks a text
    /// as if it had a blank before it.
    fn sentencepiece(&self, prefix: bool) -> Judge {
        let vocab: BTreeMap<&str, usize> =
            self.tokens.iter().enumerate().map(|(id, token)| (token.as_str(), id)).collect();
        let mut merges = Vec::new();
        for (id, token) in self.tokens.iter().enumerate() {
            let mut local = Vec::new();
            for (at, _) in token.char_indices().skip(1) {
                let (left, right) = token.split_at(at);
                if let (Some(l), Some(r)) = (vocab.get(left), vocab.get(right)) {
                    local.push(((l, r), left, right));
                }
            }
            local.sort();
            merges.extend(local.into_iter().map(|(_, left, right)| (self.scores[id], left, right)));
        }
        let lengths = |pair: &(f64, &str, &str)| (pair.1.chars().count(), pair.2.chars().count());
        merges.sort_by(|a, b| {
            b.0.partial_cmp(&a.0).expect("numbers").then_with(|| lengths(b).cmp(&lengths(a)))
        });
        let merges: Vec<Value> =
            merges.iter().map(|(_, left, right)| json!([left, right])).collect();
        let marks = json!({"type": "Replace", "pattern": {"String": " "}, "content": "\u{2581}"});
        let prepend = json!({"type": "Prepend", "prepend": "\u{2581}"});
        let (normalizer, words, special) = if prefix {
            let both = json!({"type": "Sequence", "normalizers": [prepend, marks]});
            (both, Value::Null, template("<s>", 1, "</s>", 2))
        } else {
            let split = json!({
                "type": "Split", "pattern": {"String": " "}, "behavior": "MergedWithPrevious",
                "invert": false,
            });
            (marks, split, template("<bos>", 2, "<eos>", 1))
        };
        judge(&json!({
            "version": "1.0",
            "added_tokens": self.added(),
            "normalizer": normalizer,
            "pre_tokenizer": words,
            "post_processor": special,
            "model": {
                "type": "BPE", "unk_token": "<unk>", "fuse_unk": true, "byte_fallback": true,
                "vocab": vocab, "merges": merges,
            },
        }))
    }
}

fn judge(json: &Value) -> Judge {
    Judge::from_bytes(json.to_string()).expect("a valid tokenizer.json")
}

fn template(open: &str, open_id: u32, close: &str, close_id: u32) -> Value {
    let special = |token: &str| json!({"SpecialToken": {"id": token, "type_id": 0}});
    let about = |token: &str, id: u32| json!({"id": token, "ids": [id], "tokens": [token]});
    let text = json!({"Sequence": {"id": "A", "type_id": 0}});
    let single = json!([special(open), text, special(close)]);
    json!({
        "type": "TemplateProcessing", "single": single, "pair": single,
        "special_tokens": {open: about(open, open_id), close: about(close, close_id)},
    })
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let bits = (0..3).fold(0, |bits, n| bits << 8 | usize::from(*chunk.get(n).unwrap_or(&0)));
        for n in 0..4 {
            let digit = char::from(DIGITS[bits >> (18 - 6 * n) & 63]);
            text.push(if n <= chunk.len() { digit } else { '=' });
        }
    }
    text
}

fn open(path: &str) -> (Tokenizer, Judge) {
    let file = GgufFile::open(&test_data(path)).expect("a file of the repository");
    let spec = Spec::of_file(&file);
    let judge = if path == XLMR {
        let charsmap = file.blob("tokenizer.ggml.precompiled_charsmap").expect("typed");
        spec.unigram(charsmap.expect("present").bytes())
    } else {
        spec.sentencepiece(path == LLAMA)
    };
    (Tokenizer::from_gguf(&file).expect("its vocabulary"), judge)
}

#[test]
fn recorded_ids_of_real_texts_come_out() {
    let recorded = recorded_ids("sentencepiece.json");
    for (path, name) in [(XLMR, "bert-xlmr-Q4_K_M"), (GEMMA, "gemma-vocab")] {
        let (tokenizer, judge) = open(path);
        let wanted = &recorded[name];
        assert_eq!(wanted.len(), 260);
        for (text, wanted) in recorded_texts().iter().zip(wanted) {
            assert_eq!(ids(&tokenizer, &text.text), *wanted, "{name}: {}", text.label);
            // The judge that the other tests have is the one that was recorded.
            assert_eq!(judged(&judge, &text.text), *wanted, "{name}: {}", text.label);
        }
    }
}

#[test]
fn cutting_is_hugging_faces_truncation() {
    for path in [XLMR, GEMMA, LLAMA] {
        let (tokenizer, mut judge) = open(path);
        for limit in [2, 3, 4, 16, 128] {
            let truncation =
                tokenizers::TruncationParams { max_length: limit, ..Default::default() };
            judge.with_truncation(Some(truncation)).expect("a valid limit");
            for text in recorded_texts() {
                let mut cut = vec![7];
                let encoded = tokenizer.encode(&text.text, limit, &mut cut);
                assert_eq!(cut[1..], judged(&judge, &text.text), "{} at {limit}", text.label);
                assert_eq!(encoded.tokens, ids(&tokenizer, &text.text).len(), "{}", text.label);
            }
        }
        let mut nothing = Vec::new();
        assert_eq!(tokenizer.encode("a", 1, &mut nothing).tokens, ids(&tokenizer, "a").len());
        assert!(nothing.is_empty());
    }
}

/// Every scalar value within a word, alone, twice, and as the base of marks.
///
/// The vocabulary has all assigned characters but private ones and some rare ideographs, so that
/// what the character map makes of each is seen.
#[test]
fn every_code_point_agrees_for_unigram() {
    let xlmr = GgufFile::open(&test_data(XLMR)).expect("a file of the repository");
    let charsmap = xlmr.blob("tokenizer.ggml.precompiled_charsmap").expect("typed");
    let charsmap = charsmap.expect("present");
    let all: Vec<String> =
        ('\0'..'\u{30000}').chain('\u{E0000}'..'\u{E1000}').map(String::from).collect();
    let tokens: Vec<(&str, i32, f32)> = all.iter().map(|c| (c.as_str(), NORMAL, -1.0)).collect();
    let bytes = unigram(&tokens).blob("tokenizer.ggml.precompiled_charsmap", charsmap.bytes());
    let file = GgufFile::from_bytes(bytes.finish()).expect("a valid file");
    let ours = Tokenizer::from_gguf(&file).expect("a valid vocabulary");
    let judge = Spec::of_file(&file).unigram(charsmap.bytes());
    judge::every_code_point_agrees(&ours, &judge, |c| {
        format!("a{c}b {c}\u{301}{c}\u{3099}a {c}{c} ")
    });
}

/// Parts of texts that exercise one stage each.
fn part() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => "[a-zA-Z0-9]{1,8}",
        2 => "[ \t\n\r.,;:'\"()#@$+<=>|~^`_-]{1,6}",
        2 => " {1,40}",
        2 => "\\PC{0,6}",
        2 => "[aeiouñçß가각カハ]?[\u{300}-\u{36f}\u{3099}\u{309a}\u{ff9e}\u{ff9f}\u{64b}-\u{65f}]{1,6}",
        1 => "[\u{ac00}-\u{d7a3}\u{1100}-\u{11ff}]{1,5}",
        1 => "[\u{900}-\u{97f}\u{e00}-\u{e7f}]{1,6}",
        1 => "[\u{4e00}-\u{9fff}\u{3040}-\u{30ff}\u{ff00}-\u{ffee}\u{f900}-\u{faff}]{1,5}",
        1 => "[\u{0}-\u{1f}\u{7f}-\u{a0}\u{ad}\u{200b}-\u{200f}\u{2028}\u{2029}\u{3000}\u{feff}\u{fffd}]{1,3}",
        1 => "[\u{fb00}-\u{fb06}\u{fdfa}\u{fdfb}\u{2100}-\u{214f}\u{3300}-\u{33ff}\u{1f1e6}-\u{1f1ff}\u{200d}\u{1f468}]{1,6}",
        1 => prop::sample::select(vec![
            "<s>", "</s>", "<mask>", "<pad>", "<unk>", "<s", "<<s>", "\u{ff1c}s\u{ff1e}", "<bos>",
            "<eos>", "<table>", "</table", "<0x41>", "\u{2581}", "\u{2581}\u{2581}",
            "\u{2581}\u{2581}\u{2581}\u{2581}\u{2581}", "\r\n", "\n\n\n\n", "\u{85}",
        ])
        .prop_map(str::to_owned),
        1 => (prop::sample::select(vec!["a", "ab", "é", "the", "가", "\u{1f600}", "\u{302e}"]), 1_usize..60)
            .prop_map(|(unit, n)| unit.repeat(n)),
        1 => any::<String>(),
    ]
}

fn random_texts_agree(path: &str) {
    let (ours, judge) = open(path);
    let texts = prop::collection::vec(part(), 0..12).prop_map(|parts| parts.concat());
    judge::random_texts_agree(path, &ours, &judge, &texts);
}

#[test]
fn random_texts_agree_for_unigram() {
    random_texts_agree(XLMR);
}

#[test]
fn random_texts_agree_for_sentencepiece() {
    random_texts_agree(GEMMA);
}

#[test]
fn random_texts_agree_for_sentencepiece_with_a_blank_before() {
    random_texts_agree(LLAMA);
}

/// Whole files, and each of their lines.
#[test]
fn sources_and_documents_agree() {
    for path in [XLMR, GEMMA, LLAMA] {
        let (ours, judge) = open(path);
        let mut texts = 0;
        for file in corpus() {
            for text in file.lines().chain([file.as_str()]) {
                assert_eq!(ids(&ours, text), judged(&judge, text), "{path}: {text:.80}");
                texts += 1;
            }
        }
        assert!(texts > 20_000, "{texts}");
    }
}

/// Files of e5-mistral and its kin do not say that a text is closed; the vector is the last token's.
#[test]
fn a_text_closes_where_the_last_token_is_pooled_unless_the_file_says_no() {
    let sound = std::fs::read(test_data(LLAMA)).expect("committed");
    let of = |keys: GgufWriter| {
        let file = GgufFile::from_bytes(keys.added_to(&sound, &[])).expect("a valid file");
        ids(&Tokenizer::from_gguf(&file).expect("its vocabulary"), "the")
    };
    let [open, word, close] = of(GgufWriter::new())[..] else { panic!("three tokens") };
    assert_eq!((open, close), (1, 2));
    assert_eq!(of(GgufWriter::new().u32("llama.pooling_type", 3)), [open, word, close]);
    assert_eq!(of(GgufWriter::new().u32("llama.pooling_type", 1)), [open, word]);
    assert_eq!(of(GgufWriter::new().bool("tokenizer.ggml.add_eos_token", false)), [open, word]);
}

/// As many pieces as XLM-R and Gemma have: of words that no text has, since only their number counts.
#[cfg(target_os = "linux")]
fn large_vocabulary(model: &str, pieces: usize) -> GgufWriter {
    let mut writer = ids_of(GgufWriter::new(), model);
    let mut tokens: Vec<String> = ["<s>", "<pad>", "</s>", "<unk>"].map(String::from).into();
    let mut types = vec![CONTROL, CONTROL, CONTROL, UNKNOWN];
    // Characters first, so that there is something to make words of.
    tokens.extend(('a'..='z').chain(['\u{2581}']).map(String::from));
    tokens.extend((tokens.len()..pieces).map(|n| {
        let letters = (0..5).map(|place| n / 26_usize.pow(place) % 26);
        let word: String = letters.map(|letter| char::from(b'a' + letter as u8)).collect();
        format!("\u{2581}{word}{}", ["", "s", "ed", "ing"][n % 4])
    }));
    types.resize(tokens.len(), NORMAL);
    let scores: Vec<f32> = (0..tokens.len()).map(|n| -(n as f32) / 1e4).collect();
    if model == "t5" {
        let xlmr = GgufFile::open(&test_data(XLMR)).expect("a file of the repository");
        let key = "tokenizer.ggml.precompiled_charsmap";
        let charsmap = xlmr.blob(key).expect("typed").expect("present");
        writer = writer.blob(key, charsmap.bytes());
    }
    writer
        .strings("tokenizer.ggml.tokens", &tokens)
        .i32s("tokenizer.ggml.token_type", &types)
        .f32s("tokenizer.ggml.scores", &scores)
}

/// 4 bytes for where each token starts, and a table of 524,288 slots of 4 bytes: 3 MB; and `more`.
#[cfg(target_os = "linux")]
#[expect(clippy::print_stderr, reason = "tells what was measured, where somebody wants to know")]
fn costs(test: &str, model: &str, pieces: usize, more: usize) {
    let make = || large_vocabulary(model, pieces).finish();
    in_own_process_with(test, make, |path| {
        // A table for the allocator's own, and what a first text takes.
        const SLACK_BYTES: usize = 256 << 10;
        let file = GgufFile::open(path).expect("a valid file");
        let expected = pieces * 4 + 524_288 * 4 + more;
        let before = private_bytes();
        let start = std::time::Instant::now();
        let tokenizer = Tokenizer::from_gguf(&file).expect("a valid vocabulary");
        let took = start.elapsed();
        let text = "the quick brown fox jumps over the lazy dog";
        assert!(ids(&tokenizer, text).len() > 9);
        let growth = private_bytes().saturating_sub(before);
        assert_eq!(tokenizer.vocabulary(), pieces);
        eprintln!("{model}: {pieces} pieces, {growth} private bytes, loaded in {took:?}");
        // Less would mean that it was not measured.
        let range = expected - SLACK_BYTES..expected + SLACK_BYTES;
        assert!(range.contains(&growth), "{growth} bytes, not {expected}");
    });
}

#[cfg(target_os = "linux")]
#[test]
fn the_pieces_of_xlm_r_cost_three_megabytes() {
    let test = "tokenizer_sentencepiece::the_pieces_of_xlm_r_cost_three_megabytes";
    costs(test, "t5", 250_002, 0);
}

#[cfg(target_os = "linux")]
#[test]
fn the_pieces_of_gemma_cost_three_and_a_half_megabytes() {
    let test = "tokenizer_sentencepiece::the_pieces_of_gemma_cost_three_and_a_half_megabytes";
    // Which characters stand side by side in pieces.
    costs(test, "llama", 262_144, 512 << 10);
}

/// A megabyte without a place to cut, or of one character only.
#[test]
fn pathological_texts_agree() {
    for path in [XLMR, GEMMA] {
        let (ours, judge) = open(path);
        for unit in ["a", " ", "中", "\u{301}", "e\u{301}", "QmFzZTY0", "\u{10ffff}", "\u{fdfa}"] {
            let n_bytes = if unit == "\u{fdfa}" { 1 << 16 } else { 1 << 20 };
            let text = unit.repeat(n_bytes / unit.len());
            let (all, wanted) = (ids(&ours, &text), judged(&judge, &text));
            assert!(all == wanted, "{path}: {unit:?}: {} of {} ids", all.len(), wanted.len());
            let mut cut = Vec::new();
            assert_eq!(ours.encode(&text, 64, &mut cut).tokens, all.len());
            let kept = 63.min(all.len() - 1);
            assert_eq!((&cut[..kept], cut[kept]), (&all[..kept], all[all.len() - 1]));
        }
    }
}

/// Two ways through the word have no place in common but its ends; which is better, the last
/// character tells.
#[test]
fn the_best_path_may_depend_on_the_end_of_a_long_word() {
    let tokens = [("▁", NORMAL, -1.0), ("aa", NORMAL, -1.0), ("▁a", NORMAL, -1.5)];
    let tokenizer = load(unigram(&tokens)).expect("a valid vocabulary");
    for n in [1, 2, 3, 4999, 5000, 100_000, 100_001] {
        let pairs = vec![5; n / 2];
        let wanted = if n % 2 == 0 { [vec![4], pairs].concat() } else { [vec![6], pairs].concat() };
        let all = ids(&tokenizer, &"a".repeat(n));
        assert_eq!(all[1..all.len() - 1], wanted, "{n}");
        let mut cut = Vec::new();
        assert_eq!(tokenizer.encode(&"a".repeat(n), 3, &mut cut).tokens, all.len());
        assert_eq!(cut, [0, all[1], 2]);
    }
}

/// A run that is cut only because it is too long keeps its ids up to there.
#[test]
fn a_run_at_its_limit_agrees() {
    let (ours, judge) = open(GEMMA);
    for n in [65_535, 65_536] {
        let text = "a b".to_owned() + &" ".repeat(n);
        assert!(ids(&ours, &text) == judged(&judge, &text), "{n}");
    }
    let text = " ".repeat(65_536 + 3);
    let (all, wanted) = (ids(&ours, &text), judged(&judge, &text));
    assert_eq!(all[..16_384], wanted[..16_384]);
}

/// `<s>`, `<pad>`, `</s>`, `<unk>` and what is given.
fn unigram(more: &[(&str, i32, f32)]) -> GgufWriter {
    let special = [
        ("<s>", CONTROL, 0.0),
        ("<pad>", CONTROL, 0.0),
        ("</s>", CONTROL, 0.0),
        ("<unk>", UNKNOWN, 0.0),
    ];
    let all: Vec<_> = special.iter().chain(more).copied().collect();
    let (tokens, types): (Vec<&str>, Vec<i32>) = all.iter().map(|t| (t.0, t.1)).unzip();
    let scores: Vec<f32> = all.iter().map(|token| token.2).collect();
    ids_of(GgufWriter::new(), "t5")
        .strings("tokenizer.ggml.tokens", &tokens)
        .i32s("tokenizer.ggml.token_type", &types)
        .f32s("tokenizer.ggml.scores", &scores)
}

fn ids_of(writer: GgufWriter, model: &str) -> GgufWriter {
    writer
        .string("tokenizer.ggml.model", model)
        .u32("tokenizer.ggml.bos_token_id", 0)
        .u32("tokenizer.ggml.eos_token_id", 2)
}

fn load(writer: GgufWriter) -> Result<Tokenizer, TokenizerError> {
    Tokenizer::from_gguf(&GgufFile::from_bytes(writer.finish()).expect("a valid file"))
}

fn refused(writer: GgufWriter) -> String {
    load(writer).expect_err("refused").to_string()
}

#[test]
fn unknown_text_is_one_token_and_gaps_in_the_numbering_match_nothing() {
    let tokens =
        [("▁", NORMAL, -1.0), ("a", NORMAL, -2.0), ("b", UNUSED, -10_000.0), ("ab", NORMAL, -30.0)];
    let tokenizer = load(unigram(&tokens)).expect("a valid vocabulary");
    // An unknown character costs 40: the lowest score of a token that may be matched, less 10.
    for (text, wanted) in [
        ("xyz", &[4, 3][..]),
        ("axya x", &[4, 5, 3, 5, 4, 3]),
        ("ab", &[4, 7]),
        ("b", &[4, 3]),
        ("a<unk>a", &[4, 5, 3, 4, 5]),
        ("<pad>", &[1]),
        (" \t ", &[]),
    ] {
        let all = ids(&tokenizer, text);
        assert_eq!(all[1..all.len() - 1], *wanted, "{text:?}");
    }
}

#[test]
fn white_space_is_kept_or_dropped_as_the_file_says() {
    let tokens = [("▁", NORMAL, -1.0), ("a", NORMAL, -1.0)];
    for (prefix, collapse, wanted) in [
        (true, true, &[4, 5, 4, 5][..]),
        (false, true, &[4, 5, 4, 5]),
        (true, false, &[4, 5, 4, 4, 5, 4]),
        (false, false, &[4, 5, 4, 4, 5, 4]),
    ] {
        let file = unigram(&tokens)
            .bool("tokenizer.ggml.add_space_prefix", prefix)
            .bool("tokenizer.ggml.remove_extra_whitespaces", collapse);
        let tokenizer = load(file).expect("a valid vocabulary");
        assert_eq!(ids(&tokenizer, " a  a "), [&[0], wanted, &[2]].concat());
        let first: &[u32] = if prefix { &[0, 4, 5, 2] } else { &[0, 5, 2] };
        assert_eq!(ids(&tokenizer, "a"), first);
    }
}

#[test]
fn a_text_is_opened_and_closed_as_the_file_says() {
    for (open, close) in [(true, true), (true, false), (false, true), (false, false)] {
        let file = unigram(&[("▁a", NORMAL, -1.0)])
            .bool("tokenizer.ggml.add_bos_token", open)
            .bool("tokenizer.ggml.add_eos_token", close);
        let tokenizer = load(file).expect("a valid vocabulary");
        let (open, close) = (&[0][usize::from(!open)..], &[2][usize::from(!close)..]);
        assert_eq!(ids(&tokenizer, "a a"), [open, &[4, 4], close].concat());
        let (mut cut, fixed) = (Vec::new(), open.len() + close.len());
        tokenizer.encode("a a", fixed, &mut cut);
        assert_eq!(cut, [open, close].concat());
        if fixed > 0 {
            cut.clear();
            tokenizer.encode("a a", fixed - 1, &mut cut);
            assert!(cut.is_empty());
        }
    }
}

#[test]
fn a_vocabulary_that_does_not_fit_itself_is_refused_by_name() {
    let tokens = [("▁", NORMAL, -1.0)];
    let texts = ["<s>", "<unk>", "a"];
    let bare = |kind| {
        ids_of(GgufWriter::new(), "t5")
            .strings("tokenizer.ggml.tokens", &texts)
            .i32s("tokenizer.ggml.token_type", &[CONTROL, kind, NORMAL])
    };
    let scores = "tokenizer.ggml.scores";
    assert_eq!(refused(bare(UNKNOWN)), "key `tokenizer.ggml.scores`: is missing");
    assert_eq!(
        refused(bare(UNKNOWN).f32s(scores, &[0.0; 2])),
        "key `tokenizer.ggml.scores`: has 2 scores, the vocabulary has 3 tokens"
    );
    for (score, said) in [(f32::NAN, "NaN"), (f32::INFINITY, "inf"), (f32::NEG_INFINITY, "-inf")] {
        assert_eq!(
            refused(bare(UNKNOWN).f32s(scores, &[0.0, 0.0, score])),
            format!("key `tokenizer.ggml.scores`: score 2 is {said}, wanted a finite number")
        );
    }
    assert_eq!(
        refused(bare(NORMAL).f32s(scores, &[0.0; 3])),
        "key `tokenizer.ggml.unknown_token_id`: is missing"
    );
    assert_eq!(
        refused(unigram(&tokens).u32("tokenizer.ggml.unknown_token_id", 5)),
        "key `tokenizer.ggml.unknown_token_id`: id is 5, the vocabulary has 5 tokens"
    );
    let long = "x".repeat(513);
    assert_eq!(
        refused(unigram(&[(&long, NORMAL, -1.0)])),
        "token 4: is 513 bytes long, at most 512 accepted"
    );
    load(unigram(&[(&long[1..], NORMAL, -1.0), (&long, UNUSED, -1.0)])).expect("at the limit");
    let blanks = " ".repeat(64);
    let many = vec![(blanks.as_str(), USER_DEFINED, 0.0); 342];
    load(unigram(&many[..341])).expect("at the limit");
    assert_eq!(
        refused(unigram(&many)),
        "token 345: user-defined tokens with blanks have more than 65536 bytes up to this one"
    );
}

#[test]
fn a_character_map_that_leads_out_of_itself_is_refused_by_unit() {
    let with = |blob: &[u8]| {
        unigram(&[("▁", NORMAL, -1.0)]).blob("tokenizer.ggml.precompiled_charsmap", blob)
    };
    let map = |units: &[u32], texts: &[u8]| {
        let mut blob = (units.len() as u32 * 4).to_le_bytes().to_vec();
        units.iter().for_each(|unit| blob.extend(unit.to_le_bytes()));
        blob.extend(texts);
        blob
    };
    load(with(&[])).expect("no map");
    for (head, max) in [(0_u32, 4), (7, 4), (8, 4), (1 << 31, 4)] {
        let blob = [head.to_le_bytes(), [0; 4]].concat();
        assert_eq!(
            refused(with(&blob)),
            format!(
                "key `tokenizer.ggml.precompiled_charsmap`: says {head} bytes of units, wanted a multiple of 4 from 4 to {max}"
            )
        );
    }
    load(with(&map(&[0; 256], b"\0"))).expect("a map of nothing");
    assert_eq!(
        refused(with(&map(&[0; 255], b"\0"))),
        "key `tokenizer.ggml.precompiled_charsmap`: unit 0 has children beyond the last unit"
    );
    let (has_value, to) = (1 << 8, |offset: u32| offset << 10);
    // Unit 97 is `a` with a replacement at unit 97 ^ 1, and leads round to itself.
    let mut units = vec![0; 256];
    units[97] = 97 | has_value | to(1);
    for (value, texts, wrong) in [
        (0, &b"b\0"[..], false),
        (1, b"b\0", false),
        (2, b"b\0", true),
        (0x7fff_ffff, b"b\0", true),
        (0, b"b", true),
        (0, b"\xff\0", true),
        (0, &[b'b'; 257], true),
    ] {
        units[96] = 1 << 31 | value;
        let file = with(&map(&units, texts));
        if wrong {
            assert_eq!(
                refused(file),
                "key `tokenizer.ggml.precompiled_charsmap`: unit 97 has a replacement that is not there, not UTF-8 or too long"
            );
        } else {
            load(file).expect("within").encode("aaaa\u{301} a", 8, &mut Vec::new());
        }
    }
}
