//! Words equal what the regex engine of the `tokenizers` crate makes of the patterns.

use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::{
    OffsetReferential, OffsetType, PreTokenizedString, PreTokenizer as _, SplitDelimiterBehavior,
};

use super::*;
use crate::tokenizer::bpe::pattern::Family;

const GPT2: &str = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+";
const QWEN2: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const LLAMA3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

const FAMILIES: [(&str, &str); 6] = [
    ("gpt-2", GPT2),
    ("roberta-bpe", GPT2),
    ("jina-v2-code", GPT2),
    ("modern-bert", GPT2),
    ("qwen2", QWEN2),
    ("llama-bpe", LLAMA3),
];

#[derive(Default)]
struct Recorder {
    words: Vec<String>,
    word: String,
}

impl WordSink for Recorder {
    fn push(&mut self, c: char) {
        self.word.push(c);
    }

    fn end(&mut self) {
        assert!(!self.word.is_empty());
        self.words.push(std::mem::take(&mut self.word));
    }
}

fn ours(pattern: Pattern, text: &str) -> Vec<String> {
    let mut words = Words::new(pattern, false, Recorder::default());
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        if c.is_whitespace() {
            let after = rest.trim_start();
            words.blanks(&rest[..rest.len() - after.len()], after.is_empty());
            rest = after;
        } else {
            words.push(c);
            rest = &rest[c.len_utf8()..];
        }
    }
    words.finish();
    assert!(words.sink.word.is_empty());
    words.sink.words
}

fn judge(regex: &str) -> impl Fn(&str) -> Vec<String> {
    let pattern = SplitPattern::Regex(regex.to_owned());
    let split = Split::new(pattern, SplitDelimiterBehavior::Isolated, false).expect("a pattern");
    move |text| {
        let mut text = PreTokenizedString::from(text);
        split.pre_tokenize(&mut text).expect("splits");
        let splits = text.get_splits(OffsetReferential::Original, OffsetType::Byte);
        splits.iter().map(|(word, ..)| (*word).to_owned()).collect()
    }
}

/// Every scalar value as itself: alone, in every company that the patterns tell apart.
#[test]
fn every_code_point_is_cut_as_the_patterns_say() {
    /// Characters in one text: enough that the judge's cost a text does not matter.
    const CHUNK: usize = 16;

    let characters: Vec<char> = ('\0'..=char::MAX).collect();
    let text = |chunk: &[char]| -> String {
        let around = |c: &char| format!("a{c}b {c} 1{c}1 !{c}!\t{c}\n{c}'{c}'r{c} '{c}  {c}{c}x");
        chunk.iter().map(around).collect()
    };
    for (name, regex) in [FAMILIES[0], FAMILIES[3]] {
        let (pattern, judge) = (Family::named(name).expect("known").pattern, judge(regex));
        for chunk in characters.chunks(CHUNK) {
            if ours(pattern, &text(chunk)) == judge(&text(chunk)) {
                continue;
            }
            for c in chunk {
                let text = text(&[*c]);
                assert_eq!(ours(pattern, &text), judge(&text), "{name}: U+{:04X}", u32::from(*c));
            }
            panic!("{name}: differs only in company: {:?}", text(chunk));
        }
    }
}

/// All texts of up to six characters of the kinds that the patterns tell apart.
#[test]
fn all_short_texts_are_cut_as_the_patterns_say() {
    const KINDS: [char; 12] = ['a', 'S', 'l', 'e', 'R', '1', '!', '\'', ' ', '\t', '\n', '\r'];
    const LENGTH: u32 = 5;

    for (name, regex) in FAMILIES {
        let (pattern, judge) = (Family::named(name).expect("known").pattern, judge(regex));
        for number in 0..KINDS.len().pow(LENGTH) {
            let kind = |place| KINDS[number / KINDS.len().pow(place) % KINDS.len()];
            let text: String = (0..LENGTH).map(kind).collect();
            assert_eq!(ours(pattern, &text), judge(&text), "{name}: {text:?}");
        }
    }
}

#[test]
fn random_texts_are_cut_as_the_patterns_say() {
    const TEXT: &str = "([a-zA-Z0-9'ſK.,!\\-_ \t\r\n\u{a0}\u{85}\u{2000}\u{3000}éßж中١Ⅷ½\u{301}👩\u{200d}]|'(?i:s|t|re|ve|m|ll|d)|  |\r\n|\\PC){0,40}";

    for (name, regex) in FAMILIES {
        let (pattern, judge) = (Family::named(name).expect("known").pattern, judge(regex));
        let config =
            ProptestConfig { cases: 3000, failure_persistence: None, ..Default::default() };
        let mut runner = TestRunner::new(config);
        let result = runner.run(&TEXT, |text| {
            prop_assert_eq!(ours(pattern, &text), judge(&text), "{:?}", text);
            Ok(())
        });
        if let Err(error) = result {
            panic!("{name}: {error}");
        }
    }
}
