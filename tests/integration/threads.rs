//! The number of threads changes how long a picture takes, and not a byte of it.

use std::fs;

use tests::daemon::TestDaemon;
use tests::pixels::sha256;

fn drawn_with(threads: u32) -> String {
    let daemon = TestDaemon::start(&format!("[models.pocket-flux]\nthreads = {threads}"));
    daemon
        .imagepool(&[
            "generate",
            "a pink ring right of a gray cross",
            "--seed",
            "5",
            "-o",
            "a.png",
        ])
        .succeeded();
    sha256(&fs::read(daemon.sandbox.pictures().join("a.png")).expect("it was written"))
}

#[test]
fn one_two_and_four_threads_draw_the_same_bytes() {
    let one = drawn_with(1);
    assert_eq!(drawn_with(2), one);
    assert_eq!(drawn_with(4), one);
}
