//! Cuts text into words, without a regex engine: a machine that takes one character after another
//! and knows after each whether a word has ended.
//!
//! The patterns look ahead in three places only. Two characters after an apostrophe, which are
//! held back. To the end of white space, which is handed over in one piece. And from there to
//! whether the text ends. So nothing grows with the text.

use unicode_general_category::{GeneralCategory as Category, get_general_category};

use super::compose::composed_blank;
use super::pattern::Pattern;

/// Takes words, piece by piece.
pub(super) trait WordSink {
    /// One more character of the word under way.
    fn push(&mut self, c: char);
    /// The word under way is complete; it is never empty.
    fn end(&mut self);
}

/// What a character that is not white space is to the patterns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Class {
    /// `\p{L}`
    Letter,
    /// `\p{N}`
    Number,
    /// `[^\s\p{L}\p{N}]`
    Other,
}

/// What the word under way is, and with it what may join.
#[derive(Clone, Copy, Debug)]
enum State {
    /// No word.
    Start,
    /// White space that leads what follows, if the pattern allows.
    Lead { blank: bool },
    /// Letters, perhaps with something that leads them.
    Letters,
    /// So many numbers.
    Numbers(usize),
    /// One other character, which started a match.
    Other,
    /// An apostrophe, which started a match.
    Apostrophe,
    /// An apostrophe and the first letter of a long contraction, which is held back.
    Contraction(char),
    /// Several other characters, or some after a blank.
    Others,
}

/// Cuts words out of characters.
pub(super) struct Words<S> {
    pub(super) sink: S,
    pattern: Pattern,
    /// Whether white space is put into NFC. Other characters come in the form they shall have.
    nfc: bool,
    state: State,
}

impl<S: WordSink> Words<S> {
    pub(super) fn new(pattern: Pattern, nfc: bool, sink: S) -> Self {
        Self { sink, pattern, nfc, state: State::Start }
    }

    /// Takes the next character, which is not white space.
    pub(super) fn push(&mut self, c: char) {
        let class = class(c);
        let joined = match (self.state, class) {
            (State::Start, _) => None,
            (State::Lead { blank }, Class::Letter) => {
                (blank || self.pattern.any_leads_letters).then_some(State::Letters)
            }
            (State::Lead { blank }, Class::Number) => {
                (blank && self.pattern.blank_leads_numbers).then_some(State::Numbers(1))
            }
            (State::Lead { blank }, Class::Other) => blank.then_some(State::Others),
            (State::Letters, Class::Letter) => Some(State::Letters),
            (State::Numbers(n), Class::Number) => {
                (n < self.pattern.numbers_max).then(|| State::Numbers(n + 1))
            }
            (State::Other, Class::Letter) => {
                self.pattern.any_leads_letters.then_some(State::Letters)
            }
            (State::Other | State::Others, Class::Other) => Some(State::Others),
            (State::Apostrophe, _) => return self.after_apostrophe(c),
            (State::Contraction(first), _) => return self.after_contraction(first, c),
            (State::Letters | State::Numbers(_) | State::Other | State::Others, _) => None,
        };
        if joined.is_none() && !matches!(self.state, State::Start) {
            self.sink.end();
        }
        self.sink.push(c);
        self.state = joined.unwrap_or(match class {
            Class::Letter => State::Letters,
            Class::Number => State::Numbers(1),
            Class::Other if c == '\'' => State::Apostrophe,
            Class::Other => State::Other,
        });
    }

    /// Takes a run of white space as long as it goes. `at_end`: no character follows.
    pub(super) fn blanks(&mut self, run: &str, at_end: bool) {
        self.release();
        let mut rest = run;
        if self.pattern.newlines_join && matches!(self.state, State::Other | State::Others) {
            rest = run.trim_start_matches(['\r', '\n']);
            self.push_all(&run[..run.len() - rest.len()]);
        }
        self.end();
        // `\s*[\r\n]+`
        if self.pattern.newlines_join
            && let Some(last) = rest.rfind(['\r', '\n'])
        {
            self.word(&rest[..=last]);
            rest = &rest[last + 1..];
        }
        // `\s+(?!\S)` leaves the last one to what follows.
        let lead = if at_end { None } else { rest.chars().next_back() };
        let n_lead = lead.map_or(0, char::len_utf8);
        self.word(&rest[..rest.len() - n_lead]);
        let Some(lead) = lead else { return };
        self.push_blank(lead);
        self.state = State::Lead { blank: lead == ' ' };
    }

    /// Ends the text.
    pub(super) fn finish(&mut self) {
        self.release();
        self.end();
    }

    fn after_apostrophe(&mut self, c: char) {
        match self.fold(c) {
            's' | 't' | 'm' | 'd' => {
                self.sink.push(c);
                self.sink.end();
                self.state = State::Start;
            }
            'r' | 'v' | 'l' => self.state = State::Contraction(c),
            _ => {
                self.state = State::Other;
                self.push(c);
            }
        }
    }

    fn after_contraction(&mut self, first: char, c: char) {
        if matches!((self.fold(first), self.fold(c)), ('r' | 'v', 'e') | ('l', 'l')) {
            self.sink.push(first);
            self.sink.push(c);
            self.sink.end();
            self.state = State::Start;
        } else {
            self.release();
            self.push(c);
        }
    }

    /// Gives up on a contraction.
    fn release(&mut self) {
        match self.state {
            State::Apostrophe => self.state = State::Other,
            State::Contraction(first) => {
                self.state = State::Other;
                self.push(first);
            }
            _ => {}
        }
    }

    /// A letter as contractions are compared. Unicode folds one letter beyond ASCII to one of them.
    fn fold(&self, c: char) -> char {
        match c {
            _ if !self.pattern.contractions_fold => c,
            'ſ' => 's',
            _ => c.to_ascii_lowercase(),
        }
    }

    fn end(&mut self) {
        if !matches!(self.state, State::Start) {
            self.sink.end();
            self.state = State::Start;
        }
    }

    fn word(&mut self, blanks: &str) {
        if !blanks.is_empty() {
            self.push_all(blanks);
            self.sink.end();
        }
    }

    fn push_all(&mut self, blanks: &str) {
        blanks.chars().for_each(|c| self.push_blank(c));
    }

    fn push_blank(&mut self, c: char) {
        self.sink.push(if self.nfc { composed_blank(c) } else { c });
    }
}

/// The classes of Unicode 16, as the regex engine of the `tokenizers` crate has them.
fn class(c: char) -> Class {
    if c.is_ascii() {
        return match c {
            'a'..='z' | 'A'..='Z' => Class::Letter,
            '0'..='9' => Class::Number,
            _ => Class::Other,
        };
    }
    match get_general_category(c) {
        Category::UppercaseLetter
        | Category::LowercaseLetter
        | Category::TitlecaseLetter
        | Category::ModifierLetter
        | Category::OtherLetter => Class::Letter,
        Category::DecimalNumber | Category::LetterNumber | Category::OtherNumber => Class::Number,
        _ => Class::Other,
    }
}

#[cfg(test)]
mod tests;
