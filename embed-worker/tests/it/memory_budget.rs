//! A memory budget: what it means for texts, and that it is kept.

use std::path::Path;

use embed_worker::config::{BATCH_TOKENS, MEMORY_BUDGET};
use embed_worker::engine::MEGABYTE;
use embed_worker::engine::{Engine, EngineError, EngineOptions, TokenBatch};
use embed_worker::gguf::GgufFile;
use embed_worker::kernels::Isa;
use embed_worker::model::Extent;

use crate::golden::{TINY_MODELS, bits, data, default_model};
use crate::support::encoder::{embed_ids, encoder};

fn open(model: &Path, megabytes: usize) -> Result<Engine, EngineError> {
    let options = EngineOptions {
        threads: 2,
        isa: Isa::best(),
        batch_tokens: BATCH_TOKENS,
        memory_budget: megabytes * MEGABYTE,
    };
    Engine::open(model, &options)
}

/// Texts of some tokens each, longer than the smallest tile, than several, and than the largest.
fn texts(lens: &[usize], vocabulary: usize) -> Vec<Vec<u32>> {
    let id = |text: usize, at: usize| ((at * at + 31 * at + 7 * text) % vocabulary) as u32;
    let text = |(text, len): (usize, &usize)| (0..*len).map(|at| id(text, at)).collect();
    lens.iter().enumerate().map(text).collect()
}

#[test]
fn a_vector_is_the_same_in_whatever_memory_bit_for_bit() {
    let decoders_and_others =
        ["qwen2-Q4_K_M", "qwen3-Q4_K_M", "modern-bert-Q4_K_M", "gemma-embedding-dense-Q4_K_M"];
    for name in TINY_MODELS.into_iter().chain(decoders_and_others) {
        let path = data(&format!("{name}.gguf"));
        let file = GgufFile::open(&path).expect("committed");
        let vocabulary = file.tensor("token_embd.weight").expect("has one").rows();
        let mut roomy = encoder(&path, 2, Isa::best());
        let context = roomy.hyper().context_tokens;
        for lens in [&[300][..], &[33], &[5, 40, 1, 70, 200], &[511, 2]] {
            let lens: Vec<usize> = lens.iter().map(|len| context.min(*len)).collect();
            let texts = texts(&lens, vocabulary);
            let texts: Vec<&[u32]> = texts.iter().map(Vec::as_slice).collect();
            let expected = embed_ids(&mut roomy, &texts);
            let mut tight = encoder(&path, 2, Isa::best());
            let longest = lens.iter().copied().max().unwrap_or(0);
            let extent = Extent { texts: lens.len(), tokens: lens.iter().sum(), longest };
            let (least, most) = tight.batch_bytes(extent);
            assert!(least <= most);
            tight.set_memory(least);
            for (found, expected) in embed_ids(&mut tight, &texts).iter().zip(&expected) {
                assert_eq!(bits(found), bits(expected), "{name}: {lens:?} in {least} bytes");
            }
            // Alone, so that what is pooled is so in every place of a batch.
            for (text, expected) in texts.iter().zip(&expected) {
                assert_eq!(bits(&embed_ids(&mut roomy, &[text])[0]), bits(expected), "{name}");
            }
        }
    }
}

#[test]
fn a_budget_that_is_too_small_for_any_text_is_told_with_one_that_is_not() {
    let Err(EngineError::Budget { budget_mb: 1, wanted_mb }) = open(&default_model(), 1) else {
        panic!("one megabyte is too little");
    };
    assert!(wanted_mb > 1);
    let engine = open(&default_model(), wanted_mb).expect("what was told does");
    assert!(engine.budget().text_tokens_max >= 1);
    assert!(open(&default_model(), wanted_mb - 1).is_err(), "and one less does not");
}

#[test]
fn a_text_beyond_the_budget_is_told_which_budget_would_do() {
    let small = (1..).find_map(|mb| open(&default_model(), mb).ok().map(|engine| (mb, engine)));
    let (mb, mut engine) = small.expect("some budget does");
    let (most, context) = (engine.budget().text_tokens_max, engine.info().context_tokens);
    assert!(most < context, "{most} tokens of {context} in {mb} MB");
    let text = "the ".repeat(context - 10);
    let mut batch = TokenBatch::new();
    let error = engine.tokenize(&text, false, &mut batch).expect_err("too long");
    let EngineError::TextBeyondBudget { tokens, tokens_max, budget_mb, wanted_mb } = error else {
        panic!("{error}");
    };
    assert_eq!((tokens_max, budget_mb), (most, mb));
    assert!(error_names(&error, &[tokens, most, mb, wanted_mb]));
    let mut larger = open(&default_model(), wanted_mb).expect("opens");
    larger.tokenize(&text, false, &mut batch).expect("what was told does");
    larger.embed(&batch).expect("sound");
    batch.clear();
    let cut = engine.tokenize(&text, true, &mut batch).expect("cut");
    assert!(cut.truncated && cut.tokens == most && batch.tokens() == most);
    engine.embed(&batch).expect("the longest text that is taken can be embedded");
    let error = engine.tokenize(&"the ".repeat(context + 1), false, &mut batch);
    assert!(matches!(error, Err(EngineError::TextTooLong { .. })), "no budget would do");
}

fn error_names(error: &EngineError, numbers: &[usize]) -> bool {
    let message = error.to_string();
    numbers.iter().all(|number| message.contains(&number.to_string()))
}

#[test]
fn the_default_budget_is_enough_for_the_whole_context_of_the_models_that_ship() {
    let engine = open(&default_model(), MEMORY_BUDGET / MEGABYTE).expect("opens");
    let budget = engine.budget();
    assert_eq!(budget.text_tokens_max, engine.info().context_tokens);
    assert_eq!(budget.batch_tokens_max, BATCH_TOKENS);
    assert_eq!(budget.bytes, MEMORY_BUDGET);
    assert_eq!(budget.fixed_bytes + budget.batch_bytes + budget.traffic_bytes, budget.bytes);
}

/// What is reckoned is what is taken, and not much more.
#[cfg(target_os = "linux")]
#[test]
fn buffers_take_what_was_reckoned() {
    use crate::support::own_process::{in_own_process, private_bytes};

    in_own_process("memory_budget::buffers_take_what_was_reckoned", || {
        /// What else a pass leaves behind: lists of texts and tasks, and the allocator's own.
        const SLACK: usize = 512 << 10;
        let mut encoder = encoder(&default_model(), 2, Isa::best());
        let context = encoder.hyper().context_tokens;
        for (lens, threads_apart) in [(vec![context], false), (vec![3; 100], true)] {
            let texts = texts(&lens, 30_000);
            let texts: Vec<&[u32]> = texts.iter().map(Vec::as_slice).collect();
            let longest = lens.iter().copied().max().unwrap_or(0);
            let extent = Extent { texts: lens.len(), tokens: lens.iter().sum(), longest };
            let reckoned = encoder.batch_bytes(extent).1;
            let before = private_bytes();
            embed_ids(&mut encoder, &texts);
            let taken = private_bytes().saturating_sub(before);
            assert!(taken <= reckoned + SLACK, "{lens:?}: {taken} bytes instead of {reckoned}");
            if !threads_apart {
                assert!(taken >= reckoned / 2, "{lens:?}: {taken} bytes instead of {reckoned}");
            }
        }
    });
}
