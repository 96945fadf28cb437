//! The bytes of a file, over as many connections as it takes.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};
use ureq::Body;
use ureq::http::{HeaderMap, Response};

use crate::client::{Client, Failure, of_status};
use crate::error::{PullError, shown};
use crate::place::{CHUNK_BYTES, file_error, hash, hexadecimal, make_parent};
use crate::pull::Watcher;
use crate::remote::text;

/// Bytes that a connection must bring for the tries to be counted anew: a server that sends a little and
/// hangs up shall not keep anybody for ever.
const PROGRESS_BYTES: u64 = 1 << 20;

/// What is fetched, and where to.
pub(crate) struct Fetch<'a> {
    pub(crate) client: &'a Client,
    pub(crate) url: &'a str,
    pub(crate) token: Option<&'a str>,
    /// How many bytes it must have.
    pub(crate) bytes: Option<u64>,
    /// Whether its name tells its contents, so that what an earlier process has left is of it.
    pub(crate) is_content_addressed: bool,
    /// Where bytes are kept until they are all there.
    pub(crate) unfinished: PathBuf,
    pub(crate) watcher: &'a dyn Watcher,
}

/// A file that is all there.
pub(crate) struct Fetched {
    pub(crate) bytes: u64,
    pub(crate) sha256: String,
    /// Some of it was here before, and may be of another file.
    pub(crate) is_resumed: bool,
}

/// The file that grows, and the digest of what it has.
struct Growing {
    file: File,
    path: PathBuf,
    digest: Sha256,
    bytes: u64,
}

impl Fetch<'_> {
    /// Fetches what is missing.
    pub(crate) fn run(&self) -> Result<Fetched, PullError> {
        make_parent(&self.unfinished)?;
        let mut growing = self.open()?;
        let is_resumed = growing.bytes > 0;
        self.watcher.begins(self.bytes, growing.bytes);
        let (mut tries, mut before) = (0, growing.bytes);
        loop {
            let (reason, wait) = match self.go_on(&mut growing) {
                Ok(()) => break,
                Err(Failure::Final(error)) => return Err(error),
                Err(Failure::Passing { reason, wait }) => (reason, wait),
            };
            if growing.bytes >= before.saturating_add(PROGRESS_BYTES) {
                tries = 0;
            }
            before = growing.bytes;
            tries += 1;
            let Some(pause) = self.client.pause(tries, wait) else {
                let (url, received) = (shown(self.url), growing.bytes);
                return Err(PullError::GaveUp { url, reason, tries, received });
            };
            self.watcher.waits(&reason, pause);
            std::thread::sleep(pause);
        }
        let Growing { digest, bytes, .. } = growing;
        Ok(Fetched { bytes, sha256: hexadecimal(digest), is_resumed })
    }

    /// Forgets what was fetched.
    pub(crate) fn forget(&self) {
        let _ = fs::remove_file(&self.unfinished);
        let _ = fs::remove_file(self.validator_path());
    }

    /// What an earlier try has left, if it can be gone on with.
    fn open(&self) -> Result<Growing, PullError> {
        let failed = file_error(&self.unfinished, "cannot be opened");
        let mut options = OpenOptions::new();
        let file =
            options.read(true).write(true).create(true).truncate(false).open(&self.unfinished);
        let file = file.map_err(failed)?;
        let failed = |error| file_error(&self.unfinished, "cannot be read")(error);
        let there = file.metadata().map_err(failed)?.len();
        let mut growing =
            Growing { file, path: self.unfinished.clone(), digest: Sha256::new(), bytes: 0 };
        let is_of_it = self.is_content_addressed || self.validator().is_some();
        if !is_of_it || self.bytes.is_some_and(|bytes| there > bytes) {
            growing.clear().map_err(failed)?;
        } else if there > 0 {
            self.watcher.checks(there);
            hash(&mut growing.file, &mut growing.digest, there, self.watcher).map_err(failed)?;
            growing.bytes = there;
        }
        Ok(growing)
    }

    /// One connection's worth.
    fn go_on(&self, growing: &mut Growing) -> Result<(), Failure> {
        if self.bytes == Some(growing.bytes) && self.is_content_addressed {
            return Ok(());
        }
        let validator = if self.is_content_addressed { None } else { self.validator() };
        let response =
            self.client.get(self.url, self.token, growing.bytes, validator.as_deref())?;
        let (status, contradiction) = (response.status().as_u16(), |what: String| {
            Failure::Final(PullError::Contradiction { url: shown(self.url), what })
        });
        let total = match status {
            200 => {
                // All of it, whatever was asked for.
                growing.clear().map_err(|error| self.unwritable(growing, error))?;
                self.watcher.begins(self.bytes, 0);
                self.remember_validator(response.headers())?;
                length(&response)
            }
            206 => {
                let (first, total) = content_range(response.headers()).ok_or_else(|| {
                    contradiction("answers with a part and does not say which".into())
                })?;
                if first != growing.bytes {
                    let asked = growing.bytes;
                    return Err(contradiction(format!(
                        "was asked for the part from byte {asked} on and sends that from {first} on"
                    )));
                }
                total
            }
            // What is here is not of this file, or is more than it has.
            416 if growing.bytes > 0 => {
                growing.clear().map_err(|error| self.unwritable(growing, error))?;
                let reason = "has no such part any more".to_owned();
                return Err(Failure::Passing { reason, wait: None });
            }
            _ => return Err(of_status(self.url, &response, self.client.patience)),
        };
        if let (Some(total), Some(bytes)) = (total, self.bytes)
            && total != bytes
        {
            return Err(contradiction(format!("is {total} bytes long, the hub says {bytes}")));
        }
        self.read(growing, response, self.bytes.or(total))
    }

    /// Reads a body to its end; `wanted` is where that must be.
    fn read(
        &self,
        growing: &mut Growing,
        response: Response<Body>,
        wanted: Option<u64>,
    ) -> Result<(), Failure> {
        let mut body = response.into_body().into_reader();
        let mut buffer = vec![0; CHUNK_BYTES];
        let passing = |reason: String| Failure::Passing { reason, wait: None };
        loop {
            let read = match body.read(&mut buffer) {
                Ok(0) => break,
                Ok(read) => read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(passing(broken(&error))),
            };
            if wanted.is_some_and(|wanted| growing.bytes + read as u64 > wanted) {
                self.forget();
                let what = format!("sends more than its {} bytes", wanted.unwrap_or_default());
                return Err(Failure::Final(PullError::Contradiction {
                    url: shown(self.url),
                    what,
                }));
            }
            growing.add(&buffer[..read]).map_err(|error| self.unwritable(growing, error))?;
            self.watcher.advances(read as u64);
        }
        match wanted {
            Some(wanted) if growing.bytes < wanted => {
                Err(passing(format!("ends after {} of {wanted} bytes", growing.bytes)))
            }
            _ => Ok(()),
        }
    }

    fn unwritable(&self, growing: &Growing, error: io::Error) -> Failure {
        let full = [io::ErrorKind::StorageFull, io::ErrorKind::QuotaExceeded];
        Failure::Final(if full.contains(&error.kind()) {
            let missing = match self.bytes {
                Some(bytes) => format!("and {} bytes more are needed", bytes - growing.bytes),
                None => format!("after {} bytes", growing.bytes),
            };
            PullError::DiskFull { path: growing.path.clone(), missing }
        } else {
            file_error(&growing.path, "cannot be written")(error)
        })
    }

    fn validator_path(&self) -> PathBuf {
        let mut path = self.unfinished.clone().into_os_string();
        path.push(".validator");
        path.into()
    }

    /// What tells whether the file at the address is the one of which there is a part.
    fn validator(&self) -> Option<String> {
        let text = fs::read_to_string(self.validator_path()).ok()?;
        Some(text).filter(|text| !text.is_empty())
    }

    /// Keeps it beside the part. Without one, a part is of no use to a later try.
    fn remember_validator(&self, headers: &HeaderMap) -> Result<(), Failure> {
        if self.is_content_addressed {
            return Ok(());
        }
        // A weak tag says that the contents mean the same, not that the bytes are.
        let strong = text(headers, "etag").filter(|etag| etag.starts_with('"'));
        let validator = strong.or_else(|| text(headers, "last-modified")).unwrap_or_default();
        let path = self.validator_path();
        fs::write(&path, validator)
            .map_err(|error| Failure::Final(file_error(&path, "cannot be written")(error)))
    }
}

impl Growing {
    fn add(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all(bytes)?;
        self.digest.update(bytes);
        self.bytes += bytes.len() as u64;
        Ok(())
    }

    fn clear(&mut self) -> io::Result<()> {
        self.file.set_len(0)?;
        self.file.seek(SeekFrom::Start(0))?;
        self.digest = Sha256::new();
        self.bytes = 0;
        Ok(())
    }
}

/// How a body ended before its end.
fn broken(error: &io::Error) -> String {
    if error.kind() == io::ErrorKind::TimedOut || error.to_string().contains("timeout") {
        return "sends nothing any more".into();
    }
    format!("breaks off ({error})")
}

fn length(response: &Response<Body>) -> Option<u64> {
    text(response.headers(), "content-length")?.parse().ok()
}

/// `bytes 5-9/10`: the first byte of the part, and how many there are in all.
fn content_range(headers: &HeaderMap) -> Option<(u64, Option<u64>)> {
    let text = text(headers, "content-range")?;
    let (range, total) = text.strip_prefix("bytes ")?.split_once('/')?;
    let first = range.split('-').next()?.trim().parse().ok()?;
    Some((first, total.trim().parse().ok()))
}

/// Where the bytes of `path` are kept until they are all there.
pub(crate) fn unfinished(path: &Path) -> PathBuf {
    let mut path = path.as_os_str().to_owned();
    path.push(".incomplete");
    path.into()
}
