//! Token ids equal Hugging Face's, for real texts, for every code point and for random Unicode.
//!
//! The judge is the `tokenizers` crate, set up from the same vocabulary. Where words are unknown
//! to a vocabulary, different characters give the same id; so the sweeps use one that has a
//! token for every character there is.

use std::collections::BTreeMap;

use embed_worker::gguf::GgufFile;
use embed_worker::tokenizer::Tokenizer;
use proptest::prelude::*;
use serde::Deserialize;
use tokenizers::Tokenizer as Judge;

use crate::support::gguf_writer::GgufWriter;
use crate::support::judge::{self, ids, judged};
use crate::support::{repository_file, test_data};

const CONTROL: i32 = 3;
const NORMAL: i32 = 1;

/// A vocabulary in Hugging Face's spelling, and what the normaliser does.
#[derive(Clone)]
struct Spec {
    tokens: Vec<String>,
    special: Vec<u32>,
    lowercase: bool,
    strip_accents: Option<bool>,
}

impl Spec {
    /// The vocabulary of a model file, translated back from the converter's spelling.
    fn of_file(file: &GgufFile) -> Self {
        let types = file.integers("tokenizer.ggml.token_type").expect("typed").expect("present");
        let tokens = file.strings("tokenizer.ggml.tokens").expect("typed").expect("present");
        let special: Vec<u32> = (0..)
            .zip(types.iter())
            .filter(|(_, t)| *t == i64::from(CONTROL))
            .map(|t| t.0)
            .collect();
        let tokens = tokens.iter().enumerate().map(|(id, token)| {
            let token = std::str::from_utf8(token).expect("UTF-8");
            match token.strip_prefix('\u{2581}') {
                _ if special.contains(&(id as u32)) => token.to_owned(),
                Some(initial) => initial.to_owned(),
                None => format!("##{token}"),
            }
        });
        let key = |key| file.bool(key).expect("typed");
        Self {
            tokens: tokens.collect(),
            special,
            lowercase: key("tokenizer.ggml.normalizer.lowercase").unwrap_or(true),
            strip_accents: key("tokenizer.ggml.normalizer.strip_accents"),
        }
    }

    /// A vocabulary that tells all characters apart, wherever they stand in a word.
    ///
    /// Planes 0 to 2 and 14 have all assigned characters but private ones and some rare
    /// ideographs, whose handling is seen in what happens around them.
    fn of_every_character() -> Self {
        let special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "[MASK]x", "<s>"];
        let mut tokens: Vec<String> = special.map(str::to_owned).into();
        for c in ('\0'..'\u{30000}').chain('\u{E0000}'..'\u{E1000}') {
            if c == '#' {
                // As initial tokens, "##" and its kind would be read as continuations.
                tokens.push("#".to_owned());
                continue;
            }
            tokens.push(c.to_string());
            tokens.push(format!("##{c}"));
        }
        let special = (0..special.len() as u32).collect();
        Self { tokens, special, lowercase: true, strip_accents: None }
    }

    fn id(&self, token: &str) -> u32 {
        self.tokens.iter().position(|t| t == token).expect("a special token") as u32
    }

    /// The tokenizer under test, through a file as the converter writes it.
    fn ours(&self) -> Tokenizer {
        let is_special = |id: usize| self.special.contains(&(id as u32));
        let tokens: Vec<String> = (self.tokens.iter().enumerate())
            .map(|(id, token)| match token.strip_prefix("##") {
                _ if is_special(id) => token.clone(),
                Some(continuation) if !continuation.is_empty() => continuation.to_owned(),
                _ => format!("\u{2581}{token}"),
            })
            .collect();
        let types: Vec<i32> =
            (0..tokens.len()).map(|id| if is_special(id) { CONTROL } else { NORMAL }).collect();
        let mut file = GgufWriter::new()
            .string("tokenizer.ggml.model", "bert")
            .strings("tokenizer.ggml.tokens", &tokens)
            .i32s("tokenizer.ggml.token_type", &types)
            .u32("tokenizer.ggml.bos_token_id", self.id("[CLS]"))
            .u32("tokenizer.ggml.seperator_token_id", self.id("[SEP]"))
            .u32("tokenizer.ggml.unknown_token_id", self.id("[UNK]"))
            .bool("tokenizer.ggml.normalizer.lowercase", self.lowercase);
        if let Some(strip_accents) = self.strip_accents {
            file = file.bool("tokenizer.ggml.normalizer.strip_accents", strip_accents);
        }
        let file = GgufFile::from_bytes(file.finish()).expect("a valid file");
        Tokenizer::from_gguf(&file).expect("a valid vocabulary")
    }

    /// Hugging Face's tokenizer, from a `tokenizer.json` as models have it.
    fn judge(&self) -> Judge {
        let vocabulary: BTreeMap<&str, usize> =
            self.tokens.iter().enumerate().map(|(id, token)| (token.as_str(), id)).collect();
        let added: Vec<_> = self
            .special
            .iter()
            .map(|id| {
                serde_json::json!({
                    "id": id, "content": self.tokens[*id as usize], "special": true,
                    "normalized": false, "single_word": false, "lstrip": false, "rstrip": false,
                })
            })
            .collect();
        let special =
            |token: &str| serde_json::json!({"SpecialToken": {"id": token, "type_id": 0}});
        let text = serde_json::json!({"Sequence": {"id": "A", "type_id": 0}});
        let about = |token: &str| serde_json::json!({"id": token, "ids": [self.id(token)], "tokens": [token]});
        let json = serde_json::json!({
            "version": "1.0",
            "added_tokens": added,
            "normalizer": {
                "type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": true,
                "strip_accents": self.strip_accents, "lowercase": self.lowercase,
            },
            "pre_tokenizer": {"type": "BertPreTokenizer"},
            "post_processor": {
                "type": "TemplateProcessing",
                "single": [special("[CLS]"), text, special("[SEP]")],
                "pair": [special("[CLS]"), text, special("[SEP]")],
                "special_tokens": {"[CLS]": about("[CLS]"), "[SEP]": about("[SEP]")},
            },
            "model": {
                "type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##",
                "max_input_chars_per_word": 100, "vocab": vocabulary,
            },
        });
        Judge::from_bytes(json.to_string()).expect("a valid tokenizer.json")
    }
}

fn open(path: &str) -> (GgufFile, Tokenizer) {
    let file = GgufFile::open(&repository_file(path)).expect("a model of the repository");
    let tokenizer = Tokenizer::from_gguf(&file).expect("its vocabulary");
    (file, tokenizer)
}

#[derive(Deserialize)]
struct Recorded {
    texts: Vec<RecordedText>,
}

#[derive(Deserialize)]
struct RecordedText {
    label: String,
    text: String,
    ids: BTreeMap<String, Vec<u32>>,
}

const MODELS: [(&str, &str); 3] = [
    ("all-MiniLM-L6-v2.Q8_0", "models/all-MiniLM-L6-v2.Q8_0.gguf"),
    ("bert-cls-Q5_K_M", "embed-worker/tests/data/golden/bert-cls-Q5_K_M.gguf"),
    ("bert-mean-Q4_0", "embed-worker/tests/data/golden/bert-mean-Q4_0.gguf"),
];

fn recorded() -> Vec<RecordedText> {
    let json = std::fs::read(test_data("tokenizer/texts.json")).expect("the recorded ids");
    serde_json::from_slice::<Recorded>(&json).expect("valid JSON").texts
}

#[test]
fn recorded_ids_of_real_texts_come_out_for_every_model() {
    let texts = recorded();
    assert_eq!(texts.len(), 260);
    for (name, path) in MODELS {
        let (_, tokenizer) = open(path);
        for text in &texts {
            assert_eq!(ids(&tokenizer, &text.text), text.ids[name], "{name}: {}", text.label);
        }
    }
}

#[test]
fn a_cut_text_has_the_first_ids_and_the_closing_one_at_every_limit() {
    let (_, tokenizer) = open(MODELS[0].1);
    for text in recorded().iter().take(60) {
        let whole = ids(&tokenizer, &text.text);
        for limit in 0..whole.len() + 2 {
            // What was in the buffer before stays.
            let mut cut = vec![7];
            let encoded = tokenizer.encode(&text.text, limit, &mut cut);
            let mut wanted = vec![7];
            if limit >= 2 {
                wanted.extend(&whole[..limit.min(whole.len()) - 1]);
                wanted.push(whole[whole.len() - 1]);
            }
            assert_eq!((encoded.tokens, &cut), (whole.len(), &wanted), "{} at {limit}", text.label);
        }
    }
}

#[test]
fn cutting_is_hugging_faces_truncation() {
    let (file, tokenizer) = open(MODELS[0].1);
    let mut judge = Spec::of_file(&file).judge();
    for limit in [2, 3, 16, 128] {
        let truncation = tokenizers::TruncationParams { max_length: limit, ..Default::default() };
        judge.with_truncation(Some(truncation)).expect("a valid limit");
        for text in recorded() {
            let mut cut = Vec::new();
            tokenizer.encode(&text.text, limit, &mut cut);
            assert_eq!(cut, judged(&judge, &text.text), "{} at {limit}", text.label);
        }
    }
}

/// Every scalar value within a word, alone, and between marks that NFD reorders around it.
fn every_code_point_agrees(lowercase: bool, strip_accents: Option<bool>) {
    let spec = Spec { lowercase, strip_accents, ..Spec::of_every_character() };
    let (ours, judge) = (spec.ours(), spec.judge());
    judge::every_code_point_agrees(&ours, &judge, |c| {
        format!("a{c}b {c} \u{1d165}{c}\u{302e}a\u{302a}{c}\u{302e} ")
    });
}

// One test for each normaliser, so that they run side by side.

#[test]
fn every_code_point_agrees_lower_case_without_accents() {
    every_code_point_agrees(true, None);
}

#[test]
fn every_code_point_agrees_cased() {
    every_code_point_agrees(false, None);
}

#[test]
fn every_code_point_agrees_lower_case_with_accents() {
    every_code_point_agrees(true, Some(false));
}

#[test]
fn every_code_point_agrees_cased_without_accents() {
    every_code_point_agrees(false, Some(true));
}

/// Parts of texts that exercise one stage each.
fn part() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => "[a-zA-Z0-9]{1,8}",
        2 => "[ \t\n\r.,;:'\"()#@$+<>=|~^`_-]{1,4}",
        2 => "\\PC{0,6}",
        // Combining marks of many classes, after and without a base.
        2 => "[aeiouAEIOUñçß가각]?[\u{300}-\u{36f}\u{591}-\u{5bd}\u{64b}-\u{65f}\u{302a}-\u{302f}\u{1d165}-\u{1d172}]{1,6}",
        1 => "[\u{ac00}-\u{d7a3}\u{1100}-\u{11ff}]{1,5}",
        1 => "[\u{900}-\u{97f}\u{e00}-\u{e7f}]{1,6}",
        1 => "[\u{4e00}-\u{9fff}\u{3040}-\u{30ff}\u{f900}-\u{faff}\u{2b820}-\u{2b930}]{1,5}",
        1 => "[\u{0}-\u{1f}\u{7f}-\u{a0}\u{ad}\u{200b}-\u{200f}\u{2028}\u{2029}\u{3000}\u{feff}\u{fffd}]{1,3}",
        1 => "[İıſKÅΣςǅﬁ\u{1e9e}\u{130}\u{37e}\u{1fef}\u{2000}\u{2001}]{1,4}",
        1 => prop::sample::select(vec![
            "[CLS]", "[SEP]", "[MASK]", "[MASK]x", "[PAD]", "[UNK]", "[MASK", "[CLS", "<s>", "<s",
            "[[CLS]]", "[cls]", "\u{2581}", "##a",
        ])
        .prop_map(str::to_owned),
        // Words about the length at which they become unknown.
        1 => (prop::sample::select(vec!["a", "ab", "é", "a\u{301}", "가", "\u{302e}"]), 97_usize..104)
            .prop_map(|(unit, n)| unit.repeat(n)),
        1 => any::<String>(),
    ]
}

fn texts() -> impl Strategy<Value = String> {
    prop::collection::vec(part(), 0..12).prop_map(|parts| parts.concat())
}

fn random_texts_agree(spec: &Spec) {
    let name = format!("{:?}", (spec.lowercase, spec.strip_accents));
    judge::random_texts_agree(&name, &spec.ours(), &spec.judge(), &texts());
}

#[test]
fn random_texts_agree_over_the_vocabulary_of_every_character() {
    for (lowercase, strip_accents) in [(true, None), (false, Some(false)), (true, Some(false))] {
        random_texts_agree(&Spec { lowercase, strip_accents, ..Spec::of_every_character() });
    }
}

#[test]
fn random_texts_agree_over_real_vocabularies() {
    for (_, path) in MODELS {
        random_texts_agree(&Spec::of_file(&open(path).0));
    }
}
