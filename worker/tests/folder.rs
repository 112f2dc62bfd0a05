//! Folders with wrong content: each gives a fault that names the file and the tensor.

mod altered;
mod laid_out;

use altered::Altered;
use ipc_protocol::exit_code::ExitCode;
use laid_out::loaded;
use std::path::Path;
use worker::fault::WorkerFault;

fn pocket() -> Altered {
    Altered::copy_of(&Path::new(env!("CARGO_MANIFEST_DIR")).join("assets/pocket-flux"))
}

fn fault(folder: &Altered) -> WorkerFault {
    let loaded = loaded(folder.path(), None);
    loaded.err().expect("the folder is not good")
}

#[track_caller]
fn assert_fault(folder: &Altered, code: u8, words: &[&str]) {
    let fault = fault(folder);
    assert_eq!(
        fault.exit_code().map(ExitCode::number),
        Some(code),
        "{fault}"
    );
    let said = fault.to_string();
    assert!(words.iter().all(|word| said.contains(word)), "{said}");
}

#[test]
fn a_configuration_that_does_not_match_the_shapes_is_a_fault_that_names_the_tensor() {
    let changes = [
        (
            "\"depth\": 2",
            "\"depth\": 3",
            "double_blocks.2.img_mod.lin.weight",
        ),
        ("\"depth\": 2", "\"depth\": 1", "double_blocks.1."),
        (
            "\"depth_single_blocks\": 4",
            "\"depth_single_blocks\": 3",
            "single_blocks.3.",
        ),
        (
            "\"context_in_dim\": 128",
            "\"context_in_dim\": 64",
            "txt_in.weight",
        ),
        ("\"d_ff\": 256", "\"d_ff\": 255", "wi_0.weight"),
        (
            "\"intermediate_size\": 128",
            "\"intermediate_size\": 64",
            "mlp.fc1.weight",
        ),
        (
            "\"num_res_blocks\": 1",
            "\"num_res_blocks\": 2",
            "decoder.up.3.block.2",
        ),
    ];
    for (from, to, tensor) in changes {
        let folder = pocket();
        folder.replace("config.json", from, to);
        assert_fault(&folder, 78, &[tensor, ".safetensors"]);
    }
}

#[test]
fn impossible_sizes_are_a_fault_that_names_the_key() {
    for (from, to, key) in [
        (
            "\"num_heads\": 6,\n  \"depth\"",
            "\"num_heads\": 5,\n  \"depth\"",
            "transformer.num_heads",
        ),
        (
            "\"norm_groups\": 8",
            "\"norm_groups\": 7",
            "autoencoder.norm_groups",
        ),
        (
            "\"norm_groups\": 8",
            "\"norm_groups\": \"8\"",
            "config.json",
        ),
    ] {
        let folder = pocket();
        folder.replace("config.json", from, to);
        assert_fault(&folder, 78, &[key]);
    }
}

#[test]
fn a_missing_and_a_damaged_file_are_faults_that_name_the_file() {
    let names = [
        "ae.safetensors",
        "t5.safetensors",
        "clip_l.safetensors",
        "t5_tokenizer.json",
    ];
    for name in names {
        let folder = pocket();
        std::fs::remove_file(folder.file(name)).expect("a writable copy");
        assert_fault(&folder, 66, &[name]);
    }
    for name in [
        "flux1-schnell.safetensors",
        "ae.safetensors",
        "clip_tokenizer.json",
    ] {
        let folder = pocket();
        let bytes = std::fs::read(folder.file(name)).expect("a file");
        std::fs::write(folder.file(name), &bytes[..bytes.len() / 2]).expect("a writable copy");
        assert_fault(&folder, 66, &[name]);
    }
}

#[test]
fn weights_that_are_not_finite_are_a_fault_that_names_the_stage() {
    let folder = pocket();
    // infinity in f16 as the first value
    folder.tensor(
        "t5.safetensors",
        "encoder.final_layer_norm.weight",
        |bytes| {
            bytes[..2].copy_from_slice(&0x7c00u16.to_le_bytes());
        },
    );
    let mut model = loaded(folder.path(), None).expect("shapes are right");
    let job = worker::pipelines::JobParameters {
        prompt: "a red circle".to_owned(),
        negative: None,
        width: 64,
        height: 64,
        steps: 1,
        guidance: 0.0,
        seed: 1,
    };
    let fault = model
        .start(&job, None)
        .err()
        .expect("an infinity in the text encoder");
    assert!(
        matches!(&fault, WorkerFault::NotFinite { stage } if stage == "T5 encoder"),
        "{fault}"
    );
}
