//! Inspecting a folder refuses unusable files before loading, with the right exit code.
//!
//! The exit code tells whether a retry can help.

#![expect(
    clippy::disallowed_methods,
    reason = "output and exit code of the program are tested by starting it"
)]

mod altered;
mod damage;
mod laid_out;

use altered::Altered;
use ipc_protocol::arithmetic::Arithmetic;
use ipc_protocol::exit_code::ExitCode;
use laid_out::{TOKENIZERS, join, layout, picture, tiny, with};
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};
use std::path::Path;
use std::process::Command;
use worker::fault::WorkerFault;
use worker::manifest::{ModelManifest, of_folder};

const FLUX: &str = "flux1-schnell.safetensors";
const SD3: &str = "sd3.5_large_turbo.safetensors";

fn inspected(folder: &Path) -> Result<ModelManifest, WorkerFault> {
    of_folder(folder, None, Arithmetic::default())
}

#[track_caller]
fn assert_refused(folder: &Altered, code: u8, words: &[&str]) {
    let fault = inspected(folder.path()).expect_err("a folder that cannot be drawn with");
    let said = fault.to_string();
    assert_eq!(
        fault.exit_code().map(ExitCode::number),
        Some(code),
        "{said}"
    );
    assert!(words.iter().all(|word| said.contains(word)), "{said}");
}

/// Rewrites a file: `change` returns the new name and encoding of each tensor, or drops it; `more` are added.
fn rewrite(
    path: &Path,
    change: impl Fn(&str, Dtype) -> Option<(String, Dtype)>,
    more: &[(&str, Dtype, usize)],
) {
    let bytes = std::fs::read(path).expect("a file");
    let file = SafeTensors::deserialize(&bytes).expect("a good file");
    let zeros = vec![0u8; 1 << 22];
    let view = |dtype: Dtype, shape: Vec<usize>, data| {
        TensorView::new(dtype, shape, data).expect("as many bytes")
    };
    let mut views = Vec::new();
    for (name, old) in file.tensors() {
        let Some((name, dtype)) = change(&name, old.dtype()) else {
            continue;
        };
        let length = old.shape().iter().product::<usize>() * dtype.bitsize() / 8;
        let same = dtype == old.dtype();
        let data = if same { old.data() } else { &zeros[..length] };
        views.push((name, view(dtype, old.shape().to_vec(), data)));
    }
    for (name, dtype, count) in more {
        let length = count * dtype.bitsize() / 8;
        views.push((
            (*name).to_owned(),
            view(*dtype, vec![*count], &zeros[..length]),
        ));
    }
    let bytes = safetensors::serialize(views, None).expect("good tensors");
    std::fs::write(path, bytes).expect("a writable copy");
}

#[test]
fn an_unsupported_encoding_is_refused_permanently_with_a_list_of_supported_ones() {
    let tensor = "single_blocks.1.linear1.weight";
    for dtype in [Dtype::F8_E5M2, Dtype::F64, Dtype::I8, Dtype::U8] {
        let folder = Altered::copy_of(&tiny("tiny-flux"));
        let change = |name: &str, old| {
            let dtype = if name == tensor { dtype } else { old };
            Some((name.to_owned(), dtype))
        };
        rewrite(&folder.file(FLUX), change, &[]);
        let kind = format!("{dtype:?}");
        assert_refused(
            &folder,
            78,
            &[FLUX, tensor, &kind, "F8_E4M3", "Q4_0 to Q6_K"],
        );
    }
}

#[test]
fn unsupported_blocks_are_refused_permanently() {
    let folder = Altered::copy_of(&tiny("tiny-flux"));
    std::fs::remove_file(folder.file(FLUX)).expect("a writable copy");
    let name = "flux1-schnell-mixed.gguf";
    let good = std::fs::read(layout("gguf").join(name)).expect("a good file");
    let (tensor, bytes) = damage::with_type(&good, 2, 20); // q4_0 and IQ4_NL blocks have 18 bytes
    std::fs::write(folder.file(name), bytes).expect("a writable copy");
    assert_refused(&folder, 78, &[name, &tensor, "IQ4_NL", "Q4_0 to Q6_K"]);
}

#[test]
fn weights_packed_by_other_programs_are_refused_with_their_kind() {
    let marks = [
        (
            "single_blocks.0.linear1.weight.quant_state.bitsandbytes__nf4",
            Dtype::U8,
            "nf4",
        ),
        (
            "single_blocks.0.linear1.weight_scale_2",
            Dtype::F32,
            "nvfp4",
        ),
        ("single_blocks.0.linear1.SCB", Dtype::F32, "int8"),
        (
            "single_blocks.0.linear1.qweight",
            Dtype::I32,
            "packed integers",
        ),
        ("single_blocks.0.linear1.lora_A.weight", Dtype::F32, "merge"),
        (
            "lora_unet_single_blocks_0_linear1.lora_down.weight",
            Dtype::F32,
            "LoRA",
        ),
        (
            "guidance_in.in_layer.weight",
            Dtype::F32,
            "use FLUX.1 schnell",
        ),
    ];
    for (name, dtype, words) in marks {
        let folder = Altered::copy_of(&tiny("tiny-flux"));
        let keep = |name: &str, dtype| Some((name.to_owned(), dtype));
        rewrite(&folder.file(FLUX), keep, &[(name, dtype, 4)]);
        assert_refused(&folder, 78, &[FLUX, name, words]);
    }
}

#[test]
fn an_adapter_without_a_model_is_refused_as_an_adapter() {
    let folder = Altered::copy_of(&tiny("tiny-flux"));
    let keep = |name: &str, dtype| Some((format!("{name}.lora_B.weight"), dtype));
    rewrite(&folder.file(FLUX), keep, &[]);
    assert_refused(&folder, 78, &[FLUX, "LoRA", "merge"]);
}

#[test]
fn medium_models_are_refused_with_their_names() {
    let folder = Altered::copy_of(&tiny("tiny-sd3"));
    let without_norms =
        |name: &str, dtype| (!name.contains("attn.ln_")).then(|| (name.to_owned(), dtype));
    rewrite(&folder.file(SD3), without_norms, &[]);
    assert_refused(
        &folder,
        78,
        &[SD3, "Stable Diffusion 3 Medium", "3.5 Large"],
    );
    let folder = Altered::copy_of(&tiny("tiny-sd3"));
    let keep = |name: &str, dtype| Some((name.to_owned(), dtype));
    let second = "model.diffusion_model.joint_blocks.0.x_block.attn2.qkv.weight";
    rewrite(&folder.file(SD3), keep, &[(second, Dtype::F32, 4)]);
    assert_refused(&folder, 78, &[SD3, "3.5 Medium"]);
}

#[test]
fn a_missing_an_unread_and_a_misshapen_tensor_are_found_by_inspection() {
    let tensor = "encoder.block.1.layer.1.DenseReluDense.wi_1.weight";
    let folder = Altered::copy_of(&tiny("tiny-flux"));
    let without = |name: &str, dtype| (name != tensor).then(|| (name.to_owned(), dtype));
    rewrite(&folder.file("t5xxl.safetensors"), without, &[]);
    assert_refused(&folder, 78, &["t5xxl.safetensors", tensor]);
    let folder = Altered::copy_of(&tiny("tiny-flux"));
    let keep = |name: &str, dtype| Some((name.to_owned(), dtype));
    rewrite(
        &folder.file("ae.safetensors"),
        keep,
        &[("decoder.extra", Dtype::F32, 3)],
    );
    assert_refused(&folder, 78, &["ae.safetensors", "decoder.extra"]);
    let folder = Altered::copy_of(&tiny("tiny-sd3"));
    folder.replace("meta.json", "\"inter\": 96", "\"inter\": 95");
    assert_refused(&folder, 78, &["clip_g.safetensors", "mlp.fc1"]);
}

#[test]
fn valid_folders_of_every_layout_pass() {
    let whole = [tiny("tiny-flux"), tiny("tiny-sd3")];
    whole.iter().for_each(|folder| {
        inspected(folder).expect("a good folder");
    });
    let beside = [
        "ae.safetensors",
        "clip_l_flux.safetensors",
        TOKENIZERS[0],
        TOKENIZERS[1],
    ];
    for name in ["fp8", "fp8-scaled", "gguf", "gguf-k"] {
        let folder = with(&layout(name), &tiny("tiny-flux"), &beside);
        inspected(folder.path()).unwrap_or_else(|fault| panic!("{name}: {fault}"));
    }
    let diffusers = with(&layout("diffusers-flux"), &tiny("tiny-flux"), &TOKENIZERS);
    inspected(diffusers.path()).expect("a good folder");
}

#[test]
fn the_program_exits_with_the_code_of_the_fault_and_prints_no_manifest() {
    let folder = Altered::copy_of(&tiny("tiny-flux"));
    let half = |name: &str, _| Some((name.to_owned(), Dtype::F8_E5M2));
    rewrite(&folder.file("t5xxl.safetensors"), half, &[]);
    let worker = env!("CARGO_BIN_EXE_worker");
    let output = Command::new(worker)
        .arg("--inspect")
        .arg(folder.path())
        .output();
    let output = output.expect("the worker program");
    assert_eq!((output.status.code(), output.stdout.len()), (Some(78), 0));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("F8_E5M2"), "{said}");
}

#[test]
fn a_text_file_in_place_of_weights_is_reported_with_its_kind() {
    let stand_ins = [
        (
            "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 335304388\n",
            "git-lfs pointer",
        ),
        (
            "<!doctype html>\n<html><head><title>Log in</title>",
            "web page",
        ),
        (
            "{\"error\":\"Access to model is restricted\"}",
            "error message",
        ),
    ];
    let names = [
        "ae.safetensors",
        "t5xxl.safetensors",
        "meta.json",
        TOKENIZERS[0],
    ];
    for (text, words) in stand_ins {
        for name in names {
            let folder = Altered::copy_of(&tiny("tiny-flux"));
            std::fs::write(folder.file(name), text).expect("a writable copy");
            assert_refused(&folder, 66, &[name, words, "download"]);
        }
    }
}

#[test]
fn a_link_with_a_missing_target_is_reported_with_the_target() {
    let folder = Altered::copy_of(&tiny("tiny-flux"));
    for name in ["ae.safetensors", FLUX] {
        std::fs::remove_file(folder.file(name)).expect("a writable copy");
        let target = format!("../../blobs/{name}-0123abcd");
        std::os::unix::fs::symlink(&target, folder.file(name)).expect("a link");
        assert_refused(&folder, 66, &[name, &target, "is a link"]);
    }
}

#[test]
fn a_missing_part_is_reported_with_the_searched_folders() {
    let folder = Altered::copy_of(&tiny("tiny-sd3"));
    std::fs::remove_file(folder.file("t5xxl.safetensors")).expect("a writable copy");
    let words = [
        "no T5 encoder",
        "t5xxl_fp16.safetensors",
        "clip/",
        "all three text encoders",
    ];
    assert_refused(&folder, 66, &words);
}

#[test]
fn a_configuration_with_a_byte_order_mark_is_read() {
    let folder = Altered::copy_of(&tiny("tiny-flux"));
    let right = picture(folder.path());
    for name in ["meta.json", TOKENIZERS[1]] {
        let text = std::fs::read_to_string(folder.file(name)).expect("a text file");
        let text = format!("\u{feff}{}", text.replace('\n', "\r\n"));
        std::fs::write(folder.file(name), text).expect("a writable copy");
    }
    assert!(picture(folder.path()) == right);
}

#[test]
fn a_diffusers_folder_with_another_schedule_is_refused() {
    let folder = with(&layout("diffusers-flux"), &tiny("tiny-flux"), &TOKENIZERS);
    std::fs::create_dir(folder.file("scheduler")).expect("a writable copy");
    let path = folder.file("scheduler/scheduler_config.json");
    std::fs::write(&path, r#"{"shift": 1.0}"#).expect("a writable copy");
    inspected(folder.path()).expect("the published schedule");
    std::fs::write(&path, r#"{"shift": 3.0}"#).expect("a writable copy");
    assert_refused(&folder, 78, &["scheduler_config.json", "shift: is 3"]);
}

#[test]
fn the_default_size_is_at_most_the_largest() {
    for name in ["tiny-sd3", "tiny-flux"] {
        let found = inspected(&tiny(name)).expect("a good folder");
        let [width, height] = found.default_size;
        assert!(width.max(height) <= found.max_size, "{name}: {found:?}");
        assert!(width.min(height) >= found.min_size, "{name}: {found:?}");
    }
    // A table of 24 positions reaches to 384 pixels.
    let found = inspected(&tiny("tiny-sd3")).expect("a good folder");
    assert_eq!((found.default_size, found.max_size), ([384, 384], 384));
}

#[test]
fn a_file_with_all_parts_and_an_adapter_is_refused() {
    let folder = Altered::copy_of(&tiny("tiny-flux"));
    let from = tiny("tiny-flux").join(FLUX);
    let parts = [
        (from.clone(), "", "model.diffusion_model."),
        (from, "img_in.", "model.diffusion_model.img_in.lora_up."),
    ];
    join(&parts, &folder.file(FLUX));
    assert_refused(&folder, 78, &["lora_up", "merge"]);
}
