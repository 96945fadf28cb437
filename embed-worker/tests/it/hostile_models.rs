//! Models that are damaged or lie about themselves, through the engine: each ends in a vector of
//! numbers or in an error that names what is wrong.

use embed_worker::config::MEMORY_BUDGET;
use embed_worker::engine::{Engine, EngineError, EngineOptions, TokenBatch};
use embed_worker::gguf::GgufFile;
use embed_worker::kernels::{DType, Isa};

use crate::memory_mapped_gguf::JUDGED_BY_THE_MODEL;
use crate::support::hostile::Hostile;
use crate::support::test_data;

/// Embeds a text with the model in `bytes`.
fn embed(bytes: Vec<u8>, isa: Isa) -> Result<Vec<f32>, EngineError> {
    let options = EngineOptions { threads: 1, isa, batch_tokens: 64, memory_budget: MEMORY_BUDGET };
    let file = GgufFile::from_bytes(bytes)?;
    let mut engine = Engine::from_gguf(&file, "hostile", &options)?;
    let mut batch = TokenBatch::new();
    engine.tokenize("hello the", true, &mut batch)?;
    engine.embed(&batch)?.vector(0, None, true)
}

#[test]
fn every_hostile_model_meets_its_expectation() {
    let mut failed = Vec::new();
    let all = Hostile::all();
    assert!(all.len() > 150, "all files are there, not only {}", all.len());
    for hostile in &all {
        let outcome = embed(hostile.bytes(), Isa::best());
        let finite = outcome.as_ref().is_ok_and(|vector| vector.iter().all(|v| v.is_finite()));
        let said = outcome.as_ref().map_or_else(ToString::to_string, |_| "a vector".into());
        let met = match hostile.expect.as_str() {
            // Files of architectures that do not run are refused as such.
            "ok" => finite || said.contains("not supported"),
            "reject" | "error-no-nan" => outcome.is_err(),
            _ => finite || outcome.is_err(),
        };
        if !met {
            failed.push(format!("{} ({}): {said}", hostile.file, hostile.what));
        }
    }
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}

#[test]
fn what_the_model_refuses_is_named() {
    let mut unnamed = Vec::new();
    let mut judged = 0;
    for hostile in Hostile::all() {
        let name = hostile.file.trim_end_matches(".gguf");
        if JUDGED_BY_THE_MODEL.contains(&name) {
            judged += 1;
            let said = embed(hostile.bytes(), Isa::best()).expect_err(name).to_string();
            let names_it = ["key `", "tensor `", "architecture `"].iter().any(|w| said.contains(w));
            if !names_it {
                unnamed.push(format!("{name}: {said}"));
            }
        }
    }
    assert_eq!(judged, JUDGED_BY_THE_MODEL.len());
    assert!(unnamed.is_empty(), "{}", unnamed.join("\n"));
}

/// Where the f16 scales and minimums stand in a block, or the numbers themselves.
fn f16_offsets(dtype: DType) -> &'static [usize] {
    match dtype {
        DType::Q4_0 | DType::Q5_0 | DType::Q8_0 | DType::IQ4_NL | DType::IQ4_XS => &[0],
        DType::Q4_1 | DType::Q5_1 | DType::Q4_K | DType::Q5_K => &[0, 2],
        DType::Q2_K => &[80, 82],
        DType::Q3_K => &[108],
        DType::Q6_K => &[208],
        DType::F32 | DType::F16 | DType::BF16 => &[],
    }
}

#[test]
fn a_scale_that_is_not_finite_never_becomes_a_vector() {
    let mut seen = std::collections::BTreeSet::new();
    let models = [
        "nomic-bert-Q2_K",
        "nomic-bert-Q3_K_M",
        "nomic-bert-IQ4_XS",
        "bert-cls-Q5_K_M",
        "bert-mean-Q4_0",
    ];
    for model in models {
        let bytes = std::fs::read(test_data("golden").join(model).with_extension("gguf"));
        let bytes = bytes.expect("committed");
        let file = GgufFile::from_bytes(bytes.clone()).expect("sound");
        let matrices = file.tensors().iter().filter(|tensor| tensor.name().starts_with("blk."));
        for tensor in matrices {
            let dtype = tensor.dtype();
            for offset in f16_offsets(dtype) {
                if !seen.insert((dtype.to_string(), *offset)) {
                    continue;
                }
                // In the last block of the last row, so that a tail is not passed over.
                let block = tensor.bytes().len() - dtype.block_bytes();
                let place = tensor.offset() + block + offset;
                for value in [0x7e00_u16, 0x7c00, 0xfc00] {
                    let mut damaged = bytes.clone();
                    damaged[place..place + 2].copy_from_slice(&value.to_le_bytes());
                    for isa in Isa::all_supported() {
                        let error = embed(damaged.clone(), isa).expect_err("damaged").to_string();
                        assert!(error.contains(tensor.name()), "{model} {dtype} {isa}: {error}");
                        let row = format!("row {}", tensor.rows() - 1);
                        assert!(error.contains(&row), "{model} {dtype} {isa}: {error}");
                    }
                }
            }
        }
    }
    let dtypes: std::collections::BTreeSet<_> = seen.iter().map(|(dtype, _)| dtype).collect();
    assert!(dtypes.len() >= 8, "only {dtypes:?}");
}
