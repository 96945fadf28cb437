//! From single texts to batches and back: a bounded queue, and the one thread that computes.
//!
//! This is the only place where the asynchronous side meets the synchronous one. [`Batcher::submit`]
//! never waits: a job is taken or refused at once. Every job is answered exactly once, whatever
//! happens to it.

mod job;
mod lane;
mod pace;
mod queue;
mod run;
mod stats;

use std::sync::Arc;
use std::thread::JoinHandle;

use embed_protocol::stats::QueueStats;

use crate::engine::Engine;
use crate::engine::Traffic;

pub(crate) use job::sentence;
pub use job::{Answer, CancelFlag, Failure, Input, Job, Reply};
pub use queue::Rejected;
pub use stats::Counters;

use queue::Queue;

/// Whether what was computed until now may be answered; if not, what to answer instead.
///
/// After a failure nothing more is computed: all that waits is left to a successor.
pub type Check = Box<dyn Fn() -> Result<(), Failure> + Send + Sync>;

/// A handle on the compute thread.
#[derive(Debug)]
pub struct Batcher {
    queue: Arc<Queue>,
    counters: Arc<Counters>,
    /// Threads that compute.
    threads: usize,
    traffic: Traffic,
    thread: Option<JoinHandle<()>>,
}

impl Batcher {
    /// Gives `engine` to a thread of its own, which asks `check` before and after each batch.
    ///
    /// # Errors
    ///
    /// The system has no more threads.
    pub fn start(engine: Engine, check: Check) -> std::io::Result<Self> {
        let traffic = engine.budget().traffic();
        let queue = Arc::new(Queue::new(traffic));
        let counters = Arc::new(Counters::default());
        let threads = engine.threads();
        let thread = {
            let (queue, counters) = (Arc::clone(&queue), Arc::clone(&counters));
            std::thread::Builder::new()
                .name("compute-0".into())
                .spawn(move || run::run(engine, &queue, &counters, &check))?
        };
        Ok(Self { queue, counters, threads, traffic, thread: Some(thread) })
    }

    /// Takes a job, or gives it back at once with the reason.
    ///
    /// # Errors
    ///
    /// The queue is full or closed.
    pub fn submit(&self, job: Job) -> Result<(), Box<Rejected>> {
        self.queue.push(job)
    }

    /// What has been done since the start.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// How much may wait, in the queue and before it.
    pub fn traffic(&self) -> Traffic {
        self.traffic
    }

    /// What waits, lane by lane.
    pub fn depth(&self) -> QueueStats {
        self.queue.depth()
    }

    /// Threads that compute.
    pub fn threads(&self) -> usize {
        self.threads
    }

    /// Texts waiting or in work.
    pub fn queued(&self) -> usize {
        self.queue.unanswered()
    }

    /// Refuses new jobs from now on; those taken are still done.
    pub fn close(&self) {
        self.queue.close();
    }

    /// Answers what waits that it will not be done; what is in work is still done.
    pub fn abandon(&self) {
        self.queue.clear();
    }

    /// Whether every job that was taken has its answer.
    pub fn is_idle(&self) -> bool {
        self.queued() == 0
    }
}

impl Drop for Batcher {
    fn drop(&mut self) {
        self.queue.close();
        self.queue.clear();
        if let Some(thread) = self.thread.take() {
            // The thread catches what a batch throws; it has nothing to report.
            let _ = thread.join();
        }
    }
}
