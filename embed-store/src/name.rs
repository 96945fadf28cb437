//! What somebody calls a model: a file, a known name, a file of a repository, or an address.

use std::ffi::OsStr;
use std::path::PathBuf;

use crate::known::known_model;

/// What the model that ships with the package is called.
pub const SHIPPED_MODEL_NAME: &str = "all-MiniLM-L6-v2";

/// Its file, from the package's folder.
pub const SHIPPED_MODEL_FILE: &str = "models/all-MiniLM-L6-v2.Q8_0.gguf";

/// The revision of a repository that is meant when none is named.
const MAIN: &str = "main";

/// The hub that everybody means; another in `HF_ENDPOINT` is a mirror of it.
const HUB: &str = "https://huggingface.co";

/// A model by what it is called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ModelName {
    /// A file on this machine.
    File(PathBuf),
    /// The model that ships with the package.
    Shipped,
    /// A file of a repository on the hub.
    Hub(HubFile),
    /// A file at an address.
    Url(String),
}

/// A file of a repository on the hub.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct HubFile {
    /// `owner/name`.
    pub repo: String,
    /// A branch, a tag or a commit.
    pub revision: String,
    /// The file's path in the repository, with `/` between its parts.
    pub file: String,
}

/// A name that looks like a repository's file or an address, and is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("model `{name}`: {what}; wanted owner/name:file.gguf, or owner/name@revision:file.gguf")]
pub struct NameError {
    name: String,
    what: &'static str,
}

impl ModelName {
    /// Reads a name. `https://…` is an address, `owner/name:file` a file of a repository, a name of the
    /// table that model; everything else is a path. So a file that is called like a known model is
    /// meant by `./NAME`.
    ///
    /// # Errors
    ///
    /// It is a repository's file with a part that is none.
    pub fn parse(name: &OsStr) -> Result<Self, NameError> {
        let Some(text) = name.to_str() else { return Ok(Self::File(name.into())) };
        if text.eq_ignore_ascii_case(SHIPPED_MODEL_NAME) {
            return Ok(Self::Shipped);
        }
        if let Some(model) = known_model(text) {
            return Ok(Self::Hub(HubFile {
                repo: model.repo.into(),
                revision: MAIN.into(),
                file: model.file.into(),
            }));
        }
        if text.starts_with("https://") || text.starts_with("http://") {
            let page = HubFile::of_page(text);
            return Ok(page.map_or_else(|| Self::Url(text.into()), Self::Hub));
        }
        match HubFile::parse(text) {
            Some(file) => Ok(Self::Hub(file?)),
            None => Ok(Self::File(name.into())),
        }
    }
}

impl HubFile {
    /// Reads `owner/name:file` or `owner/name@revision:file`; `None` if the text is nothing of that
    /// kind, as a path is not.
    pub fn parse(text: &str) -> Option<Result<Self, NameError>> {
        let (repo, file) = text.split_once(':')?;
        let (repo, revision) = repo.split_once('@').unwrap_or((repo, MAIN));
        // A path before a colon begins with a drive's letter, a slash or a dot, or has more parts.
        let (owner, name) = repo.split_once('/')?;
        if [owner, name].iter().any(|part| part.is_empty() || part.contains(['/', '\\'])) {
            return None;
        }
        if owner.starts_with('.') {
            return None;
        }
        Some(
            Self::checked(repo, revision, file)
                .map_err(|what| NameError { name: text.escape_debug().to_string(), what }),
        )
    }

    /// The file behind an address of the hub, as its pages and its downloads have it.
    fn of_page(url: &str) -> Option<Self> {
        let path = url.strip_prefix(HUB)?.strip_prefix('/')?;
        let path = path.split(['?', '#']).next()?;
        let mut parts = path.splitn(5, '/');
        let (owner, name, kind) = (parts.next()?, parts.next()?, parts.next()?);
        let (revision, file) = (parts.next()?, parts.next()?);
        if !["resolve", "blob"].contains(&kind) {
            return None;
        }
        Self::checked(&format!("{owner}/{name}"), revision, file).ok()
    }

    /// Each part becomes part of a path on this machine and of an address, so that none may lead
    /// elsewhere.
    fn checked(repo: &str, revision: &str, file: &str) -> Result<Self, &'static str> {
        let is_plain = |part: &str| {
            let mut characters = part.chars();
            !part.is_empty()
                && !part.starts_with('.')
                && characters.all(|c| c.is_ascii_alphanumeric() || "-_.+".contains(c))
        };
        if !repo.split('/').all(is_plain) || repo.contains("--") {
            return Err("its repository has characters that no repository has");
        }
        if !is_plain(revision) {
            return Err("its revision has characters that are not taken (letters, digits, `-_.+`)");
        }
        if !file.split('/').all(is_plain) {
            return Err("its file has characters that are not taken (letters, digits, `-_.+/`)");
        }
        Ok(Self { repo: repo.into(), revision: revision.into(), file: file.into() })
    }
}

impl std::fmt::Display for HubFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { repo, revision, file } = self;
        if revision == MAIN {
            write!(f, "{repo}:{file}")
        } else {
            write!(f, "{repo}@{revision}:{file}")
        }
    }
}

impl std::fmt::Display for ModelName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::File(path) => path.display().fmt(f),
            Self::Shipped => f.write_str(SHIPPED_MODEL_NAME),
            Self::Hub(file) => file.fmt(f),
            Self::Url(url) => f.write_str(url),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(name: &str) -> ModelName {
        ModelName::parse(OsStr::new(name)).expect("a name")
    }

    fn hub(repo: &str, revision: &str, file: &str) -> ModelName {
        let [repo, revision, file] = [repo, revision, file].map(String::from);
        ModelName::Hub(HubFile { repo, revision, file })
    }

    #[test]
    fn names_mean_what_they_look_like() {
        assert_eq!(parse("all-minilm-l6-v2"), ModelName::Shipped);
        let nomic =
            hub("nomic-ai/nomic-embed-text-v1.5-GGUF", "main", "nomic-embed-text-v1.5.Q8_0.gguf");
        assert_eq!(parse("nomic-embed-text-v1.5"), nomic);
        assert_eq!(parse("a-b/c_d:e/f.gguf"), hub("a-b/c_d", "main", "e/f.gguf"));
        assert_eq!(parse("a/b@v1.0:f.gguf"), hub("a/b", "v1.0", "f.gguf"));
        let page = "https://huggingface.co/a/b/blob/main/d/f.gguf?download=true";
        assert_eq!(parse(page), hub("a/b", "main", "d/f.gguf"));
        let address = "https://example.org/a/b/resolve/main/f.gguf";
        assert_eq!(parse(address), ModelName::Url(address.into()));
    }

    #[test]
    fn paths_stay_paths() {
        for path in [
            "m.gguf",
            "./nomic-embed-text-v1.5",
            "models/m.gguf",
            "/models/a:b.gguf",
            "C:/models/m.gguf",
            r"C:\models\m.gguf",
            "./a/b:c.gguf",
            "../a:b",
            "a/b/c:d.gguf",
            "no-such-name",
            "",
        ] {
            assert_eq!(parse(path), ModelName::File(path.into()), "{path}");
        }
    }

    #[test]
    fn no_part_leads_elsewhere() {
        for name in [
            "a/b:../../etc/passwd",
            "a/b:/etc/passwd",
            "a/b:",
            "a/b:x//y",
            r"a/b:x\y",
            "a/b:.hidden",
            "a/b:x?y",
            "a/b@../x:f.gguf",
            "a/b@:f.gguf",
            "a--x/b:f.gguf",
            "a b/c:f.gguf",
            "a/b:é.gguf",
        ] {
            let error = ModelName::parse(OsStr::new(name)).expect_err(name).to_string();
            assert!(error.starts_with("model `") && error.contains("wanted owner/name"), "{error}");
        }
    }

    #[test]
    fn a_name_is_shown_as_it_is_written() {
        for name in ["a/b:f.gguf", "a/b@v1:f.gguf", "https://example.org/f.gguf", "x/y.gguf"] {
            assert_eq!(parse(name).to_string(), name);
        }
    }
}
