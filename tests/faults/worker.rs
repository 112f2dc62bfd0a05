//! A call fails in a worker: its job is drawn all the same, with the same bytes, and not accused.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use tests::daemon::TestDaemon;
use tests::job::request;
use tests::sandbox::Sandbox;
use tests::{turn, wait};

use crate::strace::{self, CallFault, Trace, chosen};

/// Starts the next worker under strace if there is a file with options for it. As a grandchild, strace leaves the worker
/// the daemon's child.
const BEHIND_STRACE: &str = "case \"$*\" in *--inspect*) ;; *)\n\
    if mv \"$TMPDIR/strike\" \"$TMPDIR/struck\" 2>/dev/null; then\n\
    exec strace -D -f -qq -e signal=none -o \"$TMPDIR/trace\" $(cat \"$TMPDIR/struck\") \"$0-itself\" \"$@\"\n\
    fi ;; esac";
/// Workers leave soon, so that each job starts one.
const SETTINGS: &str = "[pool]\ncold_start_workers = 1\nidle_seconds = 0.05\n";
const PATIENCE: Duration = Duration::from_secs(60);

/// A daemon whose next worker can be struck.
struct StruckPool {
    daemon: TestDaemon,
}

impl StruckPool {
    fn start() -> Self {
        let daemon = TestDaemon::start_in(Sandbox::behind("worker", BEHIND_STRACE, SETTINGS));
        Self { daemon }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.daemon.sandbox.home().join(name)
    }

    /// Draws with a worker under strace with these options. Returns the picture's bytes and the trace.
    fn draw(&self, options: &[String], what: &str) -> (Vec<u8>, Trace) {
        let _ = fs::remove_file(self.file("trace"));
        fs::write(self.file("strike"), options.join(" ")).expect("our own folder");
        let picture = self.daemon.draw(&request("pocket-flux", 2, 7));
        let picture = picture.unwrap_or_else(|failure| panic!("{what}: {failure}"));
        let alone = wait::until(PATIENCE, || self.daemon.status().workers.is_empty());
        assert!(alone, "{what}: a worker stays");
        (picture.rgb8, Trace::read(&self.file("trace")))
    }
}

fn strike_all(fault: CallFault, usual: u32) {
    strace::require();
    let _turn = turn::take();
    let pool = StruckPool::start();
    let (undisturbed, trace) = pool.draw(&fault.options(None), "undisturbed");
    let mut struck = 0;
    for nth in chosen(fault, trace.calls(), usual) {
        let what = format!("call {nth} of {fault}");
        let (bytes, trace) = pool.draw(&fault.options(Some(nth)), &what);
        assert!(bytes == undisturbed, "{what}: other bytes");
        struck += u32::from(trace.has_injected());
    }
    assert!(struck > 0, "no call failed");
    let deaths = pool.daemon.stderr.with("Worker died");
    println!("{struck} calls failed, {} workers died", deaths.len());
    for line in &deaths {
        println!("{line}");
        // Lack of memory is no defect of the weights, and no request is at fault.
        for wrong in [
            "weights missing or corrupt",
            "bad model configuration",
            "panic",
        ] {
            assert!(!line.contains(wrong), "{line}");
        }
    }
    assert!(pool.daemon.stderr.with("quarantined").is_empty());
    assert_eq!(pool.daemon.status().supervisor.pid, pool.daemon.pid());
}

#[test]
fn memory_that_cannot_be_mapped_costs_no_picture() {
    let (call, error) = ("mmap", "ENOMEM");
    strike_all(CallFault { call, error }, 8);
}

// brk(2) never fails with an error: the kernel returns the old end of the heap, which strace cannot.
#[test]
fn memory_that_cannot_be_made_writable_costs_no_picture() {
    let (call, error) = ("mprotect", "ENOMEM");
    strike_all(CallFault { call, error }, 4);
}

#[test]
fn files_that_cannot_be_opened_for_lack_of_descriptors_cost_no_picture() {
    let (call, error) = ("openat", "EMFILE");
    strike_all(CallFault { call, error }, 8);
}

#[test]
fn threads_that_cannot_be_started_cost_no_picture() {
    for call in ["clone", "clone3"] {
        let error = "EAGAIN";
        strike_all(CallFault { call, error }, 4);
    }
}
