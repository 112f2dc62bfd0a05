//! `doctor` on machines that are bad in one way each: it names the fault and the remedy.

use std::fs::{self, File};
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::Command;

use nix::fcntl::{Flock, FlockArg};
use nix::unistd::geteuid;
use serde_json::Value;
use tests::daemon::TestDaemon;
use tests::gpus::{self, PretendedGpus};
use tests::imagepool;
use tests::program::{self, Call};
use tests::sandbox::Sandbox;

/// A user that owns nothing here.
const NOBODY: u32 = 65_534;

/// Runs the checks, started in a certain way; returns the exit code and the results.
fn doctor(sandbox: &Sandbox, started: impl FnOnce(Command) -> Command) -> (i32, Vec<Value>) {
    let command = started(imagepool::command(sandbox, &["doctor", "--json"]));
    let output = Call::start(command).output();
    let findings = output.json();
    assert!(findings.len() > 10, "{output:?}");
    (output.code, findings)
}

/// Fails the test unless a check has a result of this grade that contains `found`, with an advice that contains `remedy`.
#[track_caller]
fn assert_finds(
    (code, findings): (i32, Vec<Value>),
    grade: &str,
    check: &str,
    found: &str,
    remedy: &str,
) {
    let of_check: Vec<&Value> = findings
        .iter()
        .filter(|finding| finding["check"] == check)
        .collect();
    let holds = |value: &Value, part: &str| value.as_str().is_some_and(|text| text.contains(part));
    let is_it = |finding: &&&Value| {
        finding["grade"] == grade
            && holds(&finding["found"], found)
            && holds(&finding["remedy"], remedy)
    };
    let named = of_check.iter().find(is_it);
    let Some(named) = named else {
        panic!("no {grade} of {check} has {found:?} and {remedy:?}: {of_check:#?}");
    };
    assert!(holds(&named["fault"], " "), "{named}");
    if grade == "problem" {
        assert_eq!(code, 1, "a problem is an exit code");
    }
}

/// Whether this kernel lets tests mount in a namespace of their own; says so if it does not.
fn can_mount(sandbox: &Sandbox) -> bool {
    let command = imagepool::command(sandbox, &["--version"]);
    let line = "mount -t tmpfs tmpfs /dev/shm";
    let output = Call::start(program::in_mounts(&command, line)).output();
    if output.code != 0 {
        eprintln!(
            "the kernel forbids mount namespaces here: {}",
            output.stderr
        );
    }
    output.code == 0
}

/// A sandbox with a file system mounted at a folder of its home.
fn mounted(at: &str, kind: &str) -> Option<(i32, Vec<Value>)> {
    let sandbox = Sandbox::new("");
    let folder = sandbox.home().join(at);
    fs::create_dir_all(&folder).expect("our own folder");
    can_mount(&sandbox).then(|| {
        let line = format!("mount -t tmpfs -o {kind} tmpfs {}", folder.display());
        doctor(&sandbox, |command| program::in_mounts(&command, &line))
    })
}

#[test]
fn a_good_machine_has_no_problem() {
    let daemon = TestDaemon::start("");
    let (code, findings) = doctor(&daemon.sandbox, |command| command);
    let problems: Vec<_> = findings
        .iter()
        .filter(|finding| finding["grade"] == "problem")
        .collect();
    assert!(problems.is_empty() && code == 0, "{problems:#?}");
    let serves = |finding: &Value| {
        let found = finding["found"].as_str().unwrap_or_default();
        finding["check"] == "daemon" && found.contains(&format!("pid {}", daemon.pid()))
    };
    assert!(findings.iter().any(serves), "{findings:#?}");
    for finding in &findings {
        assert!(
            finding["found"].as_str().is_some_and(|text| text.len() > 5),
            "{finding}"
        );
    }
    let lines = daemon.imagepool(&["doctor"]).succeeded();
    let lines = String::from_utf8(lines.stdout).expect("text");
    assert!(lines.contains(" 0 to mend"), "{lines}");
}

#[test]
fn a_tiny_dev_shm_is_a_problem_for_named_segments() {
    let sandbox = Sandbox::new("segment = \"named\"\n");
    if can_mount(&sandbox) {
        let line = "mount -t tmpfs -o size=64k tmpfs /dev/shm";
        let found = doctor(&sandbox, |command| program::in_mounts(&command, line));
        assert_finds(
            found.clone(),
            "problem",
            "/dev/shm",
            "0 MiB free",
            "mount -o remount,size=1G",
        );
        assert_finds(
            found,
            "problem",
            "segments",
            "no room for a segment",
            "df /dev/shm",
        );
    }
}

#[test]
fn a_read_only_state_folder_is_a_problem() {
    if let Some(found) = mounted(".local/state", "ro") {
        assert_finds(
            found,
            "problem",
            "state folder",
            "Read-only file system",
            "--state-dir",
        );
    }
}

#[test]
fn a_full_disk_for_models_is_a_problem() {
    if let Some(found) = mounted(".local/share", "size=1m") {
        assert_finds(
            found,
            "problem",
            "model folder",
            "0.0 GiB free",
            "models rm",
        );
    }
}

#[test]
fn a_disk_without_inodes_is_a_problem() {
    if let Some(found) = mounted(".local/share", "size=60g,nr_inodes=20") {
        assert_finds(found, "problem", "model folder", "inodes", "df -i");
    }
}

#[test]
fn low_limits_are_problems_with_the_commands_that_raise_them() {
    let sandbox = Sandbox::new("");
    let limited = |line: &str| {
        let line = format!("{line} && exec \"$0\" \"$@\"");
        doctor(&sandbox, |command| program::by_shell(&command, &line))
    };
    let found = limited("ulimit -n 64");
    assert_finds(
        found,
        "problem",
        "open files",
        "may have 64",
        "ulimit -n 4096",
    );
    let found = limited("ulimit -v 4194304");
    assert_finds(
        found,
        "problem",
        "address space",
        "4096 MiB",
        "LimitAS=infinity",
    );
    let found = limited("ulimit -f 1024");
    assert_finds(
        found.clone(),
        "problem",
        "file size",
        "may have",
        "ulimit -f unlimited",
    );
    assert_finds(
        found,
        "problem",
        "segments",
        "segment",
        "ulimit -f unlimited",
    );
}

#[test]
fn a_too_long_socket_path_is_a_problem_with_its_length() {
    let sandbox = Sandbox::new("");
    let long = sandbox.home().join("x".repeat(100));
    fs::create_dir(&long).expect("our own folder");
    let found = doctor(&sandbox, |mut command| {
        command.env("XDG_RUNTIME_DIR", &long);
        command
    });
    assert_finds(
        found,
        "problem",
        "runtime folder",
        "the kernel's limit is 107",
        "--runtime-dir",
    );
}

#[test]
fn a_runtime_folder_that_others_own_or_may_write_to_is_a_problem() {
    let sandbox = Sandbox::new("");
    let folder = sandbox.runtime_dir();
    fs::create_dir(&folder).expect("our own folder");
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o777)).expect("ours");
    let found = doctor(&sandbox, |command| command);
    assert_finds(found, "problem", "runtime folder", "mode 0777", "ls -ld");
    if geteuid().is_root() {
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o700)).expect("ours");
        chown(&folder, Some(NOBODY), None).expect("root may");
        let found = doctor(&sandbox, |command| command);
        assert_finds(
            found,
            "problem",
            "runtime folder",
            "belongs to user 65534",
            "--runtime-dir",
        );
    }
}

#[test]
fn a_lock_that_another_program_holds_is_a_problem_and_names_it() {
    let sandbox = Sandbox::new("");
    fs::create_dir(sandbox.runtime_dir()).expect("our own folder");
    let lock = File::create(sandbox.runtime_dir().join("lock")).expect("our own folder");
    let lock = Flock::lock(lock, FlockArg::LockExclusiveNonblock).expect("it is new");
    let found = doctor(&sandbox, |command| command);
    let own = std::process::id().to_string();
    assert_finds(
        found,
        "problem",
        "daemon",
        &format!("process {own} ("),
        &format!("kill {own}"),
    );
    drop(lock);
    let (_, findings) = doctor(&sandbox, |command| command);
    let daemon = findings.iter().find(|finding| finding["check"] == "daemon");
    assert_eq!(
        daemon.map(|it| &it["grade"]),
        Some(&Value::from("ok")),
        "{daemon:?}"
    );
    // What a killed daemon leaves is no problem, and it is named.
    drop(UnixListener::bind(sandbox.socket()).expect("our own folder"));
    let (_, findings) = doctor(&sandbox, |command| command);
    let left = |finding: &Value| {
        let found = finding["found"].as_str().unwrap_or_default();
        finding["check"] == "daemon" && found.contains("is left of one that was killed")
    };
    assert!(findings.iter().any(left), "{findings:#?}");
}

#[test]
fn a_lock_that_is_a_folder_is_a_problem() {
    let sandbox = Sandbox::new("");
    fs::create_dir_all(sandbox.runtime_dir().join("lock")).expect("our own folder");
    let found = doctor(&sandbox, |command| command);
    assert_finds(found, "problem", "daemon", "is a link or a folder", "rm -r");
}

#[test]
fn a_missing_or_older_program_is_a_problem() {
    let sandbox = Sandbox::behind("worker", "echo worker 0.0.1; exit 0", "");
    let found = doctor(&sandbox, |command| command);
    assert_finds(
        found,
        "problem",
        "programs",
        "is version \"0.0.1\"",
        "one build",
    );
    fs::remove_file(sandbox.binaries().worker()).expect("our own folder");
    let found = doctor(&sandbox, |command| command);
    assert_finds(
        found,
        "problem",
        "programs",
        "the program worker is missing",
        "install the package",
    );
    let sandbox = Sandbox::behind("supervisor", "echo no such library >&2; exit 127", "");
    let found = doctor(&sandbox, |command| command);
    assert_finds(found, "problem", "programs", "no such library", "--version");
}

#[test]
fn an_invalid_settings_file_is_a_problem_that_names_the_setting() {
    let sandbox = Sandbox::new("[pool]\nidle_seconds = -1\n");
    let found = doctor(&sandbox, |command| command);
    assert_finds(
        found,
        "problem",
        "settings",
        "idle_seconds",
        "--check-config",
    );
}

/// The settings of a driver's library.
fn library(path: &Path) -> String {
    format!("[gpu]\nlibrary = {path:?}\n")
}

#[test]
fn a_drivers_library_that_fails_is_a_problem_and_other_users_of_a_gpu_a_warning() {
    let sandbox = Sandbox::new(&library(Path::new("/nowhere/libnvidia-ml.so.1")));
    let found = doctor(&sandbox, |command| command);
    assert_finds(
        found,
        "problem",
        "GPU driver",
        "cannot load /nowhere/",
        "gpu.library",
    );
    let sandbox = Sandbox::new(&gpus::settings());
    let pretended = PretendedGpus::of(&sandbox, &[1000, 2000]);
    pretended.change(|state| {
        state.gpus[0].is_gone = true;
        state.gpus[1].foreign_mb = 300;
    });
    let found = doctor(&sandbox, |command| command);
    assert_finds(
        found.clone(),
        "problem",
        "GPU driver",
        "fell off the bus",
        "xid",
    );
    assert_finds(
        found.clone(),
        "warning",
        "GPU memory",
        "has 300 MiB",
        "kill 1",
    );
    assert_finds(
        found,
        "warning",
        "GPU worker",
        "worker-cuda is missing",
        "build-cuda",
    );
    pretended.change(|state| state.hang = true);
    let found = doctor(&sandbox, |command| command);
    assert_finds(
        found,
        "problem",
        "GPU driver",
        "no answer within 10 s",
        "nvidia-smi",
    );
}

#[test]
fn chaos_loses_no_job_and_every_picture_is_identical() {
    let sandbox = Sandbox::new("");
    let output = sandbox
        .imagepool(&["doctor", "--chaos", "--json"])
        .succeeded();
    let strikes = output.json();
    let signals: Vec<_> = strikes
        .iter()
        .map(|strike| strike["signal"].clone())
        .collect();
    assert_eq!(
        signals,
        [
            "SIGKILL", "SIGTERM", "SIGSEGV", "SIGABRT", "SIGFPE", "SIGSTOP"
        ]
    );
    for strike in strikes {
        assert_eq!(strike["identical"], true, "{strike}");
        assert!(
            strike["attempts"]
                .as_u64()
                .is_some_and(|attempts| attempts >= 2),
            "{strike}"
        );
        assert!(
            strike["resumed_from_step"]
                .as_u64()
                .is_some_and(|step| step >= 3),
            "{strike}"
        );
        assert!(strike["resumed_ms"].is_u64(), "{strike}");
    }
}
