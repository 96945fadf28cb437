//! Pages before they are used: a model is read once, in its order, and entered once.
//!
//! Each page that is not in the system's file cache costs a wait for the disk, and the disk then waits
//! for the next miss. So while one part of a model is computed with, the next one is fetched. A model
//! that is in the cache misses nothing, and nobody fetches anything.
//!
//! Each page that is in the cache costs a fault when it is touched first, since it is not in this
//! process's page tables yet. So the first time that a part is used it is entered there as a whole, which
//! takes two thirds of the time and no turns.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use super::Slice;

/// Parts of fewer bytes are read ahead well enough by the system itself.
const PART_BYTES_MIN: usize = 8 * 1024 * 1024;

/// Bytes that are fetched or entered at once: enough that the call is nothing, few enough that threads
/// share a part out evenly and that a reader which is to end does so soon.
const PIECE_BYTES: usize = 2 * 1024 * 1024;

/// Asks for one part while the one before it is used, and enters what is used first.
#[derive(Debug)]
pub struct ReadAhead {
    /// Where the parts lie, in the order of their use.
    parts: Arc<[Box<[Slice]>]>,
    /// Whether it is worth asking for them.
    asks: bool,
    /// How many of them were entered.
    entered: AtomicUsize,
    misses: Misses,
    reader: Mutex<Option<Reader>>,
}

/// The thread that fetches: the system may take its time for it.
#[derive(Debug)]
struct Reader {
    asks: Sender<usize>,
    /// Nobody wants anything any more, not even what was asked for.
    ends: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl ReadAhead {
    /// For `parts` that are used one after the other, then again from the first on.
    pub fn new(parts: Vec<Vec<Slice>>) -> Self {
        let bytes = |part: &Vec<Slice>| part.iter().map(|slice| slice.bytes().len()).sum::<usize>();
        let asks = parts.iter().map(bytes).max().unwrap_or(0) >= PART_BYTES_MIN;
        Self {
            parts: parts.into_iter().map(Vec::into_boxed_slice).collect(),
            asks,
            entered: AtomicUsize::new(0),
            misses: Misses::default(),
            reader: Mutex::default(),
        }
    }

    /// Part `part` is about to be used: if the part after it is likely to be waited for, it is asked for.
    pub fn before(&self, part: usize) {
        if !self.asks {
            return;
        }
        let next = (part + 1) % self.parts.len();
        if !self.misses.is_likely(&self.parts[next]) {
            return;
        }
        let mut reader = self.reader.lock().unwrap_or_else(PoisonError::into_inner);
        if reader.is_none() {
            *reader = Reader::start(&self.parts);
        }
        if let Some(reader) = &*reader {
            // Who does not listen any more has ended, and reading ahead is no duty.
            let _ = reader.asks.send(next);
        }
    }

    /// Part `part` in pieces, if it is about to be used for the first time: they may be entered by
    /// several threads at once ([`Slice::enter`]).
    pub fn to_enter(&self, part: usize) -> Vec<Slice> {
        if self.entered.fetch_max(part + 1, Ordering::Relaxed) > part {
            return Vec::new();
        }
        pieces(&self.parts[part]).collect()
    }
}

/// What a part consists of, in pieces.
fn pieces(part: &[Slice]) -> impl Iterator<Item = Slice> {
    part.iter().flat_map(|slice| slice.pieces(PIECE_BYTES))
}

impl Reader {
    /// `None` where the system has no more threads.
    fn start(parts: &Arc<[Box<[Slice]>]>) -> Option<Self> {
        let (asks, asked) = channel::<usize>();
        let parts = Arc::clone(parts);
        let ends = Arc::<AtomicBool>::default();
        let read = {
            let ends = Arc::clone(&ends);
            move || {
                asked
                    .iter()
                    .flat_map(|part| pieces(&parts[part]))
                    .take_while(|_| !ends.load(Ordering::Relaxed))
                    .for_each(|piece| piece.fetch());
            }
        };
        let thread = std::thread::Builder::new().name("read-ahead".into()).spawn(read).ok()?;
        Some(Self { asks, ends, thread })
    }
}

impl Drop for ReadAhead {
    fn drop(&mut self) {
        let reader = self.reader.get_mut().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(Reader { asks, ends, thread }) = reader {
            ends.store(true, Ordering::Relaxed);
            drop(asks);
            // It holds the map, until the piece that it is at is there.
            let _ = thread.join();
        }
    }
}

#[cfg(not(windows))]
use counted::Misses;
#[cfg(windows)]
use looked_at::Misses;

/// Where the system counts what a process has waited for: who had to wait will have to again.
#[cfg(not(windows))]
mod counted {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::Slice;

    /// Pages that this process had waited for when it last looked.
    #[derive(Debug)]
    pub(super) struct Misses(pub(super) AtomicU64);

    impl Default for Misses {
        fn default() -> Self {
            Self(AtomicU64::new(pages_waited_for()))
        }
    }

    impl Misses {
        /// Whether pages had to be waited for since it was last asked.
        pub(super) fn is_likely(&self, _next: &[Slice]) -> bool {
            let waited = pages_waited_for();
            self.0.swap(waited, Ordering::Relaxed) != waited
        }
    }

    /// Pages that this process has waited for the disk for: major page faults.
    #[cfg(target_os = "linux")]
    pub(super) fn pages_waited_for() -> u64 {
        // The tenth field after the program's name, which may hold anything but a last parenthesis.
        let read = || -> Option<u64> {
            let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
            stat.rsplit_once(')')?.1.split_ascii_whitespace().nth(9)?.parse().ok()
        };
        read().unwrap_or(0)
    }

    /// Not told here: nothing is asked for.
    #[cfg(not(target_os = "linux"))]
    pub(super) fn pages_waited_for() -> u64 {
        0
    }
}

/// Windows counts pages that were waited for together with those that were not; but it tells of each page
/// whether this process has it. What is in memory all the same, as on a new worker's first batch, is
/// asked for without need, and that costs as little as the answer is quick.
#[cfg(windows)]
mod looked_at {
    use super::Slice;

    /// Nothing to remember.
    #[derive(Debug, Default)]
    pub(super) struct Misses;

    impl Misses {
        /// Whether pages of `next` are not this process's yet, or no longer.
        pub(super) fn is_likely(&self, next: &[Slice]) -> bool {
            !next.iter().all(Slice::is_at_hand)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::mmap::Map;
    use super::*;

    fn parts_of(map: Map, parts: usize) -> Vec<Vec<Slice>> {
        let map = Arc::new(map);
        let each = map.bytes().len() / parts;
        (0..parts).map(|part| vec![Slice::new(&map, part * each..(part + 1) * each)]).collect()
    }

    fn has_asked(ahead: &ReadAhead) -> bool {
        ahead.reader.lock().expect("whole").is_some()
    }

    /// A file that was not read yet, as far as this process is concerned.
    fn mapped(folder: &tempfile::TempDir, bytes: usize) -> Map {
        let path = folder.path().join("model");
        std::fs::write(&path, vec![7; bytes]).expect("room");
        Map::open(&path).expect("maps")
    }

    #[cfg(not(windows))]
    mod counted {
        use std::sync::atomic::Ordering;

        use super::super::counted::pages_waited_for;
        use super::*;

        #[test]
        fn a_model_whose_parts_are_small_is_left_to_the_system() {
            let ahead = ReadAhead::new(parts_of(Map::from_bytes(vec![0; 4096]), 4));
            ahead.misses.0.store(u64::MAX, Ordering::Relaxed);
            ahead.before(0);
            assert!(!has_asked(&ahead));
        }

        #[test]
        fn who_waited_for_no_page_asks_for_none_and_who_did_asks_for_the_next_part() {
            let parts = || parts_of(Map::from_bytes(vec![0; 2 * PART_BYTES_MIN]), 2);
            let ahead = ReadAhead::new(parts());
            ahead.misses.0.store(u64::MAX, Ordering::Relaxed);
            ahead.before(1);
            assert!(has_asked(&ahead));
            let before = pages_waited_for();
            let quiet = ReadAhead::new(parts());
            quiet.before(0);
            // Another test may have made this process wait just then.
            let waited = pages_waited_for() != before;
            assert!(waited || !has_asked(&quiet));
        }
    }

    #[cfg(windows)]
    mod looked_at {
        use super::*;

        #[test]
        fn a_model_whose_parts_are_small_is_left_to_the_system() {
            let folder = tempfile::tempdir().expect("a folder");
            let ahead = ReadAhead::new(parts_of(mapped(&folder, 64 * 1024), 4));
            ahead.before(0);
            assert!(!has_asked(&ahead));
        }

        #[test]
        fn a_part_that_this_process_does_not_have_is_asked_for_and_one_that_it_has_is_not() {
            let folder = tempfile::tempdir().expect("a folder");
            let parts = parts_of(mapped(&folder, 2 * PART_BYTES_MIN), 2);
            let touch = |part: &[Slice]| {
                let bytes = part[0].bytes();
                assert!(bytes.iter().step_by(4096).all(|byte| *byte == 7));
            };
            touch(&parts[0]);
            let ahead = ReadAhead::new(parts.clone());
            ahead.before(1);
            assert!(!has_asked(&ahead), "the first part, which was touched");
            ahead.before(0);
            assert!(has_asked(&ahead), "the second part, which was not");
            touch(&parts[1]);
            let ahead = ReadAhead::new(parts);
            ahead.before(0);
            assert!(!has_asked(&ahead), "it has been touched since");
        }
    }

    #[test]
    fn a_part_is_entered_whole_and_once() {
        let bytes = 2 * PIECE_BYTES + 12;
        let ahead = ReadAhead::new(parts_of(Map::from_bytes(vec![0; 2 * bytes]), 2));
        for part in 0..2 {
            let pieces = ahead.to_enter(part);
            let lens: Vec<usize> = pieces.iter().map(|piece| piece.bytes().len()).collect();
            assert_eq!(lens, [PIECE_BYTES, PIECE_BYTES, 12]);
            assert_eq!(pieces[0].offset(), part * bytes);
            assert!(ahead.to_enter(part).is_empty());
        }
        assert!(ahead.to_enter(0).is_empty());
    }

    /// What the system says of the map about `address` under `name`.
    #[cfg(target_os = "linux")]
    fn told(address: usize, name: &str) -> String {
        let maps = std::fs::read_to_string("/proc/self/smaps").expect("Linux");
        let of_line = |line: &str| {
            let (start, end) = line.split(' ').next()?.split_once('-')?;
            let bound = |hex| usize::from_str_radix(hex, 16).ok();
            Some(bound(start)?..bound(end)?)
        };
        let mut own = maps
            .lines()
            .skip_while(|line| of_line(line).is_none_or(|range| !range.contains(&address)));
        own.find_map(|line| line.strip_prefix(name)).expect("a map").trim().to_owned()
    }

    /// Kilobytes of the map about `address` that are in this process's page tables.
    #[cfg(target_os = "linux")]
    fn entered_kib(address: usize) -> usize {
        told(address, "Rss:").trim_end_matches(" kB").parse().expect("a number")
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_file_is_mapped_to_be_read_in_large_pages() {
        // A system without large pages knows no such advice.
        let has_them = std::path::Path::new("/sys/kernel/mm/transparent_hugepage").exists();
        let folder = tempfile::tempdir().expect("a folder");
        let map = mapped(&folder, PIECE_BYTES);
        let flags = told(map.bytes().as_ptr() as usize, "VmFlags:");
        assert_eq!(flags.split(' ').any(|flag| flag == "hg"), has_them, "{flags}");
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn what_is_entered_is_in_the_page_tables_before_it_is_touched() {
        const KIB: usize = 3 * 1024;
        let mut file = tempfile::NamedTempFile::new().expect("a file");
        std::io::Write::write_all(&mut file, &vec![1; KIB * 1024]).expect("written");
        let map = Arc::new(Map::open(file.path()).expect("a map"));
        let slice = Slice::new(&map, 100..KIB * 1024);
        let address = map.bytes().as_ptr() as usize;
        let Map::Mapped { map: mapped, .. } = &*map else { unreachable!("it has bytes") };
        // Linux before 5.14 cannot.
        let can = mapped.advise_range(memmap2::Advice::PopulateRead, 0, 1).is_ok();
        assert!(entered_kib(address) < KIB, "by halves at most");
        slice.pieces(1024 * 1024).for_each(|piece| piece.enter());
        assert_eq!(entered_kib(address) == KIB, can, "{} of {KIB}", entered_kib(address));
    }

    #[test]
    fn what_is_fetched_is_there_afterwards_and_nothing_else_happens() {
        let folder = tempfile::tempdir().expect("a folder");
        let parts = parts_of(mapped(&folder, 2 * PART_BYTES_MIN), 2);
        parts.iter().flatten().for_each(Slice::fetch);
        let wanted = vec![7; PART_BYTES_MIN];
        assert!(parts.iter().flatten().all(|slice| slice.bytes() == wanted));
        parts_of(Map::from_bytes(vec![1; 8]), 1).iter().flatten().for_each(Slice::fetch);
    }
}
