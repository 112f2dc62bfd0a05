//! Opens the device of this worker.

use crate::fault::WorkerFault;
use ipc_protocol::ids::Device;

/// Opens a device in candle.
///
/// # Errors
/// [`WorkerFault::DeviceGone`] if the GPU is missing, [`WorkerFault::DeviceLost`] if it cannot be opened.
pub fn open(device: Device) -> Result<candle_core::Device, WorkerFault> {
    match device {
        Device::Host => Ok(candle_core::Device::Cpu),
        Device::Cuda(ordinal) => candle_core::Device::new_cuda(ordinal as usize)
            .map_err(|error| not_opened(device, error)),
    }
}

fn not_opened(device: Device, error: candle_core::Error) -> WorkerFault {
    let which = device.placement();
    match WorkerFault::from(error) {
        WorkerFault::DeviceGone(said) => WorkerFault::DeviceGone(format!("{which}: {said}")),
        other => WorkerFault::DeviceLost(format!("{which}: {other}")),
    }
}
