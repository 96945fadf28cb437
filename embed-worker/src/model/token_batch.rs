//! The texts of one forward pass as token ids, one text after the other.
//!
//! No padding token is ever created: a text costs what it is long.

use std::ops::Range;

/// Token ids of several texts, concatenated.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TokenBatch {
    ids: Vec<u32>,
    /// Where each text ends in `ids`; the next one starts there.
    ends: Vec<usize>,
}

impl TokenBatch {
    /// A batch without texts.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes all texts out and keeps the memory.
    pub fn clear(&mut self) {
        self.ids.clear();
        self.ends.clear();
    }

    /// Number of texts.
    pub fn texts(&self) -> usize {
        self.ends.len()
    }

    /// Number of tokens in all texts together.
    pub fn tokens(&self) -> usize {
        self.ids.len()
    }

    /// All ids, `[tokens]`.
    pub fn ids(&self) -> &[u32] {
        &self.ids
    }

    /// The tokens of text `text`, as a range of [`Self::ids`].
    pub fn range(&self, text: usize) -> Range<usize> {
        let start = text.checked_sub(1).map_or(0, |before| self.ends[before]);
        start..self.ends[text]
    }

    /// The ranges of all texts, in order.
    pub fn ranges(&self) -> impl Iterator<Item = Range<usize>> + '_ {
        (0..self.texts()).map(|text| self.range(text))
    }

    /// Adds one text whose ids `write` appends to the vector that it is given.
    ///
    /// # Errors
    ///
    /// Those of `write`; the batch is then as it was.
    pub fn push_with<T, E>(
        &mut self,
        write: impl FnOnce(&mut Vec<u32>) -> Result<T, E>,
    ) -> Result<T, E> {
        let before = self.ids.len();
        match write(&mut self.ids) {
            Ok(value) => {
                self.ends.push(self.ids.len());
                Ok(value)
            }
            Err(error) => {
                self.ids.truncate(before);
                Err(error)
            }
        }
    }

    /// Adds one text of these ids.
    pub fn push(&mut self, ids: &[u32]) {
        self.ids.extend_from_slice(ids);
        self.ends.push(self.ids.len());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_follow_one_another() {
        let mut batch = TokenBatch::new();
        batch.push(&[1, 2, 3]);
        batch.push(&[]);
        batch.push(&[4]);
        assert_eq!((batch.texts(), batch.tokens()), (3, 4));
        assert_eq!(batch.ranges().collect::<Vec<_>>(), [0..3, 3..3, 3..4]);
        batch.clear();
        assert_eq!((batch.texts(), batch.tokens()), (0, 0));
    }

    #[test]
    fn a_text_that_fails_leaves_nothing_behind() {
        let mut batch = TokenBatch::new();
        batch.push(&[7]);
        let failed: Result<(), &str> = batch.push_with(|ids| {
            ids.extend([1, 2, 3]);
            Err("too long")
        });
        assert_eq!(failed, Err("too long"));
        let mut expected = TokenBatch::new();
        expected.push(&[7]);
        assert_eq!(batch, expected);
    }
}
