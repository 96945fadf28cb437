//! Frames on their way out: written by many, sent by one.
//!
//! Requests are encoded straight into one buffer, and the writer takes whatever lies there: a burst of
//! short texts leaves in few system calls, and the memory of a connection is bounded.

use std::sync::{Mutex, PoisonError};

use bytes::{Bytes, BytesMut};
use embed_protocol::{FrameError, MessageCodec, Request, Response};
use tokio::sync::Notify;
use tokio_util::codec::Encoder;

/// Beyond so many bytes, writers wait. With one frame of overshoot, and a buffer of the same size in
/// the writer's hands, a connection stays below 1 MB.
const BUFFERED_BYTES_MAX: usize = 256 * 1024;

/// The connection is gone; nothing can be sent any more.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Closed;

/// What waits to be sent on one connection.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    state: Mutex<State>,
    has_room: Notify,
    has_frames: Notify,
}

#[derive(Debug, Default)]
struct State {
    frames: BytesMut,
    codec: MessageCodec<Response, Request>,
    closed: bool,
}

impl Outbox {
    /// Adds one frame, waiting for room if there is none.
    pub(crate) async fn push(&self, request: &Request) -> Result<(), Closed> {
        loop {
            // Registered before the check, so that room made in between is not missed.
            let room = self.has_room.notified();
            let fits = self.with_state(|state| state.frames.len() < BUFFERED_BYTES_MAX);
            if fits {
                return self.push_now(request);
            }
            room.await;
        }
    }

    /// Adds one frame at once. For frames of a few bytes, of which a request causes at most one.
    pub(crate) fn push_now(&self, request: &Request) -> Result<(), Closed> {
        self.with_state(|state| {
            if state.closed {
                return Err(Closed);
            }
            state.codec.encode(request, &mut state.frames).map_err(|error| {
                // Parts are cut to fit a frame; should one not, the peer would wait for it for ever.
                tracing::error!(%error, "a request does not fit a frame");
                Closed
            })
        })?;
        self.has_frames.notify_one();
        Ok(())
    }

    /// Takes everything that lies here, waiting until there is something; `None` after
    /// [`Outbox::close`]. Called by one task.
    pub(crate) async fn take(&self) -> Option<Bytes> {
        loop {
            let frames = self.has_frames.notified();
            let taken = self.with_state(|state| {
                if state.closed { None } else { Some(state.frames.split().freeze()) }
            })?;
            if !taken.is_empty() {
                self.has_room.notify_waiters();
                return Some(taken);
            }
            frames.await;
        }
    }

    /// Forgets what was not sent and wakes everybody.
    pub(crate) fn close(&self) {
        self.with_state(|state| {
            state.closed = true;
            state.frames = BytesMut::new();
        });
        self.has_room.notify_waiters();
        self.has_frames.notify_one();
    }

    /// Whether [`Outbox::close`] was called.
    pub(crate) fn is_closed(&self) -> bool {
        self.with_state(|state| state.closed)
    }

    fn with_state<T>(&self, f: impl FnOnce(&mut State) -> T) -> T {
        // Every change is complete when the lock is released, whatever panicked.
        f(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Encodes one message by itself, for the frame that goes before all others.
pub(crate) fn frame(request: &Request) -> Result<Bytes, FrameError> {
    let mut buffer = BytesMut::new();
    MessageCodec::<Response, Request>::default().encode(request, &mut buffer)?;
    Ok(buffer.freeze())
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;

    const PING: Request = Request::Ping { id: 1 };

    fn part() -> Request {
        let text = "x".repeat(embed_protocol::TEXT_PART_BYTES_MAX);
        Request::Part { id: 1, text, more: true }
    }

    #[test]
    fn frames_leave_together_and_in_order() {
        let outbox = Outbox::default();
        let cancel = Request::Cancel { id: 2 };
        outbox.push_now(&PING).expect("open");
        outbox.push_now(&cancel).expect("open");
        let sent = outbox.take().now_or_never().flatten().expect("two frames");
        let both = [frame(&PING).expect("fits"), frame(&cancel).expect("fits")].concat();
        assert_eq!(sent, both);
        assert_eq!(outbox.take().now_or_never(), None, "nothing is left");
    }

    #[test]
    fn memory_is_bounded_and_room_is_noticed() {
        let outbox = Outbox::default();
        let part = part();
        let mut pushed = 0;
        while outbox.push(&part).now_or_never().is_some() {
            pushed += 1;
            assert!(pushed < 100, "the outbox takes everything");
        }
        let mut waiting = Box::pin(outbox.push(&part));
        assert_eq!(waiting.as_mut().now_or_never(), None);
        let sent = outbox.take().now_or_never().flatten().expect("frames");
        assert!(sent.len() < 512 * 1024, "{}", sent.len());
        assert_eq!(waiting.now_or_never(), Some(Ok(())));
    }

    #[test]
    fn after_the_end_nothing_is_taken_or_sent() {
        let outbox = Outbox::default();
        outbox.push_now(&PING).expect("open");
        outbox.close();
        assert_eq!(outbox.take().now_or_never(), Some(None));
        assert_eq!(outbox.push(&PING).now_or_never(), Some(Err(Closed)));
    }
}
