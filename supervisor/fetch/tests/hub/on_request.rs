//! A request for a model without files fetches them, waits outside of the pool, and is drawn.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::Child;
use std::thread;
use std::time::Duration;

use crate::drawable::diffusers_files;
use crate::home::{CommandOutput, Home, flux_files};
use crate::mirror::{Manner, Mirror, MirrorFault};
use store::Store;
use tests::binaries::Binaries;

const DIFFUSERS: &str = "[models.flux-schnell]\nvariant = \"diffusers\"";

/// A daemon in a home; it is killed when the test is over.
struct HomeDaemon {
    child: Child,
    socket: PathBuf,
    #[expect(dead_code, reason = "the folder lives as long as the daemon")]
    folder: tempfile::TempDir,
}

impl HomeDaemon {
    fn start(home: &Home) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let supervisor = Binaries::built().supervisor();
        let runtime = folder.path().to_str().expect("plain").to_owned();
        let mut child = home
            .program(&supervisor, &["--runtime-dir", &runtime])
            .spawn()
            .expect("the daemon under test starts");
        let stderr = child.stderr.take().expect("it is piped");
        let mut lines = BufReader::new(stderr).lines().map_while(Result::ok);
        assert!(lines.any(|line| line.contains("Serving")), "it serves");
        // Nobody reads the rest, and a full pipe would stop the daemon.
        thread::spawn(move || lines.for_each(drop));
        Self {
            child,
            socket: folder.path().join("pool.sock"),
            folder,
        }
    }

    /// `imagepool generate -m flux-schnell` of a small picture, not waited for.
    fn generate(&self, home: &Home, picture: &Path, more: &[&str]) -> Child {
        let socket = self.socket.to_str().expect("plain");
        let picture = picture.to_str().expect("plain");
        let drawn = ["--size", "256x256", "--steps", "1", "-f", "-o", picture];
        let model = [
            "--socket",
            socket,
            "generate",
            "a fox",
            "-m",
            "flux-schnell",
        ];
        home.begin(&[&model[..], &drawn[..], more].concat())
    }

    /// `imagepool` with these arguments.
    fn run(&self, home: &Home, arguments: &[&str]) -> CommandOutput {
        let socket = self.socket.to_str().expect("plain");
        home.run(&[&["--socket", socket], arguments].concat())
    }

    fn status(&self, home: &Home) -> String {
        self.run(home, &["status"]).stdout
    }
}

impl Drop for HomeDaemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn ended(child: Child) -> CommandOutput {
    CommandOutput::of(child.wait_with_output().expect("our own child"))
}

/// Waits for something that happens soon, or never.
#[track_caller]
fn until(what: &str, holds: impl Fn() -> bool) {
    let patience = (0..3000).any(|_| {
        thread::park_timeout(Duration::from_millis(10));
        holds()
    });
    assert!(patience, "never: {what}");
}

/// A hub that pauses between pieces, and a daemon in a home that fetches from it.
fn slow_hub(pause: Duration) -> (Mirror, Home, HomeDaemon) {
    let mirror = Mirror::start(diffusers_files(), MirrorFault::Slow { pause }, Manner::Hub);
    let home = Home::new(&mirror.endpoint(), DIFFUSERS);
    let daemon = HomeDaemon::start(&home);
    (mirror, home, daemon)
}

/// Waits until the mirror was asked for bytes.
fn under_way(mirror: &Mirror) {
    until("asked for bytes", || !mirror.gets("").is_empty());
}

#[test]
fn three_requests_fetch_once_and_the_time_of_it_is_not_theirs() {
    let (mirror, home, daemon) = slow_hub(Duration::from_millis(25));
    let folder = tempfile::tempdir().expect("a temporary folder");
    let pictures = [0, 1].map(|nth| folder.path().join(format!("{nth}.png")));
    let clients = pictures
        .each_ref()
        .map(|picture| daemon.generate(&home, picture, &["--seed", "1"]));
    // Fourteen files in sixteen pieces each take longer than this one has.
    let hasty = daemon.generate(&home, &folder.path().join("hasty.png"), &["--timeout", "1"]);
    under_way(&mirror);
    let status = daemon.status(&home);
    assert!(status.contains("Fetching its files"), "{status}");
    let said = ended(hasty);
    assert!(matches!(said.code, Some(0 | 124)), "{said:?}");
    let files = mirror.files().count();
    assert_eq!(
        mirror.gets("").len(),
        files,
        "its time began when all was here"
    );
    for client in clients {
        let said = ended(client).ended_with(0);
        assert!(
            said.stderr
                .contains("fetching the files of flux-schnell first"),
            "{said:?}"
        );
    }
    let drawn = pictures
        .each_ref()
        .map(|picture| fs::read(picture).expect("it was drawn"));
    assert!(drawn[0] == drawn[1]);
    let said = ended(daemon.generate(&home, &pictures[0], &[])).ended_with(0);
    assert!(!said.stderr.contains("fetching"), "{said:?}");
    assert_eq!(mirror.gets("").len(), files, "each file once");
}

#[test]
fn what_cannot_be_fetched_is_refused_with_the_reason_and_so_is_what_must_not_be() {
    let picture = tempfile::tempdir().expect("a temporary folder");
    let picture = picture.path().join("a.png");
    let mirror = Mirror::start(flux_files(), MirrorFault::Refuses(401), Manner::Hub);
    let home = Home::new(&mirror.endpoint(), "");
    let daemon = HomeDaemon::start(&home);
    let said = ended(daemon.generate(&home, &picture, &[])).ended_with(75);
    assert!(said.stderr.contains("accept the licence"), "{said:?}");
    // Refused for what it is before a byte is fetched for it.
    let asked = mirror.asked().len();
    ended(daemon.generate(&home, &picture, &["--steps", "500"])).ended_with(2);
    assert_eq!(mirror.asked().len(), asked);
    // Files that are no weights come whole, and no worker is started on them: trying again cannot help.
    mirror.mend();
    let said = ended(daemon.generate(&home, &picture, &[])).ended_with(1);
    assert!(said.stderr.contains("cannot be used"), "{said:?}");
    let offline = Home::new(&mirror.endpoint(), "offline = true");
    let daemon = HomeDaemon::start(&offline);
    let asked = mirror.asked().len();
    let said = ended(daemon.generate(&offline, &picture, &[])).ended_with(75);
    assert!(said.stderr.contains("hub.offline is set"), "{said:?}");
    assert!(!said.stderr.contains("fetching"), "{said:?}");
    assert_eq!(mirror.asked().len(), asked);
    assert!(!picture.exists());
}

#[test]
fn a_fetch_without_waiting_clients_ends_and_the_next_request_resumes_it() {
    let (mirror, home, daemon) = slow_hub(Duration::from_millis(100));
    let picture = tempfile::tempdir().expect("a temporary folder");
    let picture = picture.path().join("a.png");
    let mut client = daemon.generate(&home, &picture, &[]);
    under_way(&mirror);
    client.kill().expect("our own child");
    client.wait().expect("our own child");
    until("the fetch ends", || {
        !daemon.status(&home).contains("Fetching")
    });
    assert!(
        mirror.gets("").len() < mirror.files().count(),
        "it ended early"
    );
    mirror.mend();
    ended(daemon.generate(&home, &picture, &[])).ended_with(0);
    assert!(picture.exists());
}

#[test]
fn a_request_that_waits_for_files_is_listed_explained_and_cancelled_like_a_job() {
    let (mirror, home, daemon) = slow_hub(Duration::from_millis(100));
    let picture = tempfile::tempdir().expect("a temporary folder");
    let client = daemon.generate(&home, &picture.path().join("a.png"), &[]);
    under_way(&mirror);
    let jobs = daemon.run(&home, &["jobs"]).ended_with(0).stdout;
    assert!(
        jobs.contains("for the files of flux-schnell, which are being fetched: "),
        "{jobs}"
    );
    let why = daemon.run(&home, &["why", "1"]).ended_with(0).stdout;
    assert!(
        why.contains("waiting: for the files of flux-schnell, which are being fetched: "),
        "{why}"
    );
    daemon.run(&home, &["cancel", "1"]).ended_with(0);
    let said = ended(client).ended_with(1);
    assert!(said.stderr.contains("cancelled by an operator"), "{said:?}");
    until("the fetch ends", || {
        !daemon.status(&home).contains("Fetching")
    });
    let why = daemon.run(&home, &["why", "1"]).ended_with(0).stdout;
    assert!(why.starts_with("was cancelled at "), "{why}");
    assert!(mirror.gets("").len() < mirror.files().count());
}

#[test]
fn a_detached_request_waits_for_files_and_is_drawn_without_its_client() {
    let (mirror, home, daemon) = slow_hub(Duration::from_millis(25));
    let folder = tempfile::tempdir().expect("a temporary folder");
    let picture = folder.path().join("a.png");
    let socket = daemon.socket.to_str().expect("plain");
    let drawn = ["--size", "256x256", "--steps", "1", "--detach"];
    let model = [
        "--socket",
        socket,
        "generate",
        "a fox",
        "-m",
        "flux-schnell",
    ];
    let mut client = home.begin(&[&model[..], &drawn].concat());
    under_way(&mirror);
    client.kill().expect("our own child");
    client.wait().expect("our own child");
    let jobs = daemon.run(&home, &["jobs"]).ended_with(0).stdout;
    assert!(jobs.contains(" queued "), "{jobs}");
    let wait = ["wait", "1", "-o", picture.to_str().expect("plain")];
    let said = daemon.run(&home, &wait).ended_with(0);
    assert!(
        said.stderr
            .contains("fetching the files of flux-schnell first"),
        "{said:?}"
    );
    assert!(picture.exists());
}

#[test]
fn a_daemon_that_shuts_down_waits_for_no_fetch() {
    let (mirror, home, mut daemon) = slow_hub(Duration::from_millis(100));
    let picture = tempfile::tempdir().expect("a temporary folder");
    let client = daemon.generate(&home, &picture.path().join("a.png"), &[]);
    under_way(&mirror);
    daemon.run(&home, &["shutdown"]).ended_with(0);
    let said = ended(client).ended_with(75);
    assert!(said.stderr.contains("draining"), "{said:?}");
    daemon.child.wait().expect("our own child");
    let asked = mirror.gets("").len();
    assert!(asked < mirror.files().count(), "it ended early");
    thread::park_timeout(Duration::from_secs(2));
    assert!(mirror.gets("").len() <= asked + 1, "nobody goes on");
}

/// Starts a daemon before the model is fetched by hand.
#[test]
fn files_that_came_by_hand_are_found_without_a_restart_and_without_the_network() {
    let mirror = Mirror::start(diffusers_files(), MirrorFault::None, Manner::Hub);
    let home = Home::new(&mirror.endpoint(), DIFFUSERS);
    let daemon = HomeDaemon::start(&home);
    home.run(&["models", "fetch", "flux-schnell"]).ended_with(0);
    let asked = mirror.asked().len();
    let picture = tempfile::tempdir().expect("a temporary folder");
    let picture = picture.path().join("a.png");
    ended(daemon.generate(&home, &picture, &[])).ended_with(0);
    assert_eq!(mirror.asked().len(), asked);
    let fetched = Store::at(home.models()).find("flux-schnell", &["diffusers"], None);
    let fetched = fetched.expect("it is published");
    let worker = Binaries::built().worker();
    let folder = fetched.folder.to_str().expect("plain");
    let output = home.program(&worker, &["--inspect", folder]).output();
    let said = CommandOutput::of(output.expect("it starts"))
        .ended_with(0)
        .stdout;
    let digest = format!("\"digest\":\"{}\"", fetched.record.digest());
    assert!(said.contains(&digest), "{digest} {said}");
}
