//! NFC, character by character.
//!
//! As Hugging Face's `NFC`, with the tables of the crate that `tokenizers` uses (Unicode 9): ids
//! must be equal on every code point, and later tables compose more.

use unicode_normalization_alignments::char::{
    canonical_combining_class, compose, decompose_canonical,
};

/// How many combining marks in a row are put into order together.
///
/// Real text has 30 at most (Unicode's stream-safe format). Beyond this, what follows is ordered by
/// itself and not composed with what comes before.
const MARKS_MAX: usize = 1024;

/// Below this no character is a mark or combines with the one before it, and each one is its own
/// NFC: the first combining mark.
const FIRST_MARK: char = '\u{300}';

/// Puts characters into NFC.
#[derive(Debug, Default)]
pub(super) struct Composer {
    /// The last character if it is below [`FIRST_MARK`]: nothing to do unless marks follow.
    plain: Option<char>,
    /// The last starter, composed with what followed so far.
    starter: Option<char>,
    /// What followed the starter and did not compose with it.
    tail: Vec<char>,
    /// The combining class of the last of `tail`.
    tail_class: Option<u8>,
    /// Marks that are not in order yet, with their classes.
    marks: Vec<(u8, char)>,
}

impl Composer {
    /// Takes the next character, gives what is certain to `emit`.
    pub(super) fn push(&mut self, c: char, emit: &mut impl FnMut(char)) {
        if c < FIRST_MARK {
            self.flush(emit);
            self.plain = Some(c);
            return;
        }
        if let Some(plain) = self.plain.take() {
            self.decompose(plain, emit);
        }
        self.decompose(c, emit);
    }

    /// Ends the text.
    pub(super) fn flush(&mut self, emit: &mut impl FnMut(char)) {
        if let Some(plain) = self.plain.take() {
            return emit(plain);
        }
        self.order_marks(emit);
        self.end_starter(emit);
    }

    fn decompose(&mut self, c: char, emit: &mut impl FnMut(char)) {
        decompose_canonical(c, |part| {
            let class = canonical_combining_class(part);
            if class == 0 {
                self.order_marks(emit);
                self.compose(part, 0, emit);
                return;
            }
            self.marks.push((class, part));
            if self.marks.len() == MARKS_MAX {
                self.order_marks(emit);
                self.end_starter(emit);
            }
        });
    }

    /// Composes the marks since the last starter in canonical order.
    fn order_marks(&mut self, emit: &mut impl FnMut(char)) {
        if self.marks.is_empty() {
            return;
        }
        let mut marks = std::mem::take(&mut self.marks);
        marks.sort_by_key(|(class, _)| *class);
        for (class, mark) in marks.drain(..) {
            self.compose(mark, class, emit);
        }
        self.marks = marks;
    }

    /// Unicode's composition: a character joins the last starter unless one of the same or a
    /// higher class stands between.
    fn compose(&mut self, c: char, class: u8, emit: &mut impl FnMut(char)) {
        let Some(starter) = self.starter else {
            if class == 0 {
                self.starter = Some(c);
            } else {
                emit(c);
            }
            return;
        };
        let blocked = self.tail_class.is_some_and(|last| last >= class);
        if !blocked && let Some(composed) = compose(starter, c) {
            self.starter = Some(composed);
        } else if class == 0 {
            self.end_starter(emit);
            self.starter = Some(c);
        } else {
            self.tail.push(c);
            self.tail_class = Some(class);
        }
    }

    fn end_starter(&mut self, emit: &mut impl FnMut(char)) {
        self.starter.take().into_iter().for_each(&mut *emit);
        self.tail.drain(..).for_each(emit);
        self.tail_class = None;
    }
}

/// NFC of white space, of which no other character is a part.
pub(super) fn composed_blank(c: char) -> char {
    match c {
        '\u{2000}' => '\u{2002}',
        '\u{2001}' => '\u{2003}',
        _ => c,
    }
}

#[cfg(test)]
mod tests {
    use unicode_normalization_alignments::UnicodeNormalization as _;

    use super::*;

    fn composed(text: &str) -> String {
        let (mut composer, mut out) = (Composer::default(), String::new());
        text.chars().for_each(|c| composer.push(c, &mut |c| out.push(c)));
        composer.flush(&mut |c| out.push(c));
        out
    }

    fn check(text: &str) {
        let wanted: String = text.nfc().map(|(c, _)| c).collect();
        assert_eq!(composed(text), wanted, "{text:?}");
    }

    #[test]
    fn every_code_point_among_marks_and_starters_is_as_the_crate_has_it() {
        for c in '\0'..=char::MAX {
            check(&format!("{c}a{c}\u{301}{c}\u{323}\u{1100}{c}\u{1161}{c}\u{302e}é{c}\u{345}"));
        }
    }

    #[test]
    fn what_the_plain_path_rests_on() {
        for c in '\0'..FIRST_MARK {
            assert_eq!(canonical_combining_class(c), 0);
        }
        // What composes is what something decomposes to.
        for c in '\0'..=char::MAX {
            let mut parts = Vec::new();
            decompose_canonical(c, |part| parts.push(part));
            assert!(parts[1..].iter().all(|part| *part >= FIRST_MARK), "U+{:04X}", u32::from(c));
        }
    }

    #[test]
    fn white_space_becomes_white_space_and_joins_nothing() {
        for c in '\0'..=char::MAX {
            let mut parts = Vec::new();
            decompose_canonical(c, |part| parts.push(part));
            if c.is_whitespace() {
                assert_eq!(parts, [composed_blank(c)]);
                assert_eq!(canonical_combining_class(c), 0);
            } else {
                assert!(!parts.iter().any(|part| part.is_whitespace()), "U+{:04X}", u32::from(c));
            }
        }
    }

    #[test]
    fn marks_up_to_the_limit_are_ordered_together() {
        let marks = ['\u{301}', '\u{323}', '\u{345}', '\u{5b0}'];
        let run = |n: usize| -> String {
            std::iter::once('a').chain(marks.into_iter().cycle().take(n)).collect()
        };
        check(&run(MARKS_MAX - 1));
        check(&format!("{}b", run(MARKS_MAX - 1)));
        // Beyond it every mark is still there.
        let mut longer: Vec<char> = composed(&run(5 * MARKS_MAX)).nfd().map(|(c, _)| c).collect();
        let mut wanted: Vec<char> = run(5 * MARKS_MAX).chars().collect();
        longer.sort_unstable();
        wanted.sort_unstable();
        assert_eq!(longer, wanted);
    }
}
