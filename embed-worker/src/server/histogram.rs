//! How durations are distributed, in fixed memory and without a lock.
//!
//! Counts in buckets that grow with the value, sixteen to each power of two, as in an HDR histogram of
//! one and a half digits: 464 counters, where that of two digits has some thousands.

use std::sync::atomic::{AtomicU64, Ordering};

use embed_protocol::stats::Durations;

/// Buckets to each power of two are two to the power of this: values below 16 have one each.
const SUB_BITS: u32 = 4;

/// See [`SUB_BITS`].
const SUB_BUCKETS: usize = 1 << SUB_BITS;

/// Buckets for every value of 32 bits: microseconds up to 71 minutes.
const BUCKETS: usize = SUB_BUCKETS * (u32::BITS - SUB_BITS + 1) as usize;

/// A histogram of durations in microseconds.
#[derive(Debug)]
pub(super) struct Histogram {
    buckets: [AtomicU64; BUCKETS],
    sum: AtomicU64,
    max: AtomicU64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self {
            buckets: std::array::from_fn(|_| AtomicU64::new(0)),
            sum: AtomicU64::new(0),
            max: AtomicU64::new(0),
        }
    }
}

impl Histogram {
    /// Counts one duration.
    pub(super) fn record(&self, us: u32) {
        self.buckets[bucket(us)].fetch_add(1, Ordering::Relaxed);
        self.sum.fetch_add(us.into(), Ordering::Relaxed);
        self.max.fetch_max(us.into(), Ordering::Relaxed);
    }

    /// What was counted so far. While others count, the parts may be of slightly different moments.
    pub(super) fn durations(&self) -> Durations {
        let counts: Vec<u64> =
            self.buckets.iter().map(|bucket| bucket.load(Ordering::Relaxed)).collect();
        let count: u64 = counts.iter().sum();
        let max_us = self.max.load(Ordering::Relaxed);
        let percentile = |percent: u64| {
            // The smallest value that so many do not exceed.
            let rank = (count * percent).div_ceil(100).max(1);
            let mut seen = 0;
            let found = counts.iter().position(|counted| {
                seen += counted;
                seen >= rank
            });
            found.map_or(0, |bucket| middle(bucket).min(max_us))
        };
        Durations {
            count,
            sum_us: self.sum.load(Ordering::Relaxed),
            p50_us: percentile(50),
            p90_us: percentile(90),
            p99_us: percentile(99),
            max_us,
        }
    }
}

/// The bucket of a value.
fn bucket(us: u32) -> usize {
    let magnitude = (u32::BITS - us.leading_zeros()).saturating_sub(SUB_BITS + 1);
    // The value's first five bits, of which the first is set unless the magnitude is 0.
    let leading = (us >> magnitude) as usize;
    magnitude as usize * SUB_BUCKETS + leading
}

/// The value that stands for a bucket: its middle.
fn middle(bucket: usize) -> u64 {
    let magnitude = (bucket / SUB_BUCKETS).saturating_sub(1);
    let first = ((bucket - magnitude * SUB_BUCKETS) as u64) << magnitude;
    first + ((1 << magnitude) - 1) / 2
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_has_a_bucket_whose_middle_is_near() {
        let edges = (0..u32::BITS).map(|bit| 1u32 << bit);
        let around = edges.flat_map(|edge| [edge - 1, edge, edge + 1, edge + edge / 3]);
        for us in around.chain(0..5000).chain([u32::MAX]) {
            let bucket = bucket(us);
            assert!(bucket < BUCKETS, "{us}");
            let off = middle(bucket).abs_diff(us.into()) as f64;
            assert!(off <= 0.032 * f64::from(us), "{us}: {}", middle(bucket));
        }
    }

    #[test]
    fn buckets_are_in_the_order_of_their_values() {
        let mut last = 0;
        for us in (0..100_000).chain((17..32).map(|bit| 1 << bit)).chain([u32::MAX]) {
            assert!(bucket(us) >= last, "{us}");
            assert!(bucket(us) <= last + 1 || us >= 100_000, "{us}: a bucket is left out");
            last = bucket(us);
        }
        assert_eq!(bucket(u32::MAX), BUCKETS - 1);
    }

    #[test]
    fn percentiles_are_those_of_the_values() {
        let histogram = Histogram::default();
        assert_eq!(histogram.durations(), Durations::default());
        for us in (1..=1000).rev() {
            histogram.record(us * 10);
        }
        let Durations { count, sum_us, p50_us, p90_us, p99_us, max_us } = histogram.durations();
        assert_eq!((count, sum_us, max_us), (1000, 5_005_000, 10_000));
        for (found, exact) in [(p50_us, 5000.0), (p90_us, 9000.0), (p99_us, 9900.0)] {
            assert!((found as f64 / exact - 1.0).abs() < 0.04, "{found} for {exact}");
        }
    }

    #[test]
    fn one_value_is_every_percentile_and_none_exceeds_the_longest() {
        for us in [0, 1, 15, 16, 1_000_003, u32::MAX] {
            let histogram = Histogram::default();
            histogram.record(us);
            let durations = histogram.durations();
            assert_eq!(durations.max_us, u64::from(us));
            assert_eq!(durations.p50_us, durations.p99_us);
            assert!(durations.p99_us <= durations.max_us);
        }
    }

    #[test]
    fn the_memory_is_bounded_and_small() {
        assert!(size_of::<Histogram>() < 4096, "{}", size_of::<Histogram>());
    }
}
