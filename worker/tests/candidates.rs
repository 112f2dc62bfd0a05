//! Folders with several candidates for a part: the right one is found, or the error names both.

mod altered;
mod laid_out;

use altered::Altered;
use ipc_protocol::exit_code::ExitCode;
use ipc_protocol::family::Family;
use laid_out::{TOKENIZERS, drawn, join, layout, tiny, with};
use std::path::Path;

const FLUX: &str = "flux1-schnell.safetensors";
const SD3: &str = "sd3.5_large_turbo.safetensors";

#[track_caller]
fn assert_refused(path: &Path, family: Option<Family>, code: u8, words: &[&str]) {
    let fault = drawn(path, family, 1).expect_err("an ambiguous or incomplete folder");
    let said = fault.to_string();
    assert_eq!(
        fault.exit_code().map(ExitCode::number),
        Some(code),
        "{said}"
    );
    assert!(words.iter().all(|word| said.contains(word)), "{said}");
}

/// The tiny Stable Diffusion 3.5, with its transformer and autoencoder in files of these names.
fn apart(transformer: &str, autoencoder: &str) -> Altered {
    let copy = Altered::copy_of(&tiny("tiny-sd3"));
    std::fs::remove_file(copy.file(SD3)).expect("a writable copy");
    let from = tiny("tiny-sd3").join(SD3);
    let parts = [
        ("model.diffusion_model.", transformer),
        ("first_stage_model.", autoencoder),
    ];
    for (prefix, name) in parts.into_iter().filter(|(_, name)| !name.is_empty()) {
        let to = copy.file(name);
        std::fs::create_dir_all(to.parent().expect("a file in a folder")).expect("a writable copy");
        join(&[(from.clone(), prefix, "")], &to);
    }
    copy
}

fn put(folder: &Altered, from: &Path, name: &str) {
    let to = folder.file(name);
    std::fs::create_dir_all(to.parent().expect("a file in a folder")).expect("a writable copy");
    std::fs::copy(from, to).expect("a writable copy");
}

/// A copy of a file with other bytes in one tensor.
fn put_altered(folder: &Altered, from: &Path, name: &str, tensor: &str) {
    put(folder, from, name);
    folder.tensor(name, tensor, |bytes| {
        bytes.iter_mut().for_each(|byte| *byte ^= 1)
    });
}

#[test]
fn a_familys_own_autoencoder_is_preferred_to_the_other_familys() {
    let right = drawn(&tiny("tiny-sd3"), None, 1).expect("a good folder");
    let flux = tiny("tiny-flux").join("ae.safetensors");
    for (own, other) in [
        ("sd3_vae.safetensors", "ae.safetensors"),
        ("vae/sd3_vae.safetensors", "vae/ae.safetensors"),
        ("vae/my-sd3.safetensors", "ae.safetensors"),
        ("vae/plain.safetensors", "vae/flux_vae.safetensors"),
    ] {
        let folder = apart("sd3.5_large_turbo-F16.safetensors", own);
        put(&folder, &flux, other);
        let picture = drawn(folder.path(), None, 1).expect("a good folder");
        assert!(picture == right, "{own} beside {other}");
    }
    let right = drawn(&tiny("tiny-flux"), None, 1).expect("a good folder");
    let folder = Altered::copy_of(&tiny("tiny-flux"));
    let sd3 = tiny("tiny-sd3").join(SD3);
    join(
        &[(sd3, "first_stage_model.", "")],
        &folder.file("a-sd3-vae.safetensors"),
    );
    let renamed = folder.file("my.safetensors");
    std::fs::rename(folder.file("ae.safetensors"), renamed).expect("a writable copy");
    assert!(drawn(folder.path(), None, 1).expect("a good folder") == right);
}

#[test]
fn the_other_familys_autoencoder_without_its_own_is_refused_with_its_name() {
    let flux = tiny("tiny-flux");
    let folder = apart("sd3.5_large_turbo-F16.safetensors", "");
    put(&folder, &flux.join("ae.safetensors"), "ae.safetensors");
    // Without another transformer, `ae` is accepted as the name of any family's autoencoder.
    drawn(folder.path(), None, 1).expect("the only autoencoder");
    put(&folder, &flux.join(FLUX), FLUX);
    let words = ["autoencoder", "ae.safetensors", "sd3_vae.safetensors"];
    assert_refused(folder.path(), Some(Family::new("sd3")), 66, &words);
    let folder = apart("sd3.5_large_turbo-F16.safetensors", "");
    put(
        &folder,
        &flux.join("ae.safetensors"),
        "flux_vae.safetensors",
    );
    assert_refused(folder.path(), None, 66, &["flux_vae.safetensors"]);
}

#[test]
fn two_autoencoders_that_fit_equally_well_are_both_named() {
    let folder = apart("sd3.5_large_turbo-F16.safetensors", "vae/one.safetensors");
    let flux = tiny("tiny-flux").join("ae.safetensors");
    put(&folder, &flux, "vae/two.safetensors");
    let words = [
        "autoencoder",
        "vae/one.safetensors",
        "vae/two.safetensors",
        "sd3.5_vae.safetensors",
    ];
    assert_refused(folder.path(), None, 78, &words);
}

#[test]
fn two_transformers_that_fit_equally_well_are_both_named_and_a_path_chooses() {
    let folder = Altered::copy_of(&tiny("tiny-flux"));
    let right = drawn(folder.path(), None, 1).expect("a good folder");
    std::fs::remove_file(folder.file(FLUX)).expect("a writable copy");
    let original = tiny("tiny-flux").join(FLUX);
    put(&folder, &original, "unet/flux1-schnell-Q8_0.safetensors");
    put(&folder, &original, "flux1-schnell-copy.safetensors");
    assert!(drawn(folder.path(), None, 1).expect("two copies are one") == right);
    std::fs::remove_file(folder.file("flux1-schnell-copy.safetensors")).expect("a writable copy");
    let other = "flux1-schnell-Q4_0.safetensors";
    put_altered(&folder, &original, other, "img_in.weight");
    let both = [other, "unet/flux1-schnell-Q8_0.safetensors", "set path"];
    assert_refused(folder.path(), None, 78, &both);
    let chosen = folder.file("unet/flux1-schnell-Q8_0.safetensors");
    assert!(drawn(&chosen, None, 1).expect("the named file") == right);
    let picture = drawn(&folder.file(other), Some(Family::new("flux")), 1).expect("the named file");
    assert!(picture != right, "the other file's weights");
}

#[test]
fn large_turbo_is_preferred_to_large() {
    let right = drawn(&tiny("tiny-sd3"), None, 1).expect("a good folder");
    let folder = Altered::copy_of(&tiny("tiny-sd3"));
    let original = tiny("tiny-sd3").join(SD3);
    std::fs::remove_file(folder.file(SD3)).expect("a writable copy");
    put(&folder, &original, "sd3.5_large_turbo-F16.safetensors");
    let tensor = "model.diffusion_model.x_embedder.proj.weight";
    put_altered(&folder, &original, "sd3.5_large-F16.safetensors", tensor);
    assert!(drawn(folder.path(), None, 1).expect("a good folder") == right);
}

#[test]
fn a_file_of_another_model_is_ignored_if_the_right_one_exists() {
    let folder = Altered::copy_of(&tiny("tiny-flux"));
    let right = drawn(folder.path(), None, 1).expect("a good folder");
    let original = tiny("tiny-flux");
    for name in [FLUX, "ae.safetensors"] {
        std::fs::remove_file(folder.file(name)).expect("a writable copy");
    }
    put(&folder, &original.join(FLUX), "zz.safetensors");
    put(
        &folder,
        &original.join("ae.safetensors"),
        "zz-vae.safetensors",
    );
    // FLUX.1 dev, and an autoencoder with four channels.
    let beside = [
        (original.join(FLUX), "", ""),
        (original.join(FLUX), "time_in.", "guidance_in."),
    ];
    join(&beside, &folder.file("flux1-dev.safetensors"));
    let narrow = [0u8; 64 * 4 * 9 * 4];
    let dtype = safetensors::Dtype::F32;
    let view = safetensors::tensor::TensorView::new(dtype, vec![64, 4, 3, 3], &narrow);
    let tensors = [("decoder.conv_in.weight", view.expect("as many bytes"))];
    let bytes = safetensors::serialize(tensors, None).expect("a tensor");
    std::fs::write(folder.file("a-sdxl.safetensors"), bytes).expect("a writable copy");
    assert!(drawn(folder.path(), None, 1).expect("a good folder") == right);
}

#[test]
fn a_folder_with_transformers_of_both_families_needs_the_family_setting() {
    let folder = apart("b.safetensors", "sd3_vae.safetensors");
    put(&folder, &tiny("tiny-flux").join(FLUX), "a.safetensors");
    let words = ["a.safetensors", "b.safetensors", "family"];
    assert_refused(folder.path(), None, 78, &words);
    let right = drawn(&tiny("tiny-sd3"), None, 1).expect("a good folder");
    let picture = drawn(folder.path(), Some(Family::new("sd3")), 1).expect("the named family");
    assert!(picture == right);
}

#[test]
fn folders_and_file_endings_of_other_programs_are_found() {
    let right = drawn(&tiny("tiny-flux"), None, 1).expect("a good folder");
    let folder = Altered::copy_of(&tiny("tiny-flux"));
    let moves = [
        ("clip_l_flux.safetensors", "clip/clip_l.safetensors"),
        ("t5xxl.safetensors", "clip/t5xxl_fp8_e4m3fn.safetensors"),
        ("ae.safetensors", "vae/ae.sft"),
        (FLUX, "checkpoints/flux1-schnell.sft"),
    ];
    for (from, to) in moves {
        put(&folder, &tiny("tiny-flux").join(from), to);
        std::fs::remove_file(folder.file(from)).expect("a writable copy");
    }
    assert!(drawn(folder.path(), None, 1).expect("a good folder") == right);
}

/// The diffusers folder with T5 only in half precision.
fn half() -> Altered {
    let folder = with(&layout("diffusers-flux"), &tiny("tiny-flux"), &TOKENIZERS);
    let t5 = folder.file("text_encoder_2");
    for number in 1..=3 {
        let name = |stem: &str| format!("{stem}-{number:05}-of-00003.safetensors");
        std::fs::rename(t5.join(name("model")), t5.join(name("model.fp16"))).expect("a copy");
    }
    let index = t5.join("model.safetensors.index.json");
    let text = std::fs::read_to_string(&index).expect("an index");
    let text = text.replace("\"model-", "\"model.fp16-");
    std::fs::write(t5.join("model.safetensors.index.fp16.json"), text).expect("a copy");
    std::fs::remove_file(index).expect("a writable copy");
    folder
}

#[test]
fn shards_of_a_variant_are_found_with_and_without_an_index() {
    let right = drawn(&tiny("tiny-flux"), None, 1).expect("a good folder");
    let folder = half();
    assert!(drawn(folder.path(), None, 1).expect("a good folder") == right);
    let index = "text_encoder_2/model.safetensors.index.fp16.json";
    // The index of the full precision without its shards, as after a filtered download.
    let text = std::fs::read_to_string(folder.file(index)).expect("an index");
    let full = folder.file("text_encoder_2/model.safetensors.index.json");
    std::fs::write(&full, text.replace("model.fp16-", "model-")).expect("a writable copy");
    assert!(drawn(folder.path(), None, 1).expect("a good folder") == right);
    std::fs::remove_file(full).expect("a writable copy");
    std::fs::remove_file(folder.file(index)).expect("a writable copy");
    assert!(drawn(folder.path(), None, 1).expect("a good folder") == right);
    let shard = "text_encoder_2/model.fp16-00002-of-00003.safetensors";
    std::fs::remove_file(folder.file(shard)).expect("a writable copy");
    let words = ["model.fp16-00001-of-00003", "number 2"];
    assert_refused(folder.path(), None, 66, &words);
}
