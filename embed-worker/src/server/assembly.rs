//! Texts that arrive in parts.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};

use embed_protocol::{EmbedParams, ErrorCode, TEXT_BYTES_MAX};

use crate::batch::Failure;

/// Bytes of unfinished texts, over all connections.
#[derive(Debug)]
pub struct Budget {
    used: AtomicUsize,
    most: usize,
}

impl Budget {
    /// At most so many bytes.
    pub(super) fn of(most: usize) -> Self {
        Self { used: AtomicUsize::new(0), most }
    }

    fn take(&self, bytes: usize) -> bool {
        let used = self.used.fetch_add(bytes, Ordering::Relaxed) + bytes;
        // One that is alone is taken whatever its length, or it could never be.
        let fits = used <= self.most || used == bytes;
        if !fits {
            self.give_back(bytes);
        }
        fits
    }

    fn give_back(&self, bytes: usize) {
        self.used.fetch_sub(bytes, Ordering::Relaxed);
    }
}

/// The unfinished texts of one connection; never more than its requests without an answer.
#[derive(Debug)]
pub(super) struct Assembly<'a> {
    budget: &'a Budget,
    texts: HashMap<u64, (EmbedParams, String)>,
}

/// What became of a part.
#[derive(Debug, PartialEq)]
pub(super) enum Part {
    /// More is to come.
    Unfinished,
    /// The text is whole.
    Whole(EmbedParams, String),
    /// The text cannot be taken; to be answered now.
    Refused(Failure),
    /// No text of this id is unfinished: the rest of one that was refused or cancelled, which its
    /// sender could not know yet. To be passed over.
    Unknown,
}

impl<'a> Assembly<'a> {
    pub(super) fn new(budget: &'a Budget) -> Self {
        Self { budget, texts: HashMap::new() }
    }

    /// The first part of a text, or all of it.
    pub(super) fn begin(&mut self, id: u64, params: EmbedParams, text: String, more: bool) -> Part {
        if !more {
            return Part::Whole(params, text);
        }
        if !self.budget.take(text.len()) {
            return Part::Refused(overloaded(self.budget.most));
        }
        self.texts.insert(id, (params, text));
        Part::Unfinished
    }

    /// The next part of a text.
    pub(super) fn append(&mut self, id: u64, part: &str, more: bool) -> Part {
        let Some((_, text)) = self.texts.get_mut(&id) else { return Part::Unknown };
        let bytes = text.len() + part.len();
        if bytes > TEXT_BYTES_MAX {
            self.forget(id);
            let message =
                format!("text: has at least {bytes} bytes, at most {TEXT_BYTES_MAX} are accepted");
            return Part::Refused(Failure::new(ErrorCode::TextTooLong, message));
        }
        if !self.budget.take(part.len()) {
            self.forget(id);
            return Part::Refused(overloaded(self.budget.most));
        }
        text.push_str(part);
        if more {
            return Part::Unfinished;
        }
        match self.take(id) {
            Some((params, text)) => Part::Whole(params, text),
            None => Part::Unknown,
        }
    }

    /// Lets go of a text; says whether there was one.
    pub(super) fn forget(&mut self, id: u64) -> bool {
        self.take(id).is_some()
    }

    /// Lets go of all texts; gives their ids.
    pub(super) fn forget_all(&mut self) -> Vec<u64> {
        let ids: Vec<u64> = self.texts.keys().copied().collect();
        ids.iter().for_each(|id| drop(self.take(*id)));
        ids
    }

    fn take(&mut self, id: u64) -> Option<(EmbedParams, String)> {
        let taken = self.texts.remove(&id);
        if let Some((_, text)) = &taken {
            self.budget.give_back(text.len());
        }
        taken
    }
}

impl Drop for Assembly<'_> {
    fn drop(&mut self) {
        self.forget_all();
    }
}

fn overloaded(most: usize) -> Failure {
    let message = format!("worker: unfinished texts would pass the limit of {most} bytes");
    Failure::new(ErrorCode::Overloaded, message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::UNFINISHED_TEXT_BYTES_MAX;

    const PARAMS: fn() -> EmbedParams = EmbedParams::default;

    fn used(budget: &Budget) -> usize {
        budget.used.load(Ordering::Relaxed)
    }

    #[test]
    fn parts_become_one_text_even_when_others_stand_between() {
        let budget = Budget::of(UNFINISHED_TEXT_BYTES_MAX);
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
        let budget = Budget::of(UNFINISHED_TEXT_BYTES_MAX);
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
        assert_eq!(used(&budget), 0);
        assert_eq!(assembly.append(2, "z", true), Part::Unknown);
        assert_eq!(assembly.append(2, "z", false), Part::Unknown);
    }

    #[test]
    fn a_forgotten_text_gives_its_bytes_back() {
        let budget = Budget::of(UNFINISHED_TEXT_BYTES_MAX);
        let mut assembly = Assembly::new(&budget);
        assembly.begin(1, PARAMS(), "one ".into(), true);
        assembly.append(1, "two", true);
        assert_eq!(used(&budget), 7);
        assert!(assembly.forget(1));
        assert_eq!(used(&budget), 0);
        assert!(!assembly.forget(1));
        assert_eq!(assembly.append(1, "three", false), Part::Unknown);
    }

    #[test]
    fn unfinished_texts_share_a_budget_and_give_it_back() {
        let budget = Budget::of(UNFINISHED_TEXT_BYTES_MAX);
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
