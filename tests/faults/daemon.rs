//! A call fails in the daemon: it lives, its clients get an answer, and the next one a picture.
//!
//! Calls for memory are not among them: strace counts the calls of each thread, so it would strike the first ones of every
//! new thread, with which Rust's runtime sets the thread up, and without which it aborts the process.

use std::path::Path;
use std::time::Duration;

use ipc_protocol::client::{Client, ClientError, Update};
use nix::sys::signal::Signal;
use tests::daemon::TestDaemon;
use tests::job::request;
use tests::program::{self, Call};
use tests::{turn, wait};

use crate::strace::{self, CallFault, Trace, chosen};

const SETTINGS: &str = "[pool]\ncold_start_workers = 1\nidle_seconds = 0.05\n\
    [models.syn]\nfamily = \"synthetic\"\nparams = { step_ms = 5, load_ms = 1, weights_mb = 1 }\n";
/// A daemon that lacked memory or descriptors draws again within this time.
const RECOVERY_MAX: Duration = Duration::from_secs(30);
const PATIENCE: Duration = Duration::from_secs(20);

/// strace, attached to all threads of the daemon and to none of its children.
struct Tracer(Call);

impl Tracer {
    fn attach(daemon: &TestDaemon, options: &[String]) -> Self {
        let file = daemon.sandbox.home().join("trace");
        let _ = std::fs::remove_file(&file);
        let mut command = program::command(Path::new("strace"), &daemon.sandbox);
        command
            .args(["-f", "-b", "execve", "-qq", "-e", "signal=none"])
            .args(options)
            .arg("-o")
            .arg(&file)
            .args(["-p", &daemon.pid().to_string()]);
        let call = Call::start(command);
        let traced = || {
            let status = std::fs::read_to_string(format!("/proc/{}/status", daemon.pid()));
            status.is_ok_and(|status| !status.contains("TracerPid:\t0\n"))
        };
        assert!(wait::until(PATIENCE, traced), "strace is not attached");
        Self(call)
    }

    fn detach(mut self, daemon: &TestDaemon) -> Trace {
        self.0.signal(Signal::SIGINT);
        self.0.output();
        Trace::read(&daemon.sandbox.home().join("trace"))
    }
}

/// Asks for a picture. A client that is turned away, or whose conversation ends, has its answer too: a sentence.
fn ask(daemon: &TestDaemon) -> Result<(), String> {
    let said = |error: ClientError| error.to_string();
    let mut client = Client::connect(&daemon.sandbox.socket()).map_err(said)?;
    let wanted = request("syn", 3, 7);
    for update in client.generate(&wanted).map_err(said)? {
        match update.map_err(said)? {
            Update::Picture(_) => return Ok(()),
            Update::Failed { failure, .. } => return Err(failure.to_string()),
            Update::Step { .. }
            | Update::Waiting { .. }
            | Update::Loading { .. }
            | Update::Preview { .. }
            | Update::DaemonLost
            | Update::AcceptedAgain(_) => {}
        }
    }
    Err("no answer".to_owned())
}

/// Waits until no worker is left, so that the next request starts one.
fn rest(daemon: &TestDaemon) {
    let alone = wait::until(PATIENCE, || daemon.status().workers.is_empty());
    assert!(alone, "a worker stays");
}

/// Makes calls fail. Returns how many did.
fn strike_all(fault: CallFault, usual: u32) -> u32 {
    strace::require();
    let _turn = turn::take();
    let daemon = TestDaemon::start(SETTINGS);
    ask(&daemon).expect("undisturbed");
    rest(&daemon);
    let tracer = Tracer::attach(&daemon, &fault.options(None));
    ask(&daemon).expect("counted, not disturbed");
    let calls = tracer.detach(&daemon).calls();
    let (mut struck, mut failed) = (0, 0);
    for nth in chosen(fault, calls, usual) {
        let what = format!("call {nth} of {fault}");
        rest(&daemon);
        let tracer = Tracer::attach(&daemon, &fault.options(Some(nth)));
        if let Err(why) = ask(&daemon) {
            println!("{what}: {why}");
            failed += 1;
        }
        struck += u32::from(tracer.detach(&daemon).has_injected());
        let recovered = wait::until(RECOVERY_MAX, || ask(&daemon).is_ok());
        assert!(recovered, "{what}: {:?}", ask(&daemon));
        assert_eq!(daemon.status().supervisor.pid, daemon.pid(), "{what}");
    }
    println!("{fault}: {struck} calls failed, {failed} requests failed");
    struck
}

#[test]
fn the_daemon_survives_the_lack_of_descriptors() {
    let error = "EMFILE";
    for call in ["memfd_create", "socketpair", "accept4", "openat"] {
        assert!(strike_all(CallFault { call, error }, 3) > 0, "{call}");
    }
}

#[test]
fn the_daemon_survives_the_lack_of_processes() {
    let error = "EAGAIN";
    // By one of them, as the C library chooses.
    let calls = ["clone", "clone3", "vfork"];
    let struck = calls.map(|call| strike_all(CallFault { call, error }, 3));
    assert!(struck.iter().sum::<u32>() > 0, "{struck:?}");
}

#[test]
fn the_daemon_survives_the_lack_of_room_and_of_the_kernels_memory() {
    for (call, error) in [("fallocate", "ENOSPC"), ("epoll_ctl", "ENOMEM")] {
        assert!(strike_all(CallFault { call, error }, 3) > 0, "{call}");
    }
}
