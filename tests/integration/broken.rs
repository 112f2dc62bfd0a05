//! A model with unusable files affects no other model, and is inspected again on request.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use ipc_protocol::request::ImageRequest;
use ipc_protocol::units::PictureSize;
use nix::sys::signal::{self, Signal};
use nix::unistd::Pid;
use serde_json::Value;
use tests::daemon::TestDaemon;
use tests::job::{self, request};
use tests::misbehaviours::GATE;
use tests::program::{PATIENCE, ProgramOutput};
use tests::sandbox::Sandbox;
use tests::wait;

const TRANSFORMER: &str = "flux1-schnell.safetensors";

/// The folder of the embedded model in the sources.
fn original() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../worker/assets/pocket-flux")
}

/// A folder that is to hold a model, and a section for it.
fn mine() -> (tempfile::TempDir, String) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let settings = format!(
        "[models.mine]\npath = {:?}\n[models.syn]\nfamily = \"synthetic\"\n\
         params = {{ step_ms = 20, load_ms = 1, weights_mb = 1 }}\n",
        folder.path().join("model")
    );
    (folder, settings)
}

/// Puts the whole model into its folder.
fn furnish(folder: &Path) {
    let model = folder.join("model");
    fs::create_dir_all(&model).expect("our own folder");
    for entry in fs::read_dir(original()).expect("the sources are here") {
        let entry = entry.expect("a file");
        fs::copy(entry.path(), model.join(entry.file_name())).expect("our own folder");
    }
}

/// Exchanges a file as an installer does: by renaming another one over it.
fn exchange(file: &Path, alter: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = fs::read(file).expect("it is there");
    alter(&mut bytes);
    let part = file.with_extension("part");
    fs::write(&part, bytes).expect("our own folder");
    fs::rename(part, file).expect("our own folder");
}

/// A tensor has its sides in the wrong order: the header is sound, and loading finds it.
fn turn_a_matrix(bytes: &mut [u8]) {
    let (right, wrong) = (b"\"shape\":[192,64]", b"\"shape\":[64,192]");
    let at = bytes.windows(right.len()).position(|part| part == right);
    let at = at.expect("the patches are projected by such a matrix");
    bytes[at..at + wrong.len()].copy_from_slice(wrong);
}

fn draw(sandbox: &Sandbox, model: &str, file: &str) -> ProgramOutput {
    let ask = [
        "generate",
        "a red circle",
        "-m",
        model,
        "--seed",
        "3",
        "--steps",
        "2",
        "-f",
    ];
    sandbox.imagepool(&[&ask[..], &["-o", file, "--json"]].concat())
}

/// The word and the line of a model in the status.
fn state(daemon: &TestDaemon, model: &str) -> (String, String) {
    let status = daemon.status();
    let found = status
        .models
        .into_iter()
        .find(|found| found.key.as_str() == model);
    let found = found.expect("it is offered");
    (
        found.state,
        found.at_rest.map(|(_, why)| why).unwrap_or_default(),
    )
}

/// Returns a field of a picture's receipt.
fn receipt(sandbox: &Sandbox, file: &str, field: &str) -> String {
    let bytes = fs::read(sandbox.pictures().join(file)).expect("it was drawn");
    let reader = png::Decoder::new(std::io::Cursor::new(bytes))
        .read_info()
        .expect("a PNG");
    let text = reader.info().utf8_text[0]
        .get_text()
        .expect("it is not packed");
    let receipt: Value = serde_json::from_str(&text).expect("JSON");
    receipt[field].as_str().unwrap_or_default().to_owned()
}

#[test]
fn a_model_whose_folder_is_not_there_is_broken_the_rest_is_served_and_asking_heals_it() {
    let (folder, settings) = mine();
    let daemon = TestDaemon::start(&settings);
    draw(&daemon.sandbox, "pocket-flux", "a.png").succeeded();
    let output = draw(&daemon.sandbox, "mine", "b.png").ended_with(1);
    let error = &output.json()[0]["error"];
    assert_eq!(error["kind"], "model_unusable", "{error}");
    let path = folder.path().join("model").display().to_string();
    assert!(
        error["message"]
            .as_str()
            .is_some_and(|why| why.contains(&path)),
        "{error}"
    );
    let (word, line) = state(&daemon, "mine");
    assert_eq!(word, "broken");
    assert!(line.contains(&path), "{line}");
    let plan = daemon.imagepool(&["plan", "mine"]);
    assert!(
        plan.code != 0 && plan.stderr.contains(&path),
        "{}",
        plan.stderr
    );
    furnish(folder.path());
    draw(&daemon.sandbox, "mine", "b.png").succeeded();
    assert_eq!(state(&daemon, "mine").0, "ready");
}

#[test]
fn a_damaged_file_breaks_its_model_alone_in_a_private_pool_too() {
    let (folder, settings) = mine();
    furnish(folder.path());
    let ae = folder.path().join("model/ae.safetensors");
    exchange(&ae, |bytes| bytes.truncate(1000));
    let sandbox = Sandbox::new(&settings);
    draw(&sandbox, "pocket-flux", "a.png").succeeded();
    let output = draw(&sandbox, "mine", "b.png").ended_with(1);
    assert!(output.stderr.contains("ae.safetensors") || !output.json().is_empty());
    let message = output.json()[0]["error"]["message"].to_string();
    assert!(message.contains("ae.safetensors"), "{message}");
    let shown = sandbox.imagepool(&["models", "show", "mine"]).succeeded();
    let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
    assert!(shown.contains("ae.safetensors"), "{shown}");
    fs::copy(original().join("ae.safetensors"), &ae).expect("our own folder");
    draw(&sandbox, "mine", "b.png").succeeded();
}

#[test]
fn a_daemon_serves_while_files_are_looked_at_and_requests_for_them_wait() {
    let (folder, settings) = mine();
    furnish(folder.path());
    let gate = folder.path().join("model").join(GATE);
    nix::unistd::mkfifo(&gate, nix::sys::stat::Mode::S_IRWXU).expect("our own folder");
    let daemon = TestDaemon::start_in(Sandbox::with_hostile_worker(&settings));
    draw(&daemon.sandbox, "pocket-flux", "a.png").succeeded();
    let unread = ("cold".to_owned(), "Looking at its files".to_owned());
    assert_eq!(state(&daemon, "mine"), unread);
    let waits = daemon.imagepool_begun(&["generate", "a", "-m", "mine", "-o", "b.png"]);
    let joined = || state(&daemon, "mine").1.ends_with("1 waiting");
    assert!(
        wait::until(PATIENCE, joined),
        "{:?}",
        state(&daemon, "mine")
    );
    fs::write(&gate, "").expect("the look waits for it");
    waits.output().succeeded();
}

#[test]
fn start_looks_again_at_a_broken_model() {
    let (folder, settings) = mine();
    let daemon = TestDaemon::start(&settings);
    let output = daemon.imagepool(&["start", "mine"]);
    assert!(output.code != 0);
    furnish(folder.path());
    daemon.imagepool(&["start", "mine"]).succeeded();
    assert_eq!(state(&daemon, "mine").0, "ready");
}

#[test]
fn a_hangup_looks_at_the_files_again_and_ends_neither_the_daemon_nor_its_jobs() {
    let (folder, settings) = mine();
    let mut daemon = TestDaemon::start(&settings);
    let broken = || state(&daemon, "mine").0 == "broken";
    assert!(wait::until(PATIENCE, broken), "its folder is not there");
    let job = daemon.imagepool_begun(&[
        "generate", "a", "-m", "syn", "--steps", "100", "-o", "a.png",
    ]);
    daemon.stderr.wait_for("Worker ready", 1, PATIENCE);
    furnish(folder.path());
    daemon.signal(Signal::SIGHUP);
    daemon
        .stderr
        .wait_for("Inspecting the files of all models again", 1, PATIENCE);
    let healed = || state(&daemon, "mine").0 == "cold";
    assert!(
        wait::until(PATIENCE, healed),
        "{:?}",
        state(&daemon, "mine")
    );
    job.output().succeeded();
    draw(&daemon.sandbox, "mine", "b.png").succeeded();
}

#[test]
fn what_a_worker_loaded_is_what_a_receipt_names() {
    let (folder, settings) = mine();
    furnish(folder.path());
    let daemon = TestDaemon::start(&settings);
    draw(&daemon.sandbox, "mine", "a.png").succeeded();
    let first = receipt(&daemon.sandbox, "a.png", "weights");
    assert_eq!(first.len(), 64);
    let model = folder.path().join("model");
    exchange(&model.join("ae.safetensors"), |bytes| {
        let end = bytes.len();
        bytes[end - 4000..].fill(0x11);
    });
    exchange(&model.join("config.json"), |bytes| {
        let text = String::from_utf8_lossy(bytes).into_owned();
        *bytes = text
            .replace("\"image_size\": 128", "\"image_size\": 64")
            .into_bytes();
    });
    // The worker that lives has loaded the first ones.
    draw(&daemon.sandbox, "mine", "b.png").succeeded();
    assert_eq!(receipt(&daemon.sandbox, "b.png", "weights"), first);
    daemon.imagepool(&["restart", "mine"]).succeeded();
    draw(&daemon.sandbox, "mine", "c.png").succeeded();
    let second = receipt(&daemon.sandbox, "c.png", "weights");
    assert!(second.len() == 64 && second != first, "{second}");
    assert_eq!(receipt(&daemon.sandbox, "c.png", "size"), "64x64");
    let replayed = daemon.imagepool(&["replay", "a.png"]).ended_with(1);
    let said = String::from_utf8_lossy(&replayed.stdout).into_owned();
    assert!(said.contains(&first) && said.contains(&second), "{said}");
}

#[test]
fn no_picture_is_made_with_the_files_of_two_models() {
    let (folder, settings) = mine();
    furnish(folder.path());
    let daemon = TestDaemon::start(&format!("[pool]\ncold_start_workers = 1\n{settings}"));
    let request = ImageRequest {
        size: Some(PictureSize {
            width: 256,
            height: 256,
        }),
        ..request("mine", 64, 1)
    };
    let drawn = job::draw(&mut daemon.client(), &request, |job, step| {
        if step == 2 {
            exchange(&folder.path().join("model/ae.safetensors"), |_| {});
            let worker = daemon.worker_of(job).and_then(|worker| worker.pid);
            let pid = Pid::from_raw(worker.expect("it runs the job") as i32);
            signal::kill(pid, Signal::SIGKILL).expect("it is ours");
        }
    });
    let failure = drawn.expect_err("half of it is of other files");
    assert!(
        failure.message.contains("files of its model changed"),
        "{failure}"
    );
    draw(&daemon.sandbox, "mine", "a.png").succeeded();
}

#[test]
fn files_that_cannot_be_loaded_break_their_model_until_they_change() {
    let (folder, settings) = mine();
    furnish(folder.path());
    let transformer = folder.path().join("model").join(TRANSFORMER);
    exchange(&transformer, |bytes| turn_a_matrix(bytes));
    let daemon = TestDaemon::start(&settings);
    let output = draw(&daemon.sandbox, "mine", "a.png").ended_with(1);
    let error = &output.json()[0]["error"];
    assert_eq!(error["kind"], "model_unusable", "{error}");
    assert!(
        error["message"]
            .as_str()
            .is_some_and(|why| why.contains(TRANSFORMER)),
        "{error}"
    );
    let spawned = daemon.stderr.with("Spawned worker").len();
    draw(&daemon.sandbox, "mine", "a.png").ended_with(1);
    assert_eq!(state(&daemon, "mine").0, "broken");
    assert_eq!(
        daemon.stderr.with("Spawned worker").len(),
        spawned,
        "nothing has changed"
    );
    fs::copy(original().join(TRANSFORMER), &transformer).expect("our own folder");
    draw(&daemon.sandbox, "mine", "a.png").succeeded();
}

#[test]
fn a_private_pool_does_not_read_again_what_has_not_changed() {
    let (folder, settings) = mine();
    furnish(folder.path());
    let sandbox = Sandbox::new(&settings);
    draw(&sandbox, "mine", "a.png").succeeded();
    let file = sandbox.home().join(".cache/imagepool/looks.json");
    let mode = fs::metadata(&file)
        .expect("it was kept")
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
    let (real, other) = (receipt(&sandbox, "a.png", "weights"), "0".repeat(64));
    let kept = fs::read_to_string(&file).expect("it was kept");
    fs::write(&file, kept.replace(&real, &other)).expect("our own folder");
    draw(&sandbox, "mine", "b.png").succeeded();
    assert_eq!(
        receipt(&sandbox, "b.png", "weights"),
        other,
        "what was kept is used"
    );
    exchange(&folder.path().join("model/t5.safetensors"), |_| {});
    draw(&sandbox, "mine", "c.png").succeeded();
    assert_eq!(
        receipt(&sandbox, "c.png", "weights"),
        real,
        "and no longer than it holds"
    );
    fs::write(&file, "{\"looks\":{\"").expect("our own folder");
    draw(&sandbox, "mine", "d.png").succeeded();
    assert_eq!(receipt(&sandbox, "d.png", "weights"), real);
}
