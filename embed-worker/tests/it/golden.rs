//! Real models against reference vectors, through the engine.
//!
//! The reference files come from `scripts/golden.py`; their targets are either the f32 model (for the
//! default model) or the file's own weights in exact arithmetic (for the tiny ones). llama.cpp's own
//! distance from the same target is the mark.

use std::path::{Path, PathBuf};

use embed_worker::config::MEMORY_BUDGET;
use embed_worker::engine::{Engine, EngineOptions, TokenBatch};
use embed_worker::kernels::Isa;
use serde::Deserialize;

/// llama.cpp's worst text may be missed by this much: the worst of some forty texts is a matter of
/// luck, their mean is not.
pub(crate) const WORST_SLACK: f64 = 0.0005;

/// The tiny models that are committed, with what each is there for.
pub(crate) const TINY_MODELS: [&str; 7] = [
    "bert-mean-Q4_0",    // learned positions, mean pooling
    "bert-cls-Q5_K_M",   // CLS pooling, cased, rows of 320: falls back to Q5_1 and Q8_0
    "nomic-bert-Q2_K",   // rotary positions, gate, fused q/k/v; Q2_K, Q3_K, Q6_K
    "nomic-bert-Q3_K_M", // Q3_K, Q4_K, Q5_K, Q6_K
    "nomic-bert-IQ4_XS",
    "jina-bert-v2-Q4_K_M", // ALiBi, a gate that stands in the rows of up
    "bert-xlmr-Q4_K_M",    // Unigram vocabulary, one token type
];

#[derive(Deserialize)]
struct Golden {
    texts: Vec<GoldenText>,
}

#[derive(Deserialize)]
pub(crate) struct GoldenText {
    text: String,
    pub(crate) ids: Vec<u32>,
    tokens: usize,
    pub(crate) llama_cpp_cosine: f64,
}

pub(crate) fn default_model() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/all-MiniLM-L6-v2.Q8_0.gguf")
}

pub(crate) fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/golden").join(name)
}

pub(crate) fn open(model: &Path, threads: usize, isa: Isa) -> Engine {
    let options = EngineOptions { threads, isa, batch_tokens: 2048, memory_budget: MEMORY_BUDGET };
    Engine::open(model, &options).unwrap_or_else(|error| panic!("{}: {error}", model.display()))
}

/// The texts and, for each, its target vector.
pub(crate) fn golden(name: &str) -> Vec<(GoldenText, Vec<f32>)> {
    let json = std::fs::read_to_string(data(&format!("{name}.json"))).expect("committed");
    let golden: Golden = serde_json::from_str(&json).expect("as written by golden.py");
    let bytes = std::fs::read(data(&format!("{name}.f32"))).expect("committed");
    let values: Vec<f32> =
        bytes.as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
    let dimensions = values.len() / golden.texts.len();
    assert!(golden.texts.len() > 40 && dimensions * golden.texts.len() == values.len());
    let rows = values.chunks_exact(dimensions).map(<[f32]>::to_vec);
    golden.texts.into_iter().zip(rows).collect()
}

pub(crate) fn cosine(a: &[f32], b: &[f32]) -> f64 {
    assert_eq!(a.len(), b.len());
    let dot = |x: &[f32], y: &[f32]| -> f64 {
        x.iter().zip(y).map(|(x, y)| f64::from(*x) * f64::from(*y)).sum()
    };
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
}

pub(crate) fn embed_alone(engine: &mut Engine, text: &str) -> Vec<f32> {
    let mut batch = TokenBatch::new();
    engine.tokenize(text, true, &mut batch).expect("truncates");
    engine.embed(&batch).expect("sound weights").vector(0, None, true).expect("a vector")
}

/// Cosine to the target, and llama.cpp's, for every text.
fn cosines(model: &Path, name: &str) -> Vec<(String, f64, f64)> {
    let mut engine = open(model, 2, Isa::best());
    golden(name)
        .into_iter()
        .map(|(golden, target)| {
            let mut batch = TokenBatch::new();
            let tokenized = engine.tokenize(&golden.text, true, &mut batch).expect("truncates");
            assert_eq!(batch.ids(), golden.ids, "{name}: ids of {:?}", golden.text);
            assert_eq!(tokenized.tokens, golden.ids.len());
            assert_eq!(tokenized.truncated, golden.tokens > golden.ids.len());
            let vector = embed_alone(&mut engine, &golden.text);
            (golden.text, cosine(&vector, &target), golden.llama_cpp_cosine)
        })
        .collect()
}

#[test]
fn integration_full_model_is_as_near_to_f32_as_llama_cpp_on_every_text() {
    let mut failed = Vec::new();
    for (text, ours, theirs) in cosines(&default_model(), "all-MiniLM-L6-v2.Q8_0") {
        if ours < theirs - WORST_SLACK {
            failed.push(format!("{ours:.6} where llama.cpp has {theirs:.6}: {text:?}"));
        }
    }
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}

#[test]
fn tiny_models_are_nearer_to_their_own_weights_than_llama_cpp() {
    for name in TINY_MODELS {
        let all = cosines(&data(&format!("{name}.gguf")), name);
        let texts = all.len() as f64;
        let ours_mean = all.iter().map(|(_, ours, _)| ours).sum::<f64>() / texts;
        let theirs_mean = all.iter().map(|(_, _, theirs)| theirs).sum::<f64>() / texts;
        assert!(
            ours_mean >= theirs_mean,
            "{name}: mean cosine {ours_mean:.7}, llama.cpp {theirs_mean:.7}"
        );
        let theirs_worst = all.iter().map(|(_, _, theirs)| *theirs).fold(1.0, f64::min);
        for (text, ours, _) in &all {
            assert!(
                *ours >= theirs_worst - WORST_SLACK,
                "{name}: {ours:.7} where llama.cpp's worst is {theirs_worst:.7}: {text:?}"
            );
        }
    }
}

/// 64 texts of mixed length, the longest over the context.
fn mixed_texts() -> Vec<String> {
    let mut texts: Vec<String> =
        golden("all-MiniLM-L6-v2.Q8_0").into_iter().map(|(golden, _)| golden.text).collect();
    let extra: Vec<String> = (texts.len()..64)
        .map(|n| format!("text number {n} {}", "of varying length ".repeat(n % 7)))
        .collect();
    texts.extend(extra);
    texts
}

#[test]
fn a_vector_is_the_same_alone_and_in_company_bit_for_bit() {
    let texts = mixed_texts();
    assert_eq!(texts.len(), 64);
    let mut engine = open(&default_model(), 2, Isa::best());
    let alone: Vec<Vec<f32>> = texts.iter().map(|text| embed_alone(&mut engine, text)).collect();
    for threads in [1, 2, 3] {
        let options = EngineOptions {
            threads,
            isa: Isa::best(),
            batch_tokens: 8192,
            memory_budget: MEMORY_BUDGET,
        };
        let mut engine = Engine::open(&default_model(), &options).expect("opens");
        let mut batch = TokenBatch::new();
        for text in &texts {
            engine.tokenize(text, true, &mut batch).expect("truncates");
        }
        let rows = engine.embed(&batch).expect("sound weights");
        for (index, expected) in alone.iter().enumerate() {
            let got = rows.vector(index, None, true).expect("a vector");
            assert!(bits(&got) == bits(expected), "{threads} threads: {:?}", texts[index]);
        }
    }
}

#[test]
fn a_vector_is_the_same_on_every_instruction_set_bit_for_bit() {
    for model in [default_model(), data("nomic-bert-Q3_K_M.gguf"), data("bert-cls-Q5_K_M.gguf")] {
        let text = "Die Größe der Übertragungsrate hängt vom Gerät ab; naïve café.";
        let mut expected: Option<(Isa, Vec<u32>)> = None;
        for isa in Isa::all_supported() {
            let vector = bits(&embed_alone(&mut open(&model, 2, isa), text));
            match &expected {
                None => expected = Some((isa, vector)),
                Some((first, bits)) => {
                    assert!(*bits == vector, "{}: {first:?} and {isa:?} differ", model.display());
                }
            }
        }
    }
}

pub(crate) fn bits(vector: &[f32]) -> Vec<u32> {
    vector.iter().map(|value| value.to_bits()).collect()
}
