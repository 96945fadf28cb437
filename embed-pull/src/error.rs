//! Why a file could not be had, and what to do about it.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

/// Why a model was not fetched. Nothing was put under its name.
#[derive(Debug, thiserror::Error)]
pub enum PullError {
    /// The name is that of a file on this machine, or of the model that ships.
    #[error(
        "model `{name}`: is a file and nothing to fetch; wanted a known name, owner/name:file.gguf, or an address"
    )]
    NothingToFetch {
        /// What was asked for.
        name: String,
    },
    /// The name is a repository's, and a repository has many files.
    #[error("model `{repo}`: is a repository; name a file of it as {repo}:FILE{}", listed(files))]
    NoFileNamed {
        /// What was asked for.
        repo: String,
        /// Its model files, as far as the server tells.
        files: Vec<String>,
    },
    /// The user has said that the network is not to be used.
    #[error(
        "model `{name}`: is not on this machine, and HF_HUB_OFFLINE forbids to fetch it; unset that, or copy the file here and name its path"
    )]
    Offline {
        /// What was asked for.
        name: String,
    },
    /// Nobody says where files may be kept.
    #[error("no directory for downloads is known; set EMBED_CACHE_DIR to an absolute path")]
    NoPlace,
    /// There is no way to the server.
    #[error(
        "{server}: cannot be reached ({reason}); connect to the network, set HTTPS_PROXY or HF_ENDPOINT if there is a proxy or a mirror, or copy the file here and name its path"
    )]
    Unreachable {
        /// The server.
        server: String,
        /// What the system says.
        reason: String,
    },
    /// The server's certificate is not trusted, or it speaks no TLS.
    #[error(
        "{server}: no secure connection ({reason}); if a proxy here reads what is sent, make its certificate known to the system, or to this program by SSL_CERT_FILE"
    )]
    Tls {
        /// The server.
        server: String,
        /// What is wrong.
        reason: String,
    },
    /// There is no such repository or revision.
    #[error(
        "model `{name}`: {server} has no such {what}; `embed-worker models` lists known names, and https://huggingface.co has the files of a repository"
    )]
    NotFound {
        /// What was asked for.
        name: String,
        /// The server.
        server: String,
        /// Repository, revision or file.
        what: &'static str,
    },
    /// There is no such file in its repository.
    #[error(
        "model `{name}`: {server} has no such file in that repository; name another as {repo}:FILE{}",
        listed(files)
    )]
    NoSuchFile {
        /// What was asked for.
        name: String,
        /// The server.
        server: String,
        /// `owner/name`.
        repo: String,
        /// The model files that it has, as far as the server tells.
        files: Vec<String>,
    },
    /// The file is not for everybody.
    #[error(
        "model `{name}`: {server} wants to know who asks (HTTP {status}): accept the model's terms on {page}, and set HF_TOKEN to a token of https://huggingface.co/settings/tokens; or there is no such repository"
    )]
    Forbidden {
        /// What was asked for.
        name: String,
        /// The server.
        server: String,
        /// 401 or 403.
        status: u16,
        /// Where terms are accepted.
        page: String,
    },
    /// The token cannot be sent.
    #[error(
        "HF_TOKEN, or the file that `hf auth login` has left: has a character that no HTTP header can hold; copy the token anew from https://huggingface.co/settings/tokens"
    )]
    Token,
    /// The address is none.
    #[error(
        "{url}: is no address ({reason}); wanted https://…; if you have not written it, check HF_ENDPOINT"
    )]
    Address {
        /// What was to be asked.
        url: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The server answers with something else than the file.
    #[error("{url}: answers with HTTP {status}; try again later, or with another address")]
    Status {
        /// What was asked.
        url: String,
        /// The status.
        status: u16,
    },
    /// The server is busy for longer than anybody waits.
    #[error("{url}: is busy (HTTP {status}) and wants to be asked again in {} s; try then", retry_after.as_secs())]
    Busy {
        /// What was asked.
        url: String,
        /// 429 or 503.
        status: u16,
        /// How long to wait.
        retry_after: Duration,
    },
    /// The answer has not the headers of a hub.
    #[error(
        "{url}: answers without {header}, so it is no hub; check HF_ENDPOINT, or whether this network wants you to sign in first"
    )]
    NoHub {
        /// What was asked.
        url: String,
        /// What is missing or wrong.
        header: &'static str,
    },
    /// All tries together did not bring the file.
    #[error(
        "{url}: {reason}, {tries} times; {received} bytes are kept, the same command goes on from there"
    )]
    GaveUp {
        /// What was asked.
        url: String,
        /// What the last try ended with.
        reason: String,
        /// Tries in a row that brought next to nothing.
        tries: u32,
        /// Bytes that are here.
        received: u64,
    },
    /// The server's answers contradict each other.
    #[error("{url}: {what}; nothing was stored, try again later")]
    Contradiction {
        /// What was asked.
        url: String,
        /// Which.
        what: String,
    },
    /// The bytes are not those that were promised.
    #[error(
        "{url}: its SHA-256 is {found}, {origin} says {wanted}; nothing was stored; something on the way has changed the file"
    )]
    Digest {
        /// What was asked.
        url: String,
        /// What came.
        found: String,
        /// What was to come.
        wanted: String,
        /// Who says so.
        origin: &'static str,
    },
    /// The bytes are no model.
    #[error("{url}: is no model: {reason}; nothing was stored; name the address of a GGUF file")]
    NoModel {
        /// What was asked.
        url: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The disk is full.
    #[error("file `{}`: the disk is full, {missing}; make room, the same command goes on from there", path.display())]
    DiskFull {
        /// What was written.
        path: PathBuf,
        /// How much more is needed.
        missing: String,
    },
    /// The file system refuses something.
    #[error("file `{}`: {what}: {source}{}", path.display(), cure(source))]
    File {
        /// Which file.
        path: PathBuf,
        /// What was wanted of it.
        what: &'static str,
        /// The system's reason.
        source: io::Error,
    },
}

impl PullError {
    /// Whether the network, and not the server or the file, is to blame.
    pub fn is_of_the_network(&self) -> bool {
        matches!(self, Self::Unreachable { .. } | Self::Tls { .. })
    }
}

/// Files that are told in one sentence: more are for the repository's own page.
const FILES_SHOWN: usize = 12;

/// `: a, b and 3 more`, or where to look if nothing is known.
fn listed(files: &[String]) -> String {
    if files.is_empty() {
        return "; https://huggingface.co shows which it has".into();
    }
    let shown = files[..files.len().min(FILES_SHOWN)].join(", ");
    match files.len().saturating_sub(FILES_SHOWN) {
        0 => format!(": it has {shown}"),
        more => format!(": it has {shown} and {more} more"),
    }
}

/// What to do about an error of the file system, as far as its kind tells.
fn cure(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            "; let HF_HOME (for addresses, EMBED_CACHE_DIR) name a folder that you may write to"
        }
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => "; make room",
        io::ErrorKind::NotADirectory | io::ErrorKind::AlreadyExists => {
            "; a file stands where a folder should be: move it away"
        }
        _ => "",
    }
}

/// An address without what may be secret in it: name and password, and signatures after `?`.
pub(crate) fn shown(url: &str) -> String {
    let url = url.split(['?', '#']).next().unwrap_or(url);
    match url.split_once("://") {
        Some((scheme, rest)) => {
            let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
            let host = authority.rsplit('@').next().unwrap_or(authority);
            format!("{scheme}://{host}{path}")
        }
        None => url.to_owned(),
    }
}

/// The server of an address.
pub(crate) fn server(url: &str) -> String {
    let shown = shown(url);
    match shown.split_once("://") {
        Some((scheme, rest)) => format!("{scheme}://{}", rest.split('/').next().unwrap_or(rest)),
        None => shown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_secret_of_an_address_is_shown() {
        let url = "https://user:secret@example.org:8443/a/b.gguf?signature=secret#secret";
        assert_eq!(shown(url), "https://example.org:8443/a/b.gguf");
        assert_eq!(server(url), "https://example.org:8443");
        assert_eq!(server("https://example.org"), "https://example.org");
    }
}
