//! How the worker's memory is shared out: computed once, when a model is opened.
//!
//! What counts is what the system cannot take back: not the model's file, which is mapped.

use crate::config::{PROGRAM_BYTES, TRAFFIC_BYTES_MIN};
use crate::model::{Encoder, Extent};

/// Bytes of a megabyte, in which budgets are given.
pub const MEGABYTE: usize = 1_000_000;

/// What a budget means for one model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    /// All of it, in bytes.
    pub bytes: usize,
    /// What the program, the tokenizer's tables and small parts of the model take.
    pub fixed_bytes: usize,
    /// What buffers of the largest batch take at the most.
    pub batch_bytes: usize,
    /// What is left for texts that wait, and for answers.
    pub traffic_bytes: usize,
    /// Tokens of the longest text.
    pub text_tokens_max: usize,
    /// Tokens of the largest batch of several texts.
    pub batch_tokens_max: usize,
}

impl Budget {
    /// Shares out `bytes`: `held_bytes` are taken by the model's tables, texts have at most
    /// `context_tokens`, and a batch of several is to have `batch_tokens`.
    ///
    /// # Errors
    ///
    /// The budget that would do for a text of one token, if this one does not.
    pub fn share_out(
        bytes: usize,
        held_bytes: usize,
        encoder: &Encoder,
        (context_tokens, batch_tokens): (usize, usize),
    ) -> Result<Self, usize> {
        let fixed_bytes = PROGRAM_BYTES + held_bytes;
        let least = fixed_bytes + TRAFFIC_BYTES_MIN;
        let free = bytes.saturating_sub(least);
        let most = |tokens: usize, extent: fn(usize) -> Extent| {
            let fits = |tokens: &usize| encoder.batch_bytes(extent(*tokens)).0 <= free;
            largest(tokens, fits)
        };
        let text_tokens_max = most(context_tokens, Extent::of_text);
        if text_tokens_max == 0 {
            return Err(least + encoder.batch_bytes(Extent::of_text(1)).0);
        }
        // As many texts as tokens: the most that a batch can have.
        let several = |tokens| Extent { texts: tokens, tokens, longest: tokens };
        let batch_tokens_max = most(batch_tokens, several);
        let extents = [Extent::of_text(text_tokens_max), several(batch_tokens_max)];
        let batch_bytes = extents.map(|extent| encoder.batch_bytes(extent).1);
        let batch_bytes = batch_bytes.into_iter().max().unwrap_or(0).min(free);
        let traffic_bytes = bytes - fixed_bytes - batch_bytes;
        Ok(Self {
            bytes,
            fixed_bytes,
            batch_bytes,
            traffic_bytes,
            text_tokens_max,
            batch_tokens_max,
        })
    }

    /// The budget in megabytes that would do for a text of `tokens` tokens.
    pub fn megabytes_for(&self, encoder: &Encoder, tokens: usize) -> usize {
        let batch = encoder.batch_bytes(Extent::of_text(tokens)).0;
        (self.fixed_bytes + TRAFFIC_BYTES_MIN + batch).div_ceil(MEGABYTE)
    }
}

/// The largest number up to `most` that `fits`, as all below it do; 0 if none does.
fn largest(most: usize, fits: impl Fn(&usize) -> bool) -> usize {
    let (mut below, mut above) = (0, most + 1);
    while above - below > 1 {
        let middle = below.midpoint(above);
        if fits(&middle) { below = middle } else { above = middle }
    }
    below
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_that_fits_is_found_at_every_edge() {
        for most in [1, 2, 7, 512] {
            for limit in 0..=most + 1 {
                assert_eq!(largest(most, |n| *n <= limit), limit.min(most), "{limit} of {most}");
            }
        }
    }
}
