//! `embed-worker pull`: a model to this machine.

use std::ffi::OsString;
use std::io::Write;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, bail};
use clap::Args;
use embed_pull::{Check, Patience, Proxies, PullError, Pulled, Puller, Watcher};
use embed_store::{ModelName, Store, token};
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;

use super::{complain, model_path};
use crate::batch::sentence;
use crate::gguf::{self, GgufFile, SourceFile};
use crate::integrity::{FileDigest, known_digest, sha256_of};

/// What the bar says of a download whose length is known, and of one whose is not.
const KNOWN_LENGTH: &str =
    "{prefix} {bar:30} {binary_bytes} of {binary_total_bytes}, {binary_bytes_per_sec}, {eta} left";
const UNKNOWN_LENGTH: &str = "{prefix} {binary_bytes}, {binary_bytes_per_sec}";

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  embed-worker pull nomic-embed-text-v1.5
  embed-worker pull CompendiumLabs/bge-small-en-v1.5-gguf        # which files there are
  embed-worker pull CompendiumLabs/bge-small-en-v1.5-gguf:bge-small-en-v1.5-f16.gguf
  embed-worker pull https://example.org/model.gguf --sha256 0123…
  embed-worker embed --model nomic-embed-text-v1.5 --task query 'what is an embedding?'

Files of the hub lie in Hugging Face's own cache, so that other programs find them too:
HF_HUB_CACHE, HF_HOME, HF_ENDPOINT (a mirror), HF_TOKEN and HF_HUB_OFFLINE mean what they mean
there; HTTPS_PROXY, ALL_PROXY and NO_PROXY are heeded, and other addresses' files lie under
EMBED_CACHE_DIR. What was cut off is gone on with. The file's path is printed.")]
pub(super) struct PullArgs {
    /// A known name (see `models`), owner/name:file.gguf, owner/name@revision:file.gguf, or an address;
    /// owner/name alone tells which files there are
    model: OsString,
    /// What the file's SHA-256 must be [default: what the hub says]
    #[arg(long, value_name = "HEX", value_parser = str::parse::<FileDigest>)]
    sha256: Option<FileDigest>,
    /// Show no progress, and complain of nothing that passes
    #[arg(long, short)]
    quiet: bool,
    /// Write one JSON object instead of the path
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Line<'a> {
    model: String,
    path: &'a Path,
    bytes: u64,
    sha256: &'a str,
    fetched: bool,
}

pub(super) fn run(args: &PullArgs) -> anyhow::Result<ExitCode> {
    let name = ModelName::parse(&args.model)?;
    let pulled = if name == ModelName::Shipped {
        shipped(args.sha256)?
    } else {
        let sha256 = args.sha256.map(|digest| digest.to_string());
        fetch(Store::from_env(), &name, sha256.as_deref(), args.quiet)?
    };
    let mut out = std::io::stdout().lock();
    let Pulled { path, bytes, sha256, fetched } = &pulled;
    if args.json {
        let line = Line { model: name.to_string(), path, bytes: *bytes, sha256, fetched: *fetched };
        serde_json::to_writer(&mut out, &line)?;
        writeln!(out)?;
    } else {
        writeln!(out, "{}", path.display())?;
    }
    Ok(ExitCode::SUCCESS)
}

/// The model that ships: it is here, and is looked at as one that was fetched is.
fn shipped(sha256: Option<FileDigest>) -> anyhow::Result<Pulled> {
    let path = model_path::shipped()?;
    let unreadable = || format!("file `{}`: cannot be read", path.display());
    let source = SourceFile::open(&path).with_context(unreadable)?;
    let found = sha256_of(&source, |_| ()).with_context(unreadable)?;
    if let Err(reason) = Gguf.is_model(&path) {
        bail!("{reason}; the model came with the package: install that again");
    }
    let bytes = source.identity().bytes;
    let known = known_digest(&path, bytes)?.map(|known| known.sha256);
    if let Some(wanted) = sha256.or(known).filter(|wanted| *wanted != found) {
        bail!(
            "file `{}`: its SHA-256 is {found}, wanted {wanted}; it came with the package: install that again",
            path.display()
        );
    }
    Ok(Pulled { path, bytes, sha256: found.to_string(), fetched: false })
}

/// Makes sure that a model is here and whole.
pub(super) fn fetch(
    store: Store,
    name: &ModelName,
    sha256: Option<&str>,
    quiet: bool,
) -> anyhow::Result<Pulled> {
    let puller = Puller::new(store, token(), Proxies::from_env()?, Patience::default());
    let screen = Screen::new(quiet);
    let pulled = puller.pull(name, sha256, &Gguf, &screen);
    screen.bar.finish_and_clear();
    Ok(pulled?)
}

/// Whether a file is a model's.
#[derive(Debug)]
struct Gguf;

impl Check for Gguf {
    fn begins(&self, first: &[u8]) -> Result<(), String> {
        if first.starts_with(&gguf::MAGIC) {
            return Ok(());
        }
        let is_page = first.trim_ascii_start().starts_with(b"<");
        let what = if is_page { "a web page" } else { "another kind of file" };
        Err(format!("it begins with `{}`, as {what} does", first.escape_ascii()))
    }

    /// Its structure from the first byte to the last tensor's end.
    fn is_model(&self, path: &Path) -> Result<(), String> {
        GgufFile::open(path).map(drop).map_err(|error| sentence(&error))
    }
}

/// A bar, where standard error is a terminal; sentences about trouble anywhere.
#[derive(Debug)]
struct Screen {
    bar: ProgressBar,
    quiet: bool,
}

impl Screen {
    fn new(quiet: bool) -> Self {
        // Drawn to standard error, and nowhere if that is no terminal.
        let bar = if quiet { ProgressBar::hidden() } else { ProgressBar::no_length() };
        Self { bar, quiet }
    }

    fn show(&self, what: &'static str, bytes: Option<u64>, here: u64) {
        // What draws comes last: nothing is shown of which one half is not known yet.
        let template = match bytes {
            Some(bytes) => {
                self.bar.set_length(bytes);
                KNOWN_LENGTH
            }
            None => {
                self.bar.unset_length();
                UNKNOWN_LENGTH
            }
        };
        self.bar.set_position(here);
        if let Ok(style) = ProgressStyle::with_template(template) {
            self.bar.set_style(style);
        }
        self.bar.set_prefix(what);
        // The rate is that of what moves now, not of what was here before.
        self.bar.reset_eta();
    }

    fn say(&self, sentence: &str) {
        if !self.quiet {
            self.bar.suspend(|| complain(sentence));
        }
    }
}

impl Watcher for Screen {
    fn checks(&self, bytes: u64) {
        self.show("checking", Some(bytes), 0);
    }

    fn begins(&self, bytes: Option<u64>, here: u64) {
        self.show("fetching", bytes, here);
    }

    fn advances(&self, bytes: u64) {
        self.bar.inc(bytes);
    }

    fn waits(&self, reason: &str, pause: Duration) {
        self.say(&format!("the server {reason}; again in {} s", pause.as_secs_f32()));
    }

    fn waits_for_another(&self) {
        self.say("another process fetches this file; waiting for it");
    }

    fn finds_damage(&self, path: &Path) {
        self.say(&format!("file `{}`: is damaged, and fetched again", path.display()));
    }

    fn goes_without_the_hub(&self, error: &PullError) {
        self.say(&format!("{error}; what is on this machine is whole and is taken"));
    }
}
