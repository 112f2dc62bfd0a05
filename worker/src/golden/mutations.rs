//! Deliberate mistakes, as in other implementations: each exceeds a tolerance.
//!
//! The models are loaded unchanged, and then changed through methods that exist only in tests.

use super::case::{GoldenMeta, Goldens};
use super::measure::{Tolerance, ValueDistance};
use super::measured_case::{MeasuredCase, distance};
use super::{Measure, PartLine, model};
use crate::pipelines::ComputeSettings;
use crate::pipelines::encoders::Encoded;
use crate::pipelines::families;
use crate::pipelines::families::flux::{Flux, rope};
use crate::pipelines::families::sd3::Sd3;
use crate::pipelines::model::LoadedModel;
use crate::pipelines::parts::norms::RmsNorm;
use crate::pipelines::parts::sizes::ClipActivation;
use crate::sampling::packing;
use crate::sampling::sigmas;
use candle_core::{DType, Device, Tensor};
use ipc_protocol::units::PictureSize;
use std::path::PathBuf;

fn goldens(name: &str) -> PathBuf {
    let goldens = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/goldens");
    goldens.join(name)
}

fn sd3_model() -> LoadedModel<Sd3> {
    model::load::<Sd3>(
        &goldens("tiny-sd3"),
        ComputeSettings::default(),
        &Device::Cpu,
    )
    .expect("a good folder")
}

/// The parts of the base case that exceed their tolerance.
fn broken(ours: &LoadedModel<Sd3>) -> Vec<String> {
    let folder = goldens("tiny-sd3");
    let meta = GoldenMeta::read(&folder).expect("a folder of goldens");
    let measure = Measure::of(DType::F32);
    let case = MeasuredCase::new(&folder, "sd3_base", &meta.cases["sd3_base"], measure);
    let mut beyond = Vec::new();
    let mut sink = |line: PartLine| {
        if !line.within() {
            beyond.push(line.part);
        }
    };
    model::measure(&case, ours, &mut sink).expect("goldens of every part");
    beyond
}

#[track_caller]
fn assert_broken(ours: &LoadedModel<Sd3>, parts: &[&str]) {
    let broken = broken(ours);
    let seen = |part: &&str| broken.iter().any(|found| found == *part);
    assert!(parts.iter().all(seen), "{broken:?}");
}

#[test]
fn the_unchanged_model_is_within_every_tolerance() {
    assert_eq!(broken(&sd3_model()), Vec::<String>::new());
}

#[test]
fn a_missing_norm_of_the_last_blocks_prompt_keys_is_detected() {
    let mut model = sd3_model();
    let norm = model.transformer_mut().last_prompt_norm().expect("blocks");
    norm.key = RmsNorm::nothing(&norm.key).expect("a norm");
    assert_broken(&model, &["pred.0", "pred.3", "free.latents.3"]);
}

#[test]
fn a_gelu_with_tanh_in_clip_l_is_detected() {
    let mut model = sd3_model();
    let encoders = model.encoders_mut().expect("held encoders");
    encoders
        .clip_l_mut()
        .set_activation(ClipActivation::GeluTanh);
    assert_broken(&model, &["clip_l.penultimate", "clip_l.pooled", "context"]);
}

#[test]
fn padding_clip_l_with_0_is_detected() {
    let mut files = families::files::<Sd3>(&goldens("tiny-sd3")).expect("a good folder");
    files.described.sizes.encoders.clip_l.pad = 0;
    let model = LoadedModel::load(files, &Device::Cpu, ComputeSettings::default(), &mut |_| {});
    assert_broken(&model.expect("good files"), &["clip_l_ids", "context"]);
}

#[test]
fn shifting_the_last_sigma_only_once_is_detected() {
    let golden = Goldens::read(&goldens("tiny-sd3"), "sd3_base").expect("a golden");
    let golden = golden.shared("sigmas").expect("sigmas");
    let mut ours = sigmas::shifted_twice(4);
    let apart = |ours: &[f32]| {
        let [ours, golden] = [ours, &golden].map(|v| v.iter().map(|s| f64::from(*s)));
        ValueDistance::between(ours, golden)
    };
    assert!(Tolerance::Equal.holds(&apart(&ours)));
    ours[3] = 3.0 * 0.001 / (1.0 + 2.0 * 0.001); // 1 of 1000, shifted once
    assert!(!Tolerance::Equal.holds(&apart(&ours)));
    assert!(!Tolerance::FREE.holds(&apart(&ours)));
}

#[test]
fn positions_in_bf16_are_detected() {
    let at = goldens("tiny-flux");
    let files = families::files::<Flux>(&at).expect("a good folder");
    let model = LoadedModel::load(files, &Device::Cpu, ComputeSettings::default(), &mut |_| {});
    let model = model.expect("good files");
    let golden = Goldens::read(&at, "flux_base").expect("a golden");
    let tensor = |name: &str| {
        let (values, shape) = golden.floats(name, 0).expect("a tensor of the golden");
        Tensor::from_vec(values, shape, &Device::Cpu).expect("its shape")
    };
    let by = Encoded {
        text: tensor("t5_embeds"),
        pooled: tensor("pooled"),
    };
    let by = model
        .condition(
            &by,
            None,
            PictureSize {
                width: 64,
                height: 64,
            },
        )
        .expect("a condition");
    let apart = |by: &_| {
        let ours = model.predict(&tensor("latents_init"), 1.0, by);
        let ours = packing::pack(&ours.expect("a step")).expect("latents");
        distance(&ours, &tensor("pred.0")).expect("one length")
    };
    assert!(Tolerance::PART.holds(&apart(&by)));
    let positions = rope::positions(256, 4, 4);
    let spoiled = model.transformer().positions_in_bf16(by, &positions);
    assert!(!Tolerance::PART.holds(&apart(&spoiled.expect("a condition"))));
}
