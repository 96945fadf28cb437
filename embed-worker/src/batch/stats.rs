//! Counters of what was done, read at any time from any thread.

use std::sync::atomic::{AtomicU64, Ordering};

/// Totals since the start.
#[derive(Debug, Default)]
pub struct Counters {
    vectors: AtomicU64,
    errors: AtomicU64,
    tokens: AtomicU64,
    batches: AtomicU64,
    compute_us: AtomicU64,
}

impl Counters {
    /// Texts answered with a vector.
    pub fn vectors(&self) -> u64 {
        self.vectors.load(Ordering::Relaxed)
    }

    /// Texts answered with an error.
    pub fn errors(&self) -> u64 {
        self.errors.load(Ordering::Relaxed)
    }

    /// Tokens embedded.
    pub fn tokens(&self) -> u64 {
        self.tokens.load(Ordering::Relaxed)
    }

    /// Batches computed.
    pub fn batches(&self) -> u64 {
        self.batches.load(Ordering::Relaxed)
    }

    /// Time spent in batches, in microseconds.
    pub fn compute_us(&self) -> u64 {
        self.compute_us.load(Ordering::Relaxed)
    }

    pub(super) fn answered(&self, with_vector: bool) {
        let counter = if with_vector { &self.vectors } else { &self.errors };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn computed(&self, tokens: usize, compute_us: u32) {
        self.tokens.fetch_add(tokens as u64, Ordering::Relaxed);
        self.batches.fetch_add(1, Ordering::Relaxed);
        self.compute_us.fetch_add(compute_us.into(), Ordering::Relaxed);
    }
}
