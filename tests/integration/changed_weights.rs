//! Weight files that change while a worker reads them are blamed, not the request.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::Duration;

use ipc_protocol::failure::FailureKind;
use ipc_protocol::request::ImageRequest;
use tests::daemon::TestDaemon;
use tests::job::request;
use tests::sandbox::Sandbox;
use tests::wait;

/// Longer than a model rests after a load that could not work.
const REST: Duration = Duration::from_secs(90);

fn copied(sandbox: &Sandbox) -> PathBuf {
    let assets = Path::new(env!("CARGO_MANIFEST_DIR")).join("../worker/assets/pocket-flux");
    let folder = sandbox.home().join("mine");
    fs::create_dir(&folder).expect("our own folder");
    for entry in fs::read_dir(assets).expect("the assets are there") {
        let from = entry.expect("the assets are there").path();
        let name = from.file_name().expect("a file has a name");
        fs::copy(&from, folder.join(name)).expect("our own folder");
    }
    folder
}

fn wanted(prompt: &str) -> ImageRequest {
    ImageRequest {
        prompt: prompt.into(),
        ..request("mine", 1, 3)
    }
}

#[test]
fn an_emptied_weight_file_is_the_models_fault_and_the_request_is_drawn_once_it_is_back() {
    let sandbox = Sandbox::new("");
    let folder = copied(&sandbox);
    let settings = format!("[models.mine]\npath = {folder:?}\nencoders = \"drop\"\n");
    fs::write(sandbox.settings(), settings).expect("our own file");
    let daemon = TestDaemon::start_in(sandbox);
    daemon.draw(&wanted("a red circle")).expect("good files");
    let encoder = folder.join("t5.safetensors");
    let whole = fs::read(&encoder).expect("our own file");
    File::create(&encoder).expect("our own file");
    let failure = daemon
        .draw(&wanted("a blue square"))
        .expect_err("its encoder is empty");
    assert_ne!(failure.kind, FailureKind::Quarantined, "{failure}");
    assert!(failure.message.contains("t5"), "{failure}");
    fs::write(&encoder, whole).expect("our own file");
    let drawn = wait::until(REST, || daemon.draw(&wanted("a blue square")).is_ok());
    assert!(drawn, "{:?}", daemon.stderr.with("mine"));
}
