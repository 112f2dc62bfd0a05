//! Finds our other programs: beside this one in a checkout, in libexec when installed.

use std::io;
use std::path::{Path, PathBuf};

/// Returns the full path of `program` (`supervisor`, `worker` or `fetch`), which is beside the running program or
/// in `../libexec/imagepool`.
///
/// # Errors
/// The program is missing; the message names both places.
pub fn find(program: &str) -> io::Result<PathBuf> {
    let own = std::env::current_exe()?;
    let folder = own.parent().unwrap_or(Path::new("/"));
    let places = [
        folder.join(program),
        folder.join("../libexec/imagepool").join(program),
    ];
    places.iter().find(|place| place.is_file()).map_or_else(
        || {
            Err(io::Error::new(
                io::ErrorKind::NotFound,
                format!(
                    "the program {program} is missing: it is neither {} nor {}",
                    places[0].display(),
                    places[1].display()
                ),
            ))
        },
        |place| place.canonicalize(),
    )
}
