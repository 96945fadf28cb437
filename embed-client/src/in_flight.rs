//! The requests that have no answer yet: id to waiter, and nothing else.
//!
//! No I/O, no time, no locks: what a connection does with it is tested elsewhere.

use std::collections::HashMap;

/// The table of one connection. `W` is whatever waits for an answer.
#[derive(Debug)]
pub(crate) struct InFlight<W> {
    entries: HashMap<u64, Entry<W>>,
    next_id: u64,
    closed: bool,
}

/// One request. A cancelled one stays until its answer comes: the worker still counts it, so its
/// credit must stay spent.
#[derive(Debug)]
struct Entry<W> {
    waiter: W,
    cancelled: bool,
}

impl<W> Default for InFlight<W> {
    fn default() -> Self {
        Self { entries: HashMap::new(), next_id: 0, closed: false }
    }
}

impl<W> InFlight<W> {
    /// Enters `waiter` under a fresh id, or gives it back if the connection is gone.
    pub(crate) fn insert(&mut self, waiter: W) -> Result<u64, W> {
        if self.closed {
            return Err(waiter);
        }
        let id = self.next_id;
        self.next_id += 1;
        self.entries.insert(id, Entry { waiter, cancelled: false });
        Ok(id)
    }

    /// Takes out the waiter for the answer with this id; `None` if nobody asked.
    pub(crate) fn complete(&mut self, id: u64) -> Option<W> {
        self.entries.remove(&id).map(|entry| entry.waiter)
    }

    /// Whether the worker should be told that nobody wants this answer any more: true once for a
    /// request that is still without one.
    pub(crate) fn cancel(&mut self, id: u64) -> bool {
        self.entries
            .get_mut(&id)
            .is_some_and(|entry| !std::mem::replace(&mut entry.cancelled, true))
    }

    /// Takes out every waiter and lets nobody in any more.
    pub(crate) fn fail_all(&mut self) -> impl Iterator<Item = W> + use<W> {
        self.closed = true;
        std::mem::take(&mut self.entries).into_values().map(|entry| entry.waiter)
    }

    /// Whether nobody waits.
    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Whether [`InFlight::fail_all`] was called.
    pub(crate) fn is_closed(&self) -> bool {
        self.closed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_find_their_waiters_in_any_order() {
        let mut table = InFlight::default();
        let first = table.insert("a").expect("open");
        let second = table.insert("b").expect("open");
        assert_eq!(table.complete(second), Some("b"));
        assert_eq!(table.complete(first), Some("a"));
        assert_eq!(table.complete(first), None, "an answer comes once");
        assert_eq!(table.complete(999), None, "nobody asked");
    }

    #[test]
    fn an_id_is_never_given_twice() {
        let mut table = InFlight::default();
        let first = table.insert(1).expect("open");
        table.complete(first);
        assert_ne!(table.insert(2), Ok(first));
    }

    #[test]
    fn a_request_is_cancelled_once_and_stays_until_its_answer() {
        let mut table = InFlight::default();
        let id = table.insert("a").expect("open");
        assert!(table.cancel(id));
        assert!(!table.cancel(id), "once");
        assert_eq!(table.complete(id), Some("a"));
        assert!(!table.cancel(id), "it has its answer");
    }

    #[test]
    fn after_the_end_everybody_is_out_and_nobody_gets_in() {
        let mut table = InFlight::default();
        for waiter in 0..3 {
            table.insert(waiter).expect("open");
        }
        let mut failed: Vec<_> = table.fail_all().collect();
        failed.sort_unstable();
        assert_eq!(failed, [0, 1, 2]);
        assert!(table.is_closed());
        assert_eq!(table.insert(4), Err(4));
        assert_eq!(table.fail_all().count(), 0);
    }
}
