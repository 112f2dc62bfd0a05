//! The pretended GPUs of a sandbox.

use std::path::PathBuf;

use stand_in_gpu::state::GpuState;
pub use stand_in_gpu::state::{HeldGpuMemory, StandInGpu};

use crate::binaries::Binaries;
use crate::sandbox::Sandbox;

/// The pretended GPUs of a sandbox: a file in its home.
#[derive(Debug, Clone)]
pub struct PretendedGpus {
    file: PathBuf,
}

impl PretendedGpus {
    /// GPUs of these sizes in MiB, called `GPU-0000`, `GPU-0001` and so on.
    pub fn of(sandbox: &Sandbox, sizes: &[u64]) -> Self {
        let gpus = Self {
            file: sandbox.home().join("stand-in-gpus"),
        };
        gpus.change(|state| {
            let sizes = sizes.iter().enumerate();
            state.gpus = sizes
                .map(|(nth, &size)| StandInGpu::new(&format!("GPU-{nth:04}"), size))
                .collect();
        });
        gpus
    }

    /// Changes them.
    pub fn change<T>(&self, change: impl FnOnce(&mut GpuState) -> T) -> T {
        GpuState::change(&self.file, change)
    }

    /// How they are now.
    pub fn read(&self) -> GpuState {
        GpuState::read(&self.file)
    }
}

/// The line of a settings file that makes a daemon use them.
pub fn settings() -> String {
    let library = Binaries::stand_in_gpus();
    format!("[gpu]\nlibrary = {library:?}\n")
}
