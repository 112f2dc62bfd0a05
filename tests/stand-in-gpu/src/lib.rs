//! Stands in for the NVIDIA driver's management library: its GPUs are lines of a file.
//!
//! It exports the functions that the probe calls, with the behaviour of the real ones as far as the probe can see it:
//! <https://docs.nvidia.com/deploy/nvml-api/group__nvmlDeviceQueries.html>. [`state`] is the file.

#![allow(
    non_snake_case,
    clippy::missing_safety_doc,
    reason = "the names and rules are the real library's"
)]

pub mod state;

use std::ffi::{c_char, c_int, c_uint, c_ulonglong};

use nvml_wrapper_sys::bindings as nvml;
use state::{GpuState, HeldGpuMemory, StandInGpu};

const SUCCESS: c_uint = nvml::nvmlReturn_enum_NVML_SUCCESS;
const INVALID: c_uint = nvml::nvmlReturn_enum_NVML_ERROR_INVALID_ARGUMENT;
const NOT_SUPPORTED: c_uint = nvml::nvmlReturn_enum_NVML_ERROR_NOT_SUPPORTED;
const NOT_FOUND: c_uint = nvml::nvmlReturn_enum_NVML_ERROR_NOT_FOUND;
const TOO_SMALL: c_uint = nvml::nvmlReturn_enum_NVML_ERROR_INSUFFICIENT_SIZE;
const LOST: c_uint = nvml::nvmlReturn_enum_NVML_ERROR_GPU_IS_LOST;
/// The process that stands for all other programs.
const OTHER_PID: u32 = 1;
/// The value of what the driver does not tell.
const UNKNOWN: c_uint = c_uint::MAX;

fn read() -> GpuState {
    GpuState::read(&state::path())
}

/// The handle of the GPU at this place in the file.
fn handle(place: usize) -> nvml::nvmlDevice_t {
    (place + 1) as nvml::nvmlDevice_t
}

/// The GPU of a handle, and its place.
fn gpu(device: nvml::nvmlDevice_t) -> Result<(usize, StandInGpu), c_uint> {
    let place = (device as usize).checked_sub(1).ok_or(INVALID)?;
    let found = read().gpus.into_iter().nth(place).ok_or(INVALID)?;
    match found.is_gone {
        true => Err(LOST),
        false => Ok((place, found)),
    }
}

/// The places of the GPUs that are not part of another.
fn wholes() -> Vec<usize> {
    let gpus = read().gpus;
    (0..gpus.len())
        .filter(|&at| gpus[at].part_of.is_none())
        .collect()
}

/// The places of the parts of a GPU.
fn parts(whole: usize) -> Vec<usize> {
    let gpus = read().gpus;
    (0..gpus.len())
        .filter(|&at| gpus[at].part_of == Some(whole))
        .collect()
}

/// The processes that the driver lists: other programs as one process, and none that has ended, whatever is still held for
/// it.
fn listed(gpu: StandInGpu) -> Vec<HeldGpuMemory> {
    let other = HeldGpuMemory {
        pid: OTHER_PID,
        start: 0,
        mb: gpu.foreign_mb,
    };
    let held = gpu.held.into_iter().filter(HeldGpuMemory::is_alive);
    [other]
        .into_iter()
        .filter(|other| other.mb > 0)
        .chain(held)
        .collect()
}

/// Writes a value for the caller.
///
/// # Safety
/// `to` is the caller's, as the library's interface says.
unsafe fn put<T>(to: *mut T, value: Result<T, c_uint>) -> c_uint {
    match value {
        Ok(value) => {
            unsafe { to.write(value) };
            SUCCESS
        }
        Err(code) => code,
    }
}

/// Writes a text of at most `length` bytes for the caller.
///
/// # Safety
/// As for [`put`].
unsafe fn put_text(to: *mut c_char, length: c_uint, text: Result<String, c_uint>) -> c_uint {
    match text {
        Ok(text) if text.len() < length as usize => {
            for (nth, byte) in text.bytes().chain([0]).enumerate() {
                unsafe { to.add(nth).write(byte as c_char) };
            }
            SUCCESS
        }
        Ok(_) => TOO_SMALL,
        Err(code) => code,
    }
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlInit_v2() -> c_uint {
    while read().hang {
        std::thread::park();
    }
    SUCCESS
}

#[unsafe(no_mangle)]
pub extern "C" fn nvmlShutdown() -> c_uint {
    SUCCESS
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlSystemGetDriverVersion(to: *mut c_char, length: c_uint) -> c_uint {
    unsafe { put_text(to, length, Ok("999.1".to_owned())) }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetCount_v2(to: *mut c_uint) -> c_uint {
    unsafe { put(to, Ok(wholes().len() as c_uint)) }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetHandleByIndex_v2(
    index: c_uint,
    to: *mut nvml::nvmlDevice_t,
) -> c_uint {
    let place = wholes().get(index as usize).copied().ok_or(INVALID);
    let found = place.and_then(|place| gpu(handle(place)).map(|_| handle(place)));
    unsafe { put(to, found) }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetUUID(
    device: nvml::nvmlDevice_t,
    to: *mut c_char,
    length: c_uint,
) -> c_uint {
    unsafe { put_text(to, length, gpu(device).map(|(_, gpu)| gpu.uuid)) }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetName(
    device: nvml::nvmlDevice_t,
    to: *mut c_char,
    length: c_uint,
) -> c_uint {
    let name = gpu(device).map(|(place, _)| format!("Stand-in {place}"));
    unsafe { put_text(to, length, name) }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetCudaComputeCapability(
    device: nvml::nvmlDevice_t,
    major: *mut c_int,
    minor: *mut c_int,
) -> c_uint {
    match gpu(device) {
        Ok(_) => unsafe { put(major, Ok(9)) + put(minor, Ok(0)) },
        Err(code) => code,
    }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetMemoryInfo_v2(
    device: nvml::nvmlDevice_t,
    to: *mut nvml::nvmlMemory_v2_t,
) -> c_uint {
    let info = gpu(device).map(|(_, gpu)| nvml::nvmlMemory_v2_t {
        version: unsafe { (*to).version },
        total: gpu.total_mb << 20,
        reserved: 0,
        free: gpu.total_mb.saturating_sub(gpu.used_mb()) << 20,
        used: gpu.used_mb() << 20,
    });
    unsafe { put(to, info) }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetComputeRunningProcesses_v3(
    device: nvml::nvmlDevice_t,
    count: *mut c_uint,
    to: *mut nvml::nvmlProcessInfo_t,
) -> c_uint {
    let held = match gpu(device) {
        Ok(_) if read().hide => Vec::new(),
        Ok((_, gpu)) => listed(gpu),
        Err(code) => return code,
    };
    let room = unsafe { count.read() } as usize;
    unsafe { count.write(held.len() as c_uint) };
    if held.len() > room {
        return TOO_SMALL;
    }
    for (nth, held) in held.into_iter().enumerate() {
        let process = nvml::nvmlProcessInfo_t {
            pid: held.pid,
            usedGpuMemory: held.mb << 20,
            gpuInstanceId: UNKNOWN,
            computeInstanceId: UNKNOWN,
        };
        unsafe { to.add(nth).write(process) };
    }
    SUCCESS
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetGraphicsRunningProcesses_v3(
    _device: nvml::nvmlDevice_t,
    count: *mut c_uint,
    _to: *mut nvml::nvmlProcessInfo_t,
) -> c_uint {
    unsafe { put(count, Ok(0)) }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetMigMode(
    device: nvml::nvmlDevice_t,
    current: *mut c_uint,
    pending: *mut c_uint,
) -> c_uint {
    let mode = gpu(device).map(|(place, _)| c_uint::from(!parts(place).is_empty()));
    unsafe {
        put(pending, mode);
        put(current, mode)
    }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetMaxMigDeviceCount(
    _device: nvml::nvmlDevice_t,
    to: *mut c_uint,
) -> c_uint {
    // As the real one: the most there can be.
    unsafe { put(to, Ok(7)) }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetMigDeviceHandleByIndex(
    device: nvml::nvmlDevice_t,
    index: c_uint,
    to: *mut nvml::nvmlDevice_t,
) -> c_uint {
    let part = gpu(device).and_then(|(place, _)| {
        let part = parts(place).get(index as usize).copied();
        part.map(handle).ok_or(NOT_FOUND)
    });
    unsafe { put(to, part) }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetTemperature(
    device: nvml::nvmlDevice_t,
    _sensor: nvml::nvmlTemperatureSensors_t,
    to: *mut c_uint,
) -> c_uint {
    unsafe { put(to, gpu(device).map(|_| 41)) }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetPowerUsage(
    device: nvml::nvmlDevice_t,
    to: *mut c_uint,
) -> c_uint {
    unsafe { put(to, gpu(device).map(|_| 123_000)) }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetTotalEnergyConsumption(
    _device: nvml::nvmlDevice_t,
    _to: *mut c_ulonglong,
) -> c_uint {
    NOT_SUPPORTED
}
