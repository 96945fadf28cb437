//! A bounded queue with two lanes: interactive jobs leave before all bulk jobs, and in each lane the
//! callers take turns.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use embed_protocol::stats::{LaneStats, QueueStats};
use embed_protocol::{ErrorCode, Priority};

use super::job::{Failure, Job};
use super::lane::Lane;
use crate::config::{bulk_jobs_of, bulk_text_bytes_of};
use crate::engine::Traffic;

/// A job that was not taken, and why.
#[derive(Debug)]
pub struct Rejected {
    /// The job, still to be answered.
    pub job: Job,
    /// What to answer.
    pub failure: Failure,
}

/// The queue.
#[derive(Debug, Default)]
pub(super) struct Queue {
    state: Mutex<State>,
    /// Signalled when a job came or the queue was closed.
    changed: Condvar,
    most: Traffic,
}

#[derive(Debug, Default)]
struct State {
    interactive: Lane,
    bulk: Lane,
    text_bytes: usize,
    /// Jobs that were taken out and are not yet answered. Counted here and not beside the queue, so
    /// that a job is never in neither count.
    in_work: usize,
    closed: bool,
}

impl Queue {
    /// A queue in which no more waits than `most`.
    pub(super) fn new(most: Traffic) -> Self {
        Self { most, ..Self::default() }
    }

    /// Takes `job` if there is room.
    pub(super) fn push(&self, job: Job) -> Result<(), Box<Rejected>> {
        let mut state = self.state();
        if let Some(failure) = state.refusal(self.most, job.priority(), job.input.bytes()) {
            return Err(Box::new(Rejected { job, failure }));
        }
        state.text_bytes += job.input.bytes();
        state.lane(job.priority()).push(job);
        drop(state);
        self.changed.notify_one();
        Ok(())
    }

    /// The next job of the lane, if there is one. It is in work until [`Self::done`] is called.
    pub(super) fn pop(&self, lane: Priority) -> Option<Job> {
        let mut state = self.state();
        let job = state.lane(lane).pop()?;
        state.text_bytes -= job.input.bytes();
        state.in_work += 1;
        Some(job)
    }

    /// A job that was popped has its answer.
    pub(super) fn done(&self) {
        self.state().in_work -= 1;
    }

    /// Waits until a job is there; `false` if the queue is closed and empty.
    pub(super) fn wait(&self) -> bool {
        let mut state = self.state();
        while state.is_empty() {
            if state.closed {
                return false;
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        true
    }

    /// Takes no more jobs.
    pub(super) fn close(&self) {
        self.state().closed = true;
        self.changed.notify_all();
    }

    /// Answers all waiting jobs that they will not be done.
    pub(super) fn clear(&self) {
        let jobs: Vec<Job> = {
            let mut state = self.state();
            state.text_bytes = 0;
            let mut jobs: Vec<_> = state.interactive.drain().collect();
            jobs.extend(state.bulk.drain());
            state.in_work += jobs.len();
            jobs
        };
        for job in jobs {
            job.reply.give(Err(Failure::shutting_down()));
            self.done();
        }
    }

    /// What waits in each lane, and what is in work. Counted when it is asked for: that is seldom.
    pub(super) fn depth(&self) -> QueueStats {
        let state = self.state();
        QueueStats {
            interactive: depth(&state.interactive),
            bulk: depth(&state.bulk),
            in_work: u32::try_from(state.in_work).unwrap_or(u32::MAX),
        }
    }

    /// Jobs waiting or in work.
    pub(super) fn unanswered(&self) -> usize {
        let state = self.state();
        state.interactive.len() + state.bulk.len() + state.in_work
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing panics between the steps of a change.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn depth(lane: &Lane) -> LaneStats {
    LaneStats {
        texts: u32::try_from(lane.len()).unwrap_or(u32::MAX),
        bytes: lane.iter().map(|job| job.input.bytes() as u64).sum(),
    }
}

impl State {
    fn lane(&mut self, priority: Priority) -> &mut Lane {
        match priority {
            Priority::Interactive => &mut self.interactive,
            Priority::Bulk => &mut self.bulk,
        }
    }

    fn is_empty(&self) -> bool {
        self.interactive.is_empty() && self.bulk.is_empty()
    }

    /// Why a text of `bytes` bytes cannot be taken, if it cannot.
    fn refusal(&self, most: Traffic, lane: Priority, bytes: usize) -> Option<Failure> {
        if self.closed {
            return Some(Failure::shutting_down());
        }
        // An interactive text finds room however much bulk work waits.
        let (jobs_max, bytes_max) = match lane {
            Priority::Interactive => (most.jobs, most.text_bytes),
            Priority::Bulk => (bulk_jobs_of(most.jobs), bulk_text_bytes_of(most.text_bytes)),
        };
        let jobs = self.interactive.len() + self.bulk.len();
        if jobs >= jobs_max {
            let message = format!("queue: holds {jobs} texts, at most {jobs_max} may wait");
            return Some(Failure::new(ErrorCode::Overloaded, message));
        }
        // One that is alone is taken whatever its length, or it could never be.
        if self.text_bytes > 0 && self.text_bytes + bytes > bytes_max {
            let message = format!(
                "queue: holds {} bytes of text, {bytes} more would pass the limit of {bytes_max}",
                self.text_bytes
            );
            return Some(Failure::new(ErrorCode::Overloaded, message));
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::{CancelFlag, Reply};
    use crate::config::{QUEUE_JOBS_MAX, QUEUE_TEXT_BYTES_MAX};
    use embed_protocol::EmbedParams;
    use std::sync::mpsc;
    use std::time::{Duration, Instant};

    const BULK_JOBS: usize = bulk_jobs_of(QUEUE_JOBS_MAX);
    const BULK_TEXT_BYTES: usize = bulk_text_bytes_of(QUEUE_TEXT_BYTES_MAX);

    type Outcomes = mpsc::Receiver<Result<crate::batch::Answer, Failure>>;

    fn job(text: &str, priority: Priority) -> (Job, Outcomes) {
        let (sender, outcomes) = mpsc::channel();
        let job = Job {
            caller: 1,
            input: text.into(),
            params: EmbedParams { priority, ..EmbedParams::default() },
            received: Instant::now(),
            deadline: None,
            cancelled: CancelFlag::default(),
            reply: Reply::new(move |outcome| drop(sender.send(outcome))),
        };
        (job, outcomes)
    }

    #[test]
    fn of_one_caller_each_lane_is_first_in_first_out() {
        let queue = Queue::default();
        for text in ["a", "b"] {
            for lane in [Priority::Bulk, Priority::Interactive] {
                queue.push(job(text, lane).0).expect("room");
            }
        }
        assert_eq!(queue.unanswered(), 4);
        for lane in [Priority::Interactive, Priority::Bulk] {
            let texts = [queue.pop(lane), queue.pop(lane), queue.pop(lane)];
            let texts = texts.map(|job| job.map(|job| job.input));
            assert_eq!(texts, [Some("a".into()), Some("b".into()), None]);
        }
        for left in (0..4).rev() {
            assert_eq!(queue.unanswered(), left + 1, "in work is not answered");
            queue.done();
        }
        assert_eq!(queue.unanswered(), 0);
    }

    #[test]
    fn the_last_job_that_fits_is_taken_and_the_next_is_refused() {
        let queue = Queue::default();
        let refused = |lane, most: usize| {
            let rejected = queue.push(job("", lane).0).expect_err("full");
            assert_eq!(rejected.failure.code, ErrorCode::Overloaded);
            let message = rejected.failure.message;
            assert!(message.contains(&most.to_string()), "{message}");
        };
        for _ in 0..BULK_JOBS {
            queue.push(job("", Priority::Bulk).0).expect("room");
        }
        refused(Priority::Bulk, BULK_JOBS);
        for _ in BULK_JOBS..QUEUE_JOBS_MAX {
            queue.push(job("", Priority::Interactive).0).expect("room kept for it");
        }
        refused(Priority::Interactive, QUEUE_JOBS_MAX);
        queue.pop(Priority::Bulk).expect("a job");
        queue.push(job("", Priority::Interactive).0).expect("room again");
    }

    #[test]
    fn bytes_are_counted_in_and_out_and_some_are_kept_for_who_waits() {
        let queue = Queue::default();
        let of_bytes = |bytes: usize| "x".repeat(bytes);
        let third = of_bytes(BULK_TEXT_BYTES / 3);
        for _ in 0..3 {
            queue.push(job(&third, Priority::Bulk).0).expect("room");
        }
        let rejected = queue.push(job("x", Priority::Bulk).0).expect_err("full");
        assert_eq!(rejected.failure.code, ErrorCode::Overloaded);
        let kept = of_bytes(QUEUE_TEXT_BYTES_MAX - BULK_TEXT_BYTES);
        queue.push(job(&kept, Priority::Interactive).0).expect("room kept for it");
        let rejected = queue.push(job("x", Priority::Interactive).0).expect_err("full");
        assert_eq!(rejected.failure.code, ErrorCode::Overloaded);
        queue.push(job("", Priority::Interactive).0).expect("an empty text has no bytes");
        queue.pop(Priority::Bulk).expect("a job");
        queue.push(job(&third, Priority::Interactive).0).expect("room again");
    }

    #[test]
    fn a_queue_of_little_memory_takes_less_but_a_text_that_is_alone_always() {
        let most = Traffic { jobs: 16, text_bytes: 16, ..Traffic::MOST };
        let queue = Queue::new(most);
        queue.push(job(&"x".repeat(1000), Priority::Bulk).0).expect("alone");
        let rejected = queue.push(job("x", Priority::Interactive).0).expect_err("full");
        assert_eq!(rejected.failure.code, ErrorCode::Overloaded);
        queue.pop(Priority::Bulk).expect("a job");
        for _ in 0..bulk_jobs_of(16) {
            queue.push(job("", Priority::Bulk).0).expect("room");
        }
        assert!(queue.push(job("", Priority::Bulk).0).is_err());
    }

    #[test]
    fn the_depth_is_told_lane_by_lane() {
        let queue = Queue::default();
        for (text, lane) in
            [("ab", Priority::Bulk), ("", Priority::Bulk), ("c", Priority::Interactive)]
        {
            queue.push(job(text, lane).0).expect("room");
        }
        let depth = queue.depth();
        assert_eq!(depth.bulk, LaneStats { texts: 2, bytes: 2 });
        assert_eq!(depth.interactive, LaneStats { texts: 1, bytes: 1 });
        let taken = queue.pop(Priority::Interactive);
        let depth = queue.depth();
        assert_eq!((depth.interactive.texts, depth.in_work), (0, 1));
        drop(taken);
        queue.done();
        assert_eq!(queue.depth().in_work, 0);
    }

    #[test]
    fn a_closed_queue_refuses_and_a_cleared_one_answers() {
        let queue = Queue::default();
        let (waiting, outcomes) = job("a", Priority::Bulk);
        queue.push(waiting).expect("room");
        queue.close();
        let rejected = queue.push(job("b", Priority::Bulk).0).expect_err("closed");
        assert_eq!(rejected.failure.code, ErrorCode::ShuttingDown);
        assert!(queue.wait(), "what waits is still to be done");
        queue.clear();
        assert_eq!(queue.unanswered(), 0);
        assert!(!queue.wait(), "nothing waits and nothing will come");
        let outcome = outcomes.recv().expect("answered").expect_err("not done");
        assert_eq!(outcome.code, ErrorCode::ShuttingDown);
    }

    #[test]
    fn a_forgotten_job_is_answered_as_a_defect() {
        let (forgotten, outcomes) = job("a", Priority::Bulk);
        drop(forgotten);
        let outcome = outcomes.recv().expect("answered").expect_err("not done");
        assert_eq!(outcome.code, ErrorCode::Internal);
        assert!(outcomes.recv().is_err(), "answered once");
    }

    #[test]
    fn a_job_is_obsolete_once_cancelled_or_late() {
        let (mut job, _outcomes) = job("a", Priority::Bulk);
        let now = job.received;
        assert_eq!(job.obsolete(now), None);
        job.deadline = Some(now + Duration::from_millis(5));
        assert_eq!(job.obsolete(now + Duration::from_millis(4)), None);
        let late = job.obsolete(now + Duration::from_millis(5)).expect("late");
        assert_eq!(late.code, ErrorCode::Timeout);
        assert!(late.message.contains("5 ms"), "{}", late.message);
        job.cancelled.cancel();
        assert_eq!(job.obsolete(now).map(|failure| failure.code), Some(ErrorCode::Cancelled));
    }
}
