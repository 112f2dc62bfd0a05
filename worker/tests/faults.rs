//! Damaged weight files: each gives a typed fault, none a crash.

mod altered;
mod damage;
mod laid_out;

use altered::Altered;
use damage::{Damaged, gguf, safetensors};
use ipc_protocol::exit_code::ExitCode;
use laid_out::drawn;
use std::path::{Path, PathBuf};
use worker::fault::WorkerFault;
use worker::sampling::noise;
use worker::weights::digest::{self, SUMS};

const SAFETENSORS: &str = "t5xxl.safetensors";
const GGUF: &str = "flux1-schnell-mixed.gguf";

fn tests() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests")
}

fn tiny() -> Altered {
    Altered::copy_of(&tests().join("goldens/tiny-flux"))
}

/// The tiny model with its transformer in GGUF.
fn packed() -> Altered {
    let copy = tiny();
    std::fs::remove_file(copy.file("flux1-schnell.safetensors")).expect("a writable copy");
    let from = tests().join("layouts/gguf").join(GGUF);
    std::fs::copy(from, copy.file(GGUF)).expect("a writable copy");
    copy
}

/// Loads the folder with each damaged file in turn.
fn assert_refused(folder: &Altered, name: &str, faults: &[Damaged]) {
    for Damaged { what, bytes } in faults {
        std::fs::write(folder.file(name), bytes).expect("a writable copy");
        let fault = drawn(folder.path(), None, 1).err();
        let fault = fault.unwrap_or_else(|| panic!("{name}, {what}: was drawn from"));
        let said = fault.to_string();
        assert!(
            matches!(fault.exit_code().map(ExitCode::number), Some(66 | 78)),
            "{what}: {said}"
        );
        assert!(said.contains(name) && said.len() < 1000, "{what}: {said}");
        println!(
            "{} {what}: {said}",
            fault.exit_code().map_or(0, ExitCode::number)
        );
    }
}

#[test]
fn damaged_safetensors_files_are_refused_with_their_names() {
    let folder = tiny();
    let good = std::fs::read(folder.file(SAFETENSORS)).expect("a good file");
    let faults = safetensors(&good);
    assert!(faults.len() >= 40, "{}", faults.len());
    assert_refused(&folder, SAFETENSORS, &faults);
}

#[test]
fn damaged_gguf_files_are_refused_with_their_names() {
    let folder = packed();
    let good = std::fs::read(folder.file(GGUF)).expect("a good file");
    assert!(drawn(folder.path(), None, 1).is_ok());
    let faults = gguf(&good);
    assert!(faults.len() >= 20, "{}", faults.len());
    assert_refused(&folder, GGUF, &faults);
}

#[test]
fn an_unsupported_block_type_is_reported_with_its_tensor() {
    let folder = packed();
    let good = std::fs::read(folder.file(GGUF)).expect("a good file");
    let (name, bytes) = damage::with_type(&good, 2, 20); // q4_0 blocks and IQ4_NL blocks have 18 bytes
    std::fs::write(folder.file(GGUF), bytes).expect("a writable copy");
    let fault = drawn(folder.path(), None, 1).expect_err("not readable");
    let said = fault.to_string();
    assert_eq!(fault.exit_code(), Some(ExitCode::BadConfiguration));
    assert!(said.contains("IQ4_NL") && said.contains(&name), "{said}");
}

#[test]
fn pickles_are_recognised_by_content_and_refused_under_any_name() {
    for start in [
        b"PK\x03\x04\x00\x00\x08\x08\x00\x00archive/data.pkl".as_slice(),
        b"\x80\x02}q\x00(X\x05",
    ] {
        for name in [
            "flux1-schnell.safetensors",
            "flux1-schnell.ckpt",
            "model.pt",
        ] {
            let folder = tiny();
            std::fs::remove_file(folder.file("flux1-schnell.safetensors")).expect("a copy");
            std::fs::write(folder.file(name), start).expect("a writable copy");
            let fault = drawn(folder.path(), None, 1).expect_err("a pickle");
            let said = fault.to_string();
            assert!(
                said.contains("is a pickle") && said.contains(name),
                "{said}"
            );
            assert_eq!(fault.exit_code(), Some(ExitCode::UnusableWeights));
        }
    }
}

#[test]
fn flux_dev_is_refused_with_its_name() {
    let folder = tiny();
    let name = "flux1-schnell.safetensors";
    let good = std::fs::read(folder.file(name)).expect("a good file");
    let dev = damage::with_tensor(&good, "guidance_in.in_layer.weight");
    std::fs::write(folder.file(name), dev).expect("a writable copy");
    let said = drawn(folder.path(), None, 1)
        .expect_err("a model with guidance")
        .to_string();
    assert!(said.contains("FLUX.1 dev"), "{said}");
}

/// 60 positions in the data of the weight files, half of them in exponents.
fn flips(folder: &Altered) -> Vec<(String, usize, u8)> {
    let names = [
        "flux1-schnell.safetensors",
        "t5xxl.safetensors",
        "clip_l_flux.safetensors",
        "ae.safetensors",
    ];
    let chance = noise::normal(11, 60);
    let place = |(i, chance): (usize, &f32)| {
        let name = names[i % names.len()];
        let bytes = std::fs::read(folder.file(name)).expect("a weight file");
        let start = damage::data_start(&bytes);
        let share = f64::from(chance.abs()).fract();
        let at = start + ((bytes.len() - start - 2) as f64 * share) as usize;
        // Values have 16 bits; the highest bit of an exponent is in the odd byte.
        let odd = at + 1 - (at - start) % 2;
        if i % 2 == 0 {
            (name.to_owned(), odd, 0x40)
        } else {
            (name.to_owned(), at, 1 << (i % 8))
        }
    };
    chance.iter().enumerate().map(place).collect()
}

#[test]
fn sixty_flipped_bits_are_detected_with_a_digest_and_crash_nothing_without_one() {
    let folder = tiny();
    let flips = flips(&folder);
    let sums = |name: &String| {
        let digest = digest::of_file(&folder.file(name)).expect("a weight file");
        format!("{digest}  {name}\n")
    };
    let list: String = flips[..4].iter().map(|flip| sums(&flip.0)).collect();
    std::fs::write(folder.file(SUMS), list).expect("a writable copy");
    assert_eq!(digest::verify(folder.path()).expect("good files").len(), 4);
    let good = drawn(folder.path(), None, 1).expect("a good folder");
    let (mut altered, mut stopped) = (0, 0);
    for (name, at, bit) in flips {
        let path = folder.file(&name);
        let bytes = std::fs::read(&path).expect("a weight file");
        let mut flipped = bytes.clone();
        flipped[at] ^= bit;
        std::fs::write(&path, flipped).expect("a writable copy");
        let fault = digest::verify(folder.path()).expect_err("a flipped bit");
        assert!(
            fault.exit_code() == Some(ExitCode::UnusableWeights)
                && fault.to_string().contains(&name),
            "{fault}"
        );
        match drawn(folder.path(), None, 1) {
            Ok(picture) => altered += usize::from(picture != good),
            Err(WorkerFault::NotFinite { .. }) => stopped += 1,
            Err(other) => panic!("{name} at {at}: {other}"),
        }
        std::fs::write(&path, bytes).expect("a writable copy");
    }
    println!(
        "60 found by digest; without: {altered} altered the picture, {stopped} stopped as not finite"
    );
    digest::verify(folder.path()).expect("all is as it was");
}

#[test]
fn a_digest_list_with_a_path_outside_its_folder_is_refused() {
    let folder = tiny();
    for line in [
        "00  t5xxl.safetensors",
        "nonsense",
        &format!("{}  ../x", "0".repeat(64)),
    ] {
        std::fs::write(folder.file(SUMS), line).expect("a writable copy");
        let fault = digest::verify(folder.path()).expect_err("a damaged list");
        assert_eq!(
            fault.exit_code(),
            Some(ExitCode::UnusableWeights),
            "{fault}"
        );
    }
}

#[test]
fn an_index_that_does_not_match_its_shards_is_refused() {
    let faults = [
        (
            "diffusion_pytorch_model-00002-of-00003",
            "../diffusion_pytorch_model-00002-of-00003",
            "not a file in the same folder",
        ),
        (
            "diffusion_pytorch_model-00003-of-00003",
            "diffusion_pytorch_model-00004-of-00003",
            "no such file",
        ),
        (
            "diffusion_pytorch_model-00002-of-00003",
            "diffusion_pytorch_model-00003-of-00003",
            "is not in the file",
        ),
        ("{", "[", "index.json"),
    ];
    for (from, to, words) in faults {
        let folder = Altered::copy_of(&tests().join("layouts/diffusers-flux"));
        let index = "transformer/diffusion_pytorch_model.safetensors.index.json";
        folder.replace(index, from, to);
        let fault = drawn(folder.path(), None, 1).expect_err("a damaged index");
        assert!(
            matches!(fault.exit_code().map(ExitCode::number), Some(66 | 78)),
            "{fault}"
        );
        assert!(fault.to_string().contains(words), "{fault}");
    }
}
