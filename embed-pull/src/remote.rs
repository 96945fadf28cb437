//! What the hub says of a file before it is fetched.

use embed_store::{HubFile, Store, is_commit};
use serde::Deserialize;
use ureq::Body;
use ureq::http::{HeaderMap, Response, header};

use crate::client::{Client, Failure, of_status};
use crate::error::{PullError, server, shown};
use crate::pull::Watcher;

/// Redirects within the hub, as for a repository that was renamed.
const MOVES_MAX: usize = 5;

/// Bytes of what a hub says of a whole repository: some thousand files.
const REPOSITORY_BYTES_MAX: u64 = 4 << 20;

/// A file of the hub's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Remote {
    /// Where it is.
    pub(crate) url: String,
    /// What the hub calls its bytes: their SHA-256 for every large file.
    pub(crate) etag: String,
    /// How many they are.
    pub(crate) bytes: Option<u64>,
    /// The commit that has it.
    pub(crate) commit: String,
}

impl Remote {
    /// The SHA-256 that its bytes must have, if the hub tells.
    pub(crate) fn sha256(&self) -> Option<&str> {
        is_sha256(&self.etag).then_some(self.etag.as_str())
    }
}

/// Whether a text is a SHA-256 as the hub writes it.
pub(crate) fn is_sha256(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// Asks the hub.
pub(crate) fn ask(
    client: &Client,
    store: &Store,
    file: &HubFile,
    token: Option<&str>,
    watcher: &dyn Watcher,
) -> Result<Remote, PullError> {
    let HubFile { repo, revision, file: path } = file;
    let first = format!("{}/{repo}/resolve/{revision}/{path}", store.endpoint);
    let mut tries = 0;
    loop {
        let (reason, wait) = match ask_once(client, store, file, token, &first) {
            Ok(remote) => return Ok(remote),
            Err(Failure::Final(error)) => return Err(error),
            Err(Failure::Passing { reason, wait }) => (reason, wait),
        };
        tries += 1;
        let Some(pause) = client.pause(tries, wait) else {
            return Err(PullError::Unreachable { server: server(&first), reason });
        };
        watcher.waits(&reason, pause);
        std::thread::sleep(pause);
    }
}

fn ask_once(
    client: &Client,
    store: &Store,
    file: &HubFile,
    token: Option<&str>,
    first: &str,
) -> Result<Remote, Failure> {
    let mut url = first.to_owned();
    for _ in 0..MOVES_MAX {
        let response = client.head(&url, token)?;
        let status = response.status();
        let headers = response.headers();
        if status.is_redirection()
            && !headers.contains_key("x-linked-etag")
            && let Some(next) = moved(store, &url, headers)
        {
            url = next;
            continue;
        }
        if status.is_success() || status.is_redirection() {
            return remote(&url, file, &response).map_err(Failure::Final);
        }
        return Err(refusal(client, store, file, token, &url, &response));
    }
    Err(Failure::Final(PullError::Contradiction {
        url: shown(first),
        what: format!("refers to another place {MOVES_MAX} times in a row"),
    }))
}

/// Where a file has moved to within the hub. Elsewhere the token must not go, and there the bytes are.
fn moved(store: &Store, url: &str, headers: &HeaderMap) -> Option<String> {
    let location = text(headers, header::LOCATION.as_str())?;
    if location.starts_with('/') && !location.starts_with("//") {
        return Some(format!("{}{location}", server(url)));
    }
    (server(&location) == server(&store.endpoint)).then_some(location)
}

fn remote(url: &str, file: &HubFile, response: &Response<Body>) -> Result<Remote, PullError> {
    let headers = response.headers();
    let missing = |header| PullError::NoHub { url: shown(url), header };
    let etag = text(headers, "x-linked-etag").or_else(|| text(headers, "etag"));
    let etag = etag.map(|etag| etag.trim_start_matches("W/").trim_matches('"').to_owned());
    // It becomes the name of a file.
    let is_plain = |etag: &String| {
        (8..=128).contains(&etag.len())
            && etag.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
    };
    let etag = etag.filter(is_plain).ok_or_else(|| missing("an ETag"))?;
    let commit = text(headers, "x-repo-commit").filter(|commit| is_commit(commit));
    let pinned = is_commit(&file.revision).then(|| file.revision.clone());
    let commit = pinned.or(commit).ok_or_else(|| missing("an X-Repo-Commit"))?;
    // Of a redirect the length is that of its own page.
    let length =
        if response.status().is_success() { text(headers, "content-length") } else { None };
    let bytes = text(headers, "x-linked-size").or(length).and_then(|bytes| bytes.parse().ok());
    Ok(Remote { url: url.into(), etag, bytes, commit })
}

/// What a hub says of a repository.
#[derive(Deserialize)]
struct Repository {
    siblings: Vec<Sibling>,
}

/// A file of a repository.
#[derive(Deserialize)]
struct Sibling {
    rfilename: String,
}

/// The model files of a repository, those that can be named first.
pub(crate) fn files(
    client: &Client,
    store: &Store,
    repo: &str,
    revision: &str,
    token: Option<&str>,
) -> Result<Vec<String>, Failure> {
    let url = format!("{}/api/models/{repo}/revision/{revision}", store.endpoint);
    let text = client.text(&url, token, REPOSITORY_BYTES_MAX)?;
    let found: Repository = serde_json::from_str(&text).map_err(|_| {
        Failure::Final(PullError::NoHub { url: shown(&url), header: "a list of files" })
    })?;
    let files = found.siblings.into_iter().map(|sibling| sibling.rfilename);
    // They are shown to a person: what cannot be named is left out.
    let mut files: Vec<String> = files
        .filter(|file| file.to_ascii_lowercase().ends_with(".gguf"))
        .filter(|file| matches!(HubFile::parse(&format!("{repo}:{file}")), Some(Ok(_))))
        .collect();
    files.sort_unstable();
    Ok(files)
}

fn refusal(
    client: &Client,
    store: &Store,
    file: &HubFile,
    token: Option<&str>,
    url: &str,
    response: &Response<Body>,
) -> Failure {
    let (name, server) = (file.to_string(), server(url));
    let code = text(response.headers(), "x-error-code").unwrap_or_default();
    match (response.status().as_u16(), code.as_str()) {
        (_, "RepoNotFound") => {
            Failure::Final(PullError::NotFound { name, server, what: "repository" })
        }
        (404, "RevisionNotFound") => {
            Failure::Final(PullError::NotFound { name, server, what: "revision" })
        }
        (404, _) => {
            let HubFile { repo, revision, .. } = file;
            // A list would help, and nothing depends on it.
            let files = files(client, store, repo, revision, token).unwrap_or_default();
            Failure::Final(PullError::NoSuchFile { name, server, repo: repo.clone(), files })
        }
        (status @ (401 | 403), _) => {
            let page = format!("{server}/{}", file.repo);
            Failure::Final(PullError::Forbidden { name, server, status, page })
        }
        _ => of_status(url, response, client.patience),
    }
}

/// A header, as far as it is text.
pub(crate) fn text(headers: &HeaderMap, name: &str) -> Option<String> {
    Some(headers.get(name)?.to_str().ok()?.trim().to_owned())
}
