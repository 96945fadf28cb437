//! The ids of one text, as far as there is room: opening, pieces, closing.

use super::Encoded;

/// Takes the ids of one text.
pub(super) struct Ids<'a> {
    out: &'a mut Vec<u32>,
    /// How many may still be stored before the closing token; `None` if nothing may at all.
    room: Option<usize>,
    closing: Option<u32>,
    /// How many the text has so far.
    tokens: usize,
}

impl<'a> Ids<'a> {
    /// Starts with `opening`, keeps a place for `closing`. A `limit` too small for the two stores
    /// nothing.
    pub(super) fn new(
        out: &'a mut Vec<u32>,
        limit: usize,
        opening: Option<u32>,
        closing: Option<u32>,
    ) -> Self {
        let (opened, closed) = (usize::from(opening.is_some()), usize::from(closing.is_some()));
        let room = limit.checked_sub(closed).filter(|room| *room >= opened);
        let mut ids = Self { out, room, closing, tokens: 0 };
        opening.into_iter().for_each(|id| ids.push(id));
        ids
    }

    pub(super) fn push(&mut self, id: u32) {
        self.tokens += 1;
        if let Some(room) = self.room.filter(|room| *room > 0) {
            self.out.push(id);
            self.room = Some(room - 1);
        }
    }

    /// How many more are stored; further ones are only counted.
    pub(super) fn room(&self) -> usize {
        self.room.unwrap_or(0)
    }

    /// Counts `tokens` for which there is no room.
    pub(super) fn count(&mut self, tokens: usize) {
        self.tokens += tokens;
    }

    /// Ends the text.
    pub(super) fn close(&mut self) -> Encoded {
        if let Some(id) = self.closing {
            self.tokens += 1;
            if self.room.is_some() {
                self.out.push(id);
            }
        }
        Encoded { tokens: self.tokens }
    }
}
