//! Who is connected, and how long nobody has been.

use std::time::Duration;

use tokio::sync::watch;

/// How long a fresh worker waits for the client that started it, however short it is to stay later.
/// That client may have to wait for a turn on a busy machine; a worker that left before it came would
/// be started again and again.
const FIRST_CLIENT_TIMEOUT: Duration = Duration::from_secs(5);

/// The open connections.
#[derive(Debug)]
pub struct Leases {
    count: watch::Sender<usize>,
}

/// One open connection; ends with the value.
#[derive(Debug)]
pub struct Lease {
    count: watch::Sender<usize>,
}

impl Default for Leases {
    fn default() -> Self {
        Self { count: watch::Sender::new(0) }
    }
}

impl Leases {
    /// One more connection, unless there are `most` already.
    pub fn take(&self, most: usize) -> Option<Lease> {
        let taken = self.count.send_if_modified(|count| {
            let room = *count < most;
            *count += usize::from(room);
            room
        });
        taken.then(|| Lease { count: self.count.clone() })
    }

    /// Open connections.
    pub fn count(&self) -> usize {
        *self.count.borrow()
    }

    /// Waits until nobody has been connected for `timeout` without a break; for the first connection
    /// a little longer, if `timeout` is short.
    pub async fn nobody_for(&self, timeout: Duration) {
        let mut count = self.count.subscribe();
        let mut patience = timeout.max(FIRST_CLIENT_TIMEOUT);
        loop {
            // The sender lives as long as `self`; an error cannot come.
            let _ = count.wait_for(|count| *count == 0).await;
            let somebody = count.wait_for(|count| *count > 0);
            if tokio::time::timeout(patience, somebody).await.is_err() {
                return;
            }
            patience = timeout;
        }
    }

    /// Waits until nobody is connected.
    pub(super) async fn nobody(&self) {
        // The sender lives as long as `self`; an error cannot come.
        let _ = self.count.subscribe().wait_for(|count| *count == 0).await;
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.count.send_modify(|count| *count -= 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_are_counted_up_to_the_limit() {
        let leases = Leases::default();
        let first = leases.take(2).expect("room");
        let second = leases.take(2).expect("room");
        assert!(leases.take(2).is_none());
        assert_eq!(leases.count(), 2);
        drop(first);
        let third = leases.take(2).expect("room again");
        drop((second, third));
        assert_eq!(leases.count(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_lease_starts_the_idle_time_anew() {
        let leases = Leases::default();
        let timeout = Duration::from_secs(10);
        let idle = leases.nobody_for(timeout);
        tokio::pin!(idle);
        let early = tokio::time::timeout(Duration::from_secs(9), &mut idle).await;
        assert!(early.is_err(), "10 seconds are not over");
        let lease = leases.take(1).expect("room");
        let held = tokio::time::timeout(Duration::from_secs(60), &mut idle).await;
        assert!(held.is_err(), "somebody is connected");
        drop(lease);
        let early = tokio::time::timeout(Duration::from_secs(9), &mut idle).await;
        assert!(early.is_err(), "the time starts when the last one leaves");
        tokio::time::timeout(Duration::from_secs(2), idle).await.expect("idle for 10 seconds");
    }

    #[tokio::test(start_paused = true)]
    async fn the_first_client_is_awaited_longer_than_others() {
        let leases = Leases::default();
        let idle = leases.nobody_for(Duration::ZERO);
        tokio::pin!(idle);
        let early = tokio::time::timeout(Duration::from_secs(4), &mut idle).await;
        assert!(early.is_err(), "the client that started the worker is not there yet");
        let lease = leases.take(1).expect("room");
        let held = tokio::time::timeout(Duration::from_secs(60), &mut idle).await;
        assert!(held.is_err(), "somebody is connected");
        drop(lease);
        tokio::time::timeout(Duration::from_millis(1), idle).await.expect("nobody is awaited");

        let unused = leases.nobody_for(Duration::ZERO);
        tokio::time::timeout(Duration::from_secs(6), unused).await.expect("5 seconds are over");
    }
}
