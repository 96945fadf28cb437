//! Who is connected, and how long no client has been.

use std::time::Duration;

use tokio::sync::watch;

/// How long a fresh worker waits for the client that started it, however short it is to stay later.
/// That client may have to wait for a turn on a busy machine; a worker that left before it came would
/// be started again and again.
const FIRST_CLIENT_TIMEOUT: Duration = Duration::from_secs(5);

/// The open connections, and those among them that keep the worker from leaving.
#[derive(Debug, Default)]
pub struct Leases {
    connections: Counter,
    clients: Counter,
}

/// A number that can be awaited.
#[derive(Clone, Debug)]
struct Counter(watch::Sender<usize>);

/// One open connection, or one client; ends with the value.
#[derive(Debug)]
pub struct Lease {
    counter: Counter,
}

impl Default for Counter {
    fn default() -> Self {
        Self(watch::Sender::new(0))
    }
}

impl Counter {
    fn get(&self) -> usize {
        *self.0.borrow()
    }
}

impl Leases {
    /// One more connection, unless there are `most` already.
    pub fn take(&self, most: usize) -> Option<Lease> {
        let taken = self.connections.0.send_if_modified(|count| {
            let room = *count < most;
            *count += usize::from(room);
            room
        });
        taken.then(|| Lease { counter: self.connections.clone() })
    }

    /// A connection turns out to be a client's, for which the worker stays.
    ///
    /// One that only looks is none: else whoever looks every few seconds would keep a worker for ever.
    pub fn client(&self) -> Lease {
        self.clients.0.send_modify(|count| *count += 1);
        Lease { counter: self.clients.clone() }
    }

    /// Open connections.
    pub fn count(&self) -> usize {
        self.connections.get()
    }

    /// Connected clients.
    pub fn clients(&self) -> usize {
        self.clients.get()
    }

    /// Waits until no client has been connected for `timeout` without a break; for the first one a
    /// little longer, if `timeout` is short.
    pub async fn nobody_for(&self, timeout: Duration) {
        let mut count = self.clients.0.subscribe();
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
        let _ = self.connections.0.subscribe().wait_for(|count| *count == 0).await;
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.counter.0.send_modify(|count| *count -= 1);
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
    async fn one_who_only_looks_does_not_keep_the_worker() {
        let leases = Leases::default();
        let idle = leases.nobody_for(Duration::from_secs(10));
        tokio::pin!(idle);
        let client = leases.client();
        let held = tokio::time::timeout(Duration::from_secs(60), &mut idle).await;
        assert!(held.is_err(), "somebody is connected");
        drop(client);
        let _looking = leases.take(1).expect("room");
        assert_eq!((leases.count(), leases.clients()), (1, 0));
        tokio::time::timeout(Duration::from_secs(11), idle)
            .await
            .expect("no client for 10 seconds");
    }

    #[tokio::test(start_paused = true)]
    async fn a_lease_starts_the_idle_time_anew() {
        let leases = Leases::default();
        let timeout = Duration::from_secs(10);
        let idle = leases.nobody_for(timeout);
        tokio::pin!(idle);
        let early = tokio::time::timeout(Duration::from_secs(9), &mut idle).await;
        assert!(early.is_err(), "10 seconds are not over");
        let lease = leases.client();
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
        let lease = leases.client();
        let held = tokio::time::timeout(Duration::from_secs(60), &mut idle).await;
        assert!(held.is_err(), "somebody is connected");
        drop(lease);
        tokio::time::timeout(Duration::from_millis(1), idle).await.expect("nobody is awaited");

        let unused = leases.nobody_for(Duration::ZERO);
        tokio::time::timeout(Duration::from_secs(6), unused).await.expect("5 seconds are over");
    }
}
