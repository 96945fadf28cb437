//! Whether a worker that owes answers is still alive.
//!
//! While requests wait, a connection that was silent for a tick is pinged, and one that stays silent
//! for several more hangs. Ticks are counted instead of time being measured: a machine that slept for
//! an hour, or a client that got no turn, has missed one tick and not thousands.

use std::time::Duration;

/// How long a tick is.
pub(crate) const TICK: Duration = Duration::from_millis(100);

/// Silent ticks, the pinged one included, after which a worker hangs. A worker answers a ping past
/// every queue within a millisecond. On a machine so loaded that it gets no turn in the time in which
/// the client got eight, to start another one is the smaller harm.
const SILENT_TICKS_MAX: u32 = 8;

/// How long that is for a client that got all its turns.
pub(crate) const SILENCE_MAX: Duration = TICK.saturating_mul(SILENT_TICKS_MAX);

/// What is to be done at the end of a tick.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Beat {
    /// Nobody waits: sleep until somebody does.
    Sleep,
    /// All is well, or an answer to the ping is awaited.
    Wait,
    /// Send a ping.
    Ping,
    /// The worker hangs.
    Hangs,
}

/// The silent ticks in a row.
#[derive(Debug, Default)]
pub(crate) struct Heartbeat {
    silent_ticks: u32,
}

impl Heartbeat {
    /// Whether a ping has had no answer for a whole tick.
    pub(crate) fn is_faint(&self) -> bool {
        self.silent_ticks > 1
    }

    /// A tick is over: whether requests wait, and whether anything was heard in it.
    pub(crate) fn tick(&mut self, requests_wait: bool, heard: bool) -> Beat {
        if heard {
            self.silent_ticks = 0;
            return Beat::Wait;
        }
        if !requests_wait {
            self.silent_ticks = 0;
            return Beat::Sleep;
        }
        self.silent_ticks += 1;
        match self.silent_ticks {
            1 => Beat::Ping,
            SILENT_TICKS_MAX.. => Beat::Hangs,
            _ => Beat::Wait,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_that_answers_pings_may_compute_as_long_as_it_likes() {
        let mut heartbeat = Heartbeat::default();
        for _ in 0..1000 {
            assert_eq!(heartbeat.tick(true, false), Beat::Ping);
            assert_eq!(heartbeat.tick(true, true), Beat::Wait, "the pong");
        }
    }

    #[test]
    fn silence_is_pinged_once_and_then_ends() {
        let mut heartbeat = Heartbeat::default();
        assert_eq!(heartbeat.tick(true, false), Beat::Ping);
        assert!(!heartbeat.is_faint(), "it had no time to answer");
        for _ in 2..SILENT_TICKS_MAX {
            assert_eq!(heartbeat.tick(true, false), Beat::Wait);
            assert!(heartbeat.is_faint());
        }
        assert_eq!(heartbeat.tick(true, false), Beat::Hangs);
    }

    #[test]
    fn nobody_listens_for_a_heart_while_nobody_waits() {
        let mut heartbeat = Heartbeat::default();
        assert_eq!(heartbeat.tick(true, false), Beat::Ping);
        assert_eq!(heartbeat.tick(false, false), Beat::Sleep);
        assert_eq!(heartbeat.tick(true, false), Beat::Ping, "the count begins anew");
    }
}
