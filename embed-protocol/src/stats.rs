//! The figures of a worker, as [`crate::Response::Stats`] carries them.
//!
//! Workers and readers of different versions may meet over these: what a worker does not tell is zero
//! or empty, and what a reader does not know it ignores.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Seconds over which the present speed is counted.
pub const RECENT_SECONDS: u64 = 60;

/// What a worker has done since its start, and what it has before it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct StatsSnapshot {
    /// Since the worker is ready, in milliseconds.
    pub uptime_ms: u64,
    /// Open connections, of whatever kind.
    pub connections: u32,
    /// Connections that keep the worker from leaving.
    pub clients: u32,
    /// Connections accepted since the start.
    pub connections_opened: u64,
    /// Connections refused since the start, because there were as many as there may be.
    pub connections_refused: u64,
    /// Connections closed because their peer broke the protocol.
    pub protocol_errors: u64,
    /// Texts waiting or in work.
    pub queued: u32,
    /// What waits, lane by lane.
    pub queue: QueueStats,
    /// Texts answered with a vector.
    pub vectors: u64,
    /// Texts answered with an error.
    pub errors: u64,
    /// The same by the error's code; a code that never came may be left out.
    pub errors_by_code: BTreeMap<String, u64>,
    /// Tokens embedded.
    pub tokens: u64,
    /// Tokens embedded in the last [`RECENT_SECONDS`] seconds.
    pub recent_tokens: u64,
    /// Batches computed.
    pub batches: u64,
    /// Tokens that a batch is filled up to. A single longer text is a batch as well.
    pub batch_tokens_max: u32,
    /// Time spent in computing batches, in microseconds.
    pub compute_us: u64,
    /// How long the texts that were answered with a vector took.
    pub latency: LatencyStats,
    /// Threads that compute.
    pub threads: u32,
    /// The worker's own memory (private, not file-backed), where the system tells.
    pub private_bytes: Option<u64>,
}

impl StatsSnapshot {
    /// Tokens a second in the last [`RECENT_SECONDS`] seconds, or since the start if that is later.
    pub fn recent_tokens_per_second(&self) -> f64 {
        per_second(self.recent_tokens, self.uptime_ms.min(RECENT_SECONDS * 1000))
    }

    /// Tokens a second since the start, idle time included.
    pub fn tokens_per_second(&self) -> f64 {
        per_second(self.tokens, self.uptime_ms)
    }

    /// How full batches were on average, where 1 is full; 0 before the first.
    pub fn batch_fill(&self) -> f64 {
        let full = self.batches as f64 * f64::from(self.batch_tokens_max);
        if full > 0.0 { self.tokens as f64 / full } else { 0.0 }
    }
}

fn per_second(count: u64, ms: u64) -> f64 {
    if ms > 0 { count as f64 * 1000.0 / ms as f64 } else { 0.0 }
}

/// What waits in a worker's queue.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct QueueStats {
    /// Texts that somebody waits for.
    pub interactive: LaneStats,
    /// Texts of bulk work.
    pub bulk: LaneStats,
    /// Texts taken from the queue and not yet answered.
    pub in_work: u32,
}

/// What waits in one lane.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct LaneStats {
    /// Texts.
    pub texts: u32,
    /// Bytes of these texts.
    pub bytes: u64,
}

/// How long requests took in the worker, part by part: see [`crate::Timings`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct LatencyStats {
    /// Waiting for a batch.
    pub queue: Durations,
    /// Tokenizing the texts of the batch.
    pub tokenize: Durations,
    /// Computing the batch.
    pub compute: Durations,
    /// From the request's last byte to its answer.
    pub total: Durations,
}

/// How durations were distributed, in microseconds.
///
/// Percentiles are true to 4 %; count, sum and maximum are exact.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Durations {
    /// How many there were.
    pub count: u64,
    /// All of them together.
    pub sum_us: u64,
    /// Half of them took no longer.
    pub p50_us: u64,
    /// Nine of ten took no longer.
    pub p90_us: u64,
    /// 99 of a hundred took no longer.
    pub p99_us: u64,
    /// The longest.
    pub max_us: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_count_from_the_start_or_the_last_minute() {
        let young =
            StatsSnapshot { uptime_ms: 500, tokens: 100, recent_tokens: 100, ..Default::default() };
        assert_eq!((young.recent_tokens_per_second(), young.tokens_per_second()), (200.0, 200.0));
        let old = StatsSnapshot { uptime_ms: 600_000, tokens: 1200, ..young };
        assert_eq!(old.recent_tokens_per_second(), 100.0 / 60.0);
        assert_eq!(old.tokens_per_second(), 2.0);
        let newborn = StatsSnapshot { uptime_ms: 0, ..old };
        assert_eq!((newborn.recent_tokens_per_second(), newborn.tokens_per_second()), (0.0, 0.0));
    }

    #[test]
    fn batches_are_as_full_as_their_tokens() {
        let none = StatsSnapshot { batch_tokens_max: 512, ..Default::default() };
        assert_eq!(none.batch_fill(), 0.0);
        let half = StatsSnapshot { batches: 4, tokens: 1024, ..none };
        assert_eq!(half.batch_fill(), 0.5);
        assert_eq!(StatsSnapshot { batch_tokens_max: 0, ..half }.batch_fill(), 0.0);
    }

    #[test]
    fn what_an_older_worker_does_not_tell_is_zero() {
        let older = rmp_serde::to_vec_named(&BTreeMap::from([("vectors", 7u64)])).expect("encodes");
        let read: StatsSnapshot = rmp_serde::from_slice(&older).expect("fields are missing");
        assert_eq!(read, StatsSnapshot { vectors: 7, ..Default::default() });
    }
}
