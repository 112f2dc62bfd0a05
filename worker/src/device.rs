//! Opening the device that the supervisor placed this worker on.

use crate::fault::Fault;
use ipc_protocol::ids::Device;

/// The device in candle's hands.
///
/// # Errors
/// [`Fault::DeviceGone`] for a GPU that is not there, [`Fault::DeviceLost`] for one that cannot be opened.
pub fn open(device: Device) -> Result<candle_core::Device, Fault> {
    match device {
        Device::Host => Ok(candle_core::Device::Cpu),
        Device::Cuda(ordinal) => candle_core::Device::new_cuda(ordinal as usize)
            .map_err(|error| not_opened(device, error)),
    }
}

fn not_opened(device: Device, error: candle_core::Error) -> Fault {
    let which = device.placement();
    match Fault::from(error) {
        Fault::DeviceGone(said) => Fault::DeviceGone(format!("{which}: {said}")),
        other => Fault::DeviceLost(format!("{which}: {other}")),
    }
}
