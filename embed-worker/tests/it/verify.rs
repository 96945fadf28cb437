//! `embed-worker verify`: what it finds, how it says so, and its exit codes.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use embed_worker::gguf::GgufFile;
use embed_worker::kernels::DType;
use serde_json::Value;

use crate::support::gguf_writer::GgufWriter;
use crate::support::test_data;
use crate::support::worker::{real_model, tiny_model};

fn verify(model: &Path, more: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_embed-worker"));
    command.arg("verify").arg(model).args(more).env_remove("EMBED_MODEL");
    command.output().expect("the program starts")
}

/// The report, and the outcome and sentences of each check.
fn report(model: &Path, more: &[&str]) -> (Option<i32>, Value, Vec<(String, String)>) {
    let output = verify(model, &[more, &["--json"]].concat());
    let report: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let checks = report["checks"].as_array().expect("a list");
    let text = |value: &Value| value.as_str().expect("text").to_owned();
    let checks = checks
        .iter()
        .map(|check| {
            let says = check["says"].as_array().expect("a list").iter().map(text);
            (text(&check["outcome"]), says.collect::<Vec<_>>().join("\n"))
        })
        .collect();
    assert_eq!(report["sound"], output.status.success());
    (output.status.code(), report, checks)
}

fn outcomes(checks: &[(String, String)]) -> [&str; 4] {
    let all: Vec<&str> = checks.iter().map(|(outcome, _)| outcome.as_str()).collect();
    all.try_into().expect("structure, model, weights, SHA-256")
}

/// A copy of a model with some bytes changed, in a folder of its own.
fn damaged(model: &Path, change: impl FnOnce(&mut Vec<u8>)) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("model.gguf");
    let mut bytes = std::fs::read(model).expect("committed");
    change(&mut bytes);
    std::fs::write(&path, bytes).expect("ours");
    (folder, path)
}

#[test]
fn the_shipped_model_is_sound_and_its_digest_known() {
    let (code, report, checks) = report(&real_model(), &[]);
    assert_eq!(code, Some(0), "{report}");
    assert_eq!(outcomes(&checks), ["ok"; 4]);
    assert!(checks[3].1.contains("models/SHA256SUMS"), "{}", checks[3].1);
    assert_eq!(report["file_bytes"], 25_282_304);
    let text = String::from_utf8(verify(&real_model(), &[]).stdout).expect("UTF-8");
    assert!(text.trim_end().ends_with("sound") && !text.contains("BAD"), "{text}");
}

#[test]
fn a_model_that_nobody_knows_is_sound_without_a_digest() {
    let (code, report, checks) = report(&tiny_model(), &[]);
    assert_eq!((code, outcomes(&checks)), (Some(0), ["ok", "ok", "ok", "skipped"]), "{report}");
    let sha256 = report["sha256"].as_str().expect("always told");
    assert!(checks[3].1.contains(sha256));
}

#[test]
fn a_digest_from_the_command_line_or_a_file_beside_is_compared() {
    let (folder, path) = damaged(&tiny_model(), |_| ());
    let (_, first, _) = report(&path, &[]);
    let sha256 = first["sha256"].as_str().expect("always told");
    let other = "0".repeat(64);
    assert_eq!(outcomes(&report(&path, &["--sha256", sha256]).2), ["ok"; 4]);
    let (code, _, checks) = report(&path, &["--sha256", &other]);
    assert_eq!((code, outcomes(&checks)), (Some(1), ["ok", "ok", "ok", "bad"]));
    assert!(checks[3].1.contains(sha256) && checks[3].1.contains(&other), "{}", checks[3].1);
    let beside = folder.path().join("model.gguf.sha256");
    for (text, outcome) in
        [(format!("{sha256}  model.gguf\n"), "ok"), (other, "bad"), ("?".into(), "bad")]
    {
        std::fs::write(&beside, &text).expect("ours");
        assert_eq!(outcomes(&report(&path, &[]).2)[3], outcome, "{text}");
    }
}

#[test]
fn a_damaged_scale_is_found_in_tensors_of_every_type() {
    let bytes = std::fs::read(tiny_model()).expect("committed");
    let file = GgufFile::from_bytes(bytes).expect("sound");
    let mut types = std::collections::HashSet::new();
    for tensor in file.tensors().iter().filter(|tensor| types.insert(tensor.dtype())) {
        let place = tensor.offset()
            + match tensor.dtype() {
                // The upper half of the first number.
                DType::F32 => 2,
                // The scale of the first block.
                DType::Q4_0 => 0,
                DType::Q6_K => 208,
                dtype => panic!("{}: {dtype} is not in this model", tensor.name()),
            };
        let (_folder, path) =
            damaged(&tiny_model(), |bytes| bytes[place..][..2].copy_from_slice(&[0xff, 0x7f]));
        let (code, report, checks) = report(&path, &[]);
        assert_eq!(code, Some(1), "{report}");
        let (outcome, says) = &checks[2];
        assert_eq!(outcome, "bad", "{}: {says}", tensor.name());
        assert!(says.contains(tensor.name()) && says.contains("row 0"), "{says}");
        assert_eq!(report["checks"][2]["code"], "EMBED_MODEL_INVALID");
    }
}

#[test]
fn a_tensor_that_no_model_uses_is_checked_as_well() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("spare.gguf");
    let values = [1.0_f32, f32::NAN, 2.0].map(f32::to_le_bytes).concat();
    let file = GgufWriter::new().tensor("spare", &[3], 0, 0).data(&values).finish();
    std::fs::write(&path, file).expect("ours");
    let (code, _, checks) = report(&path, &[]);
    assert_eq!((code, outcomes(&checks)), (Some(1), ["ok", "bad", "bad", "skipped"]));
    assert_eq!(checks[2].1, "tensor `spare`: row 0, at or after element 1: not finite");
}

#[test]
fn what_is_no_model_is_told_and_still_has_a_digest() {
    let (_folder, path) = damaged(&tiny_model(), |bytes| bytes.truncate(bytes.len() - 1));
    let (code, report, checks) = report(&path, &[]);
    assert_eq!((code, outcomes(&checks)), (Some(1), ["bad", "skipped", "skipped", "skipped"]));
    assert!(checks[0].1.contains("file ends at"), "{}", checks[0].1);
    assert_eq!(report["checks"][0]["code"], "EMBED_MODEL_INVALID");
    let folder = tempfile::tempdir().expect("a folder");
    let other = folder.path().join("other.gguf");
    let values = 1.0_f32.to_le_bytes();
    let file = GgufWriter::new()
        .string("general.architecture", "mamba")
        .tensor("spare", &[1], 0, 0)
        .data(&values)
        .finish();
    std::fs::write(&other, file).expect("ours");
    let (_, _, checks) = self::report(&other, &[]);
    assert_eq!(outcomes(&checks), ["ok", "bad", "ok", "skipped"], "whole, but does not run here");
}

#[test]
fn a_missing_file_and_a_wrong_command_line_have_codes_of_their_own() {
    let missing = verify(&test_data("no-such.gguf"), &[]);
    assert_eq!(missing.status.code(), Some(1));
    let stderr = String::from_utf8_lossy(&missing.stderr);
    assert!(stderr.contains("EMBED_MODEL_NOT_FOUND") && missing.stdout.is_empty(), "{stderr}");
    for wrong in [["--sha256", "abc"], ["--no-such", "option"]] {
        assert_eq!(verify(&tiny_model(), &wrong).status.code(), Some(2), "{wrong:?}");
    }
}
