//! Deliberate mistakes in bf16, which rounding must not hide.
//!
//! Weights are changed in a copy of the model's files. For parts without weights, the input is changed.

use super::case::{Case, GoldenMeta, Goldens};
use super::measure::{Tolerance, ValueDistance};
use super::measured_case::MeasuredCase;
use super::{Measure, PartLine, means, model};
use crate::pipelines::ComputeSettings;
use crate::pipelines::families::flux::Flux;
use crate::pipelines::families::sd3::Sd3;
use candle_core::{DType, Tensor, safetensors};
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

type Tensors = HashMap<String, Tensor>;

const FLUX: &str = "tiny-flux";
const SD3: &str = "tiny-sd3";

fn goldens(name: &str) -> PathBuf {
    let goldens = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/goldens");
    goldens.join(name)
}

fn copy(from: &Path, to: &Path) {
    for entry in std::fs::read_dir(from)
        .expect("a readable folder")
        .flatten()
    {
        let (from, to) = (entry.path(), to.join(entry.file_name()));
        if from.is_dir() {
            std::fs::create_dir(&to).expect("a writable copy");
            copy(&from, &to);
        } else {
            std::fs::copy(&from, &to).expect("a writable copy");
        }
    }
}

/// A copy of a tiny model with changes in one file.
fn spoiled(name: &str, file: &str, spoil: impl Fn(&mut Tensors)) -> TempDir {
    let folder = tempfile::tempdir().expect("a temporary folder");
    copy(&goldens(name), folder.path());
    let path = folder.path().join(file);
    let bytes = std::fs::read(&path).expect("a weight file");
    let tensors = safetensors::load_buffer(&bytes, &candle_core::Device::Cpu);
    let mut tensors = tensors.expect("a good file");
    spoil(&mut tensors);
    safetensors::save(&tensors, &path).expect("a writable copy");
    folder
}

/// Multiplies every tensor whose name ends in `end`; there is at least one.
fn scale(end: &'static str, factor: f64) -> impl Fn(&mut Tensors) {
    move |tensors| {
        let chosen = tensors.iter_mut().filter(|(name, _)| name.ends_with(end));
        let scaled = chosen.map(|(_, tensor)| {
            let wide = tensor.to_dtype(DType::F32).and_then(|wide| wide * factor);
            let narrow = wide.and_then(|wide| wide.to_dtype(tensor.dtype()));
            *tensor = narrow.expect("a finite tensor");
        });
        assert!(scaled.count() > 0, "no tensor ends in {end}");
    }
}

/// Swaps every tensor whose name ends in `first` with its neighbour that ends in `second`.
fn exchange(first: &'static str, second: &'static str) -> impl Fn(&mut Tensors) {
    move |tensors| {
        let names = tensors.keys().filter_map(|name| name.strip_suffix(first));
        let stems: Vec<String> = names.map(str::to_owned).collect();
        assert!(!stems.is_empty(), "no tensor ends in {first}");
        for stem in stems {
            let names = [first, second].map(|end| format!("{stem}{end}"));
            let [one, two] = names.each_ref().map(|name| tensors[name].clone());
            tensors.extend(names.into_iter().zip([two, one]));
        }
    }
}

/// All lines of a folder's cases in bf16, including means. `alter` changes a case.
fn lines(folder: &Path, alter: impl Fn(&mut Case)) -> Vec<PartLine> {
    let mut meta = GoldenMeta::read(folder).expect("a folder of goldens");
    meta.cases.values_mut().for_each(alter);
    let measure = Measure::of(DType::BF16);
    let settings = ComputeSettings {
        dtype: DType::BF16,
        ..ComputeSettings::default()
    };
    let mut lines = Vec::new();
    let mut sink = |line: PartLine| lines.push(line);
    let cases = meta.cases.iter();
    let cases = cases.map(|(name, case)| MeasuredCase::new(folder, name, case, measure));
    for case in cases {
        let measured = if folder.join("flux1-schnell.safetensors").is_file() {
            let model =
                model::load::<Flux>(folder, settings, measure.device).expect("a good folder");
            model::measure(&case, &model, &mut sink)
        } else {
            let model =
                model::load::<Sd3>(folder, settings, measure.device).expect("a good folder");
            model::measure(&case, &model, &mut sink)
        };
        measured.expect("goldens of every part");
    }
    let means = means(&lines);
    lines.extend(means);
    lines
}

/// The parts that exceed their tolerance.
fn broken(lines: &[PartLine]) -> Vec<String> {
    let beyond = lines.iter().filter(|line| !line.within());
    beyond
        .map(|line| format!("{} {}", line.case, line.part))
        .collect()
}

#[track_caller]
fn assert_broken(folder: &Path, part: &str) {
    let lines = lines(folder, |_| {});
    for line in lines.iter().filter(|line| line.case.ends_with("mean")) {
        println!(
            "{} {}: {:.2e}",
            line.case, line.part, line.distance.relative
        );
    }
    let broken = broken(&lines);
    assert!(
        broken.iter().any(|found| found.contains(part)),
        "{broken:?}"
    );
}

#[test]
fn unchanged_models_are_within_every_tolerance_in_bf16() {
    for name in [FLUX, SD3] {
        let lines = lines(&goldens(name), |_| {});
        for line in lines.iter().filter(|line| line.case.ends_with("mean")) {
            println!(
                "{} {}: {:.2e}",
                line.case, line.part, line.distance.relative
            );
        }
        assert_eq!(broken(&lines), Vec::<String>::new());
    }
}

#[test]
fn swapped_norms_of_queries_and_keys_are_detected_in_bf16() {
    let spoil = exchange("query_norm.scale", "key_norm.scale");
    let folder = spoiled(FLUX, "flux1-schnell.safetensors", spoil);
    assert_broken(folder.path(), "pred");
    let spoil = exchange("x_block.attn.ln_q.weight", "x_block.attn.ln_k.weight");
    let folder = spoiled(SD3, "sd3.5_large_turbo.safetensors", spoil);
    assert_broken(folder.path(), "pred");
}

#[test]
fn queries_keys_and_values_a_third_too_large_are_detected_in_bf16() {
    // In every block, because rounding to bf16 hides the mistake in a single block.
    let spoil = scale("img_attn.qkv.weight", 1.3);
    let folder = spoiled(FLUX, "flux1-schnell.safetensors", spoil);
    assert_broken(folder.path(), "pred");
    let spoil = scale("x_block.attn.qkv.weight", 1.3);
    let folder = spoiled(SD3, "sd3.5_large_turbo.safetensors", spoil);
    assert_broken(folder.path(), "pred");
}

#[test]
fn last_products_of_t5_3_percent_too_large_are_detected_in_bf16() {
    for name in [FLUX, SD3] {
        let spoil = scale("DenseReluDense.wo.weight", 1.03);
        let folder = spoiled(name, "t5xxl.safetensors", spoil);
        assert_broken(folder.path(), "t5_embeds");
    }
}

#[test]
fn guidance_one_percent_too_small_is_detected_in_bf16() {
    let spoil = |case: &mut Case| case.cfg = case.cfg.map(|guidance| 0.99 * guidance);
    let broken = broken(&lines(&goldens(SD3), spoil));
    let seen = |part: &str| broken.iter().any(|found| found == part);
    assert!(
        seen("sd3_cfg step.0") && seen("sd3_cfg step.2"),
        "{broken:?}"
    );
}

#[test]
fn a_last_convolution_one_percent_too_large_is_detected_in_bf16() {
    let spoil = scale("decoder.conv_out.weight", 1.01);
    let folder = spoiled(FLUX, "ae.safetensors", &spoil);
    assert_broken(folder.path(), "vae_out");
    let folder = spoiled(SD3, "sd3.5_large_turbo.safetensors", &spoil);
    assert_broken(folder.path(), "vae_out");
}

#[test]
fn truncated_instead_of_rounded_bytes_are_detected_in_bf16() {
    let golden = Goldens::read(&goldens(SD3), "sd3_base").expect("a golden");
    let (picture, _) = golden.floats("vae_out", 0).expect("a picture");
    let plane = picture.len() / 3;
    let cut = |value: f32| f64::from(((value / 2.0 + 0.5).clamp(0.0, 1.0) * 255.0).floor());
    let pixels = (0..plane * 3).map(|i| cut(picture[i % 3 * plane + i / 3]));
    let bytes = golden.bytes("image_u8", 0).expect("bytes");
    let apart = ValueDistance::between(pixels, bytes.iter().map(|byte| f64::from(*byte)));
    let lines = lines(&goldens(SD3), |_| {});
    let bar = lines.iter().find(|line| line.part == "image_u8");
    let bar = bar.expect("a picture").bar;
    assert!(
        bar == Tolerance::BYTES && !bar.holds(&apart),
        "{bar:?} {apart:?}"
    );
    assert!(apart.max <= 1.0, "truncated, and nothing else: {apart:?}");
}
