//! The sandbox of workers: a compromised one cannot leave it, and without it could.

use std::collections::BTreeMap;
use std::fs;
use std::net::TcpListener;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::chown;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::path::Path;
use std::time::Duration;

use ipc_protocol::status::WorkerStatus;
use nix::unistd::geteuid;
use tempfile::NamedTempFile;
use tests::daemon::TestDaemon;
use tests::job::request;
use tests::misbehaviours::escape;
use tests::program::PATIENCE;
use tests::sandbox::Sandbox;

/// A user other than root.
const NOBODY: u32 = 65534;
/// Attempts that must be made, each at both stages.
const ATTEMPTS_LEAST: usize = 40;
/// The errors by which the sandbox denies: a filter or missing privilege, Landlock, and a call that does not exist there.
const DENIED: [&str; 3] = ["EPERM", "EACCES", "ENOSYS"];

/// Everything that the attempts are aimed at.
struct EscapeFixture {
    daemon: TestDaemon,
    sibling: WorkerStatus,
    /// Shared memory with a name, as the segment of another pool.
    shared: NamedTempFile,
    _tcp: TcpListener,
    _abstract: UnixListener,
    prompt: String,
}

impl EscapeFixture {
    /// A daemon of this user with more settings, and one of its workers.
    fn new(user: Option<u32>, settings: &str) -> Self {
        let settings = format!(
            "{settings}\n{}\n[models.syn]\nfamily = \"synthetic\"\nmax_workers = 1\n\
             params = {{ step_ms = 20, load_ms = 0, weights_mb = 2 }}\n[pool]\nidle_seconds = 600\n",
            escape()
        );
        let sandbox = Sandbox::with_hostile_worker(&settings);
        let (home, scratch) = (sandbox.home(), sandbox.pictures());
        for name in ["file", "old", "other"] {
            fs::write(scratch.join(name), name).expect("our own folder");
        }
        fs::create_dir(scratch.join("mount")).expect("our own folder");
        for name in ["weights", "obituary"] {
            fs::write(home.join(name), name).expect("our own folder");
        }
        let shared = tempfile::Builder::new()
            .prefix("escape-test-")
            .tempfile_in("/dev/shm")
            .expect("shared memory");
        let daemon = match user {
            None => TestDaemon::start_in(sandbox),
            Some(user) => {
                give(&sandbox, user, shared.path());
                TestDaemon::start_as(user, user, sandbox)
            }
        };
        daemon
            .draw(&request("syn", 2, 1))
            .expect("the sibling draws");
        let workers = daemon.status().workers.into_iter();
        let mut siblings = workers.filter(|worker| worker.model.as_str() == "syn");
        let sibling = siblings.next().expect("it stays");
        let tcp = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = tcp.local_addr().expect("it has one").port();
        let name = format!("imagepool-test-{}", daemon.pid());
        let address = SocketAddr::from_abstract_name(&name).expect("a short name");
        let listener = UnixListener::bind_addr(&address).expect("a name of our own");
        let runtime = daemon.sandbox.runtime_dir();
        let path = |path: &Path| path.display().to_string();
        let words = [
            ("sibling", sibling.pid.expect("it runs").to_string()),
            ("port", port.to_string()),
            ("abstract", name),
            ("settings", path(&daemon.sandbox.settings())),
            ("obituary", path(&home.join("obituary"))),
            ("weights", path(&home.join("weights"))),
            ("runtime", path(&runtime)),
            ("lock", path(&runtime.join("lock"))),
            ("socket", path(&daemon.sandbox.socket())),
            ("http", path(&runtime.join("http.sock"))),
            ("scratch", path(&scratch)),
            ("shared", path(shared.path())),
            ("new_shared", format!("{}-new", shared.path().display())),
        ];
        let words = words.map(|(name, value)| format!("{name}={value}"));
        Self {
            daemon,
            sibling,
            shared,
            _tcp: tcp,
            _abstract: listener,
            prompt: words.join(" "),
        }
    }

    /// Lets the worker try everything. Returns the outcomes of each attempt, by name: before and after the worker is sealed.
    fn attempt(&self) -> BTreeMap<String, [String; 2]> {
        let mut order = request("escape", 1, 1);
        order.prompt = self.prompt.clone();
        let failure = self.daemon.draw(&order).expect_err("it draws nothing");
        assert!(failure.message.contains("tried everything"), "{failure}");
        self.daemon
            .stderr
            .wait_for("use a call newer than the filter", 1, PATIENCE);
        let lines = self.daemon.stderr.with("escape ");
        let outcomes = lines.iter().filter_map(|line| {
            let (_, said) = line.split_once(": escape ")?;
            let (name, outcomes) = said.rsplit_once(": ")?;
            let (narrow, sealed) = outcomes.split_once(' ')?;
            println!("{name}: {narrow}, {sealed}");
            Some((name.to_owned(), [narrow.to_owned(), sealed.to_owned()]))
        });
        let outcomes = outcomes.collect();
        // What a success may have made in a folder of the machine.
        let _ = fs::remove_file(format!("{}-new", self.shared.path().display()));
        outcomes
    }

    /// Checks that the daemon and the sibling work as before.
    fn check_alive(&self) {
        let picture = self.daemon.draw(&request("syn", 2, 1));
        let picture = picture.expect("the sibling draws");
        assert_eq!(picture.report.attempts, 1);
        let workers = self.daemon.status().workers;
        let still = workers.iter().any(|worker| worker.pid == self.sibling.pid);
        assert!(still, "{workers:?}");
    }
}

/// Gives everything that a daemon of this user needs to it.
fn give(sandbox: &Sandbox, user: u32, shared: &Path) {
    sandbox.open();
    let own = |path: &Path| chown(path, Some(user), Some(user)).expect("root may");
    own(shared);
    own(&sandbox.settings());
    let run = sandbox.runtime_dir();
    own(run.parent().expect("it is inside"));
    for folder in [sandbox.home(), sandbox.pictures()] {
        own(&folder);
        for entry in fs::read_dir(folder).expect("our own").flatten() {
            own(&entry.path());
        }
    }
}

fn check_denied(targets: &EscapeFixture) {
    let degree = targets.sibling.sandbox.map(|sandbox| sandbox.to_string());
    assert_eq!(degree.as_deref(), Some("full"), "of the kernel here");
    let outcomes = targets.attempt();
    assert!(
        outcomes.len() >= ATTEMPTS_LEAST,
        "{outcomes:?} {:#?}",
        targets.daemon.stderr.all()
    );
    let escaped: Vec<_> = outcomes
        .iter()
        .filter(|(_, outcomes)| !outcomes.iter().all(|it| DENIED.contains(&it.as_str())))
        .collect();
    assert!(escaped.is_empty(), "{escaped:?}");
    targets.check_alive();
    println!("{} attempts, each twice: all denied", outcomes.len());
}

#[test]
fn no_attempt_to_escape_from_a_workers_sandbox_succeeds() {
    check_denied(&EscapeFixture::new(None, ""));
    // With names, segments of others could be opened by path.
    check_denied(&EscapeFixture::new(None, "segment = \"named\""));
}

#[test]
fn the_sandbox_holds_for_a_daemon_without_privileges_and_hides_nothing_from_it() {
    if !geteuid().is_root() {
        println!("not run: only root can start a daemon of another user");
        return;
    }
    let targets = EscapeFixture::new(Some(NOBODY), "");
    check_denied(&targets);
    let daemon = &targets.daemon;
    let pid = targets.sibling.pid.expect("it runs");
    let score = fs::read_to_string(format!("/proc/{pid}/oom_score_adj")).expect("it lives");
    assert_eq!(score.trim(), "500", "the first victim of a lack of memory");
    let measured = || {
        let workers = daemon.status().workers;
        workers.iter().any(|worker| worker.measured_mb > Some(1))
    };
    assert!(tests::wait::until(Duration::from_secs(10), measured));
    // Without a path, root's commands use no socket of another user.
    let socket = daemon.sandbox.socket().display().to_string();
    let stop = ["--socket", &socket, "stop", "syn"];
    daemon.imagepool(&stop).succeeded();
    let line = daemon.stderr.wait_for("Worker exited", 1, PATIENCE);
    assert!(line.contains("reason=operator"), "{line}");
}

#[test]
fn without_the_sandbox_most_attempts_succeed_and_the_status_and_the_log_name_it() {
    let targets = EscapeFixture::new(None, "sandbox = false");
    let outcomes = targets.attempt();
    let succeeded = outcomes
        .values()
        .filter(|[outcome, _]| outcome == "succeeded")
        .count();
    // Some need root, or a part that this kernel lacks.
    let least = match geteuid().is_root() {
        true => ATTEMPTS_LEAST,
        false => outcomes.len() / 2,
    };
    println!("{succeeded} of {} succeeded", outcomes.len());
    assert!(succeeded >= least, "{succeeded} of {}", outcomes.len());
    let daemon = &targets.daemon;
    daemon
        .stderr
        .wait_for("Workers are not fully confined sandbox=off", 1, PATIENCE);
    let status = daemon.imagepool(&["status", "syn"]);
    let text = String::from_utf8_lossy(&status.stdout).into_owned();
    assert!(text.contains("sandbox off"), "{text}");
    let json = daemon.imagepool(&["status", "--json"]).json().remove(0);
    assert_eq!(json["workers"][0]["sandbox"], "off", "{json}");
    targets.check_alive();
}
