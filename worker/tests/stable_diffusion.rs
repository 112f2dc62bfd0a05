//! One Stable Diffusion 3.5 model in all common file layouts.

mod altered;
mod laid_out;

use altered::Altered;
use candle_core::{DType, Device};
use ipc_protocol::family::Family;
use ipc_protocol::units::PictureSize;
use laid_out::{
    GoldenCase, Measured, TOKENIZERS, assert_within, join, layout, picture, tiny, with,
};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::path::Path;
use worker::golden::measure::Tolerance;
use worker::pipelines::ComputeSettings;
use worker::pipelines::encoders::Encoded;
use worker::pipelines::families;
use worker::pipelines::families::sd3::{self, Sd3, naming};
use worker::pipelines::model::LoadedModel;
use worker::sampling::sigmas;
use worker::weights::{self, Meter, Section, Weights};

/// Size of the pictures in the layouts' goldens, in pixels.
const SIZE: PictureSize = PictureSize {
    width: 64,
    height: 64,
};
const SD3: &str = "tiny-sd3";
const SINGLE: &str = "sd3.5_large_turbo.safetensors";
const ENCODERS: [&str; 3] = [
    "text_encoders/clip_l.safetensors",
    "text_encoders/clip_g.safetensors",
    "t5xxl.safetensors",
];

#[test]
fn original_files_a_diffusers_folder_and_a_single_file_draw_the_same_bytes() {
    let tiny = tiny(SD3);
    let original = picture(&tiny);
    let diffusers = with(&layout("diffusers-sd3"), &tiny, &TOKENIZERS);
    // Both tiny models have the same T5, which is the third encoder in this family and the second in FLUX.
    let t5 = Altered::copy_of(&layout("diffusers-flux").join("text_encoder_2"));
    std::fs::rename(t5.path(), diffusers.file("text_encoder_3")).expect("a writable copy");
    assert!(picture(diffusers.path()) == original, "diffusers");
    let one = Altered::copy_of(&tiny);
    let mut parts = vec![(tiny.join(SINGLE), "", "")];
    for (name, part) in ENCODERS.iter().zip(["clip_l", "clip_g", "t5xxl"]) {
        let prefix = match part {
            "clip_l" => "text_encoders.clip_l.transformer.",
            "clip_g" => "text_encoders.clip_g.transformer.",
            _ => "text_encoders.t5xxl.transformer.",
        };
        parts.push((tiny.join(name), "", prefix));
        std::fs::remove_file(one.file(name)).expect("a writable copy");
    }
    join(&parts, &one.file(SINGLE));
    assert!(picture(one.path()) == original, "all in one");
}

/// A folder with the transformer of a layout and the other parts of the tiny model.
fn whole(name: &str) -> Altered {
    let beside = [&ENCODERS[..], &TOKENIZERS[..]].concat();
    let copy = with(&layout(name), &tiny(SD3), &beside);
    let autoencoder = [(tiny(SD3).join(SINGLE), "first_stage_model.", "")];
    join(&autoencoder, &copy.file("ae.safetensors"));
    copy
}

/// Measures both steps and the decoder, each with the reference's input.
fn measure(folder: &Path) -> Vec<Measured> {
    let files = families::files::<Sd3>(folder).expect("a good folder");
    let sd3 = LoadedModel::load(files, &Device::Cpu, ComputeSettings::default(), &mut |_| {})
        .expect("good files");
    let golden = GoldenCase::read(folder, "sd3_base");
    let by = Encoded {
        text: golden.tensor("context"),
        pooled: golden.tensor("pooled"),
    };
    let by = sd3.condition(&by, None, SIZE).expect("a condition");
    let mut before = golden.tensor("latents_init");
    let mut all = Vec::new();
    for (i, pair) in sigmas::shifted_twice(2).windows(2).enumerate() {
        let velocity = sd3.predict(&before, pair[0], &by).expect("a velocity");
        all.push(golden.apart(&format!("pred.{i}"), &velocity));
        before = golden.tensor(&format!("latents.{i}"));
    }
    let picture = sd3
        .decode(&golden.tensor("latents_final"))
        .expect("a picture");
    all.push(golden.apart("vae_out", &picture));
    all
}

#[test]
fn fp8_equals_the_reference_with_the_converted_weights_and_draws() {
    for name in ["fp8-sd3", "fp8-scaled-sd3"] {
        let folder = whole(name);
        assert_within(name, &measure(folder.path()), Tolerance::PART);
        assert!(!picture(folder.path()).is_empty());
    }
}

#[test]
fn gguf_blocks_equal_the_reference_with_the_dequantized_weights_and_draw() {
    let folder = whole("gguf-sd3");
    assert_within("gguf-sd3", &measure(folder.path()), Tolerance::PART);
    assert!(!picture(folder.path()).is_empty());
}

/// Digests of the values in f32, for names below `prefix`.
fn digests(layout: &Path, prefix: &str) -> BTreeMap<String, String> {
    let text = std::fs::read(layout.join("digests.json")).expect("a list of digests");
    let all: BTreeMap<String, String> = serde_json::from_slice(&text).expect("names and digests");
    let below =
        |(name, digest): (String, String)| Some((name.strip_prefix(prefix)?.to_owned(), digest));
    all.into_iter().filter_map(below).collect()
}

#[track_caller]
fn assert_values(weights: &Weights, digests: &BTreeMap<String, String>) {
    assert!(!digests.is_empty());
    let mut tell = |_| {};
    let meter = Meter::new(&[weights], &mut tell);
    let section = Section::new(weights, &meter, DType::F32, &Device::Cpu);
    for (name, digest) in digests {
        let shape = section
            .shape(name)
            .unwrap_or_else(|| panic!("{name} is not there"));
        let tensor = section
            .tensor(name, shape)
            .expect("a tensor of its own shape");
        let values = tensor
            .flatten_all()
            .and_then(|t| t.to_vec1::<f32>())
            .expect("f32");
        let mut sum = Sha256::new();
        values
            .iter()
            .for_each(|value| sum.update(value.to_le_bytes()));
        let found: String = sum
            .finalize()
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        assert_eq!(found, *digest, "{name}");
    }
    weights
        .refuse_unread(&[])
        .expect("no tensor beyond those of the list");
}

#[test]
fn a_diffusers_folder_has_the_values_of_the_original() {
    let layout = layout("diffusers-sd3");
    assert_eq!(
        families::recognised(families::TABLE, &layout, None)
            .expect("a transformer")
            .layout()
            .family,
        Family::new("sd3")
    );
    let search = families::search(&layout, &sd3::LAYOUT);
    for (part, prefix) in [
        (&weights::CLIP_L, "0."),
        (&weights::CLIP_G, "1."),
        (&naming::TRANSFORMER, ""),
    ] {
        let mut digests = digests(&layout, prefix);
        digests.retain(|name, _| !part.is_transformer() || !name.starts_with(['0', '1']));
        assert_values(
            &search
                .part(part, &Vec::new())
                .expect("a part of the folder"),
            &digests,
        );
    }
}

#[test]
fn blocks_of_a_width_that_k_quants_do_not_divide_are_dequantized_like_the_reference() {
    let layout = layout("gguf-sd3");
    let weights = families::search(&layout, &sd3::LAYOUT)
        .part(&naming::TRANSFORMER, &Vec::new())
        .expect("a transformer");
    assert_eq!(
        weights.shape("joint_blocks.0.x_block.attn.qkv.weight"),
        Some(&[960, 320][..])
    );
    assert_values(&weights, &digests(&layout, ""));
}
