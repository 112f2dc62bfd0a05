//! Which device a worker computes on.

use crate::fault::Fault;
use candle_core::Device;
use std::str::FromStr;

/// Where the supervisor placed this worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DeviceWish {
    /// The first GPU when this build can use one and it answers, else the processor.
    #[default]
    Auto,
    /// The processor.
    Cpu,
    /// One GPU by its index.
    Cuda(usize),
}

impl FromStr for DeviceWish {
    type Err = String;

    /// Reads `auto`, `cpu` or `cuda:N`; the error is a sentence that says so.
    fn from_str(text: &str) -> Result<Self, String> {
        let index = text.strip_prefix("cuda:").map(usize::from_str);
        match (text, index) {
            ("auto", _) => Ok(DeviceWish::Auto),
            ("cpu", _) => Ok(DeviceWish::Cpu),
            (_, Some(Ok(index))) => Ok(DeviceWish::Cuda(index)),
            _ => Err(format!("`{text}` is no device: auto, cpu or cuda:N")),
        }
    }
}

impl DeviceWish {
    /// Opens the device.
    ///
    /// # Errors
    /// [`Fault::DeviceLost`] when a GPU was asked for by name and cannot be opened.
    pub fn open(self) -> Result<Device, Fault> {
        match self {
            DeviceWish::Cpu => Ok(Device::Cpu),
            DeviceWish::Cuda(index) => Device::new_cuda(index)
                .map_err(|error| Fault::DeviceLost(format!("cuda:{index}: {error}"))),
            DeviceWish::Auto => Ok(Device::new_cuda(0).unwrap_or(Device::Cpu)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_are_read_by_name_and_others_refused() {
        assert_eq!("cuda:3".parse(), Ok(DeviceWish::Cuda(3)));
        assert_eq!("cpu".parse(), Ok(DeviceWish::Cpu));
        assert!("cuda:x".parse::<DeviceWish>().is_err());
        assert!("gpu".parse::<DeviceWish>().is_err());
    }
}
