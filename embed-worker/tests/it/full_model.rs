//! A model of seven billion weights, 4.7 GB, in less than 50 MB of private memory.
//!
//! `EMBED_FULL_MODEL` names a file; else one of that shape with random weights is made once, in
//! `EMBED_FULL_MODEL_DIR` or Cargo's folder for tests. Only release builds run it, and only where there
//! is room for it; what was done is written to standard error, past the capture of the harness.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use embed_worker::config::{BATCH_TOKENS, MEMORY_BUDGET};
use embed_worker::engine::{Engine, EngineError, EngineOptions, TokenBatch};
use embed_worker::kernels::Isa;

use crate::golden::bits;
use crate::support::own_process::{in_own_process, private_bytes};
use crate::support::repository_file;

/// The file, and some room for everything else.
const ROOM_BYTES: u64 = 5_000_000_000;

const MODEL: &str = "nomic-embed-code";

/// Lengths in tokens that the promise is made for.
const TEXTS: [usize; 3] = [12, 512, 2000];

/// Texts of a bulk, and tokens of each.
const BULK: (usize, usize) = (100, 4);

/// How far a vector's length may be from 1.
const UNIT_TOLERANCE: f64 = 1e-5;

fn say(what: &str) {
    // The harness captures what the macros print, and only that.
    let _ = writeln!(std::io::stderr(), "full model: {what}");
}

/// The model's file, or why there is none.
fn model() -> Result<PathBuf, String> {
    if let Some(path) = std::env::var_os("EMBED_FULL_MODEL").filter(|path| !path.is_empty()) {
        return Ok(path.into());
    }
    if cfg!(debug_assertions) {
        return Err(
            "this is not a release build; set EMBED_FULL_MODEL to run it all the same".into()
        );
    }
    let folder = std::env::var_os("EMBED_FULL_MODEL_DIR").filter(|folder| !folder.is_empty());
    let folder = folder.map_or_else(|| env!("CARGO_TARGET_TMPDIR").into(), PathBuf::from);
    let path = folder.join(format!("{MODEL}.gguf"));
    if path.exists() {
        return Ok(path);
    }
    let free = rustix::fs::statvfs(&folder)
        .map(|disk| disk.f_bavail * disk.f_frsize)
        .map_err(|error| format!("{}: {error}", folder.display()))?;
    if free < ROOM_BYTES {
        let (free, wanted) = (free / 1_000_000_000, ROOM_BYTES / 1_000_000_000);
        return Err(format!("{}: has {free} GB free, {wanted} GB are wanted", folder.display()));
    }
    make(&path)
}

fn make(path: &Path) -> Result<PathBuf, String> {
    let began = Instant::now();
    let script = repository_file("scripts/make-model.mjs");
    let output = Command::new("node").arg(script).arg(MODEL).arg(path).output();
    let output = output.map_err(|error| format!("node cannot be run: {error}"))?;
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    say(&format!("made {} in {:.0} s", path.display(), began.elapsed().as_secs_f64()));
    Ok(path.to_owned())
}

/// A text of `tokens` tokens in any byte-level vocabulary: single letters, of which each has a token,
/// with a blank before it as well.
fn text(tokens: usize, seed: usize) -> String {
    let letter = |at: usize| char::from(b'a' + ((at * at + 7 * at + seed) % 26) as u8).to_string();
    (0..tokens).map(letter).collect::<Vec<_>>().join(" ")
}

/// The vectors of some texts in one batch.
fn embed(engine: &mut Engine, texts: &[String]) -> Vec<Vec<f32>> {
    let mut batch = TokenBatch::new();
    for text in texts {
        engine.tokenize(text, false, &mut batch).expect("fits");
    }
    let rows = engine.embed(&batch).expect("sound weights");
    (0..texts.len()).map(|text| rows.vector(text, None, true).expect("a vector")).collect()
}

fn assert_unit(vector: &[f32]) {
    let squares: f64 = vector.iter().map(|value| f64::from(*value).powi(2)).sum();
    assert!((squares.sqrt() - 1.0).abs() < UNIT_TOLERANCE, "length {}", squares.sqrt());
}

#[test]
fn integration_full_model_holds_fifty_megabytes() {
    let model = match model() {
        Ok(model) => model,
        Err(why) => return say(&format!("SKIPPED: {why}")),
    };
    in_own_process("full_model::integration_full_model_holds_fifty_megabytes", || run(&model));
}

fn run(model: &Path) {
    let began = Instant::now();
    let options = EngineOptions {
        threads: embed_worker::threads::physical_cores(),
        isa: Isa::best(),
        batch_tokens: BATCH_TOKENS,
        memory_budget: MEMORY_BUDGET,
    };
    let mut engine = Engine::open(model, &options).expect("the model opens");
    let mut report = vec![format!("ready in {:.2} s", began.elapsed().as_secs_f64())];
    let within = |what: &str, report: &mut Vec<String>| {
        let bytes = private_bytes();
        report.push(format!("{what}: {:.1} MB", bytes as f64 / 1e6));
        assert!(bytes < MEMORY_BUDGET, "{what}: {bytes} bytes are private");
    };
    within("opened", &mut report);
    for tokens in TEXTS {
        let began = Instant::now();
        let vectors = embed(&mut engine, &[text(tokens, 1)]);
        assert_unit(&vectors[0]);
        let seconds = began.elapsed().as_secs_f64();
        within(&format!("{tokens} tokens in {seconds:.1} s"), &mut report);
    }
    let (texts, tokens) = BULK;
    let texts: Vec<String> = (0..texts).map(|seed| text(tokens, seed)).collect();
    let together = embed(&mut engine, &texts);
    together.iter().for_each(|vector| assert_unit(vector));
    within(&format!("{} texts of {tokens}", texts.len()), &mut report);
    for index in [0, 41, 99] {
        let alone = embed(&mut engine, &texts[index..=index]);
        assert_eq!(bits(&alone[0]), bits(&together[index]), "text {index} alone and in company");
    }
    let longest = engine.budget().text_tokens_max;
    let beyond = engine.tokenize(&text(longest + 1, 0), false, &mut TokenBatch::new());
    match beyond {
        Err(EngineError::TextBeyondBudget { tokens, tokens_max, budget_mb, wanted_mb }) => {
            assert_eq!((tokens, tokens_max), (longest + 1, longest));
            assert!(wanted_mb > budget_mb);
        }
        // A file with a short context.
        Err(EngineError::TextTooLong { .. }) => {}
        other => panic!("{longest} tokens are the most, and one more gave {other:?}"),
    }
    say(&format!("{}: {}", model.display(), report.join("; ")));
}
