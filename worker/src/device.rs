//! Opening the device that the supervisor placed this worker on.

use crate::fault::Fault;
use ipc_protocol::ids::Device;

/// The device in candle's hands.
///
/// # Errors
/// [`Fault::DeviceLost`] when a GPU cannot be opened.
pub fn open(device: Device) -> Result<candle_core::Device, Fault> {
    match device {
        Device::Host => Ok(candle_core::Device::Cpu),
        Device::Cuda(ordinal) => candle_core::Device::new_cuda(ordinal as usize)
            .map_err(|error| Fault::DeviceLost(format!("{}: {error}", device.placement()))),
    }
}
