//! The bytes of a file, over as many connections as it takes.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::Instant;

use sha2::{Digest as _, Sha256};
use ureq::Body;
use ureq::http::{HeaderMap, Response};

use crate::client::{Client, Failure, of_status};
use crate::error::{PullError, shown};
use crate::place::{CHUNK_BYTES, file_error, hash, hexadecimal, make_parent};
use crate::pull::{Check, FIRST_BYTES, Watcher};
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
    /// Asked of the first bytes, so that nobody waits for gigabytes of something else.
    pub(crate) check: &'a dyn Check,
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
    /// The first bytes, as many as are to be looked at.
    first: Vec<u8>,
    /// How many bytes there are to be, as the first connection has said.
    total: Option<u64>,
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
        let mut growing = Growing {
            file,
            path: self.unfinished.clone(),
            digest: Sha256::new(),
            bytes: 0,
            first: Vec::new(),
            total: None,
        };
        let is_of_it = self.is_content_addressed || self.validator().is_some();
        let is_too_short = there < FIRST_BYTES as u64;
        if !is_of_it || is_too_short || self.bytes.is_some_and(|bytes| there > bytes) {
            growing.clear().map_err(failed)?;
        } else {
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
        if growing.bytes > 0 && validator.is_none() && !self.is_content_addressed {
            // Nothing tells whether the rest would be of the same file.
            self.start_anew(growing)?;
        }
        let response =
            self.client.get(self.url, self.token, growing.bytes, validator.as_deref())?;
        let (status, contradiction) = (response.status().as_u16(), |what: String| {
            Failure::Final(PullError::Contradiction { url: shown(self.url), what })
        });
        let packed = text(response.headers(), "content-encoding");
        if let Some(packed) = packed.filter(|packed| !packed.eq_ignore_ascii_case("identity"))
            && matches!(status, 200 | 206)
        {
            return Err(contradiction(format!("sends its bytes packed (`{packed}`), unasked")));
        }
        let total = match status {
            200 => {
                // All of it, whatever was asked for.
                self.start_anew(growing)?;
                self.remember_validator(response.headers())?;
                length(&response)
            }
            206 => self.part(growing, response.headers(), validator.as_deref())?,
            416 if growing.bytes > 0 => {
                if validator.is_some() && complete_length(response.headers()) == Some(growing.bytes)
                {
                    // All of it is here already, and is the server's still.
                    return Ok(());
                }
                // What is here is not of this file, or is more than it has.
                self.start_anew(growing)?;
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
        growing.total = growing.total.or(total);
        let wanted = self.bytes.or(total);
        self.watcher.begins(wanted, growing.bytes);
        self.read(growing, response, wanted)
    }

    /// Whether a part is the one that was asked for, of the file that was begun; gives how many bytes there
    /// are in all, if the server says.
    fn part(
        &self,
        growing: &mut Growing,
        headers: &HeaderMap,
        validator: Option<&str>,
    ) -> Result<Option<u64>, Failure> {
        let contradiction =
            |what: String| Failure::Final(PullError::Contradiction { url: shown(self.url), what });
        let Some((first, total)) = content_range(headers) else {
            return Err(contradiction("answers with a part and does not say which".into()));
        };
        if first != growing.bytes {
            let asked = growing.bytes;
            return Err(contradiction(format!(
                "was asked for the part from byte {asked} on and sends that from {first} on"
            )));
        }
        // Not every server that knows of parts knows `If-Range`.
        let is_other = validator.is_some_and(|ours| differs(ours, headers))
            || matches!((growing.total, total), (Some(was), Some(is)) if was != is);
        if is_other {
            self.start_anew(growing)?;
            let reason = "has another file now".to_owned();
            return Err(Failure::Passing { reason, wait: None });
        }
        Ok(total)
    }

    fn start_anew(&self, growing: &mut Growing) -> Result<(), Failure> {
        let _ = fs::remove_file(self.validator_path());
        growing.clear().map_err(|error| self.unwritable(growing, error))
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
        let patience = self.client.patience;
        let (mut since, mut came) = (Instant::now(), 0);
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
            let were_few = growing.bytes < FIRST_BYTES as u64;
            growing.add(&buffer[..read]).map_err(|error| self.unwritable(growing, error))?;
            self.watcher.advances(read as u64);
            if were_few
                && growing.first.len() == FIRST_BYTES
                && let Err(reason) = self.check.begins(&growing.first)
            {
                self.forget();
                return Err(Failure::Final(PullError::NoModel { url: shown(self.url), reason }));
            }
            came += read as u64;
            if since.elapsed() >= patience.stall {
                // A byte now and then is no download either.
                if came < patience.stall_bytes {
                    return Err(passing(format!("sends next to nothing ({came} bytes)")));
                }
                (since, came) = (Instant::now(), 0);
            }
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
            let missing = match self.bytes.or(growing.total) {
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
        let validator = strong_etag(headers).or_else(|| text(headers, LAST_MODIFIED));
        let Some(validator) = validator else { return Ok(()) };
        let path = self.validator_path();
        fs::write(&path, validator)
            .map_err(|error| Failure::Final(file_error(&path, "cannot be written")(error)))
    }
}

impl Growing {
    fn add(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all(bytes)?;
        self.digest.update(bytes);
        if self.bytes == self.first.len() as u64 {
            let room = (FIRST_BYTES - self.first.len()).min(bytes.len());
            self.first.extend(&bytes[..room]);
        }
        self.bytes += bytes.len() as u64;
        Ok(())
    }

    fn clear(&mut self) -> io::Result<()> {
        self.file.set_len(0)?;
        self.file.seek(SeekFrom::Start(0))?;
        self.digest = Sha256::new();
        self.bytes = 0;
        self.first.clear();
        self.total = None;
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

const LAST_MODIFIED: &str = "last-modified";

/// A weak tag says that the contents mean the same, not that the bytes are.
fn strong_etag(headers: &HeaderMap) -> Option<String> {
    text(headers, "etag").filter(|etag| etag.starts_with('"'))
}

/// Whether an answer says that it is of another file than the one that had `validator`.
fn differs(validator: &str, headers: &HeaderMap) -> bool {
    let now = if validator.starts_with('"') {
        text(headers, "etag")
    } else {
        text(headers, LAST_MODIFIED)
    };
    now.is_some_and(|now| now != validator)
}

/// `bytes */10`, as an answer has it that cannot give what was asked for: how many bytes there are in all.
fn complete_length(headers: &HeaderMap) -> Option<u64> {
    text(headers, "content-range")?.strip_prefix("bytes */")?.trim().parse().ok()
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
