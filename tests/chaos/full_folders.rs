//! Folders that are full, tiny or read-only: typed errors while they are, and no restart to recover.
//!
//! The folders are mounted in a namespace of the daemon's own, which needs the right to mount; without it a test says that
//! it was skipped.

use std::fs::{self, File};
use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;

use ipc_protocol::client::ClientError;
use ipc_protocol::failure::{Failure, FailureKind};
use ipc_protocol::request::ImageRequest;
use tests::daemon::TestDaemon;
use tests::imagepool;
use tests::job::{request, wait_for};
use tests::program::{self, Call, PATIENCE, ProgramOutput};
use tests::sandbox::Sandbox;
use tests::{turn, wait};

const MODEL: &str =
    "[models.syn]\nfamily = \"synthetic\"\nparams = { step_ms = 3, load_ms = 1, weights_mb = 1 }\n";
/// A model whose workers could not be started is tried again after 10 s.
const RECOVERY: Duration = Duration::from_secs(30);

/// Whether this machine lets tests mount; prints that a test is skipped if not.
fn may_mount() -> bool {
    let sandbox = Sandbox::new(MODEL);
    let command = imagepool::command(&sandbox, &["--version"]);
    let tried = Call::start(program::in_mounts(&command, "mount -t tmpfs tmpfs /mnt")).output();
    if tried.code != 0 {
        println!(
            "SKIPPED: nothing can be mounted here: {}",
            tried.stderr.trim()
        );
    }
    tried.code == 0
}

/// A request that no other is like.
fn wanted(seed: u64) -> ImageRequest {
    ImageRequest {
        prompt: format!("a star {seed}"),
        ..request("syn", 3, seed)
    }
}

/// A detached job, or why it was refused.
fn detached(daemon: &TestDaemon, seed: u64) -> Result<ipc_protocol::ids::JobId, Failure> {
    let away = ImageRequest {
        detached: true,
        ..wanted(seed)
    };
    match daemon.client().generate(&away) {
        Ok(drawing) => Ok(drawing.accepted.first),
        Err(ClientError::Refused(failure)) => Err(failure),
        Err(error) => panic!("the daemon broke off: {error}"),
    }
}

#[test]
fn a_tiny_folder_of_shared_memory_is_named_and_room_in_it_is_used() {
    let _turn = turn::take();
    if !may_mount() {
        return;
    }
    let sandbox = Sandbox::new(&format!("segment = \"named\"\n{MODEL}"));
    let daemon = TestDaemon::start_in_mounts(sandbox, "mount -t tmpfs -o size=1m tmpfs /dev/shm");
    let failure = daemon.draw(&wanted(1)).expect_err("a segment needs more");
    assert_eq!(failure.kind, FailureKind::LoadRefused, "{failure}");
    assert!(failure.message.contains("No space left"), "{failure}");
    program::in_mounts_of(daemon.pid(), "mount -o remount,size=64m /dev/shm");
    let (drawn, took) = wait::timed(|| wait::until(RECOVERY, || daemon.draw(&wanted(2)).is_ok()));
    println!("refused: {failure}; drawn {took:?} after there was room");
    assert!(drawn, "{:?}", daemon.draw(&wanted(2)));
}

#[test]
fn sealed_memory_needs_no_folder_of_shared_memory() {
    let _turn = turn::take();
    if !may_mount() {
        return;
    }
    let line = "mount -t tmpfs -o size=1m tmpfs /dev/shm";
    let daemon = TestDaemon::start_in_mounts(Sandbox::new(MODEL), line);
    daemon.draw(&wanted(1)).expect("it is in no folder");
}

/// The state folder of a sandbox, and a line that mounts a small one there.
fn small_state(sandbox: &Sandbox, options: &str) -> (PathBuf, String) {
    let folder = sandbox.home().join(".local/state");
    let path = folder.display().to_string();
    let line =
        format!("mkdir -p {path} && mount -t tmpfs -o size=1m,mode=0700{options} tmpfs {path}");
    (folder, line)
}

#[test]
fn a_full_state_folder_refuses_detached_jobs_alone_and_only_while_it_is_full() {
    let _turn = turn::take();
    if !may_mount() {
        return;
    }
    let sandbox = Sandbox::new(MODEL);
    let (folder, line) = small_state(&sandbox, "");
    let daemon = TestDaemon::start_in_mounts(sandbox, &line);
    let whole = daemon.draw(&wanted(1)).expect("nothing is full yet").rgb8;
    let before = detached(&daemon, 1).expect("nothing is full yet");
    answered(&daemon, before, &whole);
    let seen = format!("/proc/{}/root{}/filler", daemon.pid(), folder.display());
    fill(&seen);
    // What is in flight may find a last page; then every detached job is refused, and says why.
    let refused = wait::until_found(RECOVERY, || detached(&daemon, 2).err());
    let refused = refused.expect("nothing can be written");
    assert!(refused.message.contains("journal"), "{refused}");
    assert!(refused.message.contains("No space left"), "{refused}");
    for seed in 10..20 {
        daemon
            .draw(&wanted(seed))
            .expect("attached jobs need no journal");
    }
    let state = daemon.status().supervisor.journal;
    fs::remove_file(&seen).expect("our own file");
    let (job, took) = wait::timed(|| wait::until_found(RECOVERY, || detached(&daemon, 1).ok()));
    println!("full: journal {state}, {refused}; accepted {took:?} after there was room");
    answered(&daemon, job.expect("there is room"), &whole);
    assert_eq!(daemon.status().supervisor.journal, "kept");
}

/// Writes until nothing more fits.
fn fill(path: &str) {
    let mut file = File::create(path).expect("a folder of the daemon's");
    for size in [64 << 10, 4 << 10, 1] {
        let block = vec![7; size];
        while file.write_all(&block).is_ok() {}
    }
}

/// A job's picture, asked for on a connection of its own.
fn answered(daemon: &TestDaemon, job: ipc_protocol::ids::JobId, rgb8: &[u8]) {
    let picture = wait_for(&mut daemon.client(), job);
    assert!(picture.expect("it is drawn").rgb8 == rgb8, "other bytes");
}

#[test]
fn a_daemon_whose_state_folder_is_read_only_says_so_and_draws() {
    let _turn = turn::take();
    if !may_mount() {
        return;
    }
    let sandbox = Sandbox::new(MODEL);
    let (_, line) = small_state(&sandbox, ",ro");
    let daemon = TestDaemon::start_in_mounts(sandbox, &line);
    daemon.stderr.wait_for("Read-only file system", 1, PATIENCE);
    daemon
        .draw(&wanted(1))
        .expect("attached jobs need no journal");
}

/// The command, with a folder of this kind under its pictures.
fn generate(daemon: &TestDaemon, options: Option<&str>) -> ProgramOutput {
    let arguments = [
        "generate", "a star", "-m", "syn", "--steps", "3", "-f", "-o", "x.png",
    ];
    let command = imagepool::command(&daemon.sandbox, &arguments);
    let folder = daemon.sandbox.pictures().display().to_string();
    let command = match options {
        // Entered again, because it was entered before the mount.
        Some(options) => program::in_mounts(
            &command,
            &format!("mount -t tmpfs -o {options} tmpfs {folder} && cd {folder}"),
        ),
        None => command,
    };
    Call::start(command).output()
}

#[test]
fn a_full_or_read_only_folder_of_pictures_is_named_and_nothing_half_written_stays() {
    let _turn = turn::take();
    if !may_mount() {
        return;
    }
    let daemon = TestDaemon::start(MODEL);
    let full = generate(&daemon, Some("size=4k")).ended_with(1).stderr;
    assert!(
        full.contains("x.png") && full.contains("No space left"),
        "{full}"
    );
    let fixed = generate(&daemon, Some("size=1m,ro")).ended_with(1).stderr;
    assert!(fixed.contains("Read-only file system"), "{fixed}");
    generate(&daemon, None).succeeded();
    println!("full: {full}read-only: {fixed}");
}
