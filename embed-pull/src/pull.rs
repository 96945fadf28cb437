//! From a name to a whole file under it.

use std::fmt::Debug;
use std::path::{Path, PathBuf};
use std::time::Duration;

use embed_store::{HubFile, ModelName, Store, blob_of};
use same_file::is_same_file;

use crate::body::{Fetch, unfinished};
use crate::client::{Client, Failure, Patience};
use crate::error::{PullError, server, shown};
use crate::place;
use crate::proxy::Proxies;
use crate::remote::{self, Remote, ask, is_sha256};

/// Whoever wants to know how a download goes. Nothing need be done about any of it.
pub trait Watcher: Debug {
    /// So many bytes of what is here are read, to be checked.
    fn checks(&self, _bytes: u64) {}
    /// A download begins: how many bytes there are, if that is known, and how many are here.
    fn begins(&self, _bytes: Option<u64>, _here: u64) {}
    /// So many bytes more were fetched or checked.
    fn advances(&self, _bytes: u64) {}
    /// A try has failed; the next one comes after a pause.
    fn waits(&self, _reason: &str, _pause: Duration) {}
    /// Another process fetches the same file.
    fn waits_for_another(&self) {}
    /// A file that was here is not what it should be, and is fetched again.
    fn finds_damage(&self, _path: &Path) {}
    /// The hub cannot be asked; what is here is taken.
    fn goes_without_the_hub(&self, _error: &PullError) {}
}

/// How many bytes are looked at before the others are fetched: enough to tell a model from a page.
pub const FIRST_BYTES: usize = 16;

/// What is asked of a file before it gets its name: whether it is a model, and if not, why not.
pub trait Check {
    /// Whether a model may begin with these [`FIRST_BYTES`] bytes.
    ///
    /// # Errors
    ///
    /// Why not, to be read.
    fn begins(&self, first: &[u8]) -> Result<(), String>;

    /// Whether the file is one.
    ///
    /// # Errors
    ///
    /// Why not, to be read.
    fn is_model(&self, path: &Path) -> Result<(), String>;
}

/// A model that is here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pulled {
    /// Its file.
    pub path: PathBuf,
    /// How large that is.
    pub bytes: u64,
    /// Its SHA-256, in hexadecimal digits.
    pub sha256: String,
    /// Whether it had to be fetched.
    pub fetched: bool,
}

/// Fetches models into a store.
#[derive(Debug)]
pub struct Puller {
    store: Store,
    token: Option<String>,
    proxies: Proxies,
    patience: Patience,
}

impl Puller {
    /// A puller for `store`. `token` is for the hub and goes nowhere else.
    pub fn new(store: Store, token: Option<String>, proxies: Proxies, patience: Patience) -> Self {
        Self { store, token, proxies, patience }
    }

    fn client(&self, url: &str) -> Client {
        Client::new(self.patience, &self.proxies, url)
    }

    /// What the hub is told of who asks.
    fn token(&self) -> Result<Option<&str>, PullError> {
        match self.token.as_deref() {
            Some(token) if !token.bytes().all(|byte| byte.is_ascii_graphic()) => {
                Err(PullError::Token)
            }
            token => Ok(token),
        }
    }

    /// Makes sure that a model is here and whole; `sha256` is what its digest must be, if the caller
    /// knows.
    ///
    /// # Errors
    ///
    /// Why it is not. Nothing is under its name then that was not there before.
    pub fn pull(
        &self,
        name: &ModelName,
        sha256: Option<&str>,
        check: &dyn Check,
        watcher: &dyn Watcher,
    ) -> Result<Pulled, PullError> {
        match name {
            ModelName::Hub(file) => self.pull_hub(file, sha256, check, watcher),
            ModelName::Url(url) => self.pull_url(url, sha256, check, watcher),
            ModelName::File(path) if !path.exists() => Err(self.of_path(&name.to_string())),
            ModelName::File(_) | ModelName::Shipped => {
                Err(PullError::NothingToFetch { name: name.to_string() })
            }
        }
    }

    /// A path that leads nowhere may be a repository of which no file was named.
    fn of_path(&self, name: &str) -> PullError {
        let nothing = || PullError::NothingToFetch { name: name.into() };
        let Some(Ok(HubFile { repo, revision, .. })) = HubFile::parse(&format!("{name}:a.gguf"))
        else {
            return nothing();
        };
        if self.store.offline {
            return nothing();
        }
        let files = self.token().map_err(Failure::Final).and_then(|token| {
            let client = self.client(&self.store.endpoint);
            remote::files(&client, &self.store, &repo, &revision, token)
        });
        match files {
            Ok(files) => PullError::NoFileNamed { repo, files },
            Err(Failure::Final(PullError::Status { status: 401 | 404, .. })) => {
                let server = server(&self.store.endpoint);
                PullError::NotFound { name: repo, server, what: "repository" }
            }
            Err(Failure::Final(error)) => error,
            Err(Failure::Passing { .. }) => nothing(),
        }
    }

    fn pull_hub(
        &self,
        file: &HubFile,
        sha256: Option<&str>,
        check: &dyn Check,
        watcher: &dyn Watcher,
    ) -> Result<Pulled, PullError> {
        let name = ModelName::Hub(file.clone());
        let here = || self.store.find(&name).map(|path| here(path, sha256, check, watcher));
        if self.store.offline {
            return here().unwrap_or(Err(PullError::Offline { name: file.to_string() }));
        }
        let client = self.client(&self.store.endpoint);
        let remote = match ask(&client, &self.store, file, self.token()?, watcher) {
            Ok(remote) => remote,
            Err(error) if error.is_of_the_network() => {
                let Some(Ok(here)) = here() else { return Err(error) };
                watcher.goes_without_the_hub(&error);
                return Ok(here);
            }
            Err(error) => return Err(error),
        };
        if let (Some(wanted), Some(found)) = (sha256, remote.sha256())
            && !wanted.eq_ignore_ascii_case(found)
        {
            return Err(digest(&remote.url, found, wanted, "the caller"));
        }
        // Both are the same if the hub tells one.
        let wanted = remote.sha256().map(|sha256| (sha256, "the hub"));
        let wanted = wanted.or(sha256.map(|sha256| (sha256, "the caller")));
        let blob = self.store.blob(file, &remote.etag);
        let path = self.store.snapshot(file, &remote.commit);
        let leads = || is_same_file(&path, &blob).unwrap_or(false);
        let whole = || {
            let sha256 = wanted.map(|(sha256, _)| sha256);
            self.whole(&blob, remote.bytes, sha256, check, watcher)
        };
        let _lock = match place::lock(&self.store.lock(file, &remote.etag), watcher) {
            Ok(lock) => lock,
            Err(error) => {
                // A cache that somebody else has filled, and that nobody may write to, is as good.
                return match whole()? {
                    Some((bytes, sha256)) if leads() => {
                        Ok(Pulled { path, bytes, sha256, fetched: false })
                    }
                    _ => Err(error),
                };
            }
        };
        let (bytes, found, fetched) = match whole()? {
            Some((bytes, sha256)) => (bytes, sha256, false),
            None => {
                let (bytes, sha256) =
                    self.fetch_hub(&client, &remote, wanted, &blob, check, watcher)?;
                (bytes, sha256, true)
            }
        };
        if !leads() {
            // From its folder up to the commit's, to `snapshots`, and to the repository's.
            place::link(&blob, &path, file.file.split('/').count() + 1)?;
        }
        let is_noted = || self.store.commit(file).as_deref() == Some(remote.commit.as_str());
        if !embed_store::is_commit(&file.revision) && !is_noted() {
            place::write(&self.store.reference(file), &remote.commit)?;
        }
        Ok(Pulled { path, bytes, sha256: found, fetched })
    }

    /// Length and digest of a file that is here and what it should be; a damaged one is told of.
    fn whole(
        &self,
        path: &Path,
        bytes: Option<u64>,
        sha256: Option<&str>,
        check: &dyn Check,
        watcher: &dyn Watcher,
    ) -> Result<Option<(u64, String)>, PullError> {
        let Ok(metadata) = path.metadata() else { return Ok(None) };
        let length = metadata.len();
        if bytes.is_none_or(|bytes| bytes == length) {
            let found = place::sha256_of(path, watcher)?;
            if sha256.is_none_or(|wanted| wanted.eq_ignore_ascii_case(&found))
                && check.is_model(path).is_ok()
            {
                return Ok(Some((length, found)));
            }
        }
        watcher.finds_damage(path);
        Ok(None)
    }

    fn fetch_hub(
        &self,
        client: &Client,
        remote: &Remote,
        wanted: Option<(&str, &'static str)>,
        blob: &Path,
        check: &dyn Check,
        watcher: &dyn Watcher,
    ) -> Result<(u64, String), PullError> {
        let fetch = Fetch {
            client,
            url: &remote.url,
            token: self.token()?,
            bytes: remote.bytes,
            is_content_addressed: remote.sha256().is_some(),
            unfinished: unfinished(blob),
            check,
            watcher,
        };
        finish(&fetch, blob, wanted)
    }

    fn pull_url(
        &self,
        url: &str,
        sha256: Option<&str>,
        check: &dyn Check,
        watcher: &dyn Watcher,
    ) -> Result<Pulled, PullError> {
        let path = self.store.download(url).ok_or(PullError::NoPlace)?;
        let mut sidecar = path.clone().into_os_string();
        sidecar.push(".sha256");
        let sidecar = PathBuf::from(sidecar);
        let mut lock = path.clone().into_os_string();
        lock.push(".lock");
        let _lock = place::lock(Path::new(&lock), watcher)?;
        let noted = std::fs::read_to_string(&sidecar).unwrap_or_default();
        let noted = noted.split_whitespace().next().filter(|word| is_sha256(word));
        if let Some((bytes, sha256)) = self.whole(&path, None, sha256.or(noted), check, watcher)? {
            return Ok(Pulled { path, bytes, sha256, fetched: false });
        }
        if self.store.offline {
            return Err(PullError::Offline { name: shown(url) });
        }
        let fetch = Fetch {
            client: &self.client(url),
            url,
            token: None,
            bytes: None,
            is_content_addressed: false,
            unfinished: unfinished(&path),
            check,
            watcher,
        };
        let wanted = sha256.map(|sha256| (sha256, "the caller"));
        let (bytes, found) = finish(&fetch, &path, wanted)?;
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        place::write(&sidecar, &format!("{found}  {name}\n"))?;
        Ok(Pulled { path, bytes, sha256: found, fetched: true })
    }
}

/// Fetches, checks, and gives the file its name. `wanted` is its digest, and who says so. What was gone on
/// with may have been of another file: if the digest is wrong then, all is fetched once more.
fn finish(
    fetch: &Fetch<'_>,
    path: &Path,
    wanted: Option<(&str, &'static str)>,
) -> Result<(u64, String), PullError> {
    loop {
        let fetched = fetch.run()?;
        if let Some((wanted, origin)) = wanted
            && !wanted.eq_ignore_ascii_case(&fetched.sha256)
        {
            fetch.forget();
            if fetched.is_resumed {
                fetch.watcher.finds_damage(&fetch.unfinished);
                continue;
            }
            return Err(digest(fetch.url, &fetched.sha256, wanted, origin));
        }
        if let Err(reason) = fetch.check.is_model(&fetch.unfinished) {
            fetch.forget();
            return Err(PullError::NoModel { url: shown(fetch.url), reason });
        }
        place::name(&fetch.unfinished, path)?;
        fetch.forget();
        return Ok((fetched.bytes, fetched.sha256));
    }
}

/// A file that is here, checked against its own name, which is its SHA-256 in the hub's cache.
fn here(
    path: PathBuf,
    sha256: Option<&str>,
    check: &dyn Check,
    watcher: &dyn Watcher,
) -> Result<Pulled, PullError> {
    let real = blob_of(&path).unwrap_or_else(|| path.clone());
    let name = real.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let found = place::sha256_of(&path, watcher)?;
    let shown = path.display().to_string();
    for (wanted, origin) in [(sha256, "the caller"), (Some(&*name), "its name in the cache")] {
        if let Some(wanted) = wanted
            && is_sha256(&wanted.to_ascii_lowercase())
            && !wanted.eq_ignore_ascii_case(&found)
        {
            return Err(digest(&shown, &found, wanted, origin));
        }
    }
    check.is_model(&path).map_err(|reason| PullError::NoModel { url: shown, reason })?;
    let bytes = path.metadata().map(|metadata| metadata.len()).unwrap_or_default();
    Ok(Pulled { path, bytes, sha256: found, fetched: false })
}

fn digest(url: &str, found: &str, wanted: &str, origin: &'static str) -> PullError {
    PullError::Digest { url: shown(url), found: found.into(), wanted: wanted.into(), origin }
}
