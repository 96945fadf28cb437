//! What becomes of events, from the filter to the bytes.

use std::sync::Mutex;
use std::time::Instant;

use super::*;
use crate::limit::{Limit, Verdict};

/// Everything that `say` logs with this filter and format, and what is told at the end.
fn logged(filter: &str, format: Format, say: impl FnOnce()) -> Vec<String> {
    let memory = Arc::new(Mutex::new(Vec::new()));
    let output = Output::Memory(Arc::clone(&memory));
    let lines = Arc::new(Lines::new("program", format));
    let filter = filter.parse().expect("a filter");
    let subscriber = subscriber(filter, Arc::clone(&lines), output.clone());
    tracing::subscriber::with_default(subscriber, say);
    drop(Logging(Some((lines, output))));
    let text = String::from_utf8(memory.lock().expect("no panic").clone()).expect("text");
    assert!(text.is_empty() || text.ends_with('\n'));
    text.lines().map(String::from).collect()
}

#[test]
fn a_line_says_when_who_and_what() {
    let lines = logged("info", Format::Text, || {
        tracing::info!(request = %"1-2-3-4", tokens = 7, "answered");
        tracing::debug!("not asked for");
    });
    let [line] = &lines[..] else { panic!("{lines:?}") };
    let (time, rest) = line.split_once(' ').expect("a time");
    assert!(time.starts_with("20") && time.ends_with('Z'), "{line}");
    let process = format!("program[{}] ", std::process::id());
    let rest = rest.strip_prefix(&process).expect("the process");
    assert_eq!(rest, " INFO embed_log::tests: answered request=1-2-3-4 tokens=7");
}

#[test]
fn a_line_of_json_has_the_same() {
    let lines = logged("info", Format::Json, || {
        tracing::info!(request = %"1-2-3-4", tokens = 7, "answered \"so\"");
    });
    let line: serde_json::Value = serde_json::from_str(&lines[0]).expect("JSON");
    assert_eq!((&line["program"], &line["level"]), (&"program".into(), &"INFO".into()));
    assert_eq!(line["pid"], std::process::id());
    assert_eq!(line["target"], "embed_log::tests");
    assert_eq!(line["fields"]["message"], "answered \"so\"");
    assert_eq!(
        (&line["fields"]["request"], &line["fields"]["tokens"]),
        (&"1-2-3-4".into(), &7.into())
    );
    assert!(line["timestamp"].as_str().is_some_and(|time| time.ends_with('Z')), "{line}");
}

#[test]
fn what_a_peer_says_makes_no_line_of_its_own() {
    let hostile = "x\n2026-01-01T00:00:00Z root[1] ERROR forged\u{1b}[2J\r";
    for format in [Format::Text, Format::Json] {
        let lines = logged("warn", format, || {
            tracing::warn!(why = hostile, shown = %hostile, "{hostile}");
        });
        assert_eq!(lines.len(), 1, "{lines:?}");
        assert!(!lines[0].chars().any(char::is_control), "{lines:?}");
    }
}

#[test]
fn a_line_is_no_longer_than_it_may_be() {
    let long = "ü".repeat(LINE_BYTES_MAX);
    for format in [Format::Text, Format::Json] {
        let lines = logged("warn", format, || tracing::warn!(long, "what"));
        assert!(lines[0].len() < LINE_BYTES_MAX, "{} bytes", lines[0].len());
        assert!(lines[0].contains("bytes"), "it says so: {lines:?}");
        if format == Format::Json {
            serde_json::from_str::<serde_json::Value>(&lines[0]).expect("JSON");
        }
    }
}

#[test]
fn what_is_said_again_and_again_is_counted_instead() {
    let rounds = LINES_PER_PERIOD_MAX + 90;
    for format in [Format::Text, Format::Json] {
        let lines = logged("info", format, || {
            for round in 0..rounds {
                tracing::warn!(round, "again");
            }
            tracing::warn!("another place");
        });
        assert_eq!(lines.len() as u32, LINES_PER_PERIOD_MAX + 2, "{lines:?}");
        let last = lines.last().expect("not empty");
        assert!(last.contains("left out") && last.contains("90"), "{last}");
        assert!(last.contains("embed-log/src/tests.rs") || last.contains("tests.rs"), "{last}");
    }
}

#[test]
fn what_was_asked_for_is_not_limited() {
    let lines = logged("debug", Format::Text, || {
        for round in 0..5 * LINES_PER_PERIOD_MAX {
            tracing::debug!(round, "again");
        }
    });
    assert_eq!(lines.len() as u32, 5 * LINES_PER_PERIOD_MAX);
}

#[test]
fn the_next_line_after_a_period_tells_what_was_left_out() {
    /// The metadata of a warning of this test's own.
    fn metadata() -> &'static tracing::Metadata<'static> {
        use tracing::callsite::Callsite;
        let callsite = tracing::callsite! {
            name: "again", kind: tracing::metadata::Kind::EVENT, level: tracing::Level::WARN, fields:
        };
        callsite.metadata()
    }
    let (limit, start, what) = (Limit::default(), Instant::now(), metadata());
    for _ in 0..LINES_PER_PERIOD_MAX {
        assert_eq!(limit.ask(what, start), Verdict::Write { left_out: 0 });
    }
    assert_eq!(limit.ask(what, start), Verdict::LeaveOut);
    let almost = start + PERIOD - std::time::Duration::from_millis(1);
    assert_eq!(limit.ask(what, almost), Verdict::LeaveOut);
    assert_eq!(limit.ask(what, start + PERIOD), Verdict::Write { left_out: 2 });
    assert_eq!(limit.ask(what, start + PERIOD), Verdict::Write { left_out: 0 }, "told once");
    assert!(limit.take_left_out().is_empty());
}

#[test]
fn a_filter_names_a_level_or_targets() {
    let say = || {
        tracing::error!("error");
        tracing::info!("info");
        tracing::trace!("trace");
    };
    let count = |filter| logged(filter, Format::Text, say).len();
    assert_eq!(count("warn"), 1);
    assert_eq!(count("embed_log=info"), 2);
    assert_eq!(count("embed_log=trace,warn"), 3);
    assert_eq!(count("embed_worker=trace"), 0);
    assert_eq!(count("off"), 0);
}

#[test]
fn a_setting_that_is_not_understood_is_told_and_replaced() {
    let (filter, bad) = understood::<Targets>(Some("embed_worker=loud".into()), FILTER_DEFAULT);
    assert_eq!(bad.as_deref(), Some("embed_worker=loud"));
    assert_eq!(filter, "warn".parse().expect("a filter"));
    assert_eq!(
        understood::<Format>(Some("xml".into()), "text"),
        (Format::Text, Some("xml".into()))
    );
    assert_eq!(understood::<Format>(Some("json".into()), "text"), (Format::Json, None));
    assert_eq!(understood::<Format>(None, "text"), (Format::Text, None));
}

#[test]
fn logs_are_wanted_by_whoever_names_a_filter_or_a_file() {
    assert!(!Settings::default().are_wanted());
    assert!(!Settings { format: Some("json".into()), ..Default::default() }.are_wanted());
    assert!(Settings { filter: Some("info".into()), ..Default::default() }.are_wanted());
    assert!(Settings { file: Some("log".into()), ..Default::default() }.are_wanted());
}
