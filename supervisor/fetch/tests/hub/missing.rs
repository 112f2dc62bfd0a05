//! An installation without the fetch program.

use tests::binaries::Binaries;

use crate::home::{CommandOutput, Home, flux_files};
use crate::mirror::{Manner, Mirror, MirrorFault};
use crate::{FETCH, KEY};

#[test]
fn a_missing_fetch_program_is_an_error_that_names_both_places() {
    let mirror = Mirror::start(flux_files(), MirrorFault::None, Manner::Hub);
    let home = Home::new(&mirror.endpoint(), "");
    let folder = tempfile::tempdir().expect("a temporary folder");
    let imagepool = Binaries::without_fetch(folder.path()).imagepool();
    let picture = folder.path().join("a.png");
    let picture = picture.to_str().expect("plain");
    let missing = format!(
        "the program fetch is missing: it is neither {0}/fetch nor {0}/../libexec/imagepool/fetch",
        folder.path().display()
    );
    // The command runs the program itself; for a picture the daemon does.
    for (arguments, code) in [
        (&FETCH[..], 1),
        (&["generate", "a fox", "-m", KEY, "-o", picture], 75),
    ] {
        let output = home.program(&imagepool, arguments).output();
        let said = CommandOutput::of(output.expect("it starts")).ended_with(code);
        assert!(said.stderr.contains(&missing), "{said:?}");
        assert!(said.stderr.contains("install it there"), "{said:?}");
    }
    assert!(mirror.asked().is_empty());
    // Models that need no files are drawn as ever.
    let draw = ["generate", "a red circle", "-o", picture];
    let output = home.program(&imagepool, &draw).output();
    CommandOutput::of(output.expect("it starts")).ended_with(0);
}
