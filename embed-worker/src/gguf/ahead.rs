//! Reading ahead: a model that is not in the system's file cache is read once, in its order.
//!
//! Each page that is missed costs a wait for the disk, and the disk then waits for the next miss. So
//! while one part of a model is computed with, the system is asked for the next one. A model that is in
//! the cache misses nothing, and nobody asks for anything.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use super::Slice;

/// Parts of fewer bytes are read ahead well enough by the system itself.
const PART_BYTES_MIN: usize = 8 * 1024 * 1024;

/// Asks for one part while the one before it is used.
#[derive(Debug)]
pub struct ReadAhead {
    /// Where the parts lie, in the order of their use; empty if it is not worth it.
    parts: Arc<[Box<[Slice]>]>,
    /// Pages that this process had waited for when it last looked.
    waited: AtomicU64,
    reader: Mutex<Option<Reader>>,
}

/// The thread that asks: the system may take its time to answer.
#[derive(Debug)]
struct Reader {
    asks: Sender<usize>,
    thread: JoinHandle<()>,
}

impl ReadAhead {
    /// For `parts` that are used one after the other, then again from the first on.
    pub fn new(parts: Vec<Vec<Slice>>) -> Self {
        let bytes = |part: &Vec<Slice>| part.iter().map(|slice| slice.bytes().len()).sum::<usize>();
        let is_worth = parts.iter().map(bytes).max().unwrap_or(0) >= PART_BYTES_MIN;
        let parts = if is_worth { parts } else { Vec::new() };
        Self {
            parts: parts.into_iter().map(Vec::into_boxed_slice).collect(),
            waited: AtomicU64::new(pages_waited_for()),
            reader: Mutex::default(),
        }
    }

    /// Part `part` is about to be used: if pages had to be waited for since the last time, the part after
    /// it is asked for.
    pub fn before(&self, part: usize) {
        if self.parts.is_empty() {
            return;
        }
        let waited = pages_waited_for();
        if self.waited.swap(waited, Ordering::Relaxed) == waited {
            return;
        }
        let mut reader = self.reader.lock().unwrap_or_else(PoisonError::into_inner);
        if reader.is_none() {
            *reader = Reader::start(&self.parts);
        }
        if let Some(reader) = &*reader {
            // Who does not listen any more has ended, and reading ahead is no duty.
            let _ = reader.asks.send((part + 1) % self.parts.len());
        }
    }
}

impl Reader {
    /// `None` where the system has no more threads.
    fn start(parts: &Arc<[Box<[Slice]>]>) -> Option<Self> {
        let (asks, asked) = channel::<usize>();
        let parts = Arc::clone(parts);
        let read = move || {
            for part in asked {
                parts[part].iter().for_each(Slice::will_need);
            }
        };
        let thread = std::thread::Builder::new().name("read-ahead".into()).spawn(read).ok()?;
        Some(Self { asks, thread })
    }
}

impl Drop for ReadAhead {
    fn drop(&mut self) {
        let reader = self.reader.get_mut().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(Reader { asks, thread }) = reader {
            drop(asks);
            // It holds the map; what it asks for last is soon asked.
            let _ = thread.join();
        }
    }
}

/// Pages that this process has waited for the disk for: major page faults.
#[cfg(target_os = "linux")]
fn pages_waited_for() -> u64 {
    // The tenth field after the program's name, which may hold anything but a last parenthesis.
    let read = || -> Option<u64> {
        let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
        stat.rsplit_once(')')?.1.split_ascii_whitespace().nth(9)?.parse().ok()
    };
    read().unwrap_or(0)
}

/// Not told here: nothing is asked for.
#[cfg(not(target_os = "linux"))]
fn pages_waited_for() -> u64 {
    0
}

#[cfg(test)]
mod tests {
    use super::super::mmap::Map;
    use super::*;

    fn parts(bytes: usize, parts: usize) -> Vec<Vec<Slice>> {
        let map = Arc::new(Map::from_bytes(vec![0; bytes]));
        let each = bytes / parts;
        (0..parts).map(|part| vec![Slice::new(&map, part * each..(part + 1) * each)]).collect()
    }

    #[test]
    fn a_model_whose_parts_are_small_is_left_to_the_system() {
        let ahead = ReadAhead::new(parts(4096, 4));
        ahead.waited.store(u64::MAX, Ordering::Relaxed);
        ahead.before(0);
        assert!(ahead.reader.lock().expect("whole").is_none());
    }

    #[test]
    fn who_waited_for_no_page_asks_for_none_and_who_did_asks_for_the_next_part() {
        let ahead = ReadAhead::new(parts(2 * PART_BYTES_MIN, 2));
        ahead.waited.store(u64::MAX, Ordering::Relaxed);
        ahead.before(1);
        assert!(ahead.reader.lock().expect("whole").is_some());
        let mut quiet = ReadAhead::new(parts(2 * PART_BYTES_MIN, 2));
        quiet.waited = AtomicU64::new(pages_waited_for());
        quiet.before(0);
        // Another test may have made this process wait just then.
        let waited = pages_waited_for() != *quiet.waited.get_mut();
        assert!(waited || quiet.reader.lock().expect("whole").is_none());
    }
}
