//! Compares every part of our models with a reference, and checks that the tolerances can be exceeded.

mod altered;

use altered::Altered;
use candle_core::DType;
use std::path::{Path, PathBuf};
use worker::golden::measure::Tolerance;
use worker::golden::{self, GoldenReport, Measure, PartLine};

fn goldens(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/goldens")
        .join(name)
}

fn run(folder: &Path, case: &str, dtype: DType) -> GoldenReport {
    let chosen: Vec<String> = [case.to_owned()]
        .into_iter()
        .filter(|case| !case.is_empty())
        .collect();
    golden::run(folder, &chosen, dtype, &mut |_| {}).expect("a folder of goldens")
}

/// Number of parts of both cases, one of them with guidance.
const LINES_OF_SD3: usize = 67;

fn beyond(report: &GoldenReport) -> Vec<&PartLine> {
    report.lines.iter().filter(|line| !line.within()).collect()
}

#[test]
fn every_part_of_the_tiny_flux_model_is_within_its_tolerance() {
    let report = run(&goldens("tiny-flux"), "", DType::F32);
    assert_eq!(report.lines.len(), 44);
    assert!(beyond(&report).is_empty(), "{:#?}", beyond(&report));
}

#[test]
fn every_part_of_the_pocket_flux_model_is_within_its_tolerance() {
    let report = run(&goldens("pocket-flux"), "", DType::F32);
    assert_eq!(report.lines.len(), 80);
    assert!(beyond(&report).is_empty(), "{:#?}", beyond(&report));
}

#[test]
fn every_part_of_the_pocket_sd3_model_is_within_its_tolerance() {
    let report = run(&goldens("pocket-sd3"), "", DType::F32);
    assert_eq!(report.lines.len(), 108);
    assert!(beyond(&report).is_empty(), "{:#?}", beyond(&report));
}

#[test]
fn every_part_of_the_tiny_sd3_model_is_within_its_tolerance() {
    let report = run(&goldens("tiny-sd3"), "", DType::F32);
    assert_eq!(report.lines.len(), LINES_OF_SD3);
    assert!(beyond(&report).is_empty(), "{:#?}", beyond(&report));
}

#[test]
fn bf16_is_close_to_the_f32_reference_and_not_equal_to_it() {
    let report = run(&goldens("tiny-flux"), "flux_base", DType::BF16);
    assert!(beyond(&report).is_empty(), "{:#?}", beyond(&report));
    let prediction = report
        .lines
        .iter()
        .find(|line| line.part == "pred.0")
        .expect("a first step");
    assert!(prediction.distance.relative > 1e-4, "{prediction:?}");
}

#[test]
fn bf16_is_as_close_to_the_f32_reference_as_the_bf16_reference() {
    let (folder, half) = (goldens("tiny-flux"), goldens("tiny-flux-bf16"));
    let measure = Measure {
        half: Some(&half),
        ..Measure::of(DType::BF16)
    };
    let case = ["flux_base".to_owned()];
    let report = golden::run_beside(&folder, &case, measure, &mut |_| {});
    let report = report.expect("two folders of goldens");
    assert!(beyond(&report).is_empty(), "{:#?}", beyond(&report));
    let beside = |line: &&PartLine| matches!(line.bar, Tolerance::Beside { .. });
    let (means, parts): (Vec<&PartLine>, Vec<&PartLine>) = report
        .lines
        .iter()
        .filter(beside)
        .partition(|line| line.case == "flux mean");
    // Two encoders, then the velocities and latents of four steps.
    assert_eq!((parts.len(), means.len()), (10, 4), "{parts:#?}");
}

/// Changes the last bit of one stored value, for a tensor of each part.
#[test]
fn one_changed_bit_of_a_weight_exceeds_the_tolerance_of_its_part_and_no_other() {
    let part = |file, tensor, parts| (file, tensor, parts);
    let changes = [
        part(
            "t5xxl.safetensors",
            "encoder.block.0.layer.0.layer_norm.weight",
            vec!["t5_embeds"],
        ),
        part(
            "clip_l_flux.safetensors",
            "text_model.final_layer_norm.weight",
            vec!["pooled"],
        ),
        part(
            "flux1-schnell.safetensors",
            "double_blocks.1.img_attn.norm.key_norm.scale",
            vec!["pred", "latents"],
        ),
        part(
            "ae.safetensors",
            "decoder.norm_out.weight",
            vec!["vae_out", "image_u8"],
        ),
    ];
    for (file, tensor, parts) in changes {
        let copy = Altered::copy_of(&goldens("tiny-flux"));
        copy.tensor(file, tensor, |bytes| bytes[0] ^= 1);
        let report = run(copy.path(), "flux_base", DType::F32);
        let fed: Vec<&PartLine> = beyond(&report)
            .into_iter()
            .filter(|line| !line.part.starts_with("free"))
            .collect();
        let own = |line: &&PartLine| parts.iter().any(|part| line.part.starts_with(part));
        assert!(fed.iter().any(own), "{tensor}: {fed:#?}");
        assert!(fed.iter().all(own), "{tensor}: {fed:#?}");
    }
}

#[test]
fn an_unknown_case_is_an_error() {
    let fault = golden::run(
        &goldens("pocket-flux"),
        &["flux_none".to_owned()],
        DType::F32,
        &mut |_| {},
    );
    assert!(
        fault
            .err()
            .is_some_and(|fault| fault.to_string().contains("flux_none"))
    );
}
