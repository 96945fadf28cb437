//! Every architecture beside BERT against reference vectors, from token ids: what is tested here is
//! the model, whatever its tokenizer.

use std::path::{Path, PathBuf};

use embed_worker::gguf::GgufFile;
use embed_worker::kernels::Isa;
use embed_worker::model::ModelError;
use serde::Deserialize;

use crate::golden::{WORST_SLACK, bits, cosine, data, golden};
use crate::support::encoder::{embed_ids, encoder, open_model};
use crate::support::gguf_writer::GgufWriter;
use crate::support::hostile::Hostile;
use crate::support::test_data;

/// The tiny models that are committed, with what each is there for.
const MODELS: [&str; 5] = [
    "jina-bert-v2-Q4_K_M", // ALiBi, six heads, a gate that stands in the rows of up
    "modern-bert-Q4_K_M",  // local and global layers, layer norm before and without shift
    "gemma-embedding-dense-Q4_K_M", // scaled, norms around, named local layers, heads after pooling
    "qwen2-Q4_K_M", // causal, grouped queries, RMS norm before, biases of q, k and v; last token
    "qwen3-Q4_K_M", // norms of heads, heads wider than the states
];

fn model(name: &str) -> PathBuf {
    data(&format!("{name}.gguf"))
}

/// Whether `ours` are as near to their targets as `theirs`, on average at least, and nowhere farther
/// than their farthest; and a line that tells how near both are.
pub(crate) fn as_near(name: &str, ours: &[f64], theirs: &[f64]) -> (bool, String) {
    let mean = |all: &[f64]| all.iter().sum::<f64>() / all.len() as f64;
    let worst = |all: &[f64]| all.iter().copied().fold(1.0, f64::min);
    let line = format!(
        "{name:36} 1 - mean cosine: ours {:.2e}, llama.cpp {:.2e}; worst: {:.2e}, {:.2e}",
        1.0 - mean(ours),
        1.0 - mean(theirs),
        1.0 - worst(ours),
        1.0 - worst(theirs)
    );
    (mean(ours) >= mean(theirs) && worst(ours) >= worst(theirs) - WORST_SLACK, line)
}

#[test]
fn every_architecture_is_nearer_to_its_own_weights_than_llama_cpp() {
    for name in MODELS {
        let mut encoder = encoder(&model(name), 2, Isa::best());
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        for (text, target) in golden(name) {
            let vectors = embed_ids(&mut encoder, &[&text.ids]);
            ours.push(cosine(&vectors[0], &target));
            theirs.push(text.llama_cpp_cosine);
        }
        let (near, line) = as_near(name, &ours, &theirs);
        assert!(near, "{line}");
    }
}

/// The bits of the vectors of `texts`, each embedded by itself or all in one batch.
fn vectors(model: &Path, threads: usize, isa: Isa, texts: &[&[u32]], alone: bool) -> Vec<Vec<u32>> {
    let mut encoder = encoder(model, threads, isa);
    let vectors = if alone {
        texts.iter().flat_map(|text| embed_ids(&mut encoder, &[text])).collect()
    } else {
        embed_ids(&mut encoder, texts)
    };
    vectors.iter().map(|vector| bits(vector)).collect()
}

#[test]
fn a_vector_has_the_same_bits_in_company_on_more_threads_and_on_every_instruction_set() {
    for name in MODELS {
        let golden = golden(name);
        // The longest would take the portable code a while.
        let texts: Vec<&[u32]> = golden
            .iter()
            .map(|(text, _)| text.ids.as_slice())
            .filter(|ids| (1..200).contains(&ids.len()))
            .collect();
        assert!(texts.len() > 30);
        let expected = vectors(&model(name), 1, Isa::best(), &texts, true);
        for threads in [1, 2] {
            let found = vectors(&model(name), threads, Isa::best(), &texts, false);
            assert!(found == expected, "{name}: in company on {threads} threads");
        }
        let few = &texts[..12];
        for isa in Isa::all_supported() {
            let found = vectors(&model(name), 2, isa, few, false);
            assert!(found == expected[..12], "{name}: on {isa}");
        }
    }
}

/// A sound file with the number under one key replaced.
fn with_key(model: &Path, key: &str, value: u32) -> Vec<u8> {
    let mut bytes = std::fs::read(model).expect("committed");
    let named = [&(key.len() as u64).to_le_bytes()[..], key.as_bytes()].concat();
    let places = bytes.windows(named.len()).filter(|window| *window == named).count();
    assert_eq!(places, 1, "{key} stands in the file once");
    let at = bytes.windows(named.len()).position(|window| window == named).expect("there");
    // After the key its type, after that the value.
    let at = at + named.len() + size_of::<u32>();
    bytes[at..at + size_of::<u32>()].copy_from_slice(&value.to_le_bytes());
    bytes
}

/// What opening the model says.
fn refusal(bytes: Vec<u8>) -> Option<ModelError> {
    let file = GgufFile::from_bytes(bytes).expect("sound but for the model's keys");
    open_model(&file, 1, Isa::best()).err()
}

/// Keys that contradict others or the tensors, and what must be said.
const CONTRADICTIONS: [(&str, &str, u32, &str); 18] = [
    ("gemma-embedding", "dense_2_feat_in", 255, "must be embedding_length, 256"),
    ("gemma-embedding", "dense_3_feat_in", 256, "must be dense_2_feat_out, 512"),
    ("gemma-embedding", "dense_3_feat_out", 128, "tensor `dense_3.weight`: has shape [512, 256]"),
    ("modern-bert", "attention.sliding_window", 0, "from 1 to"),
    ("modern-bert", "attention.sliding_window_pattern", 0, "from 1 to"),
    (
        "modern-bert",
        "feed_forward_length",
        576,
        "tensor `blk.0.ffn_up.weight`: has shape [256, 576]",
    ),
    ("qwen2", "attention.head_count_kv", 3, "a divisor of attention.head_count, 8"),
    ("qwen2", "attention.head_count_kv", 4, "tensor `blk.0.attn_k.weight`: has shape [256, 64]"),
    ("qwen2", "attention.head_count", 0, "from 1 to 16000"),
    ("qwen2", "attention.head_count", 1, "a divisor of attention.head_count, 1"),
    ("qwen2", "attention.head_count", 10, "a divisor of embedding_length, 256"),
    ("qwen2", "pooling_type", 0, "NONE is not supported"),
    ("qwen2", "pooling_type", 4, "RANK is not supported"),
    ("qwen2", "block_count", 3, "tensor `blk.2."),
    ("qwen3", "attention.key_length", 0, "from 1 to 16000"),
    ("qwen3", "attention.key_length", 64, "attention.value_length`: is 128, must be"),
    ("qwen3", "attention.key_length", u32::MAX, "from 1 to 16000"),
    ("qwen3", "embedding_length", 512, "tensor `token_embd.weight`: has shape [256, 1536]"),
];

#[test]
fn keys_that_contradict_each_other_or_the_tensors_are_refused_by_name() {
    for (name, key, value, wanted) in CONTRADICTIONS {
        let model = MODELS.iter().find(|model| model.starts_with(name)).expect("committed");
        let key = format!("{name}.{key}");
        let bytes = with_key(&data(&format!("{model}.gguf")), &key, value);
        let said = refusal(bytes).map(|error| error.to_string()).unwrap_or_default();
        assert!(said.contains(wanted), "{key} {value}: {said:?}");
    }
}

/// Hostile files of these architectures, and what must be said.
const HOSTILE: [(&str, &str); 9] = [
    ("moe-used-0", "key `nomic-bert-moe.expert_used_count`: is 0"),
    ("moe-count-8", "tensor `blk.1.ffn_gate_inp.weight`: has shape [32, 4]"),
    ("moe-count-2p32m1", "key `nomic-bert-moe.expert_count`: is 4294967295"),
    ("swa-missing", "key `gemma-embedding.attention.sliding_window`: missing"),
    (
        "swa-pattern-array-long",
        "key `gemma-embedding.attention.sliding_window_pattern`: is an array of 5",
    ),
    ("key-length-0", "key `qwen3.attention.key_length`: is 0"),
    ("key-length-2p31", "key `qwen3.attention.key_length`: is 2147483648"),
    ("rope-base-negative", "key `qwen3.rope.freq_base`: is -1000000"),
    ("rope-dim-odd", "key `qwen3.rope.dimension_count`: is 7"),
];

#[test]
fn hostile_models_are_refused_before_their_tokenizer_is_asked() {
    for (name, wanted) in HOSTILE {
        let all = Hostile::all();
        let file = all.iter().find(|file| file.file.trim_end_matches(".gguf") == name);
        let said = refusal(file.expect("among the files").bytes());
        let said = said.map(|error| error.to_string()).unwrap_or_default();
        assert!(said.starts_with(wanted), "{name}: {said:?}");
    }
}

#[test]
fn a_layer_without_one_of_its_tensors_is_refused_by_name() {
    for name in MODELS {
        let sound = std::fs::read(model(name)).expect("committed");
        let file = GgufFile::from_bytes(sound.clone()).expect("sound");
        let layers = file.tensors().iter().filter(|tensor| tensor.name().starts_with("blk.1."));
        let mut optional = Vec::new();
        for tensor in layers {
            // Another name of the same length is the same as none.
            let tensor = tensor.name();
            let at = sound.windows(tensor.len()).position(|w| w == tensor.as_bytes());
            let mut bytes = sound.clone();
            bytes[at.expect("named in the file")] = b'x';
            match refusal(bytes) {
                None => optional.push(tensor.to_owned()),
                Some(error) => {
                    let said = error.to_string();
                    // Of a fused or split matrix the other form is looked for.
                    let named = tensor.contains("qkv") || tensor.contains("ffn_gate.");
                    assert!(named || said.contains(&format!("`{tensor}`: missing")), "{said}");
                }
            }
        }
        let biases = optional.iter().all(|tensor| tensor.ends_with(".bias"));
        assert!(biases, "{name}: does without {optional:?}");
    }
}

/// A text as `scripts/golden-experts.py` and `scripts/golden-jina-code.py` write it.
#[derive(Deserialize)]
struct ExactText {
    ids: Vec<u32>,
    vector: Vec<f32>,
}

fn exact_texts(name: &str) -> Vec<ExactText> {
    let json = std::fs::read(data(name)).expect("committed");
    serde_json::from_slice(&json).expect("as written")
}

/// A model of 17 KB, whose reference is arithmetic in f64 by another program: those of llama.cpp are
/// too large to commit.
#[test]
fn experts_are_chosen_and_weighed_as_in_exact_arithmetic() {
    let all = exact_texts("experts.json");
    let texts: Vec<&[u32]> = all.iter().map(|text| text.ids.as_slice()).collect();
    let model = test_data("hostile/ok-moe.gguf");
    let expected = vectors(&model, 1, Isa::best(), &texts, true);
    for isa in Isa::all_supported() {
        for threads in [1, 2] {
            let found = vectors(&model, threads, isa, &texts, false);
            assert!(found == expected, "{isa}, {threads} threads: other bits in company");
        }
    }
    let mut encoder = encoder(&model, 1, Isa::best());
    for (text, found) in all.iter().zip(embed_ids(&mut encoder, &texts)) {
        // States of 32 elements as int8 leave some 1e-4.
        let cosine = cosine(&found, &text.vector);
        assert!(cosine > 0.999, "{:?}: {cosine}", text.ids);
    }
}

/// The reference is arithmetic in f64 by another program, with weights that are no 8-bit numbers.
#[test]
fn jina_for_code_is_as_in_exact_arithmetic_with_its_three_more_norms() {
    let all = exact_texts("jina-code.json");
    let texts: Vec<&[u32]> = all.iter().map(|text| text.ids.as_slice()).collect();
    let model = model("jina-code");
    let mut expected = None;
    for isa in Isa::all_supported() {
        let found = embed_ids(&mut encoder(&model, 2, isa), &texts);
        for (text, found) in all.iter().zip(&found) {
            let cosine = cosine(found, &text.vector);
            // The polynomial for GELU leaves some 4e-9.
            assert!(cosine > 1.0 - 1e-8, "{isa}: {} tokens: {cosine}", text.ids.len());
        }
        let found: Vec<Vec<u32>> = found.iter().map(|vector| bits(vector)).collect();
        assert!(vectors(&model, 1, isa, &texts, true) == found, "{isa}: other bits in company");
        assert!(*expected.get_or_insert(found.clone()) == found, "other bits on {isa}");
    }
}

#[test]
fn the_code_models_norms_must_be_whole() {
    let sound = std::fs::read(model("jina-code")).expect("committed");
    for tensor in ["attn_q_norm.weight", "attn_k_norm.bias", "attn_norm_2.bias"] {
        let tensor = format!("blk.1.{tensor}");
        let at = sound.windows(tensor.len()).position(|window| window == tensor.as_bytes());
        let mut bytes = sound.clone();
        bytes[at.expect("named in the file")] = b'x';
        let said = refusal(bytes).map(|error| error.to_string()).unwrap_or_default();
        assert!(said.contains(&format!("tensor `{tensor}`: missing")), "{said:?}");
    }
}

/// What would change every vector is not left out in silence.
#[test]
fn tensors_of_unknown_variants_are_refused_by_name() {
    const F32: u32 = 0;
    let nomic = std::fs::read(data("nomic-bert-Q2_K.gguf")).expect("committed");
    let code = std::fs::read(model("jina-code")).expect("committed");
    for (sound, tensor, is_known) in [
        (&nomic, "blk.0.attn_norm_2.weight", false),
        (&nomic, "blk.1.attn_q_norm.weight", false),
        (&nomic, "blk.1.attn_k_norm.weight", false),
        (&code, "blk.1.attn_sinks.weight", false),
        (&nomic, "rope_freqs.weight", false),
        (&nomic, "output.weight", true),
    ] {
        // Its data stand behind those of all others.
        let file = GgufFile::from_bytes(sound.clone()).expect("sound");
        let starts = file.tensors().iter().map(|tensor| tensor.data().offset());
        let data = sound.len() - starts.min().expect("a file of tensors");
        let offset = data.next_multiple_of(32);
        let added = GgufWriter::new().tensor(tensor, &[32], F32, offset as u64);
        let mut bytes = added.added_to(sound, &[]);
        bytes.resize(bytes.len() + offset - data + 32 * size_of::<f32>(), 0);
        let said = refusal(bytes).map(|error| error.to_string());
        match said {
            None => assert!(is_known, "{tensor} is left out in silence"),
            Some(said) => {
                let named = said.starts_with(&format!("tensor `{tensor}`: "));
                assert!(!is_known && named && said.contains("not supported"), "{said}");
            }
        }
    }
}

/// A text as `scripts/golden-llama.py` writes it, with its vector for each way to stretch positions.
#[derive(Deserialize)]
struct StretchedText {
    ids: Vec<u32>,
    none: Vec<f32>,
    linear: Vec<f32>,
    yarn: Vec<f32>,
}

/// The vector that a way to stretch positions gives.
type Target = fn(&StretchedText) -> &[f32];

/// A sound file of Llama's architecture with more keys.
fn llama(keys: GgufWriter) -> Vec<u8> {
    keys.added_to(&std::fs::read(data("llama.gguf")).expect("committed"), &[])
}

fn stretched(kind: &str) -> GgufWriter {
    GgufWriter::new()
        .string("llama.rope.scaling.type", kind)
        .f32("llama.rope.scaling.factor", 4.0)
        .u32("llama.rope.scaling.original_context_length", 64)
}

/// The reference is arithmetic in f64 by another program, with weights that are no 8-bit numbers, so
/// that the vectors agree to their last digits. The file names no pooling: the last token's is meant.
#[test]
fn llama_is_as_in_exact_arithmetic_and_so_are_stretched_positions() {
    let json = std::fs::read(data("llama.json")).expect("committed");
    let all: Vec<StretchedText> = serde_json::from_slice(&json).expect("as written");
    let texts: Vec<&[u32]> = all.iter().map(|text| text.ids.as_slice()).collect();
    let untyped = || GgufWriter::new().f32("llama.rope.scaling.factor", 4.0);
    let cases: [(&str, GgufWriter, Target); 5] = [
        ("as it is", GgufWriter::new(), |text| &text.none),
        ("none", stretched("none"), |text| &text.none),
        ("linear", stretched("linear"), |text| &text.linear),
        ("a factor of no type", untyped(), |text| &text.linear),
        ("yarn", stretched("yarn"), |text| &text.yarn),
    ];
    for (name, keys, target) in cases {
        let file = GgufFile::from_bytes(llama(keys)).expect("sound");
        let mut expected: Option<Vec<Vec<u32>>> = None;
        for isa in Isa::all_supported() {
            let mut encoder = open_model(&file, 2, isa).expect("sound");
            let found = embed_ids(&mut encoder, &texts);
            for (text, found) in all.iter().zip(&found) {
                let cosine = cosine(found, target(text));
                assert!(cosine > 1.0 - 1e-9, "{name}: {} tokens: {cosine}", text.ids.len());
            }
            let found: Vec<Vec<u32>> = found.iter().map(|vector| bits(vector)).collect();
            let alone = texts.iter().flat_map(|text| embed_ids(&mut encoder, &[text]));
            assert!(alone.map(|vector| bits(&vector)).eq(found.iter().cloned()), "{name}, {isa}");
            assert!(*expected.get_or_insert(found.clone()) == found, "{name}: on {isa}");
        }
    }
}

#[test]
fn positions_that_are_stretched_otherwise_are_refused_by_name() {
    let key = |key: &str| format!("llama.rope.scaling.{key}");
    let yarn = |name: &str, value| stretched("yarn").f32(&key(name), value);
    let plain = |value| GgufWriter::new().f32(&key("factor"), value);
    for (keys, wanted) in [
        (stretched("longrope"), "`longrope` is not supported, only none, linear and yarn are"),
        (plain(0.5), "factor`: is 0.5, must be at least 1"),
        (plain(f32::NAN), "factor`: is NaN, must be finite"),
        (yarn("yarn_log_multiplier", 0.1), "yarn_log_multiplier`: 0.1 is not supported"),
        (yarn("attn_factor", 0.5), "attn_factor`: 0.5 is not supported"),
        (yarn("yarn_beta_slow", 0.0), "yarn_beta_slow`: is 0, must be finite and above zero"),
        (GgufWriter::new().u32("llama.expert_count", 8), "expert_count`: 8 is not supported"),
    ] {
        let said = refusal(llama(keys)).map(|error| error.to_string()).unwrap_or_default();
        assert!(said.contains(wanted), "{wanted}: {said:?}");
    }
    for neutral in [yarn("attn_factor", 1.0), yarn("yarn_log_multiplier", 0.0)] {
        assert!(refusal(llama(neutral)).is_none());
    }
    // Where layers have rotations of two kinds, files do not say which are stretched.
    let sound = std::fs::read(model("gemma-embedding-dense-Q4_K_M")).expect("committed");
    let keys = GgufWriter::new().f32("gemma-embedding.rope.scaling.factor", 2.0);
    let said = refusal(keys.added_to(&sound, &[])).map(|error| error.to_string());
    assert!(said.is_some_and(|said| said.contains("rope.scaling.type`: scaling is not supported")));
}
