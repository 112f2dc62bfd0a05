//! The programs answer by themselves, without a daemon. Having this file also makes `cargo test
//! --workspace` build them for the tests of real processes.

#![expect(
    clippy::disallowed_methods,
    reason = "tests of programs start the programs"
)]

use std::process::{Command, Output, Stdio};

fn run(program: &str, arguments: &[&str]) -> Output {
    Command::new(program)
        .args(arguments)
        .env_clear()
        .stdin(Stdio::null())
        .output()
        .expect("Cargo has built it")
}

fn imagepool(arguments: &[&str]) -> (Option<i32>, String) {
    let output = run(env!("CARGO_BIN_EXE_imagepool"), arguments);
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    (output.status.code(), stderr)
}

#[test]
fn every_program_tells_its_version() {
    for program in [
        env!("CARGO_BIN_EXE_imagepool"),
        env!("CARGO_BIN_EXE_supervisor"),
    ] {
        let output = run(program, &["--version"]);
        assert_eq!(output.status.code(), Some(0), "{program}");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(text.contains(env!("CARGO_PKG_VERSION")), "{text}");
    }
}

#[test]
fn a_command_that_nobody_plans_is_a_usage_error() {
    let (code, stderr) = imagepool(&["frobnicate"]);
    assert_eq!(code, Some(2));
    assert!(stderr.contains("frobnicate"), "{stderr}");
    assert_eq!(imagepool(&[]).0, Some(2));
    assert_eq!(imagepool(&["generate"]).0, Some(2));
}

#[test]
fn a_planned_command_says_that_it_is_not_built_yet() {
    let (code, stderr) = imagepool(&["doctor"]);
    assert_eq!(code, Some(3));
    assert_eq!(stderr, "imagepool: doctor: not built yet\n");
}

#[test]
fn settings_that_cannot_be_used_are_refused_with_their_place() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("settings.toml");
    std::fs::write(&file, "[pool]\nqueue_per_modle = 3\n").expect("our own folder");
    let file = file.display().to_string();
    let output = run(
        env!("CARGO_BIN_EXE_supervisor"),
        &["--config", &file, "--check-config"],
    );
    assert_eq!(output.status.code(), Some(1));
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(stderr.contains("line 2"), "{stderr}");
    assert!(stderr.contains("queue_per_model"), "{stderr}");
}

#[test]
fn a_folder_that_cannot_be_used_is_named() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let taken = folder.path().join("taken");
    std::fs::write(&taken, "").expect("our own folder");
    let under = taken.join("run").display().to_string();
    let served = folder.path().join("run");
    std::fs::create_dir_all(served.join("lock")).expect("our own folder");
    let lock = served.display().to_string();
    let record = taken.join("record").display().to_string();
    let run_in = |more: &[&str]| {
        let output = run(env!("CARGO_BIN_EXE_supervisor"), more);
        assert_eq!(output.status.code(), Some(1));
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    for (arguments, path) in [
        (vec!["--runtime-dir", &under], &under),
        (vec!["--runtime-dir", &lock], &lock),
        (vec!["--runtime-dir", &lock, "--record", &record], &record),
    ] {
        let said = run_in(&arguments);
        assert!(said.contains(path.as_str()), "{said}");
    }
}

#[test]
fn a_folder_that_is_not_there_is_told_and_the_settings_can_be_used() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("settings.toml");
    std::fs::write(&file, "[models.mine]\npath = \"/not/mounted\"\n").expect("our own folder");
    let file = file.display().to_string();
    let program = env!("CARGO_BIN_EXE_supervisor");
    let output = run(program, &["--config", &file, "--check-config"]);
    assert_eq!(output.status.code(), Some(0));
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        said.contains("mine cannot be loaded: path = /not/mounted"),
        "{said}"
    );
}
