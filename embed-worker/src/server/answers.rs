//! What a peer is still to be told: the requests without an answer, and the answers not yet sent.
//!
//! Both are bounded. Requests without an answer are counted and refused beyond the limit; and from a
//! peer that does not read its answers no more requests are read.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use embed_protocol::{IN_FLIGHT_MAX, MessageCodec, Request, Response};
use futures_util::{Sink, SinkExt};
use tokio::io::AsyncWrite;
use tokio::sync::{Notify, mpsc};
use tokio_util::codec::FramedWrite;

use crate::batch::CancelFlag;

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

#[derive(Debug, Default)]
struct Shared {
    /// Requests without an answer, and how to cancel each.
    in_flight: Mutex<HashMap<u64, CancelFlag>>,
    /// Answers in the channel.
    waiting: AtomicUsize,
    /// Signalled when there are fewer.
    room: Notify,
}

/// Why a request is not let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// Another request of its id has no answer yet.
    SameId,
    /// So many requests are without an answer.
    TooMany(usize),
}

/// The way from those who answer to the one who writes.
pub(super) fn answers() -> (Answers, Backlog) {
    let (sender, receiver) = mpsc::unbounded_channel();
    let shared = Arc::<Shared>::default();
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

    /// Gives an answer. If the connection has ended, nobody needs it.
    pub(super) fn give(&self, answer: Response) {
        self.shared.waiting.fetch_add(1, Ordering::Relaxed);
        let _ = self.sender.send(answer);
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

    fn taken(&self, answer: &Response) {
        if let Response::Vector { id, .. } | Response::Error { id: Some(id), .. } = answer {
            self.in_flight().remove(id);
        }
        self.waiting.fetch_sub(1, Ordering::Relaxed);
        self.room.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;

    #[tokio::test]
    async fn an_answer_makes_room_for_a_request() {
        let (answers, mut backlog) = answers();
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
        let (answers, mut backlog) = answers();
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
}
