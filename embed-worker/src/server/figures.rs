//! What became of the requests, counted where each is answered: once, whoever answers it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use embed_protocol::ErrorCode;
use embed_protocol::stats::LatencyStats;

use super::histogram::Histogram;
use crate::batch::{Answer, Failure};

/// Counts since the start. Counting costs some atomic additions and no lock.
#[derive(Debug, Default)]
pub struct Figures {
    vectors: AtomicU64,
    /// In the order of [`ErrorCode::ALL`].
    errors: [AtomicU64; ErrorCode::ALL.len()],
    queue: Histogram,
    tokenize: Histogram,
    compute: Histogram,
    total: Histogram,
    connections: AtomicU64,
    refused: AtomicU64,
    broken: AtomicU64,
}

impl Figures {
    /// A text has its answer; `received` is when its last byte came, if it did.
    pub(super) fn answered(&self, outcome: &Result<Answer, Failure>, received: Option<Instant>) {
        match outcome {
            Ok(Answer { timings, .. }) => {
                self.vectors.fetch_add(1, Ordering::Relaxed);
                self.queue.record(timings.queue_us);
                self.tokenize.record(timings.tokenize_us);
                self.compute.record(timings.compute_us);
                if let Some(received) = received {
                    let us = received.elapsed().as_micros();
                    self.total.record(u32::try_from(us).unwrap_or(u32::MAX));
                }
            }
            Err(Failure { code, .. }) => {
                self.errors[*code as usize].fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    /// A connection was accepted; gives its number, which begins with 1.
    pub(super) fn connected(&self) -> u64 {
        self.connections.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// A connection was refused, for want of room.
    pub(super) fn refused(&self) {
        self.refused.fetch_add(1, Ordering::Relaxed);
    }

    /// A peer broke the protocol.
    pub(super) fn broken(&self) {
        self.broken.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn vectors(&self) -> u64 {
        self.vectors.load(Ordering::Relaxed)
    }

    /// How many texts ended with each code, those that none did included.
    pub(super) fn errors(&self) -> impl Iterator<Item = (ErrorCode, u64)> {
        let counts = self.errors.iter().map(|count| count.load(Ordering::Relaxed));
        ErrorCode::ALL.into_iter().zip(counts)
    }

    /// Connections accepted, and those refused.
    pub(super) fn connections(&self) -> (u64, u64) {
        (self.connections.load(Ordering::Relaxed), self.refused.load(Ordering::Relaxed))
    }

    /// Peers that broke the protocol.
    pub(super) fn protocol_errors(&self) -> u64 {
        self.broken.load(Ordering::Relaxed)
    }

    pub(super) fn latency(&self) -> LatencyStats {
        LatencyStats {
            queue: self.queue.durations(),
            tokenize: self.tokenize.durations(),
            compute: self.compute.durations(),
            total: self.total.durations(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use embed_protocol::Timings;

    #[test]
    fn each_code_is_counted_for_itself() {
        let figures = Figures::default();
        for (n, code) in ErrorCode::ALL.into_iter().enumerate() {
            for _ in 0..=n {
                figures.answered(&Err(Failure::new(code, "why")), None);
            }
        }
        let counts: Vec<_> = figures.errors().collect();
        let wanted: Vec<_> = ErrorCode::ALL.into_iter().zip(1..).collect();
        assert_eq!(counts, wanted);
        assert_eq!(figures.vectors(), 0);
        assert_eq!(figures.latency(), LatencyStats::default(), "of vectors only");
    }

    #[test]
    fn a_vector_counts_with_its_times() {
        let figures = Figures::default();
        let timings = Timings { queue_us: 1, tokenize_us: 2, compute_us: 3 };
        let answer = Answer { vector: Vec::new(), tokens: 1, truncated: false, timings };
        figures.answered(&Ok(answer), Some(Instant::now()));
        let latency = figures.latency();
        let most = [latency.queue, latency.tokenize, latency.compute].map(|part| part.max_us);
        assert_eq!((figures.vectors(), most), (1, [1, 2, 3]));
        assert_eq!(latency.total.count, 1);
    }
}
