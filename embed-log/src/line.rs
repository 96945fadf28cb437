//! What an event looks like: one line, of bounded length, that says which process wrote it.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Instant;

use tracing::{Event, Metadata, Subscriber};
use tracing_subscriber::fmt::FmtContext;
use tracing_subscriber::fmt::format::{self, FormatEvent, FormatFields, Writer};
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};
use tracing_subscriber::registry::LookupSpan;

use crate::limit::{Limit, Verdict};

/// Most bytes of a line. What a peer sends is shown in parts only, so that nothing useful is longer.
pub const LINE_BYTES_MAX: usize = 4096;

/// What lines are made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    Text,
    Json,
}

impl FromStr for Format {
    type Err = ();

    fn from_str(name: &str) -> Result<Self, ()> {
        match name {
            "text" => Ok(Self::Text),
            "json" => Ok(Self::Json),
            _ => Err(()),
        }
    }
}

/// Turns events into lines.
#[derive(Debug)]
pub(crate) struct Lines {
    program: &'static str,
    pid: u32,
    format: Format,
    limit: Limit,
}

impl Lines {
    pub(crate) fn new(program: &'static str, format: Format) -> Self {
        Self { program, pid: std::process::id(), format, limit: Limit::default() }
    }

    /// A line for each place that has left out lines and not told yet; those are counted as told.
    pub(crate) fn what_was_left_out(&self) -> String {
        let mut lines = String::new();
        for (what, left_out) in self.limit.take_left_out() {
            lines.push_str(&self.left_out(what, left_out));
        }
        lines
    }

    /// The line that says how many were left out.
    fn left_out(&self, what: &'static Metadata<'static>, left_out: u64) -> String {
        let message = "lines like this were left out";
        let place = what.file().unwrap_or_default();
        let line = what.line().unwrap_or_default();
        match self.format {
            Format::Text => {
                let (level, target) = (what.level(), what.target());
                self.finished(&format!(
                    "{level:>5} {target}: {message} left_out={left_out} place=\"{place}:{line}\""
                ))
            }
            Format::Json => {
                let fields = serde_json::json!({
                    "message": message, "left_out": left_out, "place": format!("{place}:{line}"),
                });
                let event = serde_json::json!({
                    "timestamp": now(), "level": what.level().as_str(), "fields": fields,
                    "target": what.target(),
                });
                self.finished(&event.to_string())
            }
        }
    }

    /// A whole line of what was formatted: with its process, nothing in it that ends a line or moves
    /// a cursor, and no longer than it may be.
    fn finished(&self, formatted: &str) -> String {
        let Self { program, pid, .. } = self;
        let mut line = match self.format {
            Format::Text => format!("{} {program}[{pid}] {}", now(), without_controls(formatted)),
            Format::Json => {
                let rest = formatted.strip_prefix('{').unwrap_or(formatted);
                format!("{{\"program\":\"{program}\",\"pid\":{pid},{rest}")
            }
        };
        let bytes = line.len();
        if bytes >= LINE_BYTES_MAX {
            line = match self.format {
                Format::Text => {
                    let note = format!(" [cut, {bytes} bytes]");
                    line.truncate(line.floor_char_boundary(LINE_BYTES_MAX - 1 - note.len()));
                    line + &note
                }
                // A part of an object is none.
                Format::Json => serde_json::json!({
                    "program": program, "pid": pid, "timestamp": now(), "level": "WARN",
                    "fields": {"message": "a line was too long", "bytes": bytes},
                })
                .to_string(),
            };
        }
        line.push('\n');
        line
    }

    fn format<S, N>(
        &self,
        ctx: &FmtContext<'_, S, N>,
        event: &Event<'_>,
    ) -> Result<String, fmt::Error>
    where
        S: Subscriber + for<'a> LookupSpan<'a>,
        N: for<'a> FormatFields<'a> + 'static,
    {
        let mut formatted = String::new();
        let writer = Writer::new(&mut formatted);
        match self.format {
            Format::Text => {
                format::format()
                    .without_time()
                    .with_ansi(false)
                    .format_event(ctx, writer, event)?;
            }
            Format::Json => {
                let json = format::format().json().with_current_span(false).with_span_list(false);
                json.format_event(ctx, writer, event)?;
            }
        }
        Ok(self.finished(formatted.trim_end_matches('\n')))
    }
}

/// The time in UTC, as `2026-01-31T12:00:00.000000Z`.
fn now() -> String {
    let mut text = String::new();
    // Writing to a string does not fail.
    let _ = SystemTime.format_time(&mut Writer::new(&mut text));
    text
}

/// `text` with control characters as Rust writes them.
fn without_controls(text: &str) -> String {
    let mut clean = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() {
            clean.extend(c.escape_default());
        } else {
            clean.push(c);
        }
    }
    clean
}

/// Lines that are also asked what they have left out.
pub(crate) struct ByReference(pub(crate) Arc<Lines>);

impl<S, N> FormatEvent<S, N> for ByReference
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        ctx: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let Self(lines) = self;
        let what = event.metadata();
        match lines.limit.ask(what, Instant::now()) {
            // Nothing is written of an empty line.
            Verdict::LeaveOut => Ok(()),
            Verdict::Write { left_out } => {
                if left_out > 0 {
                    writer.write_str(&lines.left_out(what, left_out))?;
                }
                writer.write_str(&lines.format(ctx, event)?)
            }
        }
    }
}
