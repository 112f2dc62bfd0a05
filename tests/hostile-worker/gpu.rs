//! Takes memory of a pretended GPU, as loading a model takes memory of a real one.
//!
//! The memory is the process's: the honest worker has the same pid, and the stand-in forgets what a process held once it
//! has ended.

use ipc_protocol::exit_code::ExitCode;
use ipc_protocol::ids::Device;
use ipc_protocol::messages::worker::{ModelSource, Welcome};
use stand_in_gpu::state::{self, GpuState, HeldGpuMemory, StandInGpu};

/// Takes the memory that a synthetic model holds on its GPU. Exits as a worker with that GPU would, if it cannot be had.
pub fn take_memory(welcome: &Welcome) {
    let (Device::Cuda(_), ModelSource::Synthetic { device_mb, .. }) =
        (welcome.device, &welcome.source)
    else {
        return;
    };
    let uuid = std::env::var("CUDA_VISIBLE_DEVICES").expect("it is shown its own GPU");
    let taken = GpuState::change(&state::path(), |state| {
        let mut gpus = state.gpus.iter_mut();
        let gpu = gpus.find(|gpu| gpu.uuid == uuid && !gpu.is_gone);
        take(gpu.ok_or(ExitCode::DeviceGone)?, u64::from(*device_mb))
    });
    if let Err(code) = taken {
        code.exit();
    }
}

fn take(gpu: &mut StandInGpu, mb: u64) -> Result<(), ExitCode> {
    if let Some(code) = gpu.exit_code {
        return Err(ExitCode::from_number(code).expect("a code of ours"));
    }
    if gpu.used_mb() + mb > gpu.total_mb {
        return Err(ExitCode::OutOfMemoryLoading);
    }
    let pid = std::process::id();
    let start = state::start(pid).expect("this process runs");
    gpu.held.push(HeldGpuMemory { pid, start, mb });
    Ok(())
}
