//! Text from workers, files and receipts is escaped before it reaches the log or a terminal.

use std::fs;

use ipc_protocol::untrusted::is_obeyed;
use tests::daemon::TestDaemon;
use tests::misbehaviours::{OBEYED, SPEECHES, speeches};
use tests::program::{PATIENCE, ProgramOutput};
use tests::sandbox::Sandbox;

/// A part of [`OBEYED`] as it may be shown.
const SHOWN: &str = "words\\u001b[2J\\r\\nerror: forged.\\u009b31m\\u007f\\u202e";

/// Every line holds only what is shown.
#[track_caller]
fn assert_plain(text: &str) {
    for line in text.lines() {
        assert!(!line.contains(is_obeyed), "{line:?}");
        assert!(!line.starts_with("error: forged"), "{line:?}");
    }
}

#[track_caller]
fn assert_output_plain(output: &ProgramOutput) {
    assert_plain(&output.stderr);
    assert_plain(&String::from_utf8_lossy(&output.stdout));
}

fn daemon() -> TestDaemon {
    let settings = format!("[pool]\ncold_start_workers = 1\n{}", speeches());
    TestDaemon::start_in(Sandbox::with_hostile_worker(&settings))
}

#[test]
fn a_workers_words_are_escaped_in_the_log_and_for_the_client() {
    let daemon = daemon();
    for place in SPEECHES {
        let model = format!("says-{place}");
        // The client need not wait for a job that its worker never answers.
        let ask = [
            "generate",
            "a star",
            "-m",
            &model,
            "--timeout",
            "5",
            "--json",
        ];
        let output = daemon.imagepool(&ask);
        assert_ne!(output.code, 0, "{place}");
        assert_output_plain(&output);
        let told_to_client = matches!(place, "giving-up" | "job-fault" | "bad-request");
        assert_eq!(
            output.stderr.contains(SHOWN),
            told_to_client,
            "{place}: {}",
            output.stderr
        );
        if !told_to_client {
            daemon.stderr.wait_for(SHOWN, 1, PATIENCE);
        }
    }
    for verb in ["status", "jobs"] {
        assert_output_plain(&daemon.imagepool(&[verb]));
        assert_output_plain(&daemon.imagepool(&[verb, "--json"]));
    }
    assert_plain(&daemon.stderr.all().join("\n"));
}

/// A file of weights with one tensor, whose name holds these words and whose bytes are not there.
fn weights(name: &str) -> Vec<u8> {
    let tensor = serde_json::json!({"dtype": "F32", "shape": [1], "data_offsets": [0, 4]});
    let header = serde_json::json!({ name: tensor }).to_string();
    [&(header.len() as u64).to_le_bytes()[..], header.as_bytes()].concat()
}

#[test]
fn a_tensors_name_is_escaped_wherever_a_folder_is_refused() {
    let sandbox = Sandbox::new("");
    let folder = sandbox.home().join("weights");
    fs::create_dir(&folder).expect("our own folder");
    for file in ["flux1-schnell.safetensors", "ae.safetensors"] {
        fs::write(folder.join(file), weights(OBEYED)).expect("our own folder");
    }
    let section = format!("[models.odd]\nfamily = \"flux\"\npath = {folder:?}\n");
    fs::write(sandbox.settings(), section).expect("our own folder");
    let output = sandbox
        .imagepool(&["models", "verify", "odd"])
        .ended_with(1);
    assert_output_plain(&output);
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(said.contains(SHOWN), "{said}");
    let output = sandbox.imagepool(&["--private", "generate", "a star", "-m", "odd"]);
    assert_ne!(output.code, 0);
    assert_output_plain(&output);
}
