//! `embed-worker bench` measures every product of a model, and says how.

use std::process::Command;

use crate::golden::default_model;

#[test]
fn bench_reports_every_kind_of_product_and_the_whole() {
    let output = Command::new(env!("CARGO_BIN_EXE_embed-worker"))
        .args(["bench", "--json", "--tokens", "2", "--threads", "1"])
        .arg(default_model())
        .output()
        .expect("the worker runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(report["threads"], 1);
    let sets = report["instruction_sets"].as_array().expect("an array");
    assert!(!sets.is_empty());
    for set in sets {
        let rows = set["rows"].as_array().expect("an array");
        let names: Vec<_> = rows.iter().filter_map(|row| row["what"].as_str()).collect();
        for kind in ["qkv", "attn_output", "ffn_up", "ffn_down", "whole pass"] {
            assert!(names.iter().any(|name| name.starts_with(kind)), "{kind} of {names:?}");
        }
        for row in rows {
            assert!(row["milliseconds"].as_f64() > Some(0.0), "{row}");
            assert!(row["roof_share"].as_f64().is_none_or(|share| share > 0.0), "{row}");
        }
    }
}

#[test]
fn bench_refuses_more_tokens_than_a_batch_takes() {
    let output = Command::new(env!("CARGO_BIN_EXE_embed-worker"))
        .args(["bench", "--tokens", "100000"])
        .output()
        .expect("the worker runs");
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("from 1 to 512"));
}
