//! Asks the NVIDIA driver's management library (NVML) about the GPUs.
//!
//! The library is loaded while the program runs, so that one build serves machines with and without a driver.
//! It can hang with a driver that does, so only the probing process calls this: it answers once and exits, and is killed
//! if it takes too long. XID events are not asked for: NVML reports them only to a process that waits for them.

use std::collections::BTreeMap;
use std::path::Path;

use nvml_wrapper::enum_wrappers::device::{EccCounter, MemoryError, TemperatureSensor};
use nvml_wrapper::enums::device::UsedGpuMemory;
use nvml_wrapper::error::NvmlError;
use nvml_wrapper::struct_wrappers::device::ProcessInfo;
use nvml_wrapper::{Device, Nvml};

use super::gpu::{GpuAnswer, GpuFacts, GpuProcess, GpuReport};

/// Name of the library, if the settings name no other.
const LIBRARY: &str = "libnvidia-ml.so.1";

/// Asks the library about every GPU. May hang.
pub fn ask(library: Option<&Path>) -> GpuAnswer {
    let library = library.unwrap_or(Path::new(LIBRARY));
    let nvml = match Nvml::builder().lib_path(library.as_os_str()).init() {
        Ok(nvml) => nvml,
        Err(error) => return GpuAnswer::Nothing(no_driver(library, &error)),
    };
    match report(&nvml) {
        Ok(report) => GpuAnswer::Report(report),
        Err(error) => GpuAnswer::Nothing(format!("the NVIDIA driver does not answer: {error}")),
    }
}

fn no_driver(library: &Path, error: &NvmlError) -> String {
    match error {
        NvmlError::LibloadingError(why) => format!(
            "no NVIDIA driver here: cannot load {}: {why}",
            library.display()
        ),
        other => format!("the NVIDIA driver cannot be used: {other}"),
    }
}

fn report(nvml: &Nvml) -> Result<GpuReport, NvmlError> {
    let mut report = GpuReport {
        driver: nvml.sys_driver_version()?,
        gpus: Vec::new(),
        failed: Vec::new(),
    };
    for index in 0..nvml.device_count()? {
        let gpus = nvml
            .device_by_index(index)
            .and_then(|device| parts(index, &device));
        match gpus {
            Ok(gpus) => report.gpus.extend(gpus),
            Err(error) => report.failed.push(format!("GPU {index}: {error}")),
        }
    }
    Ok(report)
}

/// The GPU itself, or its parts if it is divided.
fn parts(index: u32, whole: &Device<'_>) -> Result<Vec<GpuFacts>, NvmlError> {
    let divided = whole.mig_mode().is_ok_and(|mode| mode.current != 0);
    if !divided {
        return Ok(vec![facts(index, whole, None)?]);
    }
    let most = whole.mig_device_count()?;
    let parts = (0..most).map(|part| whole.mig_device_by_index(part));
    let present = parts.filter(|part| !matches!(part, Err(NvmlError::NotFound)));
    present
        .map(|part| facts(index, &part?, Some(whole)))
        .collect()
}

/// The facts of a GPU, or of a part of `whole`. The parts have no temperature, power and compute capability of
/// their own.
fn facts(
    index: u32,
    device: &Device<'_>,
    whole: Option<&Device<'_>>,
) -> Result<GpuFacts, NvmlError> {
    let memory = device.memory_info()?;
    let board = whole.unwrap_or(device);
    let compute = board.cuda_compute_capability().ok();
    Ok(GpuFacts {
        index,
        uuid: device.uuid()?,
        part_of: whole.map(Device::uuid).transpose()?,
        name: device.name().or_else(|_| board.name())?,
        compute: compute.map(|version| format!("{}.{}", version.major, version.minor)),
        total_bytes: memory.total,
        // `used` leaves out what the driver keeps for itself.
        used_bytes: memory.total.saturating_sub(memory.free),
        processes: processes(device),
        uncorrected_errors: board
            .total_ecc_errors(MemoryError::Uncorrected, EccCounter::Volatile)
            .ok(),
        temperature_c: board.temperature(TemperatureSensor::Gpu).ok(),
        power_mw: board.power_usage().ok(),
        energy_mj: board.total_energy_consumption().ok(),
    })
}

/// The processes with memory on a device, each once; `None` if the driver does not list them.
fn processes(device: &Device<'_>) -> Option<Vec<GpuProcess>> {
    let mut held: BTreeMap<u32, Option<u64>> = BTreeMap::new();
    let graphics = device.running_graphics_processes().unwrap_or_default();
    for ProcessInfo {
        pid,
        used_gpu_memory,
        ..
    } in device
        .running_compute_processes()
        .ok()?
        .into_iter()
        .chain(graphics)
    {
        let bytes = match used_gpu_memory {
            UsedGpuMemory::Used(bytes) => Some(bytes),
            UsedGpuMemory::Unavailable => None,
        };
        // A process that computes and draws is in both lists, with the same memory.
        let known = held.entry(pid).or_default();
        *known = (*known).max(bytes);
    }
    let listed = held.into_iter();
    Some(
        listed
            .map(|(pid, bytes)| GpuProcess { pid, bytes })
            .collect(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_without_the_library_has_no_gpu_and_says_why() {
        let answer = ask(Some(Path::new("/nowhere/libnvidia-ml.so.1")));
        let GpuAnswer::Nothing(why) = answer else {
            panic!("{answer:?}");
        };
        let begin = "no NVIDIA driver here: cannot load /nowhere/libnvidia-ml.so.1: ";
        assert!(why.starts_with(begin), "{why}");
    }
}
