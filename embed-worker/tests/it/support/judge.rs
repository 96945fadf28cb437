//! Comparing token ids with Hugging Face's: the `tokenizers` crate is the judge.

use std::collections::BTreeMap;

use embed_worker::tokenizer::Tokenizer;
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use serde::Deserialize;
use tokenizers::Tokenizer as Judge;

use super::{repository_file, test_data};

/// A text as long as it is.
const NO_LIMIT: usize = usize::MAX;

/// Our ids of `text`.
pub(crate) fn ids(tokenizer: &Tokenizer, text: &str) -> Vec<u32> {
    let mut ids = Vec::new();
    let encoded = tokenizer.encode(text, NO_LIMIT, &mut ids);
    assert_eq!(encoded.tokens, ids.len(), "count of {text:?}");
    ids
}

/// Hugging Face's ids of `text`.
pub(crate) fn judged(judge: &Judge, text: &str) -> Vec<u32> {
    judge.encode_fast(text, true).expect("encodes").get_ids().to_vec()
}

/// How many random texts one comparison takes: `EMBED_TOKENIZER_CASES`, or what a CI has time for.
pub(crate) fn cases() -> u32 {
    std::env::var("EMBED_TOKENIZER_CASES").map_or(3000, |cases| cases.parse().expect("a number"))
}

/// Fails with the first scalar value whose ids differ in the text that `around` makes of it.
pub(crate) fn every_code_point_agrees(
    ours: &Tokenizer,
    judge: &Judge,
    around: impl Fn(char) -> String,
) {
    /// Characters in one text: enough that Hugging Face's cost a text does not matter.
    const CHUNK: usize = 512;

    let characters: Vec<char> = ('\0'..=char::MAX).collect();
    assert_eq!(characters.len(), 1_112_064);
    for chunk in characters.chunks(CHUNK) {
        let text: String = chunk.iter().copied().map(&around).collect();
        if ids(ours, &text) == judged(judge, &text) {
            continue;
        }
        for c in chunk.iter().copied() {
            let text = around(c);
            assert_eq!(ids(ours, &text), judged(judge, &text), "U+{:04X}", u32::from(c));
        }
        panic!("differs only in company: {text:?}");
    }
}

/// Fails with the smallest of so many random `texts` whose ids differ.
pub(crate) fn random_texts_agree(
    name: &str,
    ours: &Tokenizer,
    judge: &Judge,
    texts: &impl Strategy<Value = String>,
) {
    let config = ProptestConfig { cases: cases(), failure_persistence: None, ..Default::default() };
    let result = TestRunner::new(config).run(texts, |text| {
        prop_assert_eq!(ids(ours, &text), judged(judge, &text), "{:?}", text);
        Ok(())
    });
    if let Err(error) = result {
        panic!("{name}: {error}");
    }
}

/// A text whose ids are recorded.
#[derive(Deserialize)]
pub(crate) struct Text {
    pub(crate) label: String,
    pub(crate) text: String,
}

#[derive(Deserialize)]
struct Texts {
    texts: Vec<Text>,
}

/// The texts whose ids are recorded.
pub(crate) fn recorded_texts() -> Vec<Text> {
    let json = std::fs::read(test_data("tokenizer/texts.json")).expect("the texts");
    serde_json::from_slice::<Texts>(&json).expect("valid JSON").texts
}

#[derive(Deserialize)]
struct Recorded {
    ids: BTreeMap<String, Vec<Vec<u32>>>,
}

/// Their ids by the name of the vocabulary, in a file of `tests/data/tokenizer`.
pub(crate) fn recorded_ids(file: &str) -> BTreeMap<String, Vec<Vec<u32>>> {
    let json = std::fs::read(test_data("tokenizer").join(file)).expect("the recorded ids");
    serde_json::from_slice::<Recorded>(&json).expect("valid JSON").ids
}

/// The sources and documents of this repository, and texts in many scripts.
pub(crate) fn corpus() -> Vec<String> {
    let mut corpus: Vec<String> = recorded_texts().into_iter().map(|text| text.text).collect();
    let mut folders =
        vec![repository_file("embed-worker/src"), repository_file("embed-worker/tests/it")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                corpus.push(std::fs::read_to_string(&path).expect("UTF-8"));
            }
        }
    }
    for name in ["README.md", "ARCHITECTURE.md", "PROTOCOL.md", "index.js", "index.d.ts"] {
        corpus.push(std::fs::read_to_string(repository_file(name)).expect("UTF-8"));
    }
    corpus
}
