//! BERT's words: white space ends them, punctuation stands alone.

use unicode_categories::UnicodeCategories;

use super::normalize::CharSink;
use super::wordpiece::WORD_CHARS_MAX;

/// A word of normalised characters, as far as its pieces may depend on them.
pub(super) enum Word<'a> {
    /// Up to [`WORD_CHARS_MAX`] characters.
    Text(&'a str),
    /// More than that.
    TooLong,
}

/// Takes words.
pub(super) trait WordSink {
    fn word(&mut self, word: Word<'_>);
}

/// Collects characters and hands on complete words.
pub(super) struct Splitter<S> {
    pub(super) sink: S,
    word: String,
    chars: usize,
}

impl<S: WordSink> Splitter<S> {
    pub(super) fn new(sink: S) -> Self {
        // The word never outgrows this: a text costs one allocation.
        Self { sink, word: String::with_capacity(WORD_CHARS_MAX * 4), chars: 0 }
    }

    /// Ends the word under way.
    pub(super) fn finish(&mut self) {
        if self.chars == 0 {
            return;
        }
        if self.chars > WORD_CHARS_MAX {
            self.sink.word(Word::TooLong);
        } else {
            self.sink.word(Word::Text(&self.word));
        }
        self.word.clear();
        self.chars = 0;
    }

    fn append(&mut self, c: char) {
        if self.chars < WORD_CHARS_MAX {
            self.word.push(c);
        }
        self.chars += 1;
    }
}

impl<S: WordSink> CharSink for Splitter<S> {
    fn push(&mut self, c: char) {
        if c.is_whitespace() {
            self.finish();
        } else if is_punctuation(c) {
            self.finish();
            self.append(c);
            self.finish();
        } else {
            self.append(c);
        }
    }

    fn push_ascii(&mut self, byte: u8) {
        self.append(char::from(byte));
    }
}

/// ASCII's symbols count as punctuation, other symbols do not.
fn is_punctuation(c: char) -> bool {
    if c.is_ascii() { c.is_ascii_punctuation() } else { c.is_punctuation() }
}
