//! The jobs that wait in one lane, with each caller served in turn.
//!
//! A caller is a connection. One that has sent a thousand texts does not make another wait for them
//! all: each gets one text into the batch, then the next.

use std::collections::{HashMap, VecDeque};

use super::job::Job;

/// See the module's documentation.
#[derive(Debug, Default)]
pub(super) struct Lane {
    /// By caller, none of them empty.
    jobs: HashMap<u64, VecDeque<Job>>,
    /// The callers who have jobs, in the order of their turns.
    turns: VecDeque<u64>,
    n_jobs: usize,
}

impl Lane {
    pub(super) fn len(&self) -> usize {
        self.n_jobs
    }

    pub(super) fn is_empty(&self) -> bool {
        self.n_jobs == 0
    }

    /// Behind the other jobs of its caller.
    pub(super) fn push(&mut self, job: Job) {
        let caller = job.caller;
        let own = self.jobs.entry(caller).or_default();
        if own.is_empty() {
            self.turns.push_back(caller);
        }
        own.push_back(job);
        self.n_jobs += 1;
    }

    /// The oldest job of the caller whose turn it is.
    pub(super) fn pop(&mut self) -> Option<Job> {
        let caller = self.turns.pop_front()?;
        let own = self.jobs.get_mut(&caller)?;
        let job = own.pop_front()?;
        if own.is_empty() {
            // Callers come and go; nothing is kept of one that has no jobs.
            self.jobs.remove(&caller);
        } else {
            self.turns.push_back(caller);
        }
        self.n_jobs -= 1;
        Some(job)
    }

    /// All jobs, in no order.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Job> {
        self.jobs.values().flatten()
    }

    /// Takes out all jobs, in no order.
    pub(super) fn drain(&mut self) -> impl Iterator<Item = Job> + use<> {
        std::mem::take(self).jobs.into_values().flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::{CancelFlag, Input, Reply};
    use embed_protocol::EmbedParams;
    use std::time::Instant;

    fn job(caller: u64, text: &str) -> Job {
        Job {
            caller,
            input: text.into(),
            params: EmbedParams::default(),
            received: Instant::now(),
            deadline: None,
            cancelled: CancelFlag::default(),
            reply: Reply::new(drop),
        }
    }

    fn text(job: Job) -> String {
        match job.input {
            Input::Text(text) => text,
            Input::Ids(ids) => panic!("{ids:?}"),
        }
    }

    fn texts(lane: &mut Lane) -> Vec<String> {
        std::iter::from_fn(|| lane.pop()).map(text).collect()
    }

    #[test]
    fn callers_take_turns_and_each_keeps_its_order() {
        let mut lane = Lane::default();
        for text in ["a1", "a2", "a3", "a4"] {
            lane.push(job(1, text));
        }
        lane.push(job(2, "b1"));
        lane.push(job(3, "c1"));
        lane.push(job(2, "b2"));
        assert_eq!(lane.len(), 7);
        assert_eq!(texts(&mut lane), ["a1", "b1", "c1", "a2", "b2", "a3", "a4"]);
        assert!(lane.is_empty());
    }

    #[test]
    fn a_caller_who_has_been_served_waits_for_the_others() {
        let mut lane = Lane::default();
        lane.push(job(1, "a1"));
        lane.push(job(2, "b1"));
        lane.push(job(2, "b2"));
        assert_eq!(lane.pop().map(text).as_deref(), Some("a1"));
        lane.push(job(1, "a2"));
        assert_eq!(texts(&mut lane), ["b1", "a2", "b2"]);
    }

    #[test]
    fn nothing_is_kept_of_callers_who_have_gone() {
        let mut lane = Lane::default();
        for caller in 0..10_000 {
            lane.push(job(caller, "x"));
            lane.pop();
        }
        assert!(lane.jobs.is_empty() && lane.turns.is_empty());
        lane.push(job(1, "x"));
        assert_eq!(lane.iter().count(), 1);
        assert_eq!(lane.drain().count(), 1);
        assert!(lane.is_empty() && lane.pop().is_none());
    }
}
