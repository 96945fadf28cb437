//! BERT's normaliser: what is dropped, spaced, decomposed and lower-cased.
//!
//! Follows Hugging Face's `BertNormalizer` with `clean_text` and `handle_chinese_chars` on, which
//! no file can switch off. The Unicode tables are those of the crates that `tokenizers` uses,
//! because ids must be equal on every code point and tables differ by Unicode version.
//!
//! Hugging Face runs four passes over the whole string; here each character goes through all of
//! them at once. That gives the same, because only one pass looks beyond a single character, the
//! canonical reordering of NFD, and its reach ends at the next starter.

use unicode_categories::UnicodeCategories;
use unicode_normalization_alignments::char::{canonical_combining_class, decompose_canonical};

use super::wordpiece::WORD_CHARS_MAX;

/// What the file asks of the normaliser.
#[derive(Clone, Copy, Debug)]
pub(super) struct Normalizer {
    pub(super) lowercase: bool,
    pub(super) strip_accents: bool,
}

/// Takes normalised characters; any white space is a plain blank.
pub(super) trait CharSink {
    fn push(&mut self, c: char);

    /// Bytes that are letters or digits of ASCII, already in the right case.
    fn push_ascii(&mut self, byte: u8) {
        self.push(char::from(byte));
    }
}

impl Normalizer {
    /// Sends the normalised characters of `text` to `sink`.
    pub(super) fn run(&self, text: &str, sink: &mut impl CharSink) {
        let mut marks = Marks::new();
        let mut rest = text;
        loop {
            rest = self.run_ascii(rest, &mut marks, sink);
            let mut chars = rest.chars();
            let Some(c) = chars.next() else { break };
            rest = chars.as_str();
            self.run_char(c, &mut marks, sink);
        }
        marks.flush(self, sink);
    }

    /// The ASCII at the head of `text`, which nothing decomposes; returns what follows it.
    fn run_ascii<'a>(&self, text: &'a str, marks: &mut Marks, sink: &mut impl CharSink) -> &'a str {
        let bytes = text.as_bytes();
        let n_ascii = bytes.iter().position(|byte| !byte.is_ascii()).unwrap_or(bytes.len());
        for &byte in &bytes[..n_ascii] {
            if byte.is_ascii_control() && !matches!(byte, b'\t' | b'\n' | b'\r') {
                continue;
            }
            // Every character of ASCII is a starter.
            marks.flush(self, sink);
            match byte {
                b'A'..=b'Z' if self.lowercase => sink.push_ascii(byte.to_ascii_lowercase()),
                b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' => sink.push_ascii(byte),
                b' ' | b'\t' | b'\n' | b'\r' => sink.push(' '),
                _ => sink.push(char::from(byte)),
            }
        }
        &text[n_ascii..]
    }

    fn run_char(&self, c: char, marks: &mut Marks, sink: &mut impl CharSink) {
        if is_dropped(c) {
            return;
        }
        if c.is_whitespace() {
            marks.flush(self, sink);
            sink.push(' ');
        } else if is_chinese(c) {
            marks.flush(self, sink);
            sink.push(' ');
            self.decompose(c, marks, sink);
            marks.flush(self, sink);
            sink.push(' ');
        } else {
            self.decompose(c, marks, sink);
        }
    }

    /// NFD without non-spacing marks.
    fn decompose(&self, c: char, marks: &mut Marks, sink: &mut impl CharSink) {
        if !self.strip_accents {
            self.lower(c, sink);
            return;
        }
        decompose_canonical(c, |part| {
            let class = canonical_combining_class(part);
            if class == 0 {
                marks.flush(self, sink);
            }
            if part.is_mark_nonspacing() {
                return;
            }
            if class == 0 {
                self.lower(part, sink);
            } else {
                marks.push(class, part);
            }
        });
    }

    fn lower(&self, c: char, sink: &mut impl CharSink) {
        if self.lowercase {
            c.to_lowercase().for_each(|c| sink.push(c));
        } else {
            sink.push(c);
        }
    }
}

/// Control, format, private-use and replacement characters.
fn is_dropped(c: char) -> bool {
    match c {
        '\t' | '\n' | '\r' => false,
        '\0' | '\u{fffd}' => true,
        _ => c.is_other(),
    }
}

/// Hugging Face's ranges. The one that starts at 2B920 is a slip of theirs (the block starts at
/// 2B820): models are used with it.
fn is_chinese(c: char) -> bool {
    matches!(
        u32::from(c),
        0x4E00..=0x9FFF
            | 0x3400..=0x4DBF
            | 0x20000..=0x2A6DF
            | 0x2A700..=0x2B73F
            | 0x2B740..=0x2B81F
            | 0x2B920..=0x2CEAF
            | 0xF900..=0xFAFF
            | 0x2F800..=0x2FA1F
    )
}

/// The marks that stay (a few are spacing) since the last starter, waiting to be put into
/// canonical order.
///
/// Bounded: marks never end a word, so that with more of them than a word may have characters,
/// the word is unknown in whatever order they come.
struct Marks {
    marks: [(u8, char); WORD_CHARS_MAX + 1],
    len: usize,
}

impl Marks {
    fn new() -> Self {
        Self { marks: [(0, '\0'); WORD_CHARS_MAX + 1], len: 0 }
    }

    fn push(&mut self, class: u8, mark: char) {
        if let Some(place) = self.marks.get_mut(self.len) {
            *place = (class, mark);
            self.len += 1;
        }
    }

    fn flush(&mut self, normalizer: &Normalizer, sink: &mut impl CharSink) {
        if self.len == 0 {
            return;
        }
        let marks = &mut self.marks[..self.len];
        marks.sort_by_key(|(class, _)| *class);
        for (_, mark) in marks {
            normalizer.lower(*mark, sink);
        }
        self.len = 0;
    }
}
