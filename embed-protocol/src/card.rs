//! The card that a worker leaves beside its lock: who serves an endpoint, for those who cannot ask it.
//!
//! A worker that hangs introduces itself to nobody, and its lock file cannot be read on Windows while
//! it is locked; so what must be known of it then stands in a file of its own.
//! The card is only true while the lock is held: one whose worker was killed is passed over here, and
//! removed by the next worker of its endpoint.

use std::fs::{File, TryLockError};
use std::io::{self, Read};
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use crate::{Endpoint, private_file};

/// Most bytes of a card: twice the longest path of any system (32,767 characters on Windows, up to
/// three bytes each), and room for the rest.
pub const CARD_BYTES_MAX: u64 = 256 * 1024;

/// Most entries of a directory that are looked at for cards: more than a user has workers, and a bound
/// for a directory that something else has filled.
pub const CARDS_MAX: usize = 4096;

/// What a file with a card ends in.
const EXTENSION: &str = "json";

/// What a card ends in while it is written: readers never see half of one.
const UNFINISHED_EXTENSION: &str = "json-new";

/// What tells of a worker from outside.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkerCard {
    /// Process id.
    pub pid: u32,
    /// Among which processes `pid` is one's number, where the system tells: see
    /// [`WorkerCard::is_in_reach`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pid_space: Option<String>,
    /// Version of the worker's package.
    pub version: String,
    /// Path of the model file, to be read by a person: bytes that are no Unicode are replaced.
    pub model: String,
    /// When the worker took its endpoint, in milliseconds since 1970.
    pub started_ms: u64,
    /// Where it listens: see [`Endpoint::at`].
    pub endpoint: String,
}

impl WorkerCard {
    /// The card of this process, which serves `model` at `endpoint` from now on.
    pub fn here(endpoint: &Endpoint, model: &Path, version: &str) -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self {
            pid: std::process::id(),
            pid_space: pid_space(),
            version: version.to_owned(),
            model: model.to_string_lossy().into_owned(),
            started_ms: u64::try_from(now.as_millis()).unwrap_or(u64::MAX),
            endpoint: endpoint.address().to_string_lossy().into_owned(),
        }
    }

    /// Whether `pid` means the worker here as well, so that it may be ended by it. Containers may share
    /// a directory, and machines a file system, but each has process numbers of its own: what is the
    /// worker's in one of them may be anybody's in the other.
    pub fn is_in_reach(&self) -> bool {
        // Elsewhere processes are numbered once for all, and nothing is told.
        !cfg!(target_os = "linux") || (self.pid_space.is_some() && self.pid_space == pid_space())
    }

    /// The card of the worker that holds the lock of `endpoint`; `None` if nobody does, or whoever
    /// does has written none yet.
    ///
    /// A worker removes its predecessor's card before it listens: so what is read after a connection
    /// was accepted is the card of the worker that accepted it, if it still runs.
    ///
    /// # Errors
    ///
    /// The file cannot be read, has more than [`CARD_BYTES_MAX`] bytes, or is no card
    /// ([`io::ErrorKind::InvalidData`]).
    pub fn read(endpoint: &Endpoint) -> io::Result<Option<Self>> {
        Self::read_at(&endpoint.card_path(), &endpoint.lock_path())
    }

    /// Writes the card of `endpoint` in one step; to be called by the holder of its lock.
    ///
    /// # Errors
    ///
    /// The system cannot write, or the card would have more than [`CARD_BYTES_MAX`] bytes.
    pub fn write(&self, endpoint: &Endpoint) -> io::Result<()> {
        let text = serde_json::to_vec(self)?;
        if text.len() as u64 > CARD_BYTES_MAX {
            let message = format!(
                "card: would have {} bytes, at most {CARD_BYTES_MAX} are possible",
                text.len()
            );
            return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
        }
        let path = endpoint.card_path();
        private_file::replace(&path, &path.with_extension(UNFINISHED_EXTENSION), &text)
    }

    /// Removes the card of `endpoint`, whoever wrote it; to be called by the holder of its lock.
    ///
    /// # Errors
    ///
    /// The system cannot remove it; that there is none is no error.
    pub fn remove(endpoint: &Endpoint) -> io::Result<()> {
        let path = endpoint.card_path();
        private_file::remove(&path.with_extension(UNFINISHED_EXTENSION))?;
        private_file::remove(&path)
    }

    fn read_at(path: &Path, lock: &Path) -> io::Result<Option<Self>> {
        let file = match File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let mut text = Vec::new();
        file.take(CARD_BYTES_MAX + 1).read_to_end(&mut text)?;
        if text.len() as u64 > CARD_BYTES_MAX {
            let message =
                format!("card: has more than the {CARD_BYTES_MAX} bytes that one may have");
            return Err(io::Error::new(io::ErrorKind::InvalidData, message));
        }
        if !is_held(lock)? {
            return Ok(None);
        }
        serde_json::from_slice(&text)
            .map(Some)
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
    }
}

/// The cards of all workers that run in `dir`, the oldest first.
///
/// What is no card, and the card of a worker that has gone, is passed over. A directory that does not
/// exist has none.
///
/// # Errors
///
/// The directory cannot be read.
pub fn list(dir: &Path) -> io::Result<Vec<WorkerCard>> {
    let entries = match std::fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut cards = Vec::new();
    for entry in entries.take(CARDS_MAX) {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == EXTENSION)
            && let Ok(Some(card)) = WorkerCard::read_at(&path, &path.with_extension("lock"))
        {
            cards.push(card);
        }
    }
    cards.sort_by_key(|card| (card.started_ms, card.pid));
    Ok(cards)
}

/// Whether somebody holds the lock at `path`.
///
/// Looking takes the lock for a moment, shared; whoever wants it alone tells that from its being held
/// (see [`is_only_looked_at`]).
fn is_held(path: &Path) -> io::Result<bool> {
    match File::open(path) {
        Ok(lock) => Ok(!is_only_looked_at(&lock)?),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// Whether a lock that could not be had alone is held by nobody, only looked at by readers of cards.
///
/// # Errors
///
/// The system will not lock.
pub fn is_only_looked_at(lock: &File) -> io::Result<bool> {
    match lock.try_lock_shared() {
        Ok(()) => {
            // Wine 8 says of a lock that was let go that it could not be. One that really is not goes with
            // the open file.
            let _ = lock.unlock();
            Ok(true)
        }
        Err(TryLockError::WouldBlock) => Ok(false),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

/// This boot of this machine, and the namespace in which this process has its number.
#[cfg(target_os = "linux")]
fn pid_space() -> Option<String> {
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    let namespace = std::fs::read_link("/proc/self/ns/pid").ok()?;
    Some(format!("{} {}", boot.trim(), namespace.display()))
}

/// Nothing is told.
#[cfg(not(target_os = "linux"))]
fn pid_space() -> Option<String> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An endpoint and its directory, which goes with it.
    fn endpoint() -> (tempfile::TempDir, Endpoint) {
        let dir = tempfile::tempdir().expect("a directory");
        let endpoint = Endpoint::in_dir(dir.path(), "abc");
        (dir, endpoint)
    }

    fn lock(endpoint: &Endpoint) -> File {
        let lock = File::create(endpoint.lock_path()).expect("ours");
        lock.try_lock().expect("nobody has it");
        lock
    }

    fn card(endpoint: &Endpoint) -> WorkerCard {
        WorkerCard::here(endpoint, Path::new("/models/a \"b\".gguf"), "1.2.3")
    }

    #[test]
    fn a_card_is_read_as_it_was_written_while_the_lock_is_held() {
        let (dir, endpoint) = endpoint();
        assert_eq!(WorkerCard::read(&endpoint).expect("no card"), None);
        let lock = lock(&endpoint);
        assert_eq!(WorkerCard::read(&endpoint).expect("no card yet"), None);
        let written = card(&endpoint);
        written.write(&endpoint).expect("ours");
        assert_eq!(WorkerCard::read(&endpoint).expect("a card"), Some(written.clone()));
        assert_eq!(list(dir.path()).expect("readable"), std::slice::from_ref(&written));
        assert_eq!(Endpoint::at(&written.endpoint).address(), endpoint.address());
        let again = WorkerCard { started_ms: 5, ..written };
        again.write(&endpoint).expect("replaces it");
        assert_eq!(WorkerCard::read(&endpoint).expect("a card"), Some(again));
        drop(lock);
        assert_eq!(WorkerCard::read(&endpoint).expect("a stale card"), None);
        assert_eq!(list(dir.path()).expect("readable"), []);
    }

    #[test]
    fn a_card_is_for_this_user_alone_and_goes_without_a_trace() {
        let (dir, endpoint) = endpoint();
        let unfinished = endpoint.card_path().with_extension(UNFINISHED_EXTENSION);
        std::fs::write(&unfinished, "half a ca").expect("what a killed worker left");
        card(&endpoint).write(&endpoint).expect("ours");
        let card_file = File::open(endpoint.card_path()).expect("is there");
        assert_eq!(private_file::secret_fault(&card_file).expect("is told"), None);
        drop(card_file);
        std::fs::write(&unfinished, "half a ca").expect("what a killed worker left");
        WorkerCard::remove(&endpoint).expect("ours");
        assert_eq!(std::fs::read_dir(dir.path()).expect("readable").count(), 0);
        WorkerCard::remove(&endpoint).expect("that there is none is no error");
    }

    #[test]
    fn what_is_no_card_is_refused_and_passed_over() {
        let (dir, endpoint) = endpoint();
        let _lock = lock(&endpoint);
        let whole = serde_json::to_string(&card(&endpoint)).expect("JSON");
        let at_limit = format!("{whole}{}", " ".repeat(CARD_BYTES_MAX as usize - whole.len()));
        std::fs::write(endpoint.card_path(), &at_limit).expect("ours");
        assert!(WorkerCard::read(&endpoint).expect("as long as may be").is_some());
        let too_long = format!("{at_limit} ");
        for text in ["", "{", "[1]", r#"{"pid":-1}"#, &whole[..whole.len() - 1], &too_long] {
            std::fs::write(endpoint.card_path(), text).expect("ours");
            let error = WorkerCard::read(&endpoint).expect_err("no card");
            assert_eq!(error.kind(), io::ErrorKind::InvalidData, "{error}");
            assert_eq!(list(dir.path()).expect("readable"), []);
        }
        let newer = whole.replacen('{', r#"{"since_version_9":[1],"#, 1);
        std::fs::write(endpoint.card_path(), newer).expect("ours");
        assert_eq!(WorkerCard::read(&endpoint).expect("readable"), Some(card_of(&whole)));
    }

    fn card_of(text: &str) -> WorkerCard {
        serde_json::from_str(text).expect("a card")
    }

    #[test]
    fn a_card_too_long_to_be_read_is_not_written() {
        let (dir, endpoint) = endpoint();
        let model = "x".repeat(CARD_BYTES_MAX as usize);
        let long = WorkerCard { model, ..card(&endpoint) };
        let error = long.write(&endpoint).expect_err("too long");
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput, "{error}");
        assert_eq!(std::fs::read_dir(dir.path()).expect("readable").count(), 0);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_number_of_another_container_is_nobodys_here() {
        let (_dir, endpoint) = endpoint();
        let here = card(&endpoint);
        assert!(here.is_in_reach());
        let other = here.pid_space.as_ref().map(|space| space.replace("pid:[", "pid:[9"));
        for pid_space in [other, None] {
            assert!(!WorkerCard { pid_space, ..here.clone() }.is_in_reach());
        }
    }

    #[test]
    fn looking_at_a_lock_is_told_from_holding_it() {
        let (_dir, endpoint) = endpoint();
        let held = lock(&endpoint);
        let open = || File::open(endpoint.lock_path()).expect("is there");
        assert!(!is_only_looked_at(&open()).expect("locks"));
        drop(held);
        let reader = open();
        reader.try_lock_shared().expect("nobody has it");
        let starter = open();
        assert!(starter.try_lock().is_err(), "cannot be had alone");
        assert!(is_only_looked_at(&starter).expect("locks"));
        drop(reader);
        starter.try_lock().expect("nobody looks any more");
    }

    #[test]
    fn a_directory_that_does_not_exist_has_no_cards() {
        assert_eq!(list(Path::new("no/such/directory")).expect("none"), []);
    }
}
