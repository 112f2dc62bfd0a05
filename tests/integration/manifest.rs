//! The supervisor's tables of models are what the worker program prints.

use supervisor::catalogue::manifest;
use tests::binaries::Binaries;
use tests::program::{Call, command};
use tests::sandbox::Sandbox;

#[track_caller]
fn assert_printed(option: &str, table: &str, file: &str) {
    let sandbox = Sandbox::new("");
    let mut worker = command(&Binaries::built().worker(), &sandbox);
    worker.arg(option);
    let output = Call::start(worker).output();
    assert_eq!(output.code, 0, "{}", output.stderr);
    let printed = String::from_utf8(output.stdout).expect("JSON is UTF-8");
    assert_eq!(
        table.trim(),
        printed.trim(),
        "run `worker {option} > supervisor/src/catalogue/{file}`"
    );
}

#[test]
fn the_table_of_built_in_models_is_what_the_worker_prints() {
    assert_printed("--manifest", manifest::BUILT_IN, "built-in.json");
}

#[test]
fn the_table_of_published_models_is_what_the_worker_prints() {
    assert_printed("--published", manifest::PUBLISHED, "published.json");
}
