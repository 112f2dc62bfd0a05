//! The inspection of a folder of weights ends by itself, and with its caller.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::signal::Signal;
use nix::sys::stat::Mode;
use tests::daemon::TestDaemon;
use tests::misbehaviours::GATE;
use tests::program::{self, Call};
use tests::sandbox::Sandbox;
use tests::{processes, wait};

/// For what takes milliseconds on a machine that is not busy.
const SOON: Duration = Duration::from_secs(30);
/// A killed process's children may outlive it for so long.
const GRACE: Duration = Duration::from_secs(2);

fn folder(sandbox: &Sandbox) -> PathBuf {
    let folder = sandbox.pictures().join("model");
    fs::create_dir_all(&folder).expect("our own folder");
    folder
}

fn inspect(sandbox: &Sandbox, folder: &Path, more: &[&str]) -> Call {
    let mut command = program::command(&sandbox.binaries().worker(), sandbox);
    command.arg("--inspect").arg(folder).args(more);
    Call::start(command)
}

#[test]
fn a_pipe_among_the_weights_is_refused_and_not_waited_for() {
    let sandbox = Sandbox::new("");
    for name in [
        "model.safetensors",
        "flux1-schnell.safetensors",
        "SHA256SUMS",
    ] {
        let folder = folder(&sandbox);
        let pipe = folder.join(name);
        nix::unistd::mkfifo(&pipe, Mode::S_IRWXU).expect("our own folder");
        let output = inspect(&sandbox, &folder, &[]).output();
        assert!(output.code == 66 || output.code == 78, "{output:?}");
        fs::remove_file(pipe).expect("our own file");
    }
    let folder = folder(&sandbox);
    nix::unistd::mkfifo(&folder.join("SHA256SUMS"), Mode::S_IRWXU).expect("our own folder");
    let mut command = program::command(&sandbox.binaries().worker(), &sandbox);
    let output = Call::start({
        command.arg("--verify").arg(&folder);
        command
    })
    .output()
    .ended_with(66);
    assert!(
        output.stderr.contains("is not a regular file"),
        "{}",
        output.stderr
    );
}

#[test]
fn an_inspection_for_a_process_that_is_gone_ends_at_once() {
    let sandbox = Sandbox::new("");
    let folder = folder(&sandbox);
    inspect(&sandbox, &folder, &["--parent", "1"])
        .output()
        .ended_with(84);
}

#[test]
fn an_inspection_without_a_reader_fails_without_a_panic() {
    let sandbox = Sandbox::behind("worker", "exec >/dev/full", "");
    let mut command = program::command(&sandbox.binaries().worker(), &sandbox);
    command.arg("--manifest");
    let output = Call::start(command).output().ended_with(74);
    assert!(
        output.stderr.contains("cannot print the output"),
        "{output:?}"
    );
}

/// Settings with a model whose inspection by the hostile worker never ends: its gate is never opened.
fn endless(folder: &Path) -> String {
    format!("[models.slow]\npath = \"{}\"\n", folder.display())
}

fn inspects(sandbox: &Sandbox) -> bool {
    let mut processes = sandbox.processes().into_iter();
    processes.any(|process| process.arguments.iter().any(|word| word == "--inspect"))
}

fn with_endless_inspection() -> Sandbox {
    let sandbox = Sandbox::with_hostile_worker("");
    let folder = folder(&sandbox);
    nix::unistd::mkfifo(&folder.join(GATE), Mode::S_IRWXU).expect("our own folder");
    fs::write(sandbox.settings(), endless(&folder)).expect("our own file");
    sandbox
}

#[test]
fn a_private_pool_that_inspects_a_folder_ends_with_its_caller() {
    let sandbox = with_endless_inspection();
    let mut call = sandbox.imagepool_begun(&["generate", "any", "-o", "a.png"]);
    assert!(
        wait::until(SOON, || inspects(&sandbox)),
        "{:?}",
        sandbox.processes()
    );
    call.signal(Signal::SIGKILL);
    call.output().ended_with(128 + 9);
    let gone = wait::until(GRACE, || sandbox.processes().is_empty());
    assert!(gone, "left: {:?}", sandbox.processes());
}

#[test]
fn an_inspection_ends_with_the_daemon() {
    let daemon = TestDaemon::start_unready(with_endless_inspection());
    let sandbox = &daemon.sandbox;
    assert!(
        wait::until(SOON, || inspects(sandbox)),
        "{:?}",
        sandbox.processes()
    );
    let sandbox = daemon.kill(GRACE);
    assert!(sandbox.processes().is_empty());
}

#[test]
fn an_inspection_sees_no_token_and_no_settings_in_its_environment() {
    let daemon = TestDaemon::start_unready(with_endless_inspection());
    let inspection = || {
        let mut processes = daemon.sandbox.processes().into_iter();
        let found = processes.find(|it| it.arguments.iter().any(|word| word == "--inspect"));
        found.map(|it| it.pid)
    };
    let pid = wait::until_found(SOON, inspection).expect("it waits for the gate");
    let names = processes::environment_names(pid);
    assert!(names.contains("TMPDIR"), "{names:?}");
    for name in ["HF_TOKEN", "HOME", "IMAGEPOOL_CONFIG"] {
        assert!(!names.contains(name), "{name}");
    }
}
