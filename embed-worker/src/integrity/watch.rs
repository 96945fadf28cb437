//! A mapped model file under watch: nobody answers from a file that has changed, or that is not what
//! it should be.

use std::sync::{Arc, OnceLock};
use std::time::Instant;

use embed_store::cache_dir;

use super::digest::{FileDigest, sha256_of};
use super::known::{KnownDigest, known_digest};
use super::remembered::{recall, remember};
use crate::gguf::{FileChanged, SourceFile};

/// Bytes between two pauses of a digest in the background.
const PAUSE_BYTES: usize = 1 << 20;

/// Why a mapped file cannot be answered from.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unsound {
    /// It is no longer what was mapped.
    #[error(transparent)]
    Changed(#[from] FileChanged),
    /// It never was what it should be.
    #[error(transparent)]
    Digest(#[from] DigestMismatch),
}

/// A file with another SHA-256 than it should have.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "file `{}`: its SHA-256 is {found}, {origin} says {wanted}; get the file anew",
    path.display()
)]
pub struct DigestMismatch {
    /// The file.
    pub path: std::path::PathBuf,
    /// Its SHA-256.
    pub found: FileDigest,
    /// What it should be.
    pub wanted: FileDigest,
    /// Who says so.
    pub origin: String,
}

/// A mapped file under watch.
pub struct Watch {
    file: Arc<SourceFile>,
    known: Option<KnownDigest>,
    /// Set once, and then for ever: a file that was restored is still another.
    unsound: OnceLock<Unsound>,
    /// Called when it is set.
    alarm: Box<dyn Fn(&Unsound) + Send + Sync>,
}

impl std::fmt::Debug for Watch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Watch").field("file", &self.file).finish_non_exhaustive()
    }
}

impl Watch {
    /// Watches `file`; calls `alarm` once when it is found unsound, on the thread that finds it.
    pub fn new(file: Arc<SourceFile>, alarm: impl Fn(&Unsound) + Send + Sync + 'static) -> Self {
        let known = known_digest(file.path(), file.identity().bytes).unwrap_or_else(|error| {
            let error = &error as &dyn std::error::Error;
            tracing::warn!(error, "the model file's SHA-256 is not compared");
            None
        });
        Self { file, known, unsound: OnceLock::new(), alarm: Box::new(alarm) }
    }

    /// Whether what was read of the map until now may be believed: a microsecond or two.
    ///
    /// # Errors
    ///
    /// Why not. From then on the answer stays the same.
    pub fn check(&self) -> Result<(), Unsound> {
        if let Some(unsound) = self.unsound.get() {
            return Err(unsound.clone());
        }
        self.file.check().map_err(|changed| self.condemn(changed.into()))
    }

    /// Why nothing is answered from the file any more, if that has been found.
    pub fn unsound(&self) -> Option<&Unsound> {
        self.unsound.get()
    }

    /// Compares the file's SHA-256 with the one that is known of it, if both are: the file's is if it
    /// was read to the end before and has not changed since.
    ///
    /// # Errors
    ///
    /// They differ.
    pub fn recall(&self) -> Result<(), DigestMismatch> {
        self.known
            .as_ref()
            .zip(self.recalled())
            .map_or(Ok(()), |(known, found)| self.compare(found, known))
    }

    fn recalled(&self) -> Option<FileDigest> {
        recall(&cache_dir()?, self.file.identity())
    }

    /// The same on a thread that reads the file to the end, unless it was read before: a file of
    /// gigabytes takes seconds. If the two differ, the file is unsound from then on.
    pub fn verify_in_background(self: &Arc<Self>) {
        if self.known.is_none() || self.recalled().is_some() {
            return;
        }
        let watch = Arc::clone(self);
        let thread = std::thread::Builder::new().name("digest".into());
        if let Err(error) = thread.spawn(move || watch.verify()) {
            tracing::warn!(%error, "the model file's SHA-256 is not compared");
        }
    }

    /// Works at most half of the time, so that it never has a core for itself that others want.
    fn verify(&self) {
        lower_priority();
        let (mut since_pause, mut working) = (0, Instant::now());
        let found = sha256_of(&self.file, |bytes| {
            since_pause += bytes;
            if since_pause >= PAUSE_BYTES {
                std::thread::sleep(working.elapsed());
                (since_pause, working) = (0, Instant::now());
            }
        });
        // A file that has changed meanwhile is told by who answers from it.
        let found = match (found, self.file.check()) {
            (Ok(found), Ok(())) => found,
            (Err(error), _) => return tracing::warn!(%error, "the model file cannot be read"),
            (_, Err(_)) => return,
        };
        let dir = cache_dir();
        if let Some(Err(error)) = dir.map(|dir| remember(&dir, self.file.identity(), found)) {
            tracing::debug!(%error, "the model file's SHA-256 cannot be remembered");
        }
        let compared = self.known.as_ref().map(|known| self.compare(found, known));
        match compared.unwrap_or(Ok(())) {
            Ok(()) => tracing::info!(sha256 = %found, "the model file is what it should be"),
            Err(mismatch) => drop(self.condemn(mismatch.into())),
        }
    }

    fn compare(&self, found: FileDigest, known: &KnownDigest) -> Result<(), DigestMismatch> {
        if found == known.sha256 {
            return Ok(());
        }
        let KnownDigest { sha256: wanted, origin } = known.clone();
        Err(DigestMismatch { path: self.file.path().into(), found, wanted, origin })
    }

    /// Records the first reason, and gives it.
    fn condemn(&self, unsound: Unsound) -> Unsound {
        let mut first = false;
        let recorded = self.unsound.get_or_init(|| {
            first = true;
            unsound
        });
        if first {
            (self.alarm)(recorded);
        }
        recorded.clone()
    }
}

/// Lets every other thread of the machine go first. On Linux, and nowhere else, this is the thread's
/// own affair and not the process's; elsewhere the pauses must do.
fn lower_priority() {
    #[cfg(target_os = "linux")]
    if let Err(error) = rustix::process::setpriority_process(None, 19) {
        tracing::debug!(%error, "the priority stays as it is");
    }
}
