//! The figures in the text format of Prometheus, version 0.0.4.
//!
//! Base units only (seconds, bytes); counters end in `_total`; every sample says which worker's it is
//! by `pid` and `model`.

use std::fmt::Write as _;
use std::io::{self, Write};

use embed_protocol::stats::Durations;
use embed_protocol::{StatsSnapshot, WorkerHello};

/// A worker as its figures are written.
#[derive(Clone, Copy, Debug)]
pub struct Scraped<'a> {
    /// Its process.
    pub pid: u32,
    /// The path of its model.
    pub model: &'a str,
    /// What it says, if it answers.
    pub answer: Option<(&'a WorkerHello, &'a StatsSnapshot)>,
}

/// A metric: its name, type and meaning, and the samples of one worker.
struct Family {
    name: &'static str,
    kind: &'static str,
    help: &'static str,
    samples: fn(&StatsSnapshot, &mut Samples<'_>),
}

/// Where the samples of one worker go.
struct Samples<'a> {
    out: &'a mut String,
    name: &'static str,
    /// Labels that all samples of this worker have.
    worker: &'a str,
}

impl Samples<'_> {
    /// One sample without labels of its own.
    fn one(&mut self, value: f64) {
        self.labelled("", &[], value);
    }

    /// One sample; `suffix` is of its name.
    fn labelled(&mut self, suffix: &str, labels: &[(&str, &str)], value: f64) {
        let Self { out, name, worker } = self;
        let _ = write!(out, "{name}{suffix}{{{worker}");
        for (label, text) in labels {
            let _ = write!(out, ",{label}=\"{}\"", escaped(text));
        }
        let _ = writeln!(out, "}} {value}");
    }
}

const fn counter(
    name: &'static str,
    help: &'static str,
    samples: fn(&StatsSnapshot, &mut Samples<'_>),
) -> Family {
    Family { name, kind: "counter", help, samples }
}

const fn gauge(
    name: &'static str,
    help: &'static str,
    samples: fn(&StatsSnapshot, &mut Samples<'_>),
) -> Family {
    Family { name, kind: "gauge", help, samples }
}

const FAMILIES: [Family; 18] = [
    gauge("embed_worker_uptime_seconds", "Time since the worker is ready.", |stats, samples| {
        samples.one(stats.uptime_ms as f64 / 1e3);
    }),
    gauge("embed_worker_connections", "Open connections.", |stats, samples| {
        samples.one(stats.connections.into());
    }),
    gauge(
        "embed_worker_clients",
        "Open connections that keep the worker from leaving.",
        |stats, samples| samples.one(stats.clients.into()),
    ),
    counter(
        "embed_worker_connections_opened_total",
        "Connections accepted since the start.",
        |stats, samples| samples.one(stats.connections_opened as f64),
    ),
    counter(
        "embed_worker_connections_refused_total",
        "Connections refused for want of room.",
        |stats, samples| samples.one(stats.connections_refused as f64),
    ),
    counter(
        "embed_worker_protocol_errors_total",
        "Connections closed because their peer broke the protocol.",
        |stats, samples| samples.one(stats.protocol_errors as f64),
    ),
    counter(
        "embed_worker_requests_total",
        "Texts answered, by outcome: vector, or an error's code.",
        |stats, samples| {
            samples.labelled("", &[("outcome", "vector")], stats.vectors as f64);
            for (code, count) in &stats.errors_by_code {
                samples.labelled("", &[("outcome", code)], *count as f64);
            }
        },
    ),
    Family {
        name: "embed_worker_request_duration_seconds",
        kind: "summary",
        help: "How long texts that were answered with a vector took in the worker, by stage.",
        samples: |stats, samples| {
            let latency = &stats.latency;
            summary(samples, "queue", &latency.queue);
            summary(samples, "tokenize", &latency.tokenize);
            summary(samples, "compute", &latency.compute);
            summary(samples, "total", &latency.total);
        },
    },
    counter("embed_worker_tokens_total", "Tokens embedded.", |stats, samples| {
        samples.one(stats.tokens as f64);
    }),
    gauge(
        "embed_worker_recent_tokens_per_second",
        "Tokens embedded a second in the last minute.",
        |stats, samples| samples.one(stats.recent_tokens_per_second()),
    ),
    counter("embed_worker_batches_total", "Batches computed.", |stats, samples| {
        samples.one(stats.batches as f64);
    }),
    gauge(
        "embed_worker_batch_fill_ratio",
        "How full batches were on average since the start, where 1 is full.",
        |stats, samples| samples.one(stats.batch_fill()),
    ),
    counter(
        "embed_worker_compute_seconds_total",
        "Time spent in computing batches.",
        |stats, samples| samples.one(stats.compute_us as f64 / 1e6),
    ),
    gauge("embed_worker_queue_texts", "Texts waiting for a batch, by lane.", |stats, samples| {
        samples.labelled("", &[("lane", "interactive")], stats.queue.interactive.texts.into());
        samples.labelled("", &[("lane", "bulk")], stats.queue.bulk.texts.into());
    }),
    gauge(
        "embed_worker_queue_bytes",
        "Bytes of the texts that wait, by lane.",
        |stats, samples| {
            samples.labelled("", &[("lane", "interactive")], stats.queue.interactive.bytes as f64);
            samples.labelled("", &[("lane", "bulk")], stats.queue.bulk.bytes as f64);
        },
    ),
    gauge(
        "embed_worker_texts_in_work",
        "Texts taken from the queue and not yet answered.",
        |stats, samples| samples.one(stats.queue.in_work.into()),
    ),
    gauge("embed_worker_threads", "Threads that compute.", |stats, samples| {
        samples.one(stats.threads.into());
    }),
    gauge(
        "embed_worker_private_memory_bytes",
        "The worker's own memory, mapped files not counted.",
        |stats, samples| {
            if let Some(bytes) = stats.private_bytes {
                samples.one(bytes as f64);
            }
        },
    ),
];

fn summary(samples: &mut Samples<'_>, stage: &str, durations: &Durations) {
    let Durations { count, sum_us, p50_us, p90_us, p99_us, max_us } = *durations;
    let quantiles = [("0.5", p50_us), ("0.9", p90_us), ("0.99", p99_us), ("1", max_us)];
    for (quantile, us) in quantiles {
        // Of no requests there is no percentile.
        let seconds = if count > 0 { us as f64 / 1e6 } else { f64::NAN };
        samples.labelled("", &[("stage", stage), ("quantile", quantile)], seconds);
    }
    samples.labelled("_sum", &[("stage", stage)], sum_us as f64 / 1e6);
    samples.labelled("_count", &[("stage", stage)], count as f64);
}

/// Writes all figures of all workers, family by family, as the format wants it.
///
/// # Errors
///
/// Those of `out`.
pub fn write(out: &mut impl Write, workers: &[Scraped<'_>]) -> io::Result<()> {
    let mut text = String::new();
    let labels: Vec<String> = workers
        .iter()
        .map(|Scraped { pid, model, .. }| format!("pid=\"{pid}\",model=\"{}\"", escaped(model)))
        .collect();
    let all = || workers.iter().zip(&labels);
    head(&mut text, "embed_worker_up", "gauge", "Whether the worker answers.");
    for (worker, labels) in all() {
        let mut up = Samples { out: &mut text, name: "embed_worker_up", worker: labels };
        up.one(f64::from(u8::from(worker.answer.is_some())));
    }
    head(&mut text, "embed_worker_info", "gauge", "What the worker is; always 1.");
    for (worker, labels) in all() {
        let mut info = Samples { out: &mut text, name: "embed_worker_info", worker: labels };
        if let Some((hello, _)) = worker.answer {
            let model = &hello.model;
            let labels = [
                ("version", hello.version.as_str()),
                ("kernels", &hello.kernels),
                ("name", &model.name),
                ("architecture", &model.architecture),
                ("quantization", &model.quantization),
            ];
            info.labelled("", &labels, 1.0);
        }
    }
    for Family { name, kind, help, samples } in FAMILIES {
        head(&mut text, name, kind, help);
        for (worker, labels) in all() {
            if let Some((_, stats)) = worker.answer {
                samples(stats, &mut Samples { out: &mut text, name, worker: labels });
            }
        }
    }
    out.write_all(text.as_bytes())
}

fn head(text: &mut String, name: &str, kind: &str, help: &str) {
    let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}");
}

/// A label's text between its quotes.
fn escaped(text: &str) -> String {
    text.replace('\\', r"\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_escaped() {
        assert_eq!(escaped("C:\\m \"1\"\n.gguf"), r#"C:\\m \"1\"\n.gguf"#);
    }

    #[test]
    fn names_are_unique_and_counters_alone_end_in_total() {
        let mut names: Vec<_> = FAMILIES.iter().map(|family| family.name).collect();
        for Family { name, kind, .. } in &FAMILIES {
            assert_eq!(name.ends_with("_total"), *kind == "counter", "{name}");
        }
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), FAMILIES.len());
    }
}
