//! The compute thread: takes what waits, tokenizes, packs, embeds, answers.
//!
//! It never waits for a batch to fill: one short text starts at once, and what comes meanwhile is
//! the next batch.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use embed_protocol::{Priority, Timings};

use super::Check;
use super::job::{Answer, Failure, Input, Job};
use super::pace::Pace;
use super::queue::Queue;
use super::stats::Counters;
use crate::config::BATCH_TOKENS;
use crate::engine::{Engine, TokenBatch, Tokenized};

/// A job whose ids stand in the batch.
struct Packed<'a> {
    job: Taken<'a>,
    tokenized: Tokenized,
}

/// A job that was taken from the queue; however it ends, the queue is told.
struct Taken<'a> {
    job: Option<Job>,
    queue: &'a Queue,
}

/// A text that was tokenized but did not fit the last batch: the first of the next.
struct Carried<'a> {
    packed: Packed<'a>,
    ids: TokenBatch,
}

/// What the thread has at hand.
struct Compute<'a> {
    engine: Engine,
    queue: &'a Queue,
    counters: &'a Counters,
    check: &'a Check,
    batch: TokenBatch,
    pace: Pace,
    /// One for each lane, so that a bulk text which waits keeps no interactive one from going first.
    interactive: Option<Carried<'a>>,
    bulk: Option<Carried<'a>>,
}

/// Runs until the queue is closed and empty.
pub(super) fn run(engine: Engine, queue: &Queue, counters: &Counters, check: &Check) {
    let mut compute = Compute::new(engine, queue, counters, check);
    while compute.interactive.is_some() || compute.bulk.is_some() || queue.wait() {
        // A panic drops the jobs of its batch, and a dropped job is answered. The rest stays usable:
        // all that a batch leaves behind is scratch, which the next one writes before reading.
        if catch_unwind(AssertUnwindSafe(|| compute.turn())).is_err() {
            let batch = &compute.batch;
            tracing::error!(texts = batch.texts(), tokens = batch.tokens(), "a batch panicked");
        }
    }
}

impl<'a> Compute<'a> {
    fn new(engine: Engine, queue: &'a Queue, counters: &'a Counters, check: &'a Check) -> Self {
        Self {
            engine,
            queue,
            counters,
            check,
            batch: TokenBatch::new(),
            pace: Pace::default(),
            interactive: None,
            bulk: None,
        }
    }

    /// One batch, from the queue to its answers.
    fn turn(&mut self) {
        let started = Instant::now();
        self.batch.clear();
        let jobs = self.pack(started);
        if jobs.is_empty() {
            return;
        }
        // Asked before as well, though only what is asked afterwards counts: a file that was cut while
        // nobody wanted anything need not kill the process.
        match (self.check)() {
            Ok(()) => self.embed(jobs, started),
            Err(failure) => self.give_up(jobs, &failure),
        }
    }

    /// Answers all that was taken or waits, and takes no more: nothing can be computed any more.
    fn give_up(&mut self, jobs: Vec<Packed<'a>>, failure: &Failure) {
        self.queue.close();
        let carried = [self.interactive.take(), self.bulk.take()].into_iter().flatten();
        for Packed { job, .. } in jobs.into_iter().chain(carried.map(|carried| carried.packed)) {
            job.answer(Err(failure.clone()));
        }
        self.queue.clear();
    }

    /// Interactive jobs alone if there are any, else bulk jobs; as many as fit.
    fn pack(&mut self, now: Instant) -> Vec<Packed<'a>> {
        let mut jobs = Vec::new();
        let most = self.engine.budget().batch_tokens_max;
        self.fill(Priority::Interactive, BATCH_TOKENS.min(most), &mut jobs);
        if jobs.is_empty() {
            let tokens_max = self.pace.bulk_tokens(now).min(most);
            self.fill(Priority::Bulk, tokens_max, &mut jobs);
        } else {
            self.pace.interactive(now);
        }
        jobs
    }

    /// Takes jobs of one lane until the batch has so many tokens, first the one that did not fit the
    /// last batch. The one that no longer fits is carried over.
    fn fill(&mut self, lane: Priority, tokens_max: usize, jobs: &mut Vec<Packed<'a>>) {
        if let Some(Carried { packed, ids }) = self.carried(lane).take() {
            if let Some(failure) = packed.job.get().obsolete(Instant::now()) {
                packed.job.answer(Err(failure));
            } else {
                self.batch.push(ids.ids());
                jobs.push(packed);
            }
        }
        let mut ids = TokenBatch::new();
        while self.batch.tokens() < tokens_max {
            let Some(job) = self.queue.pop(lane) else { return };
            let job = Taken { job: Some(job), queue: self.queue };
            // Jobs come while others are looked at, so each is asked at its own time.
            if let Some(failure) = job.get().obsolete(Instant::now()) {
                job.answer(Err(failure));
                continue;
            }
            ids.clear();
            let Job { input, params, .. } = job.get();
            let tokenized = match input {
                Input::Text(text) => self
                    .engine
                    .for_task(text, params.task)
                    .and_then(|text| self.engine.tokenize(&text, params.truncate, &mut ids)),
                Input::Ids(given) => self.engine.take_ids(given, params.truncate, &mut ids),
            };
            let tokenized = match tokenized {
                Ok(tokenized) => tokenized,
                Err(error) => {
                    let failure = (self.check)().err();
                    job.answer(Err(failure.unwrap_or_else(|| Failure::from(&error))));
                    continue;
                }
            };
            let packed = Packed { job, tokenized };
            let fits = self.batch.tokens() + ids.tokens() <= tokens_max;
            if fits || self.batch.texts() == 0 {
                self.batch.push(ids.ids());
                jobs.push(packed);
            } else {
                *self.carried(lane) = Some(Carried { packed, ids });
                return;
            }
        }
    }

    fn carried(&mut self, lane: Priority) -> &mut Option<Carried<'a>> {
        match lane {
            Priority::Interactive => &mut self.interactive,
            Priority::Bulk => &mut self.bulk,
        }
    }

    /// Embeds the batch and answers its jobs.
    fn embed(&mut self, jobs: Vec<Packed<'a>>, started: Instant) {
        let computing = Instant::now();
        let tokenize_us = micros(computing.saturating_duration_since(started));
        let rows = self.engine.embed(&self.batch);
        let took = computing.elapsed();
        self.pace.computed(self.batch.tokens(), took);
        let compute_us = micros(took);
        self.counters.computed(self.batch.tokens(), compute_us);
        // Whatever was read of the model until here was the model, or none of this is an answer.
        if let Err(failure) = (self.check)() {
            return self.give_up(jobs, &failure);
        }
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
}

impl Taken<'_> {
    fn get(&self) -> &Job {
        // Emptied only by `answer` and by drop, which take the whole value.
        self.job.as_ref().expect("a job that was not answered")
    }

    fn answer(mut self, outcome: Result<Answer, Failure>) {
        if let Some(job) = self.job.take() {
            job.reply.give(outcome);
        }
    }
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        // The job's reply answers by itself when it is dropped.
        drop(self.job.take());
        // After the answer, so that a queue in which nothing is in work owes none.
        self.queue.done();
    }
}

fn micros(duration: Duration) -> u32 {
    u32::try_from(duration.as_micros()).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::mpsc::{Receiver, channel};

    use embed_protocol::{EmbedParams, ErrorCode};

    use super::*;
    use crate::batch::{CancelFlag, Reply};
    use crate::config::{BATCH_TOKENS_MIN, MEMORY_BUDGET};
    use crate::engine::EngineOptions;
    use crate::kernels::Isa;

    type Outcome = Result<Answer, Failure>;

    /// An engine whose buffers have room for that many tokens. With less than the packer reckons with it
    /// panics at a batch of more.
    fn engine(tokens: usize) -> Engine {
        let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/hostile/ok-bert.gguf");
        let options = EngineOptions {
            threads: 2,
            isa: Isa::best(),
            batch_tokens: BATCH_TOKENS,
            memory_budget: MEMORY_BUDGET,
        };
        let mut engine = Engine::open(&model, &options).expect("a sound model");
        engine.set_room(tokens);
        engine
    }

    fn job(priority: Priority, reply: impl FnOnce(Outcome) + Send + 'static) -> Job {
        Job {
            caller: 1,
            input: "hello the".into(),
            params: EmbedParams { priority, ..EmbedParams::default() },
            received: Instant::now(),
            deadline: None,
            cancelled: CancelFlag::default(),
            reply: Reply::new(reply),
        }
    }

    /// Queues `jobs` texts of `lane`, so that they become one batch.
    fn push(queue: &Queue, lane: Priority, jobs: usize) -> Receiver<Outcome> {
        let (sender, outcomes) = channel();
        for _ in 0..jobs {
            let sender = sender.clone();
            let job = job(lane, move |outcome| drop(sender.send(outcome)));
            queue.push(job).expect("room");
        }
        outcomes
    }

    fn codes(outcomes: &Receiver<Outcome>) -> Vec<Result<(), ErrorCode>> {
        outcomes.iter().map(|outcome| outcome.map(drop).map_err(|error| error.code)).collect()
    }

    #[test]
    fn an_interactive_text_goes_before_a_bulk_text_that_was_carried_over() {
        let (queue, counters) = (Queue::default(), Counters::default());
        let (sender, outcomes) = channel();
        let told = |lane| {
            let sender = sender.clone();
            job(lane, move |outcome| {
                // Nobody listens any more to what is left in the queue at the end.
                let _ = sender.send((lane, outcome.is_ok()));
            })
        };
        // Five tokens each, of which no whole number fills a batch.
        for _ in 0..3 * BATCH_TOKENS / 5 {
            let bulk = Job { input: "hello the the".into(), ..told(Priority::Bulk) };
            queue.push(bulk).expect("room");
        }
        let check: Check = Box::new(|| Ok(()));
        let mut compute = Compute::new(engine(BATCH_TOKENS), &queue, &counters, &check);
        compute.turn();
        assert!(compute.bulk.is_some(), "a text was carried over");
        queue.push(told(Priority::Interactive)).expect("room");
        compute.turn();
        compute.turn();
        // The first batch of bulk work is a small one, the second as large as the first was quick.
        let batch = BATCH_TOKENS_MIN / 5;
        let order: Vec<_> = outcomes.try_iter().collect();
        let bulk = vec![(Priority::Bulk, true); batch];
        let begins = [&*bulk, &[(Priority::Interactive, true)], &bulk].concat();
        assert_eq!(order[..begins.len()], begins);
    }

    #[test]
    fn texts_that_do_not_fill_the_smallest_batch_are_batched_by_their_speed_as_well() {
        let (queue, counters) = (Queue::default(), Counters::default());
        // Five tokens each, of which no whole number is as many as the first batch may have.
        assert_ne!(BATCH_TOKENS_MIN % 5, 0);
        for _ in 0..2 * BATCH_TOKENS_MIN {
            let text = "hello the the".into();
            queue.push(Job { input: text, ..job(Priority::Bulk, drop) }).expect("room");
        }
        let check: Check = Box::new(|| Ok(()));
        let mut compute = Compute::new(engine(BATCH_TOKENS), &queue, &counters, &check);
        assert!(!compute.pace.is_measured());
        compute.turn();
        assert!(compute.batch.tokens() < BATCH_TOKENS_MIN && compute.pace.is_measured());
    }

    #[test]
    fn a_panic_costs_its_batch_and_nothing_else() {
        let (queue, counters) = (Queue::default(), Counters::default());
        let before = push(&queue, Priority::Interactive, 1);
        // As many as the first batch of bulk work takes.
        let fatal = push(&queue, Priority::Bulk, BATCH_TOKENS_MIN / 4);
        let check: Check = Box::new(|| Ok(()));
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| run(engine(16), &queue, &counters, &check));
            assert_eq!(codes(&before), [Ok(())]);
            assert_eq!(codes(&fatal), [Err(ErrorCode::Internal); BATCH_TOKENS_MIN / 4]);
            for _ in 0..3 {
                assert_eq!(codes(&push(&queue, Priority::Bulk, 1)), [Ok(())], "the thread lives");
            }
            queue.close();
            thread.join().expect("no panic leaves the thread");
        });
        assert_eq!(queue.unanswered(), 0);
        assert_eq!(counters.batches(), 4, "without the one that panicked");
    }

    #[test]
    fn a_panic_while_texts_are_gathered_costs_those_gathered() {
        let (queue, counters) = (Queue::default(), Counters::default());
        let gathered = push(&queue, Priority::Bulk, 2);
        let fatal = job(Priority::Bulk, |_| panic!("while it is told that it was cancelled"));
        fatal.cancelled.cancel();
        queue.push(fatal).expect("room");
        let after = push(&queue, Priority::Bulk, 2);
        queue.close();
        run(engine(16), &queue, &counters, &(Box::new(|| Ok(())) as Check));
        assert_eq!(codes(&gathered), [Err(ErrorCode::Internal); 2]);
        assert_eq!(codes(&after), [Ok(()); 2]);
        assert_eq!(queue.unanswered(), 0);
    }

    /// The check fails after the `sound`th time.
    fn unsound_after(sound: usize) -> Check {
        let asked = AtomicUsize::new(0);
        Box::new(move || {
            if asked.fetch_add(1, Ordering::Relaxed) < sound {
                return Ok(());
            }
            Err(Failure::new(ErrorCode::ModelInvalid, "not what it was"))
        })
    }

    /// What waits is answered for the successor, what was computed for what it is: nothing.
    #[test]
    fn nothing_is_answered_from_a_model_that_is_not_what_it_was() {
        // Before the first batch, after it, before the second, after the second.
        for sound in 0..4 {
            let (queue, counters) = (Queue::default(), Counters::default());
            let first = push(&queue, Priority::Interactive, 2);
            let second = push(&queue, Priority::Bulk, BATCH_TOKENS);
            run(engine(BATCH_TOKENS), &queue, &counters, &unsound_after(sound));
            let unsound = Err(ErrorCode::ModelInvalid);
            assert_eq!(codes(&first), [if sound < 2 { unsound } else { Ok(()) }; 2], "{sound}");
            let second = codes(&second);
            assert_eq!(second.len(), BATCH_TOKENS, "each has its answer");
            let told = second.iter().filter(|outcome| **outcome == unsound).count();
            let left = second.iter().filter(|outcome| **outcome == Err(ErrorCode::ShuttingDown));
            assert_eq!(told + left.count(), BATCH_TOKENS, "{sound}");
            assert_eq!(told > 0, sound >= 2, "those that were taken are told why");
            assert_eq!(queue.unanswered(), 0);
            let late = job(Priority::Bulk, |_| ());
            let rejected = queue.push(late).expect_err("closed");
            assert_eq!(rejected.failure.code, ErrorCode::ShuttingDown);
        }
    }

    #[test]
    fn a_text_is_not_refused_by_a_model_that_is_not_what_it_was() {
        let (queue, counters) = (Queue::default(), Counters::default());
        let (sender, outcomes) = channel();
        let long = job(Priority::Bulk, move |outcome| drop(sender.send(outcome)));
        let long = Job { input: "the ".repeat(1000).into(), ..long };
        queue.push(long).expect("room");
        queue.close();
        run(engine(BATCH_TOKENS), &queue, &counters, &unsound_after(0));
        assert_eq!(codes(&outcomes), [Err(ErrorCode::ModelInvalid)]);
    }
}
