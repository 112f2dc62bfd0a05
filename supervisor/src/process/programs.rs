//! Finds our other programs: beside this one in a checkout, in libexec when installed.

use std::io;
use std::path::{Path, PathBuf};

use ipc_protocol::ids::Device;

/// The worker program for CUDA devices, which is beside the one for CPUs.
const CUDA_WORKER: &str = "worker-cuda";

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

/// Returns the program of a worker on `device`. `worker` is the program for CPUs.
pub fn worker_for(worker: &Path, device: Device) -> PathBuf {
    match device {
        Device::Host => worker.to_owned(),
        Device::Cuda(_) => worker.with_file_name(CUDA_WORKER),
    }
}

/// Checks that there is a program for CUDA devices beside `worker`.
///
/// # Errors
/// The sentence for the operator if it is missing.
pub fn check_cuda_worker(worker: &Path) -> Result<(), String> {
    let program = worker_for(worker, Device::Cuda(0));
    if program.is_file() {
        return Ok(());
    }
    Err(format!(
        "the program {} is missing: build it with scripts/build-cuda and install it there",
        program.display()
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cuda_devices_have_a_program_of_their_own_beside_the_worker() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let worker = folder.path().join("worker");
        assert_eq!(worker_for(&worker, Device::Host), worker);
        let missing = check_cuda_worker(&worker).expect_err("there is none");
        assert!(missing.contains("worker-cuda is missing"), "{missing}");
        std::fs::write(folder.path().join("worker-cuda"), "").expect("our own folder");
        check_cuda_worker(&worker).expect("there is one");
        let cuda = worker_for(&worker, Device::Cuda(1));
        assert_eq!(cuda, folder.path().join("worker-cuda"));
    }
}
