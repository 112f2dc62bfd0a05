//! Tests of the programs without a daemon. They also make `cargo test --workspace` build the programs for the
//! tests with real processes.

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
fn every_program_prints_its_version() {
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

/// Runs a program with its output on `stdout`; returns its exit code and stderr.
fn run_into(program: &str, arguments: &[&str], stdout: Stdio) -> (Option<i32>, String) {
    let child = Command::new(program)
        .args(arguments)
        .env_clear()
        .stdin(Stdio::null())
        .stdout(stdout)
        .stderr(Stdio::piped())
        .spawn()
        .expect("Cargo has built it");
    let output = child.wait_with_output().expect("it ends");
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    (output.status.code(), stderr)
}

#[test]
fn help_and_version_on_a_broken_stdout_are_an_error_and_no_panic() {
    for (program, arguments) in [
        (
            env!("CARGO_BIN_EXE_imagepool"),
            &["--version", "--help", "help"][..],
        ),
        (
            env!("CARGO_BIN_EXE_supervisor"),
            &["--version", "--help"][..],
        ),
    ] {
        for &argument in arguments {
            let (_, writer) = std::io::pipe().expect("a pipe");
            let (code, stderr) = run_into(program, &[argument], writer.into());
            assert_eq!(
                (code, stderr.as_str()),
                (Some(1), ""),
                "{program} {argument}"
            );
            let full = std::fs::File::create("/dev/full").expect("every system has it");
            let (code, stderr) = run_into(program, &[argument], full.into());
            assert_eq!(code, Some(1), "{program} {argument}");
            assert!(stderr.contains("output: stdout: No space left"), "{stderr}");
        }
    }
}

#[test]
fn an_invalid_number_is_refused_with_its_option_and_the_valid_values() {
    let cases: [(&[&str], &[&str]); 8] = [
        (
            &["generate", "a", "--steps", "x"],
            &["steps: ", "--steps", "1 or more"],
        ),
        (
            &["generate", "a", "--seed", "-1"],
            &["seed: ", "--seed", "18446744073709551615"],
        ),
        (
            &["generate", "a", "--guidance", "x"],
            &["guidance: ", "--guidance", "0 or more"],
        ),
        (
            &["generate", "a", "-n", "x"],
            &["count: ", "-n", "1 to 100"],
        ),
        (
            &["generate", "a", "--timeout", "x"],
            &["timeout: ", "--timeout", "above 0"],
        ),
        (
            &["generate", "a", "--timeout", "-1"],
            &["timeout: ", "--timeout", "above 0"],
        ),
        (&["cancel", "x"], &["JOB", "imagepool jobs"]),
        (&["scale", "a", "-1"], &["WORKERS", "0 or more"]),
    ];
    for (arguments, parts) in cases {
        let (code, stderr) = imagepool(arguments);
        assert_eq!(code, Some(2), "{arguments:?}");
        assert!(!stderr.contains("digit"), "{stderr}");
        for part in parts {
            assert!(stderr.contains(part), "{part} is missing in {stderr}");
        }
    }
}

#[test]
fn an_unknown_command_is_a_usage_error() {
    let (code, stderr) = imagepool(&["frobnicate"]);
    assert_eq!(code, Some(2));
    assert!(stderr.contains("frobnicate"), "{stderr}");
    assert_eq!(imagepool(&["generate"]).0, Some(2));
}

#[test]
fn invalid_settings_are_refused_with_their_line() {
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
fn an_unusable_folder_is_named_in_the_error() {
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
fn a_missing_folder_is_reported_and_the_settings_can_be_used() {
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
