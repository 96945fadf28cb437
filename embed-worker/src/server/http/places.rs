//! Who has a place among the connections over HTTP.
//!
//! Every program of the machine can connect and say nothing, or a byte now and then, and holds a place
//! while it does. So a connection is a stranger's until a request of it was let in. If all places are
//! taken and somebody comes, the stranger goes that has been here longest; if there is none, somebody is
//! asked to go who has no request in work, and whose last one was let in longest ago. Whoever waits for an
//! answer stays.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

/// The places.
#[derive(Debug)]
pub(super) struct Places {
    permits: Arc<Semaphore>,
    guests: Mutex<Guests>,
}

#[derive(Debug, Default)]
struct Guests {
    seats: HashMap<u64, Seat>,
    /// The next one's number, and the next turn in the order of those who go.
    next: u64,
}

#[derive(Debug)]
struct Seat {
    /// Rises when somebody comes, and when a request is let in.
    turn: u64,
    is_known: bool,
    is_in_work: bool,
    is_asked_to_leave: bool,
    leave: Arc<Notify>,
}

/// A place that is taken, until it is dropped.
#[derive(Debug)]
pub(super) struct Place {
    places: Arc<Places>,
    number: u64,
    leave: Arc<Notify>,
    _permit: OwnedSemaphorePermit,
}

/// A request is in work, until it is dropped.
#[derive(Debug)]
pub(super) struct Work<'a>(&'a Place);

impl Places {
    pub(super) fn new(most: usize) -> Arc<Self> {
        let permits = Arc::new(Semaphore::new(most));
        Arc::new(Self { permits, guests: Mutex::default() })
    }

    /// Takes a place; if there is none, sends away or asks somebody, and waits. None when no more places
    /// are given.
    pub(super) async fn take(self: &Arc<Self>) -> Option<Place> {
        let permit = match Arc::clone(&self.permits).try_acquire_owned() {
            Ok(permit) => permit,
            Err(_) => {
                self.ask_one_to_leave();
                Arc::clone(&self.permits).acquire_owned().await.ok()?
            }
        };
        let leave = Arc::new(Notify::new());
        let number = self.guests().enter(Arc::clone(&leave));
        Some(Place { places: Arc::clone(self), number, leave, _permit: permit })
    }

    fn ask_one_to_leave(&self) {
        let mut guests = self.guests();
        let free = guests.seats.values_mut();
        let free = free.filter(|seat| !seat.is_in_work && !seat.is_asked_to_leave);
        if let Some(seat) = free.min_by_key(|seat| (seat.is_known, seat.turn)) {
            seat.is_asked_to_leave = true;
            seat.leave.notify_one();
        }
    }

    /// Nothing panics while it is held.
    fn guests(&self) -> MutexGuard<'_, Guests> {
        self.guests.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Guests {
    fn enter(&mut self, leave: Arc<Notify>) -> u64 {
        let number = self.turn();
        let seat = Seat {
            turn: number,
            is_known: false,
            is_in_work: false,
            is_asked_to_leave: false,
            leave,
        };
        self.seats.insert(number, seat);
        number
    }

    fn turn(&mut self) -> u64 {
        self.next += 1;
        self.next
    }
}

impl Place {
    /// A request is in work as long as what this gives.
    pub(super) fn work(&self) -> Work<'_> {
        self.change(|seat, _| seat.is_in_work = true);
        Work(self)
    }

    /// Somebody who may ask has asked here.
    pub(super) fn let_in(&self) {
        self.change(|seat, turn| {
            seat.is_known = true;
            seat.turn = turn;
        });
    }

    /// Whether a request was ever let in here.
    pub(super) fn is_known(&self) -> bool {
        let mut is_known = false;
        self.change(|seat, _| is_known = seat.is_known);
        is_known
    }

    /// Waits until another needs the place.
    pub(super) async fn is_wanted(&self) {
        self.leave.notified().await;
    }

    fn change(&self, change: impl FnOnce(&mut Seat, u64)) {
        let mut guests = self.places.guests();
        let turn = guests.turn();
        if let Some(seat) = guests.seats.get_mut(&self.number) {
            change(seat, turn);
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.places.guests().seats.remove(&self.number);
    }
}

impl Drop for Work<'_> {
    fn drop(&mut self) {
        self.0.change(|seat, _| seat.is_in_work = false);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt as _;

    async fn taken(places: &Arc<Places>, n: usize) -> Vec<Place> {
        let mut guests = Vec::new();
        for _ in 0..n {
            guests.push(places.take().await.expect("places are given"));
        }
        guests
    }

    fn wanted(guests: &[Place]) -> Vec<usize> {
        let wanted = guests.iter().enumerate();
        wanted
            .filter(|(_, guest)| guest.is_wanted().now_or_never().is_some())
            .map(|(n, _)| n)
            .collect()
    }

    #[tokio::test]
    async fn strangers_go_first_and_who_waits_for_an_answer_stays() {
        let places = Places::new(4);
        let guests = taken(&places, 4).await;
        assert!(wanted(&guests).is_empty(), "there was room");
        guests[0].let_in();
        guests[2].let_in();
        let _work = guests[1].work();
        // The only stranger without a request in work, then the first who was let in, then nobody.
        for expected in [&[3][..], &[0], &[2], &[]] {
            assert!(places.take().now_or_never().is_none(), "there is no room yet");
            assert_eq!(wanted(&guests), expected);
        }
    }

    #[tokio::test]
    async fn who_was_let_in_lately_goes_last() {
        let places = Places::new(3);
        let guests = taken(&places, 3).await;
        guests.iter().for_each(Place::let_in);
        guests[0].let_in();
        for expected in [1, 2, 0] {
            assert!(places.take().now_or_never().is_none());
            assert_eq!(wanted(&guests), [expected]);
        }
    }

    #[tokio::test]
    async fn a_place_that_is_left_is_given_to_who_waits() {
        let places = Places::new(1);
        let mut guests = taken(&places, 1).await;
        let next = places.take();
        tokio::pin!(next);
        assert!(next.as_mut().now_or_never().is_none());
        drop(guests.pop());
        let next = next.await.expect("places are given");
        assert!(!next.is_known(), "nothing is left of who was here before");
        assert_eq!(places.guests().seats.len(), 1);
    }
}
