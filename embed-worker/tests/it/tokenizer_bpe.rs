//! Token ids of byte-level BPE equal Hugging Face's, for real texts, for random Unicode and for
//! texts made to hurt.
//!
//! The judge is the `tokenizers` crate, set up from the same vocabulary. Vocabularies: small ones
//! of the converter, and one made here from this repository's own texts. The published one of Qwen
//! is too large to be in the repository: its tests run where `EMBED_QWEN_VOCAB` names the file.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use embed_worker::gguf::GgufFile;
use embed_worker::tokenizer::Tokenizer;
use proptest::prelude::*;
use serde_json::json;
use tokenizers::Tokenizer as Judge;

use crate::support::gguf_writer::GgufWriter;
use crate::support::judge::{self, corpus, ids, judged, recorded_ids, recorded_texts};
#[cfg(target_os = "linux")]
use crate::support::own_process::{in_own_process, private_bytes};
use crate::support::test_data;

const NORMAL: i32 = 1;
const CONTROL: i32 = 3;

const GPT2: &str = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+";
const QWEN2: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const LLAMA3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

const FAMILIES: [&str; 5] = ["gpt-2", "roberta-bpe", "modern-bert", "qwen2", "llama-bpe"];

/// A vocabulary, and what a file says about it.
#[derive(Clone)]
struct Spec {
    tokens: Vec<String>,
    types: Vec<i32>,
    merges: Vec<String>,
    pre: String,
    bos: Option<u32>,
    eos: Option<u32>,
    mask: Option<u32>,
}

impl Spec {
    fn of_file(file: &GgufFile) -> Self {
        let strings = |key| -> Vec<String> {
            let strings = file.strings(key).expect("typed").expect("present");
            strings.iter().map(|text| String::from_utf8(text.to_vec()).expect("UTF-8")).collect()
        };
        let types = file.integers("tokenizer.ggml.token_type").expect("typed").expect("present");
        let id = |key| file.u32(key).expect("typed");
        let adds = |key| file.bool(key).expect("typed") == Some(true);
        Self {
            tokens: strings("tokenizer.ggml.tokens"),
            types: types.iter().map(|kind| kind as i32).collect(),
            merges: strings("tokenizer.ggml.merges"),
            pre: file.str("tokenizer.ggml.pre").expect("typed").expect("present").to_owned(),
            bos: id("tokenizer.ggml.bos_token_id").filter(|_| adds("tokenizer.ggml.add_bos_token")),
            eos: id("tokenizer.ggml.eos_token_id").filter(|_| adds("tokenizer.ggml.add_eos_token")),
            mask: id("tokenizer.ggml.mask_token_id"),
        }
    }

    /// A vocabulary of some thousand merges, made from the sources and documents of this
    /// repository as published ones are made.
    fn of_this_repository() -> Self {
        use tokenizers::models::bpe::{BPE, BpeTrainer};
        use tokenizers::pre_tokenizers::byte_level::ByteLevel;
        use tokenizers::{TokenizerBuilder, normalizers, processors};

        let mut trainer = BpeTrainer::builder()
            .vocab_size(8000)
            .min_frequency(2)
            .show_progress(false)
            .initial_alphabet(ByteLevel::alphabet().into_iter().collect())
            .build();
        let mut tokenizer = TokenizerBuilder::<
            _,
            normalizers::NFC,
            _,
            processors::PostProcessorWrapper,
            ByteLevel,
        >::new()
        .with_model(BPE::default())
        .with_normalizer(None)
        .with_pre_tokenizer(Some(ByteLevel::default().add_prefix_space(false)))
        .with_post_processor(None)
        .with_decoder(None)
        .build()
        .expect("a tokenizer");
        tokenizer.train(&mut trainer, corpus().iter()).expect("trains");
        let json = serde_json::to_value(tokenizer.get_model()).expect("JSON");
        let mut tokens: Vec<(u64, String)> = json["vocab"]
            .as_object()
            .expect("a map")
            .iter()
            .map(|(token, id)| (id.as_u64().expect("an id"), token.clone()))
            .collect();
        tokens.sort();
        let merges = json["merges"].as_array().expect("a list").iter().map(|merge| {
            let side = |i: usize| merge[i].as_str().expect("a string").to_owned();
            format!("{} {}", side(0), side(1))
        });
        let merges: Vec<String> = merges.collect();
        assert!(merges.len() > 5000, "only {} merges", merges.len());
        let mut tokens: Vec<String> = tokens.into_iter().map(|(_, token)| token).collect();
        let mut types = vec![NORMAL; tokens.len()];
        let first = tokens.len() as u32;
        for special in ["<s>", "</s>", "<mask>"] {
            tokens.push(special.to_owned());
            types.push(CONTROL);
        }
        let (bos, eos, mask) = (Some(first), Some(first + 1), Some(first + 2));
        Self { tokens, types, merges, pre: "gpt-2".to_owned(), bos, eos, mask }
    }

    fn with_pre(&self, pre: &str) -> Self {
        Self { pre: pre.to_owned(), ..self.clone() }
    }

    /// The tokenizer under test, through a file as the converter writes it.
    fn ours(&self) -> Tokenizer {
        let mut file = GgufWriter::new()
            .string("tokenizer.ggml.model", "gpt2")
            .string("tokenizer.ggml.pre", &self.pre)
            .strings("tokenizer.ggml.tokens", &self.tokens)
            .i32s("tokenizer.ggml.token_type", &self.types)
            .strings("tokenizer.ggml.merges", &self.merges)
            .bool("tokenizer.ggml.add_bos_token", self.bos.is_some())
            .bool("tokenizer.ggml.add_eos_token", self.eos.is_some());
        for (key, id) in [("bos", self.bos), ("eos", self.eos), ("mask", self.mask)] {
            if let Some(id) = id {
                file = file.u32(&format!("tokenizer.ggml.{key}_token_id"), id);
            }
        }
        let file = GgufFile::from_bytes(file.finish()).expect("a valid file");
        Tokenizer::from_gguf(&file).expect("a valid vocabulary")
    }

    /// Hugging Face's tokenizer, from a `tokenizer.json` as models of the family have it.
    fn judge(&self) -> Judge {
        let vocabulary: BTreeMap<&str, usize> =
            self.tokens.iter().enumerate().map(|(id, token)| (token.as_str(), id)).collect();
        let is_modern = self.pre == "modern-bert";
        let strips = is_modern || self.pre == "roberta-bpe";
        let special = (0_u32..).zip(&self.types).filter(|(_, kind)| **kind != NORMAL);
        let added: Vec<_> = special
            .map(|(id, kind)| {
                json!({
                    "id": id, "content": self.tokens[id as usize], "special": *kind == CONTROL,
                    "normalized": is_modern && *kind != CONTROL, "single_word": false,
                    "lstrip": strips && self.mask == Some(id), "rstrip": false,
                })
            })
            .collect();
        let split = |regex: &str| {
            json!({"type": "Sequence", "pretokenizers": [
                {"type": "Split", "pattern": {"Regex": regex}, "behavior": "Isolated", "invert": false},
                {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": false, "use_regex": false},
            ]})
        };
        let words = match self.pre.as_str() {
            "qwen2" => split(QWEN2),
            "llama-bpe" => split(LLAMA3),
            "gpt-2" => split(GPT2),
            _ => {
                json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true})
            }
        };
        let normalizer = match self.pre.as_str() {
            "qwen2" | "modern-bert" => json!({"type": "NFC"}),
            _ => json!(null),
        };
        let mut json = json!({
            "version": "1.0",
            "added_tokens": added,
            "normalizer": normalizer,
            "pre_tokenizer": words,
            "model": {
                "type": "BPE", "vocab": vocabulary, "merges": self.merges,
                "ignore_merges": self.pre == "llama-bpe",
            },
        });
        let mut template = vec![json!({"Sequence": {"id": "A", "type_id": 0}})];
        let mut about = serde_json::Map::new();
        let mut special = |id: u32| {
            let token = &self.tokens[id as usize];
            about.insert(token.clone(), json!({"id": token, "ids": [id], "tokens": [token]}));
            json!({"SpecialToken": {"id": token, "type_id": 0}})
        };
        self.bos.into_iter().for_each(|id| template.insert(0, special(id)));
        self.eos.into_iter().for_each(|id| template.push(special(id)));
        json["post_processor"] = json!({
            "type": "TemplateProcessing", "single": template, "pair": [],
            "special_tokens": about,
        });
        Judge::from_bytes(json.to_string()).expect("a valid tokenizer.json")
    }
}

const SMALL: [&str; 3] = ["qwen2", "qwen3", "modern-bert"];

fn small(name: &str) -> GgufFile {
    let path = test_data("tokenizer").join(format!("bpe-{name}.gguf"));
    GgufFile::open(&path).expect("a vocabulary of the repository")
}

/// Qwen's vocabulary if there is one; says so if not.
#[expect(clippy::print_stderr, reason = "a test that is passed over says so")]
fn qwen() -> Option<GgufFile> {
    let Some(path) = std::env::var_os("EMBED_QWEN_VOCAB") else {
        eprintln!("SKIPPED: EMBED_QWEN_VOCAB names no GGUF file with the vocabulary of Qwen");
        return None;
    };
    Some(GgufFile::open(path.as_ref()).expect("the file that EMBED_QWEN_VOCAB names"))
}

static REPOSITORY: LazyLock<Spec> = LazyLock::new(Spec::of_this_repository);

fn recorded_ids_come_out(name: &str, file: &GgufFile) {
    let tokenizer = Tokenizer::from_gguf(file).expect("its vocabulary");
    let (texts, recorded) = (recorded_texts(), recorded_ids("bpe.json"));
    assert_eq!((texts.len(), recorded[name].len()), (260, 260));
    for (text, wanted) in texts.iter().zip(&recorded[name]) {
        assert_eq!(ids(&tokenizer, &text.text), *wanted, "{name}: {}", text.label);
    }
}

#[test]
fn recorded_ids_of_real_texts_come_out_for_every_vocabulary() {
    for name in SMALL {
        recorded_ids_come_out(name, &small(name));
    }
}

#[test]
fn recorded_ids_of_real_texts_come_out_for_qwens_vocabulary() {
    if let Some(file) = qwen() {
        recorded_ids_come_out("qwen-vocab", &file);
    }
}

#[test]
fn cutting_is_hugging_faces_truncation() {
    for spec in [Spec::of_file(&small("qwen3")), Spec::of_file(&small("modern-bert"))] {
        let (ours, mut judge) = (spec.ours(), spec.judge());
        let n_special = usize::from(spec.bos.is_some()) + usize::from(spec.eos.is_some());
        for limit in [n_special, n_special + 1, 16, 128] {
            let truncation =
                tokenizers::TruncationParams { max_length: limit, ..Default::default() };
            judge.with_truncation(Some(truncation)).expect("a valid limit");
            for text in recorded_texts() {
                let mut cut = vec![7];
                ours.encode(&text.text, limit, &mut cut);
                let wanted = [&[7], judged(&judge, &text.text).as_slice()].concat();
                assert_eq!(cut, wanted, "{} at {limit}", text.label);
            }
        }
        let mut none = Vec::new();
        let encoded = ours.encode("a text", n_special - 1, &mut none);
        assert_eq!((encoded.tokens, none), (ids(&ours, "a text").len(), vec![]));
    }
}

#[test]
fn a_vocabulary_without_special_tokens_gives_the_first_ids() {
    let tokenizer = Tokenizer::from_gguf(&small("qwen2")).expect("its vocabulary");
    let whole = ids(&tokenizer, "Several tokens, and no special ones.");
    for limit in 0..whole.len() + 2 {
        let mut cut = Vec::new();
        let encoded = tokenizer.encode("Several tokens, and no special ones.", limit, &mut cut);
        assert_eq!(encoded.tokens, whole.len());
        assert_eq!(cut, whole[..limit.min(whole.len())]);
    }
    assert!(ids(&tokenizer, "").is_empty());
}

/// Parts of texts that exercise one stage each.
fn part() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => " ?[a-zA-Z]{1,9}",
        2 => "[0-9]{1,7}",
        2 => "[ \t\n\r.,;:'\"()#@$+<>=|~^`_-]{1,4}",
        1 => "( {1,30}|\t{1,4}|\n{1,3}|(\r\n){1,2}|[\u{a0}\u{85}\u{1680}\u{2000}-\u{200b}\u{2028}\u{3000}]{1,3})",
        1 => "[a-zA-Z]{0,3}['’](?i:s|t|re|ve|m|ll|d|r|l|ſ)[a-z ]?",
        2 => "\\PC{0,6}",
        2 => "[a-zA-Zñçß가각]?[\u{300}-\u{36f}\u{591}-\u{5bd}\u{64b}-\u{65f}\u{302a}-\u{302f}\u{1d165}-\u{1d172}]{1,6}",
        1 => "[\u{ac00}-\u{d7a3}\u{1100}-\u{11ff}]{1,5}",
        1 => "[\u{900}-\u{97f}\u{e00}-\u{e7f}\u{9be}-\u{9d7}]{1,6}",
        1 => "[\u{4e00}-\u{9fff}\u{3040}-\u{30ff}\u{f900}-\u{faff}\u{2b820}-\u{2b930}]{1,5}",
        1 => "[\u{0}-\u{1f}\u{7f}-\u{a0}\u{ad}\u{200b}-\u{200f}\u{2028}\u{2029}\u{feff}\u{fffd}]{1,3}",
        1 => "[İıſKÅΣςǅﬁ\u{1e9e}\u{130}\u{37e}\u{1fef}½Ⅷ١\u{958}\u{2126}]{1,4}",
        1 => "(👩|🏽|\u{200d}|👧|🇩🇪|❤\u{fe0f}){1,6}",
        1 => prop::sample::select(vec![
            "<|endoftext|>", "<|im_start|>", "<|im_end|>", "<tool_call>", "</tool_call>", "<think>",
            "<|endoftext", "[MASK]", "  [MASK]", "\n [MASK] ", "[CLS]", "[SEP]", "[UNK]", "[unused0]",
            "[unused", "|||IP_ADDRESS|||", "||||EMAIL_ADDRESS|||", "<s>", "</s>", " <mask>", "<mask> ",
            "<think>\u{338}", "[unused1]\u{301}", "     \u{301}",
        ])
        .prop_map(str::to_owned),
        1 => (prop::sample::select(vec!["a", "ab", "é", "a\u{301}", "가", "=", "- ", "👩\u{200d}"]), 1_usize..150)
            .prop_map(|(unit, n)| unit.repeat(n)),
        1 => any::<String>(),
    ]
}

fn texts() -> impl Strategy<Value = String> {
    prop::collection::vec(part(), 0..12).prop_map(|parts| parts.concat())
}

fn random_texts_agree(spec: &Spec) {
    judge::random_texts_agree(&spec.pre, &spec.ours(), &spec.judge(), &texts());
}

#[test]
fn random_texts_agree_over_the_converters_vocabularies() {
    SMALL.map(small).iter().for_each(|file| random_texts_agree(&Spec::of_file(file)));
}

#[test]
fn random_texts_agree_for_every_family() {
    FAMILIES.iter().for_each(|pre| random_texts_agree(&REPOSITORY.with_pre(pre)));
}

#[test]
fn random_texts_agree_over_qwens_vocabulary() {
    if let Some(file) = qwen() {
        random_texts_agree(&Spec::of_file(&file));
    }
}

#[test]
fn sources_and_documents_agree_for_every_family() {
    for pre in FAMILIES {
        let spec = REPOSITORY.with_pre(pre);
        let (ours, judge) = (spec.ours(), spec.judge());
        for text in corpus() {
            assert_eq!(ids(&ours, &text), judged(&judge, &text), "{pre}: {:.80}", text);
        }
    }
}

#[test]
fn sources_and_documents_agree_over_qwens_vocabulary() {
    let Some(file) = qwen() else { return };
    let spec = Spec::of_file(&file);
    let (ours, judge) = (spec.ours(), spec.judge());
    for text in corpus() {
        assert_eq!(ids(&ours, &text), judged(&judge, &text), "{:.80}", text);
    }
}

/// A megabyte without a place to stop: what a text may have.
fn megabytes() -> Vec<(&'static str, String)> {
    let of = |unit: &str| unit.repeat((1 << 20) / unit.len());
    let pairs: String =
        (0..1 << 18).map(|i: u32| ['a', 'b'][(i.count_ones() & 1) as usize]).collect();
    vec![
        ("one letter", of("a")),
        ("letters", of("abcdefghijklmnopqrstuvwxyz")),
        ("words without spaces", of("thereturnfunctionselfimportdatabase")),
        ("two letters without a period", pairs),
        ("blanks", of(" ")),
        ("blanks and a letter", of(" ") + "a"),
        ("newlines", of("\n")),
        ("newlines and blanks", of("\r\n  ")),
        ("a newline, blanks, a newline", format!("\n{}\nx", of(" "))),
        ("unusual blanks", of("\u{2000}\u{3000}\u{a0}")),
        ("apostrophes", of("'")),
        ("digits", of("1")),
        ("punctuation", of("=-")),
        ("families", of("👩\u{200d}👩\u{200d}👧\u{200d}👦")),
        ("one mark", format!("a{}", of("\u{301}"))),
        ("ideographs", of("中文文字没有空格")),
        ("syllables", of("\u{1112}\u{1161}\u{11ab}")),
        ("special tokens", of("<|im_end|>")),
        ("nearly special tokens", of("<|im_end|")),
    ]
}

/// Hugging Face takes minutes for some of these in a debug build, so that a part stands for all of
/// them: longer than several windows of the merger.
fn long_texts_agree(spec: &Spec, n_bytes: usize) {
    let (ours, judge) = (spec.ours(), spec.judge());
    for (name, text) in megabytes() {
        let cut = text.floor_char_boundary(n_bytes);
        let texts = [&text[..cut], &text[text.ceil_char_boundary(text.len() - cut)..]];
        for text in texts {
            let (found, wanted) = (ids(&ours, text), judged(&judge, text));
            let differs =
                (0..found.len().max(wanted.len())).find(|i| found.get(*i) != wanted.get(*i));
            assert_eq!(differs, None, "{}: {name}", spec.pre);
        }
        assert!(!ids(&ours, &text).is_empty(), "{name}");
    }
}

#[test]
fn long_words_agree_across_windows() {
    long_texts_agree(&Spec::of_file(&small("qwen3")), 100_000);
    long_texts_agree(&REPOSITORY.with_pre("gpt-2"), 100_000);
}

#[test]
fn long_words_agree_over_qwens_vocabulary() {
    if let Some(file) = qwen() {
        // The judge's engine gives up looking back over a million blanks.
        long_texts_agree(&Spec::of_file(&file), 900_000);
    }
}

/// 12 bytes and 262,144 slots for 151,387 merges, 4 bytes for where each of 151,646 tokens starts.
#[cfg(target_os = "linux")]
#[test]
fn qwens_vocabulary_costs_four_megabytes() {
    let test = "tokenizer_bpe::qwens_vocabulary_costs_four_megabytes";
    if qwen().is_none() {
        return;
    }
    in_own_process(test, || {
        const GROWTH_BYTES_MAX: usize = 4 << 20;
        let file = qwen().expect("checked above");
        let before = private_bytes();
        let tokenizer = Tokenizer::from_gguf(&file).expect("its vocabulary");
        assert!(!ids(&tokenizer, "The quick brown fox jumps over the lazy dog.").is_empty());
        let growth = private_bytes().saturating_sub(before);
        assert!(growth < GROWTH_BYTES_MAX, "private memory grew by {growth} bytes");
    });
}

/// A megabyte that no pattern cuts is merged window by window.
#[cfg(target_os = "linux")]
#[test]
fn a_word_of_a_megabyte_costs_a_window() {
    in_own_process("tokenizer_bpe::a_word_of_a_megabyte_costs_a_window", || {
        const GROWTH_BYTES_MAX: usize = 2 << 20;
        let tokenizer = Tokenizer::from_gguf(&small("qwen3")).expect("its vocabulary");
        let texts = megabytes();
        let mut ids = Vec::with_capacity(16);
        tokenizer.encode("warm", 16, &mut ids);
        let before = private_bytes();
        for (name, text) in &texts {
            ids.clear();
            tokenizer.encode(text, 16, &mut ids);
            let growth = private_bytes().saturating_sub(before);
            assert!(growth < GROWTH_BYTES_MAX, "{name}: private memory grew by {growth} bytes");
        }
    });
}
