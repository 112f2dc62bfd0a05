//! One FLUX model in all common file layouts.

mod altered;
mod laid_out;

use altered::Altered;
use candle_core::Device;
use ipc_protocol::units::PictureSize;
use laid_out::{
    GoldenCase, Measured, TOKENIZERS, assert_within, join, layout, picture, tiny, with,
};
use worker::golden::measure::Tolerance;
use worker::pipelines::ComputeSettings;
use worker::pipelines::encoders::Encoded;
use worker::pipelines::families;
use worker::pipelines::families::flux::Flux;
use worker::pipelines::model::LoadedModel;
use worker::pipelines::text::EncoderIds;
use worker::sampling::{packing, sigmas};

const FLUX: &str = "tiny-flux";
const BESIDE: [&str; 4] = [
    "ae.safetensors",
    "clip_l_flux.safetensors",
    TOKENIZERS[0],
    TOKENIZERS[1],
];

#[test]
fn original_files_diffusers_shards_and_a_single_file_draw_the_same_bytes() {
    let tiny = tiny(FLUX);
    let original = picture(&tiny);
    let diffusers = with(&layout("diffusers-flux"), &tiny, &TOKENIZERS);
    assert!(picture(diffusers.path()) == original, "diffusers");
    let one = Altered::copy_of(&tiny);
    let parts = [
        ("flux1-schnell.safetensors", "model.diffusion_model."),
        ("ae.safetensors", "vae."),
        (
            "clip_l_flux.safetensors",
            "text_encoders.clip_l.transformer.",
        ),
        ("t5xxl.safetensors", "text_encoders.t5xxl.transformer."),
    ];
    for (name, _) in parts {
        std::fs::remove_file(one.file(name)).expect("a writable copy");
    }
    let parts = parts.map(|(name, prefix)| (tiny.join(name), "", prefix));
    join(&parts, &one.file("everything.safetensors"));
    assert!(picture(one.path()) == original, "all in one");
}

#[test]
fn a_tensor_of_an_unknown_part_is_reported_with_its_name() {
    let one = Altered::copy_of(&tiny(FLUX));
    let name = "flux1-schnell.safetensors";
    let parts = [
        (tiny(FLUX).join(name), "", "model.diffusion_model."),
        (tiny(FLUX).join("ae.safetensors"), "", "surprise."),
    ];
    join(&parts, &one.file(name));
    let said = families::files::<Flux>(one.path())
        .err()
        .expect("a stray")
        .to_string();
    assert!(said.contains("surprise."), "{said}");
}

/// Measures the encoders, both steps and the decoder, each with the reference's input.
fn measure(name: &str) -> Vec<Measured> {
    let copy = with(&layout(name), &tiny(FLUX), &BESIDE);
    let files = families::files::<Flux>(copy.path()).expect("a good folder");
    let flux = LoadedModel::load(files, &Device::Cpu, ComputeSettings::default(), &mut |_| {})
        .expect("good files");
    let golden = GoldenCase::read(copy.path(), "flux_base");
    let encoded = flux
        .encode(EncoderIds {
            t5: &golden.ids("t5_ids"),
            clip_l: &golden.ids("clip_ids"),
            clip_g: None,
        })
        .expect("finite states");
    let mut all = vec![golden.apart("t5_embeds", &encoded.text)];
    let by = Encoded {
        text: golden.tensor("t5_embeds"),
        pooled: golden.tensor("pooled"),
    };
    let by = flux
        .condition(
            &by,
            None,
            PictureSize {
                width: 64,
                height: 64,
            },
        )
        .expect("a condition");
    let unpack = |name: &str| packing::unpack(&golden.tensor(name), 8, 8).expect("64 x 64 pixels");
    let mut before = unpack("latents_packed");
    for (i, pair) in sigmas::even(2).windows(2).enumerate() {
        let velocity = flux.predict(&before, pair[0], &by).expect("a velocity");
        let velocity = packing::pack(&velocity).expect("latents");
        all.push(golden.apart(&format!("pred.{i}"), &velocity));
        before = unpack(&format!("latents.{i}"));
    }
    let picture = flux
        .decode(&golden.tensor("latents_final"))
        .expect("a picture");
    all.push(golden.apart("vae_out", &picture));
    all
}

#[track_caller]
fn check(name: &str) {
    assert_within(name, &measure(name), Tolerance::PART);
}

#[test]
fn fp8_equals_the_reference_with_the_converted_weights() {
    check("fp8");
}

#[test]
fn fp8_with_scales_equals_the_reference_with_the_scaled_weights() {
    check("fp8-scaled");
}

#[test]
fn gguf_blocks_equal_the_reference_with_the_dequantized_weights() {
    check("gguf");
    check("gguf-k");
}

#[test]
fn packed_matrices_stay_packed_in_memory() {
    let copy = with(&layout("gguf-k"), &tiny(FLUX), &BESIDE);
    let files = families::files::<Flux>(copy.path()).expect("a good folder");
    let blocks = |name: &str| name.starts_with("single_blocks.0.linear");
    let held = files.transformer.inventory().device_bytes(4, blocks);
    let wide = files.transformer.elements(blocks) * 4;
    assert!(held * 4 < wide, "{held} bytes held of {wide}");
}
