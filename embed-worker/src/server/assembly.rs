//! Texts that arrive in parts.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};

use embed_protocol::{EmbedParams, ErrorCode, TEXT_BYTES_MAX};

use crate::batch::Failure;
use crate::config::UNFINISHED_TEXT_BYTES_MAX;

/// Bytes of unfinished texts, over all connections.
#[derive(Debug, Default)]
pub struct Budget {
    used: AtomicUsize,
}

impl Budget {
    fn take(&self, bytes: usize) -> bool {
        let used = self.used.fetch_add(bytes, Ordering::Relaxed) + bytes;
        let fits = used <= UNFINISHED_TEXT_BYTES_MAX;
        if !fits {
            self.give_back(bytes);
        }
        fits
    }

    fn give_back(&self, bytes: usize) {
        self.used.fetch_sub(bytes, Ordering::Relaxed);
    }
}

/// The unfinished texts of one connection.
#[derive(Debug)]
pub(super) struct Assembly<'a> {
    budget: &'a Budget,
    texts: HashMap<u64, Unfinished>,
}

#[derive(Debug)]
enum Unfinished {
    Growing(EmbedParams, String),
    /// Answered already; the rest of its parts is to be passed over.
    Refused,
}

/// What became of a part.
#[derive(Debug, PartialEq)]
pub(super) enum Part {
    /// More is to come.
    Unfinished,
    /// The text is whole.
    Whole(EmbedParams, String),
    /// The text cannot be taken; to be answered now. Later parts of it are passed over.
    Refused(Failure),
    /// No text of this id was begun.
    Unknown,
}

impl<'a> Assembly<'a> {
    pub(super) fn new(budget: &'a Budget) -> Self {
        Self { budget, texts: HashMap::new() }
    }

    /// Whether a text of this id has begun and not ended.
    pub(super) fn contains(&self, id: u64) -> bool {
        self.texts.contains_key(&id)
    }

    /// The first part of a text, or all of it.
    pub(super) fn begin(&mut self, id: u64, params: EmbedParams, text: String, more: bool) -> Part {
        if !more {
            return Part::Whole(params, text);
        }
        if !self.budget.take(text.len()) {
            self.texts.insert(id, Unfinished::Refused);
            return Part::Refused(overloaded());
        }
        self.texts.insert(id, Unfinished::Growing(params, text));
        Part::Unfinished
    }

    /// The next part of a text.
    pub(super) fn append(&mut self, id: u64, part: &str, more: bool) -> Part {
        let Some(unfinished) = self.texts.get_mut(&id) else { return Part::Unknown };
        let Unfinished::Growing(_, text) = unfinished else {
            if !more {
                self.texts.remove(&id);
            }
            return Part::Unfinished;
        };
        let bytes = text.len() + part.len();
        let failure = if bytes > TEXT_BYTES_MAX {
            Some(Failure::new(
                ErrorCode::TextTooLong,
                format!("text: has at least {bytes} bytes, at most {TEXT_BYTES_MAX} are accepted"),
            ))
        } else if !self.budget.take(part.len()) {
            Some(overloaded())
        } else {
            text.push_str(part);
            None
        };
        if let Some(failure) = failure {
            self.budget.give_back(text.len());
            if more {
                *unfinished = Unfinished::Refused;
            } else {
                self.texts.remove(&id);
            }
            return Part::Refused(failure);
        }
        if more {
            return Part::Unfinished;
        }
        match self.texts.remove(&id) {
            Some(Unfinished::Growing(params, text)) => {
                self.budget.give_back(text.len());
                Part::Whole(params, text)
            }
            _ => Part::Unknown,
        }
    }
}

impl Drop for Assembly<'_> {
    fn drop(&mut self) {
        for unfinished in self.texts.values() {
            if let Unfinished::Growing(_, text) = unfinished {
                self.budget.give_back(text.len());
            }
        }
    }
}

fn overloaded() -> Failure {
    let message = format!(
        "worker: unfinished texts would pass the limit of {UNFINISHED_TEXT_BYTES_MAX} bytes"
    );
    Failure::new(ErrorCode::Overloaded, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PARAMS: fn() -> EmbedParams = EmbedParams::default;

    fn used(budget: &Budget) -> usize {
        budget.used.load(Ordering::Relaxed)
    }

    #[test]
    fn parts_become_one_text_even_when_others_stand_between() {
        let budget = Budget::default();
        let mut assembly = Assembly::new(&budget);
        assert_eq!(assembly.begin(1, PARAMS(), "one ".into(), true), Part::Unfinished);
        assert_eq!(assembly.begin(2, PARAMS(), "x".into(), true), Part::Unfinished);
        assert_eq!(assembly.append(1, "two ", true), Part::Unfinished);
        assert_eq!(assembly.append(2, "y", false), Part::Whole(PARAMS(), "xy".into()));
        assert_eq!(
            assembly.append(1, "three", false),
            Part::Whole(PARAMS(), "one two three".into())
        );
        assert_eq!(used(&budget), 0);
        assert_eq!(assembly.append(1, "more", false), Part::Unknown);
    }

    #[test]
    fn the_longest_text_is_taken_and_one_byte_more_is_refused_once() {
        let budget = Budget::default();
        let mut assembly = Assembly::new(&budget);
        let half = "x".repeat(TEXT_BYTES_MAX / 2);
        assembly.begin(1, PARAMS(), half.clone(), true);
        assert!(
            matches!(assembly.append(1, &half, false), Part::Whole(_, text) if text.len() == TEXT_BYTES_MAX)
        );

        assembly.begin(2, PARAMS(), half.clone(), true);
        assert_eq!(assembly.append(2, &half, true), Part::Unfinished);
        let refused = assembly.append(2, "y", true);
        assert!(
            matches!(&refused, Part::Refused(failure) if failure.code == ErrorCode::TextTooLong),
            "{refused:?}"
        );
        assert_eq!(assembly.append(2, "z", true), Part::Unfinished, "passed over");
        assert_eq!(assembly.append(2, "z", false), Part::Unfinished, "passed over");
        assert!(!assembly.contains(2));
        assert_eq!(used(&budget), 0);
    }

    #[test]
    fn unfinished_texts_share_a_budget_and_give_it_back() {
        let budget = Budget::default();
        let text = "x".repeat(TEXT_BYTES_MAX);
        let mut assembly = Assembly::new(&budget);
        for id in 0..4 {
            assert_eq!(assembly.begin(id, PARAMS(), text.clone(), true), Part::Unfinished);
        }
        let mut other = Assembly::new(&budget);
        let refused = other.begin(9, PARAMS(), "x".into(), true);
        assert!(
            matches!(&refused, Part::Refused(failure) if failure.code == ErrorCode::Overloaded),
            "{refused:?}"
        );
        drop(assembly);
        assert_eq!(used(&budget), 0, "a connection that breaks gives its share back");
        assert_eq!(other.begin(10, PARAMS(), "x".into(), true), Part::Unfinished);
    }
}
