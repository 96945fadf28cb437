//! How the worker's memory is shared out: computed once, when a model is opened.
//!
//! What counts is what the system cannot take back: not the model's file, which is mapped.

use crate::config::{
    PROGRAM_BYTES, QUEUE_JOBS_MAX, QUEUE_TEXT_BYTES_MAX, TRAFFIC_BYTES_MIN,
    UNFINISHED_TEXT_BYTES_MAX,
};
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
    /// What buffers may take: of the largest batch, and of the one before it, which are kept.
    pub batch_bytes: usize,
    /// What is left for texts that wait.
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
        // Twice, if there is room, so that what is held never has to be given back for what is wanted.
        let batch_bytes = (2 * batch_bytes.into_iter().max().unwrap_or(0)).min(free);
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

    /// How much may wait.
    pub fn traffic(&self) -> Traffic {
        Traffic::within(self.traffic_bytes)
    }

    /// The budget in megabytes that would do for a text of `tokens` tokens.
    pub fn megabytes_for(&self, encoder: &Encoder, tokens: usize) -> usize {
        let batch = encoder.batch_bytes(Extent::of_text(tokens)).0;
        (self.fixed_bytes + TRAFFIC_BYTES_MIN + batch).div_ceil(MEGABYTE)
    }
}

/// How much may wait at once, over all connections. Answers are not of it: they wait only for who does
/// not read them, within a limit of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Traffic {
    /// Texts that wait.
    pub jobs: usize,
    /// Bytes of them.
    pub text_bytes: usize,
    /// Bytes of texts whose last part has not arrived.
    pub unfinished_bytes: usize,
}

/// Bytes that a text takes which waits, beside its own.
const JOB_BYTES: usize = 320;

impl Traffic {
    /// As much as ever may wait.
    pub const MOST: Self = Self {
        jobs: QUEUE_JOBS_MAX,
        text_bytes: QUEUE_TEXT_BYTES_MAX,
        unfinished_bytes: UNFINISHED_TEXT_BYTES_MAX,
    };

    /// What all of it takes at most.
    pub const fn bytes(self) -> usize {
        let Self { jobs, text_bytes, unfinished_bytes } = self;
        jobs * JOB_BYTES + text_bytes + unfinished_bytes
    }

    /// The same shares of `bytes` bytes.
    fn within(bytes: usize) -> Self {
        let scaled = |most: usize| {
            let share = most as u128 * bytes as u128 / Self::MOST.bytes() as u128;
            most.min(share as usize)
        };
        let Self { jobs, text_bytes, unfinished_bytes } = Self::MOST;
        Self {
            jobs: scaled(jobs),
            text_bytes: scaled(text_bytes),
            unfinished_bytes: scaled(unfinished_bytes),
        }
    }
}

impl Default for Traffic {
    fn default() -> Self {
        Self::MOST
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
    fn what_may_wait_stays_within_what_is_left_and_is_never_more_than_ever() {
        for bytes in [TRAFFIC_BYTES_MIN, 5_000_000, Traffic::MOST.bytes(), usize::MAX] {
            let traffic = Traffic::within(bytes);
            assert!(traffic.bytes() <= bytes && traffic.jobs > 0, "{traffic:?}");
        }
        assert_eq!(Traffic::within(Traffic::MOST.bytes()), Traffic::MOST);
        assert_eq!(Traffic::within(usize::MAX), Traffic::MOST);
    }

    #[test]
    fn the_largest_that_fits_is_found_at_every_edge() {
        for most in [1, 2, 7, 512] {
            for limit in 0..=most + 1 {
                assert_eq!(largest(most, |n| *n <= limit), limit.min(most), "{limit} of {most}");
            }
        }
    }
}
