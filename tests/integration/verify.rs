//! `models verify` finds a flipped bit in any model file with a known digest.

use std::fs;
use std::path::{Path, PathBuf};

use tests::program::{Call, ProgramOutput, command};
use tests::sandbox::Sandbox;

/// The files of the embedded model.
const WEIGHTS: [&str; 4] = [
    "flux1-schnell.safetensors",
    "ae.safetensors",
    "t5.safetensors",
    "clip_l.safetensors",
];

fn assets() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../worker/assets/pocket-flux")
}

/// A sandbox whose model `mine` is a folder of its own, with everything that the embedded one is made of.
fn with_folder() -> (Sandbox, PathBuf) {
    let sandbox = Sandbox::new("");
    let folder = sandbox.home().join("mine");
    fs::create_dir(&folder).expect("our own folder");
    for entry in fs::read_dir(assets()).expect("the assets are there") {
        let from = entry.expect("the assets are there").path();
        let name = from.file_name().expect("a file has a name");
        fs::copy(&from, folder.join(name)).expect("our own folder");
    }
    let settings =
        format!("[models.mine]\npath = {folder:?}\n[models.syn]\nfamily = \"synthetic\"\n");
    fs::write(sandbox.settings(), settings).expect("our own folder");
    (sandbox, folder)
}

fn verify(sandbox: &Sandbox, key: &str) -> ProgramOutput {
    sandbox.imagepool(&["models", "verify", key, "--json"])
}

/// Whether each line of an answer is good; `None` is neither.
fn goods(output: &ProgramOutput) -> Vec<Option<bool>> {
    let lines = output.json();
    let verdicts = lines.iter().filter(|line| line.get("error").is_none());
    verdicts.map(|line| line["good"].as_bool()).collect()
}

fn said(output: &ProgramOutput) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn flip(file: &Path, at: usize) {
    let mut bytes = fs::read(file).expect("it is there");
    bytes[at] ^= 1;
    fs::write(file, bytes).expect("ours");
}

#[test]
fn the_embedded_model_is_compared_file_by_file() {
    let output = verify(&Sandbox::new(""), "pocket-flux").succeeded();
    assert_eq!(goods(&output), [Some(true); 4]);
    let text = said(&output);
    assert!(WEIGHTS.iter().all(|name| text.contains(name)), "{text}");
}

#[test]
fn a_worker_program_with_a_flipped_bit_in_its_weights_is_found() {
    let sandbox = Sandbox::new("");
    let folder = sandbox.home().join("programs");
    fs::create_dir(&folder).expect("our own folder");
    let built = sandbox.binaries();
    for program in [built.imagepool(), built.worker()] {
        let name = program.file_name().expect("a file has a name");
        fs::copy(&program, folder.join(name)).expect("our own folder");
    }
    let weights = fs::read(assets().join("ae.safetensors")).expect("the assets are there");
    let worker = folder.join("worker");
    let program = fs::read(&worker).expect("a copy of our own");
    let at = program
        .windows(weights.len())
        .position(|window| window == weights)
        .expect("the weights are in the program");
    let verify = || {
        let mut ask = command(&folder.join("imagepool"), &sandbox);
        ask.args(["models", "verify", "pocket-flux"]);
        Call::start(ask).output()
    };
    verify().succeeded();
    flip(&worker, at + weights.len() - 156);
    let output = verify().ended_with(1);
    assert!(
        said(&output).contains("ae.safetensors"),
        "{}",
        said(&output)
    );
    assert!(
        output.stderr.contains("install it again"),
        "{}",
        output.stderr
    );
}

#[test]
fn a_folder_with_digests_is_compared_with_them() {
    let (sandbox, folder) = with_folder();
    let output = verify(&sandbox, "mine").succeeded();
    assert!(goods(&output).len() > 4, "the structure and the files");
    assert!(goods(&output).iter().all(|good| *good == Some(true)));
    let file = folder.join("t5.safetensors");
    let length = fs::metadata(&file).expect("it is there").len() as usize;
    flip(&file, length - 1);
    let output = verify(&sandbox, "mine").ended_with(1);
    assert_eq!(goods(&output), [Some(true), Some(false)]);
    assert!(
        said(&output).contains("t5.safetensors"),
        "{}",
        said(&output)
    );
}

#[test]
fn a_folder_without_digests_is_looked_at_and_its_bytes_are_called_unknown() {
    let (sandbox, folder) = with_folder();
    fs::remove_file(folder.join("SHA256SUMS")).expect("it was copied");
    let output = verify(&sandbox, "mine").succeeded();
    assert_eq!(goods(&output), [Some(true), None]);
    assert!(
        said(&output).contains("no digests are known"),
        "{}",
        said(&output)
    );
    let file = folder.join("clip_l.safetensors");
    let bytes = fs::read(&file).expect("it is there");
    fs::write(&file, &bytes[..bytes.len() - 1]).expect("ours");
    let output = verify(&sandbox, "mine").ended_with(1);
    assert_eq!(goods(&output), [Some(false), None]);
    assert!(
        said(&output).contains("clip_l.safetensors"),
        "{}",
        said(&output)
    );
}

#[test]
fn a_model_without_files_and_an_unknown_name_are_refused() {
    let (sandbox, _) = with_folder();
    for (key, code, word) in [
        ("syn", 2, "it has no files"),
        ("nobody", 2, "unknown model"),
        (
            "flux-schnell",
            1,
            "\"flux-schnell\" has no downloaded files",
        ),
    ] {
        let output = verify(&sandbox, key).ended_with(code);
        assert!(output.stderr.contains(word), "{}", output.stderr);
    }
}
