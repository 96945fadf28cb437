//! Where logs go, how much is written, and what a line looks like: the same for the worker and for
//! the addon in Node, so that the lines of both can stand in one file.
//!
//! ```text
//! tracing event -> Targets (EMBED_LOG) -> Lines (limit, one line) -> Output (stderr | RotatingFile)
//! ```
//!
//! Nothing here writes to standard output, and a log that cannot be written is never an error: a
//! program must not fail because it cannot say what it does.

mod file;
mod limit;
mod line;
mod output;

use std::ffi::OsString;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;

use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::{Layer, SubscriberExt};

pub use file::{LOG_FILE_BYTES_MAX, OLD_LOG_FILES_MAX};
pub use limit::{LINES_PER_PERIOD_MAX, PERIOD};
pub use line::LINE_BYTES_MAX;

use file::RotatingFile;
use line::{Format, Lines};
use output::Output;

/// What is logged: a level, or targets with a level each, for example `info` or `embed_worker=debug`.
pub const FILTER_VARIABLE: &str = "EMBED_LOG";

/// A file to log to instead of standard error.
pub const FILE_VARIABLE: &str = "EMBED_LOG_FILE";

/// `text` or `json`.
pub const FORMAT_VARIABLE: &str = "EMBED_LOG_FORMAT";

/// What is logged unless told otherwise.
const FILTER_DEFAULT: &str = "warn";

/// What the environment says about logs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// See [`FILTER_VARIABLE`].
    pub filter: Option<OsString>,
    /// See [`FILE_VARIABLE`].
    pub file: Option<PathBuf>,
    /// See [`FORMAT_VARIABLE`].
    pub format: Option<OsString>,
}

impl Settings {
    /// Those of this process. An empty variable is as good as none; a file's path is made absolute,
    /// so that a later change of directory moves no log.
    pub fn from_env() -> Self {
        let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty());
        let file = variable(FILE_VARIABLE).map(PathBuf::from);
        Self {
            filter: variable(FILTER_VARIABLE),
            file: file.map(|path| std::path::absolute(&path).unwrap_or(path)),
            format: variable(FORMAT_VARIABLE),
        }
    }

    /// Whether somebody asked for logs at all.
    pub fn are_wanted(&self) -> bool {
        self.filter.is_some() || self.file.is_some()
    }

    /// Logs everything that this process says from now on, in the name of `program`. The first call
    /// counts; any other changes nothing.
    ///
    /// Keep the value until the end: dropping it says what was left out.
    pub fn start(self, program: &'static str) -> Logging {
        let (filter, bad_filter) = understood(self.filter, FILTER_DEFAULT);
        let (format, bad_format) = understood::<Format>(self.format, "text");
        let file = self.file.map(RotatingFile::new);
        // Tried once, so that a path which leads nowhere is told, and told where it can be read.
        let opened = file.as_ref().map_or(Ok(()), RotatingFile::try_open);
        let output = match (file, &opened) {
            (Some(file), Ok(())) => Output::File(Arc::new(file)),
            _ => Output::Stderr,
        };
        let lines = Arc::new(Lines::new(program, format));
        let subscriber = subscriber(filter, Arc::clone(&lines), output.clone());
        if tracing::subscriber::set_global_default(subscriber).is_err() {
            return Logging(None);
        }
        if let Some(found) = bad_filter {
            tracing::warn!(
                found,
                "{FILTER_VARIABLE}: no filter like `info` or `embed_worker=debug`"
            );
        }
        if let Some(found) = bad_format {
            tracing::warn!(found, "{FORMAT_VARIABLE}: neither `text` nor `json`");
        }
        if let Err(error) = opened {
            tracing::warn!(%error, "{FILE_VARIABLE}: cannot be written; logging here instead");
        }
        Logging(Some((lines, output)))
    }
}

/// Everything from filter to output.
fn subscriber(
    filter: Targets,
    lines: Arc<Lines>,
    output: Output,
) -> impl tracing::Subscriber + Send + Sync {
    let layer = tracing_subscriber::fmt::layer()
        .event_format(line::ByReference(lines))
        .with_ansi(false)
        // A log that cannot be written is not complained of: who read it may be gone.
        .log_internal_errors(false)
        .with_writer(output);
    tracing_subscriber::registry().with(layer.with_filter(filter))
}

/// A setting and, if it was given and not understood, what was given instead.
fn understood<T: FromStr>(given: Option<OsString>, default: &str) -> (T, Option<String>) {
    let given = given.map(|given| given.to_string_lossy().into_owned());
    if let Some(given) = &given
        && let Ok(setting) = given.parse()
    {
        return (setting, None);
    }
    let setting = default.parse().unwrap_or_else(|_| unreachable!("`{default}` is understood"));
    (setting, given)
}

/// Logging under way.
#[derive(Debug)]
pub struct Logging(Option<(Arc<Lines>, Output)>);

impl Drop for Logging {
    fn drop(&mut self) {
        if let Some((lines, output)) = &self.0 {
            output.write_line(lines.what_was_left_out().as_bytes());
        }
    }
}

#[cfg(test)]
mod tests;
