//! Every model of a folder of fixtures that is too large to commit.
//!
//! `EMBED_TEST_FIXTURES` names a folder with `models/NAME-TYPE.gguf`, `reference/NAME.json` (in the
//! form that `scripts/golden.py` reads) and `hostile/index.json` with the files that it lists.
//! Without it the tests say aloud that they did nothing; the committed models cover every
//! architecture, and `kernels` covers every tensor type by itself.
#![expect(
    clippy::print_stderr,
    reason = "says aloud what was skipped, and the table of what was not"
)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use embed_worker::config::MEMORY_BUDGET;
use embed_worker::engine::{Engine, EngineOptions, TokenBatch};
use embed_worker::kernels::Isa;
use serde::Deserialize;

use crate::architectures::as_near;
use crate::golden::{cosine, embed_alone, open};
use crate::support::encoder::{embed_ids, encoder};

#[derive(Deserialize)]
struct Reference {
    files: BTreeMap<String, File>,
    items: Vec<Item>,
}

#[derive(Deserialize)]
struct File {
    file: Option<String>,
}

#[derive(Deserialize)]
struct Item {
    label: String,
    text: String,
    ids_hf: Vec<u32>,
    ids_hf_truncated: Option<Vec<u32>>,
    emb: BTreeMap<String, Option<Vec<f32>>>,
    emb_dequant: BTreeMap<String, Option<Vec<f32>>>,
}

fn folder(test: &str) -> Option<PathBuf> {
    let folder = std::env::var_os("EMBED_TEST_FIXTURES").map(PathBuf::from);
    if folder.is_none() {
        eprintln!("{test}: skipped, set EMBED_TEST_FIXTURES to a folder of fixtures to run it");
    }
    folder
}

fn reference(folder: &Path, name: &str) -> Reference {
    let json = std::fs::read_to_string(folder.join(format!("reference/{name}.json")));
    serde_json::from_str(&json.expect("readable")).expect("as told")
}

/// The vector that a file's own weights give in exact arithmetic. An F16 file's weights are the F32
/// model's. None if the text has no tokens.
fn target<'a>(item: &'a Item, dtype: &str) -> Option<&'a Vec<f32>> {
    item.emb_dequant.get(dtype).or_else(|| item.emb.get("F32"))?.as_ref()
}

#[test]
fn every_fixture_model_is_nearer_to_its_own_weights_than_llama_cpp() {
    let Some(folder) = folder("every_fixture_model") else { return };
    let (mut files, mut failed) = (0, 0);
    for name in ["bert-mean", "bert-cls", "nomic-bert", "jina-bert-v2"] {
        let reference = reference(&folder, name);
        for (dtype, file) in &reference.files {
            let Some(file) = &file.file else { continue };
            let mut engine = open(&folder.join("models").join(file), 2, Isa::best());
            let (mut ours, mut theirs) = (Vec::new(), Vec::new());
            for item in &reference.items {
                check_ids(&mut engine, item, file);
                let target = target(item, dtype).expect("a target");
                let other = item.emb[dtype].as_ref().expect("llama.cpp's vector");
                ours.push(cosine(&embed_alone(&mut engine, &item.text), target));
                theirs.push(cosine(other, target));
            }
            let (near, line) = as_near(file, &ours, &theirs);
            eprintln!("{line}");
            (files, failed) = (files + 1, failed + usize::from(!near));
        }
    }
    assert!(files >= 30, "all files were found, not only {files}");
    assert!(failed == 0, "farther from their own weights than llama.cpp: {failed} files");
}

#[test]
fn every_architecture_of_the_fixtures_is_nearer_to_its_own_weights_than_llama_cpp() {
    let Some(folder) = folder("every_architecture_of_the_fixtures") else { return };
    let (mut files, mut failed) = (0, 0);
    for name in [
        "bert-xlmr",
        "gemma-embedding-dense",
        "gemma-embedding",
        "modern-bert",
        "nomic-bert-moe",
        "qwen2",
        "qwen3",
    ] {
        let reference = reference(&folder, name);
        for (dtype, file) in &reference.files {
            let Some(file) = &file.file else { continue };
            let mut encoder = encoder(&folder.join("models").join(file), 2, Isa::best());
            let (mut ours, mut theirs) = (Vec::new(), Vec::new());
            for item in &reference.items {
                let ids = item.ids_hf_truncated.as_ref().unwrap_or(&item.ids_hf);
                let Some(target) = target(item, dtype) else { continue };
                let other = item.emb[dtype].as_ref().expect("llama.cpp's vector");
                ours.push(cosine(&embed_ids(&mut encoder, &[ids])[0], target));
                theirs.push(cosine(other, target));
            }
            let (near, line) = as_near(file, &ours, &theirs);
            eprintln!("{line}");
            (files, failed) = (files + 1, failed + usize::from(!near));
        }
    }
    assert!(files >= 21, "all files were found, not only {files}");
    assert!(failed == 0, "farther from their own weights than llama.cpp: {failed} files");
}

fn check_ids(engine: &mut Engine, item: &Item, file: &str) {
    let context = engine.info().context_tokens;
    let mut batch = TokenBatch::new();
    let tokenized = engine.tokenize(&item.text, true, &mut batch).expect("truncates");
    let mut expected = item.ids_hf.clone();
    if expected.len() > context {
        let last = expected[expected.len() - 1];
        expected.truncate(context - 1);
        expected.push(last);
    }
    assert_eq!(batch.ids(), expected, "{file}: ids of {}", item.label);
    assert_eq!(tokenized.truncated, item.ids_hf.len() > context);
}

#[derive(Deserialize)]
struct HostileIndex {
    files: Vec<Hostile>,
}

#[derive(Deserialize)]
struct Hostile {
    file: String,
    what: String,
    expect: String,
}

#[derive(Deserialize)]
struct Patches {
    patches: Vec<Patch>,
}

#[derive(Deserialize)]
struct Patch {
    model: String,
    tensor: String,
    offset: usize,
    hex: String,
    what: String,
    expect: String,
}

/// Opens the model and embeds a text; the error's text, or the vector.
fn outcome(path: &Path, text: &str) -> Result<Vec<f32>, String> {
    let options = EngineOptions {
        threads: 1,
        isa: Isa::best(),
        batch_tokens: 512,
        memory_budget: MEMORY_BUDGET,
    };
    let mut engine = Engine::open(path, &options).map_err(|error| error.to_string())?;
    let mut batch = TokenBatch::new();
    engine.tokenize(text, true, &mut batch).map_err(|error| error.to_string())?;
    let rows = engine.embed(&batch).map_err(|error| error.to_string())?;
    rows.vector(0, None, true).map_err(|error| error.to_string())
}

#[test]
fn every_hostile_file_meets_its_expectation() {
    let Some(folder) = folder("every_hostile_file") else { return };
    let folder = folder.join("hostile");
    let json = std::fs::read_to_string(folder.join("index.json")).expect("readable");
    let index: HostileIndex = serde_json::from_str(&json).expect("as told");
    let mut failed = Vec::new();
    for hostile in &index.files {
        let outcome = outcome(&folder.join(&hostile.file), "hello the");
        let finite = outcome.as_ref().is_ok_and(|vector| vector.iter().all(|v| v.is_finite()));
        // Files of architectures and tokenizers that do not run are refused as such.
        let unsupported = outcome.as_ref().is_err_and(|error| error.contains("not supported"));
        let met = match hostile.expect.as_str() {
            "ok" => finite || unsupported,
            "reject" | "error-no-nan" => outcome.is_err(),
            "either" | "reject-or-default" | "reject-or-error-no-nan" | "zero-vector-or-error" => {
                finite || outcome.is_err()
            }
            other => panic!("unknown expectation `{other}`"),
        };
        let said = outcome.map_or_else(|error| error, |_| "a vector".into());
        eprintln!("{:34} {:22} {said}", hostile.file, hostile.expect);
        if !met {
            failed.push(format!("{} ({}): {said}", hostile.file, hostile.what));
        }
    }
    assert!(index.files.len() > 150);
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}

#[test]
fn every_hostile_patch_meets_its_expectation() {
    let Some(folder) = folder("every_hostile_patch") else { return };
    let json = std::fs::read_to_string(folder.join("hostile/patches.json")).expect("readable");
    let patches: Patches = serde_json::from_str(&json).expect("as told");
    let scratch = tempfile::tempdir().expect("a folder");
    let mut failed = Vec::new();
    for (index, patch) in patches.patches.iter().enumerate() {
        let mut bytes = std::fs::read(folder.join(&patch.model)).expect("readable");
        for (at, pair) in patch.hex.as_bytes().chunks(2).enumerate() {
            let pair = std::str::from_utf8(pair).expect("hexadecimal");
            bytes[patch.offset + at] = u8::from_str_radix(pair, 16).expect("hexadecimal");
        }
        let path = scratch.path().join(format!("{index}.gguf"));
        std::fs::write(&path, bytes).expect("writable");
        let outcome = outcome(&path, "The quick brown fox jumps over the lazy dog.");
        let finite = outcome.as_ref().is_ok_and(|vector| vector.iter().all(|v| v.is_finite()));
        let met = outcome.is_err() || (finite && patch.expect.starts_with("finite vector"));
        let said = outcome.map_or_else(|error| error, |_| "a vector".into());
        eprintln!("{} {} {}: {said}", patch.model, patch.tensor, patch.what);
        if !met {
            failed.push(format!("{} {}: {said}", patch.model, patch.what));
        }
    }
    assert!(patches.patches.len() > 20);
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}
