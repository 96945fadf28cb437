//! `stats --prometheus`, read by a reader that takes nothing but the format.

use super::exposition::{Family, Sample, parse};
use super::{serve, told};
use crate::support::peer::Peer;

/// The value of the one sample with these labels, of those that a worker adds to its own.
fn value(family: &Family, name: &str, labels: &[(&str, &str)]) -> f64 {
    let matches = |sample: &&Sample| {
        sample.name == name
            && sample.labels.len() == labels.len() + 2
            && labels
                .iter()
                .all(|(label, text)| sample.labels.get(*label).is_some_and(|found| found == text))
    };
    let found: Vec<&Sample> = family.samples.iter().filter(matches).collect();
    assert_eq!(found.len(), 1, "{name} {labels:?}: {found:?}");
    found[0].value
}

#[tokio::test]
async fn figures_are_in_the_format_and_in_base_units() {
    let (home, worker) = serve();
    let mut peer = Peer::open(&home).await;
    for id in 0..10 {
        peer.embed(id, "a text").await;
        peer.vector().await;
    }
    peer.embed(30, &"too long ".repeat(1000)).await;
    peer.error().await;
    let stats = peer.stats().await;
    let text = told(&home, &["stats", "--prometheus"], 0);
    let families = parse(&text).unwrap_or_else(|error| panic!("{error}\n{text}"));
    let one = |name: &str| value(&families[name], name, &[]);
    assert_eq!(one("embed_worker_up"), 1.0);
    let requests = |outcome| {
        let name = "embed_worker_requests_total";
        value(&families[name], name, &[("outcome", outcome)])
    };
    assert_eq!(requests("vector"), 10.0);
    assert_eq!(requests("EMBED_TEXT_TOO_LONG"), 1.0);
    assert_eq!(requests("EMBED_OVERLOADED"), 0.0, "a series is there before its first event");
    assert_eq!(one("embed_worker_tokens_total"), stats.tokens as f64);
    assert_eq!(one("embed_worker_compute_seconds_total"), stats.compute_us as f64 / 1e6);
    assert_eq!(one("embed_worker_clients"), 1.0);
    if cfg!(target_os = "linux") {
        assert!(one("embed_worker_private_memory_bytes") > 100_000.0);
    }
    let duration = &families["embed_worker_request_duration_seconds"];
    assert_eq!(duration.kind, "summary");
    let name = "embed_worker_request_duration_seconds";
    for stage in ["queue", "tokenize", "compute", "total"] {
        let count = value(duration, &format!("{name}_count"), &[("stage", stage)]);
        let sum = value(duration, &format!("{name}_sum"), &[("stage", stage)]);
        let at = |quantile| value(duration, name, &[("stage", stage), ("quantile", quantile)]);
        assert_eq!(count, 10.0);
        let rising = [at("0.5"), at("0.9"), at("0.99"), at("1")];
        assert!(rising.is_sorted() && sum <= 10.0 * at("1"), "{stage}: {rising:?}, {sum}");
    }
    let longest = value(duration, name, &[("stage", "compute"), ("quantile", "1")]);
    assert_eq!(longest, stats.latency.compute.max_us as f64 / 1e6);
    for sample in families.values().flat_map(|family| &family.samples) {
        assert_eq!(sample.labels["pid"], worker.pid().to_string(), "{sample:?}");
        assert!(sample.labels["model"].ends_with("bert-mean-Q4_0.gguf"), "{sample:?}");
    }
}

#[cfg(unix)]
#[test]
fn a_path_may_hold_what_a_label_escapes() {
    use crate::support::worker::{Home, Worker, tiny_model};

    let folder = tempfile::tempdir().expect("a folder");
    let model = folder.path().join("a \"b\"\\c\nd.gguf");
    std::fs::copy(tiny_model(), &model).expect("ours");
    let home = Home::new();
    let _worker = Worker::ready(home.serve(&model).args(["--idle-timeout", "30"]));
    let text = told(&home, &["stats", "--prometheus"], 0);
    let families = parse(&text).unwrap_or_else(|error| panic!("{error}\n{text}"));
    let model = model.canonicalize().expect("is there");
    let label = &families["embed_worker_up"].samples[0].labels["model"];
    assert_eq!(label, model.to_str().expect("text"));
    // Before the first text there is no percentile.
    let duration = &families["embed_worker_request_duration_seconds"];
    assert!(duration.samples.iter().any(|sample| sample.value.is_nan()));
}

#[test]
fn a_worker_that_hangs_is_not_up_and_has_no_figures() {
    let (home, worker) = serve();
    worker.suspend();
    let text = told(&home, &["stats", "--prometheus"], 1);
    let families = parse(&text).unwrap_or_else(|error| panic!("{error}\n{text}"));
    for (name, family) in families {
        if name == "embed_worker_up" {
            assert_eq!(value(&family, &name, &[]), 0.0);
        } else {
            assert_eq!(family.samples.len(), 0, "{name}");
        }
    }
}
