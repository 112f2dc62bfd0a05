//! Where our other programs are: beside this one in a checkout, in libexec when installed.

use std::io;
use std::path::{Path, PathBuf};

/// The full path of `program` (`supervisor` or `worker`), looked for beside the running program and
/// in `../libexec/imagepool`.
///
/// # Errors
/// Not found, with the places that were looked at.
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
                    "no program {program} at {} nor at {}",
                    places[0].display(),
                    places[1].display()
                ),
            ))
        },
        |place| place.canonicalize(),
    )
}
