//! Counters of the batches that were computed, read at any time from any thread.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use embed_protocol::stats::RECENT_SECONDS;

/// Totals since the start.
#[derive(Debug)]
pub struct Counters {
    started: Instant,
    tokens: AtomicU64,
    batches: AtomicU64,
    compute_us: AtomicU64,
    /// Locked once a batch.
    recent: Mutex<Recent>,
}

impl Default for Counters {
    fn default() -> Self {
        Self {
            started: Instant::now(),
            tokens: AtomicU64::new(0),
            batches: AtomicU64::new(0),
            compute_us: AtomicU64::new(0),
            recent: Mutex::default(),
        }
    }
}

impl Counters {
    /// Tokens embedded.
    pub fn tokens(&self) -> u64 {
        self.tokens.load(Ordering::Relaxed)
    }

    /// Tokens embedded in the last [`RECENT_SECONDS`] seconds.
    pub fn recent_tokens(&self) -> u64 {
        self.recent(|recent, second| recent.sum(second))
    }

    /// Batches computed.
    pub fn batches(&self) -> u64 {
        self.batches.load(Ordering::Relaxed)
    }

    /// Time spent in batches, in microseconds.
    pub fn compute_us(&self) -> u64 {
        self.compute_us.load(Ordering::Relaxed)
    }

    pub(super) fn computed(&self, tokens: usize, compute_us: u32) {
        self.tokens.fetch_add(tokens as u64, Ordering::Relaxed);
        self.batches.fetch_add(1, Ordering::Relaxed);
        self.compute_us.fetch_add(compute_us.into(), Ordering::Relaxed);
        self.recent(|recent, second| recent.add(second, tokens as u64));
    }

    fn recent<T>(&self, use_it: impl FnOnce(&mut Recent, u64) -> T) -> T {
        // Nothing panics between the steps of a change.
        let mut recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        use_it(&mut recent, self.started.elapsed().as_secs())
    }
}

/// What was counted in each of the last seconds.
#[derive(Debug)]
struct Recent {
    /// That of second `s` stands at `s` modulo their number.
    seconds: [u64; RECENT_SECONDS as usize],
    /// The last second that stands here.
    last: u64,
}

impl Default for Recent {
    fn default() -> Self {
        Self { seconds: [0; RECENT_SECONDS as usize], last: 0 }
    }
}

impl Recent {
    fn add(&mut self, second: u64, count: u64) {
        self.forget_until(second);
        self.seconds[(second % RECENT_SECONDS) as usize] += count;
    }

    fn sum(&mut self, second: u64) -> u64 {
        self.forget_until(second);
        self.seconds.iter().sum()
    }

    /// Empties the places of the seconds up to `second` that have begun since the last call.
    fn forget_until(&mut self, second: u64) {
        for begun in (self.last + 1..=second).take(self.seconds.len()) {
            self.seconds[(begun % RECENT_SECONDS) as usize] = 0;
        }
        self.last = self.last.max(second);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_counts_for_a_minute() {
        let mut recent = Recent::default();
        recent.add(0, 5);
        recent.add(0, 2);
        recent.add(59, 10);
        assert_eq!(recent.sum(59), 17);
        assert_eq!(recent.sum(60), 10, "second 0 is over");
        recent.add(60, 1);
        assert_eq!(recent.sum(118), 11);
        assert_eq!(recent.sum(119), 1, "second 59 is over");
        assert_eq!(recent.sum(120), 0);
    }

    #[test]
    fn a_long_silence_empties_everything() {
        let mut recent = Recent::default();
        for second in 0..60 {
            recent.add(second, 1);
        }
        assert_eq!(recent.sum(59), 60);
        assert_eq!(recent.sum(u64::MAX), 0);
    }

    #[test]
    fn a_batch_is_counted_in_all() {
        let counters = Counters::default();
        counters.computed(7, 30);
        counters.computed(5, 20);
        let counted = (counters.tokens(), counters.batches(), counters.compute_us());
        assert_eq!(counted, (12, 2, 50));
        assert_eq!(counters.recent_tokens(), 12);
    }
}
