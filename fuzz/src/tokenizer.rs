//! Any vocabulary and any text: a refusal that says why, or ids that keep the tokenizer's laws.

#[path = "../../embed-worker/tests/it/support/gguf_writer.rs"]
#[expect(
    dead_code,
    clippy::duplicate_mod,
    reason = "the worker's tests write more kinds of keys, and include this module beside their own"
)]
pub(crate) mod gguf_writer;

use arbitrary::{Result, Unstructured};
use embed_worker::gguf::GgufFile;
use embed_worker::tokenizer::Tokenizer;

use gguf_writer::GgufWriter;

/// Tokens of a vocabulary at most: enough for pieces of pieces and doubles.
const TOKENS_MAX: usize = 40;

/// Bytes of a token at most.
const TOKEN_BYTES_MAX: usize = 24;

/// A vocabulary from the input, then a text from what is left of it.
pub fn run(data: &[u8]) {
    let mut input = Unstructured::new(data);
    // An input that ends early is filled up with zeros; an error cannot come of these types.
    let _ = check(&mut input);
}

fn check(input: &mut Unstructured<'_>) -> Result<()> {
    let tokens = vocabulary(input)?;
    let types: Vec<i32> = tokens.iter().map(|token| token.kind).collect();
    let texts: Vec<&[u8]> = tokens.iter().map(|token| token.text.as_slice()).collect();
    let mut file = GgufWriter::new().strings("tokenizer.ggml.tokens", &texts);
    if input.ratio(7, 8)? {
        file = file.i32s("tokenizer.ggml.token_type", &types);
    }
    let (cls, sep) = (id(input)?, id(input)?);
    let model = *input.choose(&["bert", "t5", "llama"])?;
    file = file.string("tokenizer.ggml.model", model);
    if model != "bert" {
        file = sentencepiece(input, file, texts.len())?.u32("tokenizer.ggml.eos_token_id", sep);
    }
    file = file
        .u32("tokenizer.ggml.unknown_token_id", id(input)?)
        .u32("tokenizer.ggml.bos_token_id", cls)
        .u32("tokenizer.ggml.seperator_token_id", sep);
    for key in ["lowercase", "strip_accents"] {
        if let Some(value) = input.arbitrary::<Option<bool>>()? {
            file = file.bool(&format!("tokenizer.ggml.normalizer.{key}"), value);
        }
    }
    let file = GgufFile::from_bytes(file.finish()).expect("a valid file");
    let Some(tokenizer) = opened(&file) else { return Ok(()) };
    let limit = input.int_in_range(0..=20)?;
    let has_special = types.iter().any(|kind| *kind != NORMAL);
    let second = input.arbitrary::<&str>()?;
    let first = text(input);
    obeys_limits(&tokenizer, (cls, sep), first, limit);
    // Special tokens may hold white space, and without types the file's own are guessed.
    let words_at_white_space = model != "llama" && !has_special;
    if words_at_white_space && file.integers("tokenizer.ggml.token_type").is_ok_and(|t| t.is_some())
    {
        is_cut_at_white_space(&tokenizer, first, second);
    }
    Ok(())
}

/// What Unigram and SentencePiece BPE want besides: scores, some not finite, and a character map.
fn sentencepiece(
    input: &mut Unstructured<'_>,
    file: GgufWriter,
    tokens: usize,
) -> Result<GgufWriter> {
    let mut scores = Vec::with_capacity(tokens);
    for _ in 0..tokens {
        let score = input.arbitrary::<u8>()?;
        scores.push(if score == u8::MAX { f32::NAN } else { -f32::from(score) });
    }
    let file =
        file.f32s("tokenizer.ggml.scores", &scores).bool("tokenizer.ggml.add_eos_token", true);
    if input.ratio(3, 4)? {
        return Ok(file);
    }
    // 256 units, the first of them from the input, and a replacement or two.
    let mut charsmap = 1024_u32.to_le_bytes().to_vec();
    charsmap.extend(input.bytes(input.len().min(200) / 4 * 4)?);
    charsmap.resize(4 + 1024, 0);
    charsmap.extend(b"x\0\xc3\xa4\0");
    Ok(file.blob("tokenizer.ggml.precompiled_charsmap", &charsmap))
}

const NORMAL: i32 = 1;

struct Token {
    text: Vec<u8>,
    kind: i32,
}

/// Tokens as a converter writes them, or not: with the mark of a word's start, or of any bytes.
fn vocabulary(input: &mut Unstructured<'_>) -> Result<Vec<Token>> {
    let count = input.int_in_range(0..=TOKENS_MAX)?;
    let mut tokens = Vec::with_capacity(count);
    for _ in 0..count {
        let how = input.arbitrary::<u8>()?;
        let length = usize::from(how >> 4).min(TOKEN_BYTES_MAX);
        let mut text = if how & 1 == 0 { "\u{2581}".as_bytes().to_vec() } else { Vec::new() };
        text.extend(input.bytes(length.min(input.len()))?);
        let kind = if how & 14 == 14 { input.int_in_range(0..=6)? } else { NORMAL };
        tokens.push(Token { text, kind });
    }
    Ok(tokens)
}

/// An id that may lie beyond the vocabulary.
fn id(input: &mut Unstructured<'_>) -> Result<u32> {
    input.int_in_range(0..=TOKENS_MAX as u32)
}

/// What is left of the input, as far as it is text.
fn text<'a>(input: &mut Unstructured<'a>) -> &'a str {
    let rest = input.peek_bytes(input.len()).unwrap_or_default();
    match std::str::from_utf8(rest) {
        Ok(text) => text,
        Err(error) => std::str::from_utf8(&rest[..error.valid_up_to()]).expect("valid up to here"),
    }
}

/// The tokenizer of `file`; none if it is refused with a reason.
pub(crate) fn opened(file: &GgufFile) -> Option<Tokenizer> {
    let opened = Tokenizer::from_gguf(file);
    opened.inspect_err(|error| assert!(!error.to_string().is_empty())).ok()
}

/// The ids of `text`, at most `limit` of them, and the count of all.
pub(crate) fn encode(tokenizer: &Tokenizer, text: &str, limit: usize) -> (Vec<u32>, usize) {
    let mut ids = Vec::new();
    let tokens = tokenizer.encode(text, limit, &mut ids).tokens;
    assert!(ids.iter().all(|id| (*id as usize) < tokenizer.vocabulary()), "an id of no token");
    (ids, tokens)
}

/// A limit cuts the ids and keeps the closing one; it never changes the count.
fn obeys_limits(tokenizer: &Tokenizer, (cls, sep): (u32, u32), text: &str, limit: usize) {
    let (all, tokens) = encode(tokenizer, text, usize::MAX);
    assert_eq!(all.len(), tokens);
    assert_eq!((all.first(), all.last()), (Some(&cls), Some(&sep)));
    assert_eq!(encode(tokenizer, text, usize::MAX).0, all, "the same text, other ids");
    let (cut, counted) = encode(tokenizer, text, limit);
    assert_eq!(counted, tokens, "cut at {limit}");
    let wanted = match limit {
        0 | 1 => Vec::new(),
        limit if limit >= tokens => all,
        limit => [&all[..limit - 1], &[sep]].concat(),
    };
    assert_eq!(cut, wanted, "cut at {limit}");
}

/// White space ends every word: what stands on its two sides does not touch.
fn is_cut_at_white_space(tokenizer: &Tokenizer, first: &str, second: &str) {
    let inner = |text: &str| {
        let ids = encode(tokenizer, text, usize::MAX).0;
        ids[1..ids.len() - 1].to_vec()
    };
    let together = inner(&format!("{first}\n{second}"));
    assert_eq!(together, [inner(first), inner(second)].concat());
}
