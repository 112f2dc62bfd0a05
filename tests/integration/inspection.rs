//! Looking at a folder of weights: it ends by itself, and with whoever asked.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::signal::Signal;
use nix::sys::stat::Mode;
use tests::daemon::Daemon;
use tests::misbehaviours::GATE;
use tests::program::{self, Call};
use tests::wait;
use tests::world::World;

/// For what takes milliseconds on a machine that is not busy.
const SOON: Duration = Duration::from_secs(30);
/// A killed process's children may outlive it for so long.
const GRACE: Duration = Duration::from_secs(2);

fn folder(world: &World) -> PathBuf {
    let folder = world.pictures().join("model");
    fs::create_dir_all(&folder).expect("our own folder");
    folder
}

fn inspect(world: &World, folder: &Path, more: &[&str]) -> Call {
    let mut command = program::command(&world.binaries().worker(), world);
    command.arg("--inspect").arg(folder).args(more);
    Call::start(command)
}

#[test]
fn a_pipe_among_the_weights_is_refused_and_not_waited_for() {
    let world = World::new("");
    for name in [
        "model.safetensors",
        "flux1-schnell.safetensors",
        "SHA256SUMS",
    ] {
        let folder = folder(&world);
        let pipe = folder.join(name);
        nix::unistd::mkfifo(&pipe, Mode::S_IRWXU).expect("our own folder");
        let output = inspect(&world, &folder, &[]).output();
        assert!(output.code == 66 || output.code == 78, "{output:?}");
        fs::remove_file(pipe).expect("our own file");
    }
    let folder = folder(&world);
    nix::unistd::mkfifo(&folder.join("SHA256SUMS"), Mode::S_IRWXU).expect("our own folder");
    let mut command = program::command(&world.binaries().worker(), &world);
    let output = Call::start({
        command.arg("--verify").arg(&folder);
        command
    })
    .output()
    .ended_with(66);
    assert!(output.stderr.contains("no plain file"), "{}", output.stderr);
}

#[test]
fn an_inspection_for_a_process_that_is_gone_ends_at_once() {
    let world = World::new("");
    let folder = folder(&world);
    inspect(&world, &folder, &["--parent", "1"])
        .output()
        .ended_with(84);
}

#[test]
fn an_inspection_whose_answer_nobody_reads_fails_without_a_panic() {
    let world = World::behind("worker", "exec >/dev/full", "");
    let mut command = program::command(&world.binaries().worker(), &world);
    command.arg("--manifest");
    let output = Call::start(command).output().ended_with(74);
    assert!(
        output.stderr.contains("cannot print the answer"),
        "{output:?}"
    );
}

/// Settings with a model whose folder is looked at for ever by the hostile worker: its gate is never opened.
fn endless(folder: &Path) -> String {
    format!("[models.slow]\npath = \"{}\"\n", folder.display())
}

fn inspects(world: &World) -> bool {
    let mut processes = world.processes().into_iter();
    processes.any(|process| process.arguments.iter().any(|word| word == "--inspect"))
}

fn with_endless_inspection() -> World {
    let world = World::with_hostile_worker("");
    let folder = folder(&world);
    nix::unistd::mkfifo(&folder.join(GATE), Mode::S_IRWXU).expect("our own folder");
    fs::write(world.settings(), endless(&folder)).expect("our own file");
    world
}

#[test]
fn a_private_pool_that_inspects_a_folder_ends_with_its_caller() {
    let world = with_endless_inspection();
    let mut call = world.imagepool_begun(&["generate", "any", "-o", "a.png"]);
    assert!(
        wait::until(SOON, || inspects(&world)),
        "{:?}",
        world.processes()
    );
    call.signal(Signal::SIGKILL);
    call.output().ended_with(128 + 9);
    let gone = wait::until(GRACE, || world.processes().is_empty());
    assert!(gone, "left: {:?}", world.processes());
}

#[test]
fn an_inspection_ends_with_the_daemon() {
    let daemon = Daemon::start_unready(with_endless_inspection());
    let world = &daemon.world;
    assert!(
        wait::until(SOON, || inspects(world)),
        "{:?}",
        world.processes()
    );
    let world = daemon.kill(GRACE);
    assert!(world.processes().is_empty());
}
