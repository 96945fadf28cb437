//! How large a batch of bulk work may be, so that who waits for an answer does not wait long.
//!
//! An interactive text overtakes all bulk work, but not the batch that is being computed. How long that
//! takes depends on machine and model, so it is measured.

use std::time::{Duration, Instant};

use crate::config::{
    BATCH_TIME_ALONE, BATCH_TIME_SHARED, BATCH_TOKENS, BATCH_TOKENS_MIN, SHARED_MEMORY,
};

/// How much the last batch counts in the measured speed: one that was slow by chance is soon
/// forgotten, and a machine that got slower is soon noticed.
const LAST_BATCH_WEIGHT: f64 = 0.25;

/// Fewest tokens of a batch by whose time the speed is judged: a few are computed at another speed.
/// Of two batches in a row at least one has more than half of what it may have, since else both would
/// have been one; if only full ones were looked at, texts of which no whole number fills the smallest
/// batch would have such batches for ever.
const TOKENS_JUDGED_MIN: usize = BATCH_TOKENS_MIN / 2;

/// See the module's documentation.
#[derive(Debug, Default)]
pub(super) struct Pace {
    tokens_per_second: Option<f64>,
    last_interactive: Option<Instant>,
}

impl Pace {
    /// Somebody asked for an interactive text at `now`.
    pub(super) fn interactive(&mut self, now: Instant) {
        self.last_interactive = Some(now);
    }

    /// A batch of `tokens` was computed in `took`.
    pub(super) fn computed(&mut self, tokens: usize, took: Duration) {
        if tokens < TOKENS_JUDGED_MIN || took.is_zero() {
            return;
        }
        let speed = tokens as f64 / took.as_secs_f64();
        let before = self.tokens_per_second.unwrap_or(speed);
        self.tokens_per_second = Some(before + (speed - before) * LAST_BATCH_WEIGHT);
    }

    /// Whether a speed is known.
    #[cfg(test)]
    pub(super) fn is_measured(&self) -> bool {
        self.tokens_per_second.is_some()
    }

    /// Most tokens of a batch of bulk work that begins at `now`.
    pub(super) fn bulk_tokens(&self, now: Instant) -> usize {
        // Unknown at first: the smallest batch finds out.
        let Some(speed) = self.tokens_per_second else { return BATCH_TOKENS_MIN };
        let is_shared = self
            .last_interactive
            .is_some_and(|last| now.saturating_duration_since(last) < SHARED_MEMORY);
        let time = if is_shared { BATCH_TIME_SHARED } else { BATCH_TIME_ALONE };
        ((speed * time.as_secs_f64()) as usize).clamp(BATCH_TOKENS_MIN, BATCH_TOKENS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn measured(tokens_per_second: usize) -> Pace {
        let mut pace = Pace::default();
        pace.computed(tokens_per_second, SECOND);
        pace
    }

    #[test]
    fn a_fast_machine_computes_full_batches() {
        let mut pace = measured(40_000);
        let now = Instant::now();
        assert_eq!(pace.bulk_tokens(now), BATCH_TOKENS);
        pace.interactive(now);
        assert_eq!(pace.bulk_tokens(now), BATCH_TOKENS);
    }

    #[test]
    fn batches_are_short_only_while_somebody_asks() {
        let mut pace = measured(5000);
        let now = Instant::now();
        let alone = pace.bulk_tokens(now);
        assert_eq!(alone, 500);
        pace.interactive(now);
        let shared = pace.bulk_tokens(now + SHARED_MEMORY / 2);
        assert_eq!(shared, 100);
        assert_eq!(pace.bulk_tokens(now + SHARED_MEMORY), alone);
    }

    #[test]
    fn the_slowest_machine_still_computes_batches() {
        assert_eq!(measured(100).bulk_tokens(Instant::now()), BATCH_TOKENS_MIN);
        assert_eq!(Pace::default().bulk_tokens(Instant::now()), BATCH_TOKENS_MIN, "the first one");
    }

    #[test]
    fn the_speed_follows_what_is_measured_and_short_texts_say_nothing() {
        let mut pace = measured(4000);
        pace.computed(1, SECOND);
        assert_eq!(pace.bulk_tokens(Instant::now()), 400);
        for _ in 0..50 {
            pace.computed(2000, SECOND);
        }
        assert_eq!(pace.bulk_tokens(Instant::now()), 200);
    }
}
