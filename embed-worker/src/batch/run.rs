//! The compute thread: takes what waits, tokenizes, packs, embeds, answers.
//!
//! It never waits for a batch to fill: one short text starts at once, and what comes meanwhile is
//! the next batch.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use embed_protocol::{Priority, Timings};

use super::job::{Answer, Failure, Job};
use super::queue::Queue;
use super::stats::Counters;
use crate::config::BATCH_TOKENS;
use crate::engine::{Engine, TokenBatch, Tokenized};

/// A job whose ids stand in the batch.
struct Packed<'a> {
    job: Taken<'a>,
    tokenized: Tokenized,
}

/// A job that was taken from the queue; however it ends, it is counted.
struct Taken<'a> {
    job: Option<Job>,
    counters: &'a Counters,
}

/// A text that was tokenized but did not fit the last batch: the first of the next.
struct Carried<'a> {
    packed: Packed<'a>,
    ids: TokenBatch,
}

/// Runs until the queue is closed and empty.
pub(super) fn run(mut engine: Engine, queue: &Queue, counters: &Counters) {
    let mut batch = TokenBatch::new();
    let mut carried: Option<Carried<'_>> = None;
    while carried.is_some() || queue.wait() {
        let started = Instant::now();
        batch.clear();
        let mut packer = Packer { engine: &mut engine, queue, counters, batch: &mut batch };
        let jobs = packer.pack(&mut carried, started);
        if jobs.is_empty() {
            continue;
        }
        let tokenize_us = micros(started.elapsed());
        // A panic drops the jobs, and a dropped job is answered. The engine stays usable: all that a
        // batch leaves in it is scratch, which the next one writes before reading.
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            embed(&mut engine, &batch, jobs, started, tokenize_us, counters);
        }));
        if outcome.is_err() {
            tracing::error!(texts = batch.texts(), tokens = batch.tokens(), "a batch panicked");
        }
    }
}

/// Fills one batch.
struct Packer<'a, 'c> {
    engine: &'a mut Engine,
    queue: &'a Queue,
    counters: &'c Counters,
    batch: &'a mut TokenBatch,
}

impl<'c> Packer<'_, 'c> {
    /// Interactive jobs alone if there are any, else bulk jobs; as many as fit.
    fn pack(&mut self, carried: &mut Option<Carried<'c>>, now: Instant) -> Vec<Packed<'c>> {
        let mut jobs = Vec::new();
        self.fill(Priority::Interactive, now, &mut jobs, carried);
        if jobs.is_empty() {
            if let Some(Carried { packed, ids }) = carried.take() {
                self.batch.push(ids.ids());
                jobs.push(packed);
            }
            self.fill(Priority::Bulk, now, &mut jobs, carried);
        }
        jobs
    }

    /// Takes jobs of one lane until the batch is full. The one that no longer fits is carried over.
    fn fill(
        &mut self,
        lane: Priority,
        now: Instant,
        jobs: &mut Vec<Packed<'c>>,
        carried: &mut Option<Carried<'c>>,
    ) {
        let mut ids = TokenBatch::new();
        // Only one job can be carried, so nothing more is taken once one is.
        while carried.is_none() && self.batch.tokens() < BATCH_TOKENS {
            let Some(job) = self.queue.pop(lane) else { return };
            let job = Taken::new(job, self.counters);
            if let Some(failure) = job.get().obsolete(now) {
                job.answer(Err(failure));
                continue;
            }
            ids.clear();
            let Job { text, params, .. } = job.get();
            let tokenized = match self.engine.tokenize(text, params.truncate, &mut ids) {
                Ok(tokenized) => tokenized,
                Err(error) => {
                    job.answer(Err(Failure::from(&error)));
                    continue;
                }
            };
            let packed = Packed { job, tokenized };
            let fits = self.batch.tokens() + ids.tokens() <= BATCH_TOKENS;
            if fits || self.batch.texts() == 0 {
                self.batch.push(ids.ids());
                jobs.push(packed);
            } else {
                *carried = Some(Carried { packed, ids: std::mem::take(&mut ids) });
            }
        }
    }
}

/// Embeds the batch and answers its jobs.
fn embed(
    engine: &mut Engine,
    batch: &TokenBatch,
    jobs: Vec<Packed<'_>>,
    started: Instant,
    tokenize_us: u32,
    counters: &Counters,
) {
    let computing = Instant::now();
    let rows = engine.embed(batch);
    let compute_us = micros(computing.elapsed());
    counters.computed(batch.tokens(), compute_us);
    for (text, Packed { job, tokenized }) in jobs.into_iter().enumerate() {
        let Job { params, received, .. } = job.get();
        let queue_us = micros(started.saturating_duration_since(*received));
        let dimensions = params.dimensions.map(|dimensions| dimensions as usize);
        let vector = match &rows {
            Ok(rows) => rows
                .vector(text, dimensions, params.normalize)
                .map_err(|error| Failure::from(&error)),
            Err(error) => Err(Failure::from(error)),
        };
        job.answer(vector.map(|vector| Answer {
            vector,
            tokens: tokenized.tokens,
            truncated: tokenized.truncated,
            timings: Timings { queue_us, tokenize_us, compute_us },
        }));
    }
}

impl<'a> Taken<'a> {
    fn new(job: Job, counters: &'a Counters) -> Self {
        counters.taken();
        Self { job: Some(job), counters }
    }

    fn get(&self) -> &Job {
        // Emptied only by `answer` and by drop, which take the whole value.
        self.job.as_ref().expect("a job that was not answered")
    }

    fn answer(mut self, outcome: Result<Answer, Failure>) {
        if let Some(job) = self.job.take() {
            let with_vector = outcome.is_ok();
            job.reply.give(outcome);
            self.counters.answered(with_vector);
        }
    }
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        // The job's reply answers by itself when it is dropped.
        if self.job.take().is_some() {
            self.counters.answered(false);
        }
    }
}

fn micros(duration: Duration) -> u32 {
    u32::try_from(duration.as_micros()).unwrap_or(u32::MAX)
}
