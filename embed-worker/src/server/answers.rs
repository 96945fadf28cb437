//! What a peer is still to be told: the requests without an answer, and the answers not yet sent.
//!
//! Both are bounded. Requests without an answer are counted and refused beyond the limit. From a peer
//! that does not read its answers no more requests are read; what it has asked for already may still
//! be too much to keep, and then it loses its connection.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use embed_protocol::{IN_FLIGHT_MAX, MessageCodec, Request, Response};
use futures_util::{Sink, SinkExt};
use tokio::io::AsyncWrite;
use tokio::sync::{Notify, mpsc};
use tokio_util::codec::FramedWrite;

use crate::batch::CancelFlag;
use crate::config::{ANSWER_BYTES_EACH, ANSWER_BYTES_MAX};

/// Answers that may wait for a peer to read them before no more is read from it. As many as requests
/// may be in flight, so that a peer may send all those before it reads.
const ANSWERS_WAITING_MAX: usize = IN_FLIGHT_MAX;

/// Where answers of one connection go.
#[derive(Clone, Debug)]
pub(super) struct Answers {
    sender: mpsc::UnboundedSender<Response>,
    shared: Arc<Shared>,
}

/// The answers on their way out.
#[derive(Debug)]
pub(super) struct Backlog {
    receiver: mpsc::UnboundedReceiver<Response>,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    /// Requests without an answer, and how to cancel each.
    in_flight: Mutex<HashMap<u64, CancelFlag>>,
    /// Answers in the channel.
    waiting: AtomicUsize,
    /// Bytes of them.
    bytes: AtomicUsize,
    /// Bytes of the answers of all connections.
    unread: Arc<AtomicUsize>,
    /// Signalled when there are fewer.
    room: Notify,
    /// Signalled when an answer could not be kept.
    overrun: Arc<Notify>,
}

/// Why a request is not let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// Another request of its id has no answer yet.
    SameId,
    /// So many requests are without an answer.
    TooMany(usize),
}

/// The way from those who answer to the one who writes; `unread` counts for all connections.
pub(super) fn answers(unread: &Arc<AtomicUsize>) -> (Answers, Backlog) {
    let (sender, receiver) = mpsc::unbounded_channel();
    let shared = Arc::new(Shared {
        in_flight: Mutex::default(),
        waiting: AtomicUsize::new(0),
        bytes: AtomicUsize::new(0),
        unread: Arc::clone(unread),
        room: Notify::new(),
        overrun: Arc::default(),
    });
    (Answers { sender, shared: Arc::clone(&shared) }, Backlog { receiver, shared })
}

impl Answers {
    /// Lets a request in; its answer lets it out.
    pub(super) fn enter(&self, id: u64) -> Result<(), Refusal> {
        let mut in_flight = self.shared.in_flight();
        if in_flight.contains_key(&id) {
            return Err(Refusal::SameId);
        }
        if in_flight.len() >= IN_FLIGHT_MAX {
            return Err(Refusal::TooMany(in_flight.len()));
        }
        in_flight.insert(id, CancelFlag::default());
        Ok(())
    }

    /// How to cancel a request that has no answer.
    pub(super) fn cancel_flag(&self, id: u64) -> Option<CancelFlag> {
        self.shared.in_flight().get(&id).cloned()
    }

    /// Cancels all requests without an answer: nobody is there to read one.
    pub(super) fn cancel_all(&self) {
        self.shared.in_flight().drain().for_each(|(_, flag)| flag.cancel());
    }

    /// Gives an answer. If the connection has ended, nobody needs it; if it cannot be kept any longer
    /// that the peer reads nothing, the connection is to end.
    pub(super) fn give(&self, answer: Response) {
        if self.shared.keep(bytes(&answer)) {
            self.shared.waiting.fetch_add(1, Ordering::Relaxed);
            let _ = self.sender.send(answer);
        } else {
            self.shared.overrun.notify_one();
        }
    }

    /// Signalled when answers are too many to keep.
    pub(super) fn overrun(&self) -> Arc<Notify> {
        Arc::clone(&self.shared.overrun)
    }

    /// Waits until the peer has been sent enough answers to be read from again.
    pub(super) async fn room(&self) {
        loop {
            // Registered before the look, so that room made in between is not missed.
            let room = self.shared.room.notified();
            if self.shared.waiting.load(Ordering::Relaxed) < ANSWERS_WAITING_MAX {
                return;
            }
            room.await;
        }
    }
}

impl Backlog {
    /// Writes answers until nobody is left who could give one, or the peer takes no more.
    pub(super) async fn write_to<W: AsyncWrite + Unpin>(
        &mut self,
        sink: &mut FramedWrite<W, MessageCodec<Request, Response>>,
    ) {
        while let Some(answer) = self.receiver.recv().await {
            self.shared.taken(&answer);
            if sink.feed(&answer).await.is_err() {
                return;
            }
            // Flushed when there is nothing more to say at once, so that a burst of answers travels
            // together.
            if self.receiver.is_empty() && flush(sink).await.is_err() {
                return;
            }
        }
    }
}

/// Flushes; the sink takes references to any lifetime, of which one has to be named.
async fn flush<'a, S: Sink<&'a Response> + Unpin>(sink: &mut S) -> Result<(), S::Error> {
    sink.flush().await
}

impl Shared {
    fn in_flight(&self) -> MutexGuard<'_, HashMap<u64, CancelFlag>> {
        // Nothing panics between the steps of a change.
        self.in_flight.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes room for an answer, unless this peer and all together have too much of it.
    fn keep(&self, bytes: usize) -> bool {
        let own = self.bytes.fetch_add(bytes, Ordering::Relaxed) + bytes;
        let all = self.unread.fetch_add(bytes, Ordering::Relaxed) + bytes;
        let fits = own <= ANSWER_BYTES_EACH || all <= ANSWER_BYTES_MAX;
        if !fits {
            self.let_go(bytes);
        }
        fits
    }

    fn let_go(&self, bytes: usize) {
        self.bytes.fetch_sub(bytes, Ordering::Relaxed);
        self.unread.fetch_sub(bytes, Ordering::Relaxed);
    }

    fn taken(&self, answer: &Response) {
        self.let_go(bytes(answer));
        if let Response::Vector { id, .. } | Response::Error { id: Some(id), .. } = answer {
            self.in_flight().remove(id);
        }
        self.waiting.fetch_sub(1, Ordering::Relaxed);
        self.room.notify_waiters();
    }
}

/// What a connection that ends has not sent is not waiting any more.
impl Drop for Shared {
    fn drop(&mut self) {
        self.unread.fetch_sub(*self.bytes.get_mut(), Ordering::Relaxed);
    }
}

/// What an answer takes in memory.
fn bytes(answer: &Response) -> usize {
    let owned = match answer {
        Response::Vector { vector, .. } => vector.len(),
        Response::Error { message, .. } => message.len(),
        _ => 0,
    };
    size_of::<Response>() + owned
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;

    #[tokio::test]
    async fn an_answer_makes_room_for_a_request() {
        let (answers, mut backlog) = answers(&Arc::default());
        for id in 0..IN_FLIGHT_MAX as u64 {
            assert_eq!(answers.enter(id), Ok(()));
        }
        assert_eq!(answers.enter(7), Err(Refusal::SameId));
        assert_eq!(answers.enter(9999), Err(Refusal::TooMany(IN_FLIGHT_MAX)));
        let message = String::new();
        let code = embed_protocol::ErrorCode::Cancelled;
        answers.give(Response::Error { id: Some(7), code, message });
        drop(answers.clone());
        let mut sink = FramedWrite::new(Vec::new(), MessageCodec::default());
        assert!(backlog.write_to(&mut sink).now_or_never().is_none(), "others may still answer");
        assert_eq!(answers.enter(7), Ok(()));
        assert!(!sink.get_ref().is_empty(), "flushed");
        drop(answers);
        assert!(backlog.write_to(&mut sink).now_or_never().is_some(), "nobody is left");
    }

    #[tokio::test]
    async fn there_is_no_room_until_answers_were_sent() {
        let (answers, mut backlog) = answers(&Arc::default());
        for id in 0..ANSWERS_WAITING_MAX as u64 {
            assert!(answers.room().now_or_never().is_some());
            answers.give(Response::Pong { id });
        }
        let mut room = Box::pin(answers.room());
        assert!(room.as_mut().now_or_never().is_none());
        let mut sink = FramedWrite::new(Vec::new(), MessageCodec::default());
        assert!(backlog.write_to(&mut sink).now_or_never().is_none());
        assert!(room.now_or_never().is_some());
    }

    /// An answer that takes `wanted` bytes.
    fn of_bytes(wanted: usize) -> Response {
        let message = "x".repeat(wanted - size_of::<Response>());
        Response::Error { id: None, code: embed_protocol::ErrorCode::Internal, message }
    }

    #[tokio::test]
    async fn who_does_not_read_loses_its_own_connection_and_nobody_elses() {
        let unread = Arc::default();
        let (greedy, mut backlog) = answers(&unread);
        greedy.give(of_bytes(ANSWER_BYTES_MAX));
        assert!(greedy.overrun().notified().now_or_never().is_none(), "just as much as may wait");
        greedy.give(of_bytes(1000));
        assert!(greedy.overrun().notified().now_or_never().is_some(), "more than may wait");
        let (modest, _backlog) = answers(&unread);
        modest.give(of_bytes(ANSWER_BYTES_EACH));
        assert!(modest.overrun().notified().now_or_never().is_none(), "its own share is its own");
        modest.give(of_bytes(1000));
        assert!(modest.overrun().notified().now_or_never().is_some(), "and no more than that");
        let mut sink = FramedWrite::new(Vec::new(), MessageCodec::default());
        let _ = backlog.write_to(&mut sink).now_or_never();
        modest.give(of_bytes(ANSWER_BYTES_EACH));
        assert!(modest.overrun().notified().now_or_never().is_none(), "the other has read");
    }

    #[test]
    fn answers_that_nobody_will_read_do_not_count_for_ever() {
        let unread = Arc::<AtomicUsize>::default();
        let (answers, backlog) = answers(&unread);
        answers.give(of_bytes(1000));
        assert_eq!(unread.load(Ordering::Relaxed), 1000);
        drop((answers, backlog));
        assert_eq!(unread.load(Ordering::Relaxed), 0);
    }
}
