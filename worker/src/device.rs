//! Opens the device of this worker.

use crate::fault::WorkerFault;
use ipc_protocol::ids::Device;

/// The number of a worker's GPU for CUDA. The supervisor shows each worker only its own (`CUDA_VISIBLE_DEVICES`).
const OWN_GPU: usize = 0;

/// Opens a device in candle.
///
/// # Errors
/// [`WorkerFault::DeviceLost`] if this program or machine cannot use the device, [`WorkerFault::DeviceGone`] if the
/// driver has no device of this number, [`WorkerFault::OutOfMemoryLoading`] if it has no memory for a context.
pub fn open(device: Device) -> Result<candle_core::Device, WorkerFault> {
    match device {
        Device::Host => Ok(candle_core::Device::Cpu),
        Device::Cuda(_) => {
            candle_core::Device::new_cuda(OWN_GPU).map_err(|error| not_opened(device, error))
        }
    }
}

fn not_opened(device: Device, error: candle_core::Error) -> WorkerFault {
    let which = device.placement();
    let has_driver = !format!("{error:?}").contains("CUDA_ERROR_NO_DEVICE");
    match WorkerFault::from(error).while_loading() {
        WorkerFault::DeviceGone(said) if has_driver => {
            WorkerFault::DeviceGone(format!("{which}: {said}"))
        }
        WorkerFault::DeviceGone(said) | WorkerFault::DeviceLost(said) => {
            WorkerFault::DeviceLost(format!("{which}: {said}"))
        }
        full @ WorkerFault::OutOfMemoryLoading(_) => full,
        other => WorkerFault::DeviceLost(format!("{which}: {other}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ipc_protocol::exit_code::ExitCode;

    #[test]
    fn a_machine_without_a_driver_differs_from_a_missing_device() {
        let not_opened = |text: &str| {
            let error = candle_core::Error::Msg(text.to_owned());
            let fault = not_opened(Device::Cuda(1), error);
            (fault.exit_code(), fault.to_string())
        };
        let (code, said) = not_opened("DriverError(CUDA_ERROR_NO_DEVICE, \"…\")");
        assert_eq!(code, Some(ExitCode::DeviceLost));
        assert!(said.contains("cuda:1: no CUDA driver"), "{said}");
        let (code, _) = not_opened("DriverError(CUDA_ERROR_INVALID_DEVICE, \"…\")");
        assert_eq!(code, Some(ExitCode::DeviceGone));
        let (code, _) = not_opened("DriverError(CUDA_ERROR_OUT_OF_MEMORY, \"…\")");
        assert_eq!(code, Some(ExitCode::OutOfMemoryLoading));
    }

    #[test]
    #[cfg(not(feature = "cuda"))]
    fn a_worker_without_cuda_says_which_program_is_needed() {
        let fault = open(Device::Cuda(0)).expect_err("built without CUDA");
        assert_eq!(fault.exit_code(), Some(ExitCode::DeviceLost));
        assert!(fault.to_string().contains("worker-cuda"), "{fault}");
    }
}
