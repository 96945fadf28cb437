//! Words: white space ends them, and a mark stands where it was.

use super::lattice::Lattice;

/// Stands for a blank before a word.
const MARK: char = '\u{2581}';

/// What the file asks of white space.
#[derive(Clone, Copy, Debug)]
pub(super) struct Metaspace {
    /// A text without white space at its start is marked as if it had some.
    pub(super) prefix: bool,
    /// Any run of white space is one blank, and one at the end is none. Otherwise each blank
    /// counts and other white space is text.
    pub(super) collapse: bool,
}

/// Takes normalised characters, hands on words.
pub(super) struct Words<'a> {
    metaspace: Metaspace,
    pub(super) lattice: Lattice<'a>,
    in_word: bool,
    /// White space stands before the next word.
    spaced: bool,
}

impl<'a> Words<'a> {
    pub(super) fn new(metaspace: Metaspace, lattice: Lattice<'a>) -> Self {
        Self { metaspace, lattice, in_word: false, spaced: false }
    }

    pub(super) fn push(&mut self, c: char) {
        if c == MARK || (c == ' ' && !self.metaspace.collapse) {
            self.lattice.finish();
            self.lattice.push(MARK);
            (self.in_word, self.spaced) = (true, false);
        } else if self.metaspace.collapse && c.is_whitespace() {
            self.lattice.finish();
            (self.in_word, self.spaced) = (false, true);
        } else {
            if !self.in_word && (self.metaspace.prefix || self.spaced) {
                self.lattice.push(MARK);
            }
            self.lattice.push(c);
            (self.in_word, self.spaced) = (true, false);
        }
    }

    /// Ends the text.
    pub(super) fn finish(&mut self) {
        self.lattice.finish();
        (self.in_word, self.spaced) = (false, false);
    }
}
