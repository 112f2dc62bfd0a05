//! The supervisor's table of built-in models is what the worker program says of itself.

use tests::binaries::Binaries;
use tests::program::{Call, command};
use tests::world::World;

#[test]
fn the_supervisors_table_is_what_the_worker_prints() {
    let world = World::new("");
    let mut worker = command(&Binaries::built().worker(), &world);
    worker.arg("--manifest");
    let output = Call::start(worker).output();
    assert_eq!(output.code, 0, "{}", output.stderr);
    let printed = String::from_utf8(output.stdout).expect("JSON is UTF-8");
    assert_eq!(
        supervisor::hub::BUILT_IN.trim(),
        printed.trim(),
        "run `worker --manifest > supervisor/src/hub/built-in.json`"
    );
}
