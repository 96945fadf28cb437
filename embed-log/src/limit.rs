//! How often the same thing may be said.
//!
//! A peer that breaks the protocol again and again must not fill a disk, nor drown what else there is
//! to read. Each place in the code may say so much in each period; what it says beyond that is counted,
//! and the count is told.
//! Levels that nobody sees without asking (`debug`, `trace`) are not limited.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tracing::callsite::Identifier;
use tracing::{Level, Metadata};

/// Lines that one place in the code may write in a [`PERIOD`].
pub const LINES_PER_PERIOD_MAX: u32 = 10;

/// See [`LINES_PER_PERIOD_MAX`].
pub const PERIOD: Duration = Duration::from_secs(10);

/// What has been said. As many entries as there are places in the code that log.
#[derive(Debug, Default)]
pub(crate) struct Limit {
    places: Mutex<HashMap<Identifier, Said>>,
}

#[derive(Debug)]
struct Said {
    what: &'static Metadata<'static>,
    since: Instant,
    lines: u32,
    left_out: u64,
}

/// Whether a line may be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It may; so many before it were not.
    Write {
        /// Lines of its place that were left out since the last one.
        left_out: u64,
    },
    /// It is left out.
    LeaveOut,
}

impl Limit {
    /// Asks for one line of the place `what`.
    pub(crate) fn ask(&self, what: &'static Metadata<'static>, now: Instant) -> Verdict {
        if *what.level() > Level::INFO {
            return Verdict::Write { left_out: 0 };
        }
        let mut places = self.places();
        let said = places.entry(what.callsite()).or_insert(Said {
            what,
            since: now,
            lines: 0,
            left_out: 0,
        });
        if now.saturating_duration_since(said.since) >= PERIOD {
            (said.since, said.lines) = (now, 0);
        }
        if said.lines >= LINES_PER_PERIOD_MAX {
            said.left_out += 1;
            return Verdict::LeaveOut;
        }
        said.lines += 1;
        Verdict::Write { left_out: std::mem::take(&mut said.left_out) }
    }

    /// What was left out and not told yet.
    pub(crate) fn take_left_out(&self) -> Vec<(&'static Metadata<'static>, u64)> {
        let mut places = self.places();
        let taken = places.values_mut().map(|said| (said.what, std::mem::take(&mut said.left_out)));
        taken.filter(|(_, left_out)| *left_out > 0).collect()
    }

    fn places(&self) -> MutexGuard<'_, HashMap<Identifier, Said>> {
        // Nothing panics between the steps of a change.
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
