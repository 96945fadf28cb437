//! Any byte-level vocabulary and any text: a refusal that says why, or ids that keep the
//! tokenizer's laws.

use arbitrary::{Result, Unstructured};
use embed_worker::gguf::GgufFile;
use embed_worker::tokenizer::Tokenizer;

use super::tokenizer::gguf_writer::GgufWriter;
use super::tokenizer::{encode, opened};

/// The tokens of single bytes: what the texts below are made of, and the spelling of a blank and
/// of a newline.
const LETTERS: [(&str, u8); 8] = [
    ("a", b'a'),
    ("b", b'b'),
    ("s", b's'),
    ("1", b'1'),
    ("'", b'\''),
    ("=", b'='),
    ("\u{120}", b' '),
    ("\u{10a}", b'\n'),
];

/// Merges of a vocabulary at most: enough for pieces of pieces of pieces.
const MERGES_MAX: usize = 40;

/// Bytes of a token at most: doubling would pass all memory.
const TOKEN_BYTES_MAX: usize = 100;

/// Characters of a text at most: longer than the words that are merged without a queue.
const TEXT_CHARS_MAX: usize = 400;

/// Tokens or merges.
type Texts = Vec<Vec<u8>>;

/// A vocabulary from the input, then a text from what is left of it.
pub fn run(data: &[u8]) {
    let mut input = Unstructured::new(data);
    // An input that ends early is filled up with zeros; an error cannot come of these types.
    let _ = check(&mut input);
}

fn check(input: &mut Unstructured<'_>) -> Result<()> {
    let (mut tokens, merges) = vocabulary(input)?;
    let pre = *input.choose(&["gpt-2", "qwen2", "roberta-bpe", "modern-bert", "llama-bpe"])?;
    let mut types = vec![1; tokens.len()];
    let n_special = input.int_in_range(0..=3)?;
    for _ in 0..n_special {
        let n_bytes = input.int_in_range(0..=6)?.min(input.len());
        tokens.push(input.bytes(n_bytes)?.to_vec());
        types.push(input.int_in_range(0..=6)?);
    }
    let mut file = GgufWriter::new()
        .string("tokenizer.ggml.model", "gpt2")
        .string("tokenizer.ggml.pre", pre)
        .strings("tokenizer.ggml.tokens", &tokens)
        .strings("tokenizer.ggml.merges", &merges);
    let has_types = input.ratio(7, 8)?;
    if has_types {
        file = file.i32s("tokenizer.ggml.token_type", &types);
    }
    for id in ["bos", "eos", "mask", "seperator"] {
        if input.ratio(3, 4)? {
            let id_max = tokens.len() as u32;
            file =
                file.u32(&format!("tokenizer.ggml.{id}_token_id"), input.int_in_range(0..=id_max)?);
        }
    }
    for flag in ["bos", "eos", "sep"] {
        if let Some(value) = input.arbitrary::<Option<bool>>()? {
            file = file.bool(&format!("tokenizer.ggml.add_{flag}_token"), value);
        }
    }
    let file = GgufFile::from_bytes(file.finish()).expect("a valid file");
    let Some(tokenizer) = opened(&file) else { return Ok(()) };
    let limit = input.int_in_range(0..=20)?;
    let own: String = text_of_letters(input)?;
    let any: &str = input.arbitrary()?;
    for text in [own.as_str(), any] {
        obeys_limits(&tokenizer, text, limit);
    }
    // Without types, tokens with ids are special, and the mask takes white space with it.
    if n_special == 0 && has_types {
        is_spelt_by_its_tokens(&tokenizer, &tokens, &own);
    }
    Ok(())
}

/// Merges of what there is so far, and the tokens that they make; seldom, ones that make no sense.
fn vocabulary(input: &mut Unstructured<'_>) -> Result<(Texts, Texts)> {
    let mut tokens: Texts = LETTERS.iter().map(|(token, _)| token.as_bytes().to_vec()).collect();
    let mut merges = Vec::new();
    for _ in 0..input.int_in_range(0..=MERGES_MAX)? {
        let left = input.choose(&tokens)?.clone();
        let right = input.choose(&tokens)?.clone();
        if left.len() + right.len() > TOKEN_BYTES_MAX {
            continue;
        }
        merges.push([left.as_slice(), b" ", &right].concat());
        tokens.push([left, right].concat());
        if input.ratio(1, 250)? {
            let n_bytes = input.int_in_range(0..=8)?.min(input.len());
            merges.push(input.bytes(n_bytes)?.to_vec());
        }
    }
    Ok((tokens, merges))
}

/// A text whose bytes all have a token.
fn text_of_letters(input: &mut Unstructured<'_>) -> Result<String> {
    let n_chars = input.int_in_range(0..=TEXT_CHARS_MAX)?;
    (0..n_chars).map(|_| Ok(char::from(input.choose(&LETTERS)?.1))).collect()
}

/// A limit cuts the ids and keeps the outer special ones; it never changes the count.
fn obeys_limits(tokenizer: &Tokenizer, text: &str, limit: usize) {
    let (all, tokens) = encode(tokenizer, text, usize::MAX);
    assert_eq!(all.len(), tokens);
    let (cut, counted) = encode(tokenizer, text, limit);
    assert_eq!(counted, tokens, "cut at {limit}");
    assert!(cut.len() <= limit);
    let n_outer = encode(tokenizer, "", usize::MAX).1;
    assert!(n_outer <= 2);
    if limit < n_outer {
        assert!(cut.is_empty());
    } else if limit >= tokens {
        assert_eq!(cut, all);
    } else {
        assert_eq!(cut.len(), limit);
        assert!(cut[..limit.saturating_sub(1)] == all[..limit.saturating_sub(1)]);
    }
}

/// No byte is lost, doubled or moved.
fn is_spelt_by_its_tokens(tokenizer: &Tokenizer, tokens: &[Vec<u8>], text: &str) {
    let spelling = |byte: u8| LETTERS.iter().find(|letter| letter.1 == byte).expect("a letter").0;
    let wanted: String = text.bytes().map(spelling).collect();
    let ids = encode(tokenizer, text, usize::MAX).0;
    let n_outer = encode(tokenizer, "", usize::MAX).1;
    let found: Vec<&[u8]> = ids.iter().map(|id| tokens[*id as usize].as_slice()).collect();
    // Which of the outer tokens stand at which end, the length of the rest tells.
    let spelt = |n_opening: usize| {
        found[n_opening..found.len() - (n_outer - n_opening)].concat() == wanted.as_bytes()
    };
    assert!((0..=n_outer).any(spelt), "{text:?} became {ids:?}");
}
