//! The daemon under a service manager: messages about its state, and sockets that it is passed.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::sync::Arc;
use std::time::Duration;

use nix::sys::signal::Signal;
use tests::daemon::TestDaemon;
use tests::job::request;
use tests::processes;
use tests::program::PATIENCE;
use tests::sandbox::Sandbox;
use tests::wait;

const SETTINGS: &str = "[pool]\ncold_start_workers = 1\n[models.syn]\nfamily = \"synthetic\"\nparams = { step_ms = 5, load_ms = 1, weights_mb = 1 }\n";
/// The watchdog's time, in microseconds.
const WATCHDOG_US: &str = "400000";

/// The messages that a daemon sends to its service manager.
struct Messages(UnixDatagram);

impl Messages {
    fn of(sandbox: &Sandbox) -> Self {
        let socket = UnixDatagram::bind(sandbox.runtime_dir().with_file_name("notify"));
        let socket = socket.expect("our own folder");
        let patience = socket.set_read_timeout(Some(PATIENCE));
        patience.expect("our own socket");
        Self(socket)
    }

    fn next(&self) -> String {
        self.receive().expect("a message")
    }

    /// The next message. A signal to the tests is no reason to stop.
    fn receive(&self) -> io::Result<String> {
        let mut bytes = [0; 1024];
        loop {
            match self.0.recv(&mut bytes) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                received => {
                    let length = received?;
                    return Ok(String::from_utf8_lossy(&bytes[..length]).into_owned());
                }
            }
        }
    }

    /// Waits for a message with this text; returns it.
    fn wait_for(&self, text: &str) -> String {
        loop {
            let message = self.next();
            if message.contains(text) {
                return message;
            }
        }
    }

    /// Whether no message comes for this time.
    fn are_silent(&self, time: Duration) -> bool {
        self.0.set_read_timeout(Some(time)).expect("our own socket");
        let silent = self.receive().is_err();
        let patience = self.0.set_read_timeout(Some(PATIENCE));
        patience.expect("our own socket");
        silent
    }
}

#[test]
fn the_service_manager_hears_of_readiness_life_reload_and_the_end() {
    let sandbox = Sandbox::new(SETTINGS);
    let messages = Messages::of(&sandbox);
    let mut daemon = TestDaemon::start_with_watchdog(sandbox, WATCHDOG_US);
    messages.wait_for("READY=1");
    daemon.draw(&request("syn", 2, 1)).expect("it is ready");
    let status = messages.wait_for("STATUS=serving: 1 of 1 workers ready");
    assert!(
        status.contains("host ") && status.contains(" GiB reserved"),
        "{status}"
    );
    messages.wait_for("WATCHDOG=1");
    messages.wait_for("WATCHDOG=1");
    daemon.signal(Signal::SIGHUP);
    let reload = messages.wait_for("RELOADING=1");
    assert!(reload.contains("MONOTONIC_USEC="), "{reload}");
    messages.wait_for("READY=1");
    daemon.signal(Signal::SIGTERM);
    messages.wait_for("STOPPING=1");
    messages.wait_for("EXTEND_TIMEOUT_USEC=");
    assert!(daemon.wait().success());
}

#[test]
fn a_stopped_daemon_sends_no_sign_of_life() {
    let sandbox = Sandbox::new(SETTINGS);
    let messages = Messages::of(&sandbox);
    let mut daemon = TestDaemon::start_with_watchdog(sandbox, WATCHDOG_US);
    messages.wait_for("WATCHDOG=1");
    daemon.signal(Signal::SIGSTOP);
    // What it had sent before.
    wait::until(PATIENCE, || messages.are_silent(Duration::from_millis(50)));
    assert!(messages.are_silent(Duration::from_secs(2)));
    daemon.signal(Signal::SIGCONT);
    messages.wait_for("WATCHDOG=1");
}

#[test]
fn a_job_that_came_before_the_daemon_is_drawn_and_the_passed_socket_stays() {
    let sandbox = Arc::new(Sandbox::new(SETTINGS));
    let socket = sandbox.socket();
    fs::create_dir_all(sandbox.runtime_dir()).expect("our own folder");
    let listener = UnixListener::bind(&socket).expect("our own folder");
    let early = sandbox.imagepool_begun(&["generate", "-m", "syn", "a", "-o", "a.png"]);
    let mut daemon = TestDaemon::start_passed(
        Arc::clone(&sandbox),
        OwnedFd::from(listener.try_clone().expect("a descriptor")),
        "pool.sock",
    );
    let drawn = early.output();
    assert_eq!(drawn.code, 0, "{}", drawn.stderr);
    for pid in daemon.worker_pids() {
        let names = processes::environment_names(pid);
        let of_the_service = |name: &&String| name.starts_with("LISTEN_");
        assert_eq!(names.iter().find(of_the_service), None);
        let descriptors = processes::descriptors(pid);
        // Its socket, its log twice, its segment, and three files of its own under /proc.
        assert_eq!(descriptors.len(), 7, "{descriptors:?}");
    }
    // The peer of its clients is this process, which opened the socket, and lives on.
    daemon.imagepool(&["shutdown"]).succeeded();
    assert!(daemon.wait().success());
    assert!(
        UnixStream::connect(&socket).is_ok(),
        "the socket listens on"
    );
    assert!(
        !sandbox.runtime_dir().join("http.sock").exists(),
        "its own is gone"
    );
}

#[test]
fn a_passed_socket_with_an_unknown_name_is_refused_with_the_names_of_the_doors() {
    let sandbox = Arc::new(Sandbox::new(SETTINGS));
    fs::create_dir_all(sandbox.runtime_dir()).expect("our own folder");
    let listener = UnixListener::bind(sandbox.socket()).expect("our own folder");
    let mut daemon = TestDaemon::start_passed(sandbox, listener.into(), "imagepool.socket");
    assert!(!daemon.wait().success());
    let line = daemon
        .stderr
        .wait_for("FileDescriptorName=pool.sock", 1, PATIENCE);
    assert!(line.contains("imagepool.socket"), "{line}");
    assert!(wait::until(PATIENCE, || daemon
        .sandbox
        .workers()
        .is_empty()));
}
