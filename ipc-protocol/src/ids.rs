//! Identifiers with a type each: jobs, worker generations, models, workers and devices.

use std::fmt;
use std::str::FromStr;

use bincode::{Decode, Encode};
use serde::Serialize;

/// The number of an accepted job. A supervisor never uses one twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode, Serialize)]
pub struct JobId(pub u64);

impl fmt::Display for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The number of a worker process. Messages of an older generation are ignored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode, Serialize)]
pub struct Generation(pub u64);

impl fmt::Display for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The key of a model in the registry, e.g. `flux-schnell`.
///
/// 1 to 64 characters of `a-z A-Z 0-9 . _ -`, so that it is safe in a log line, a file name, a metric
/// label and a worker's name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode, Serialize)]
pub struct ModelKey(String);

impl ModelKey {
    /// Checks the characters and length of a key; the error describes what is wrong.
    pub fn new(key: &str) -> Result<Self, String> {
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        match key {
            "" => Err("a model key cannot be empty".into()),
            _ if key.len() > 64 => Err(format!(
                "a model key has at most 64 characters, not {}",
                key.len()
            )),
            _ if !key.chars().all(allowed) => Err(format!(
                "model key {key:?} may hold only letters, digits, '.', '_' and '-'"
            )),
            _ => Ok(Self(key.to_owned())),
        }
    }

    /// The key as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ModelKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// The name of a worker: its model and the lowest slot that was free at its start, such as `flux-schnell:0`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode, Serialize)]
pub struct WorkerName {
    /// The model it serves.
    pub model: ModelKey,
    /// Slot of the model, from 0; free again after the process is reaped.
    pub slot: u32,
}

impl fmt::Display for WorkerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{}:{}", self.model, self.slot))
    }
}

/// A device with memory: the host, or one accelerator.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub enum Device {
    /// The host's memory; its workers run on the CPU.
    Host,
    /// The CUDA device with this ordinal.
    Cuda(u32),
}

impl Device {
    /// The name of the device that computes, `cpu` or `cuda:N` (`Display` names its memory, `host`).
    pub fn placement(self) -> String {
        match self {
            Self::Host => "cpu".into(),
            Self::Cuda(ordinal) => format!("cuda:{ordinal}"),
        }
    }
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Host => f.pad("host"),
            Self::Cuda(ordinal) => f.pad(&format!("cuda:{ordinal}")),
        }
    }
}

/// The device that a client requests for its job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Encode, Decode)]
pub enum DeviceConstraint {
    /// Any device with memory, the fastest first.
    #[default]
    Auto,
    /// Only this device.
    On(Device),
}

impl FromStr for DeviceConstraint {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "auto" => Ok(Self::Auto),
            "cpu" => Ok(Self::On(Device::Host)),
            _ => text
                .strip_prefix("cuda:")
                .and_then(|ordinal| ordinal.parse().ok())
                .map(|ordinal| Self::On(Device::Cuda(ordinal)))
                .ok_or_else(|| format!("{text:?} is not one of auto, cpu, cuda:N")),
        }
    }
}

impl fmt::Display for DeviceConstraint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.pad("auto"),
            Self::On(device) => f.pad(&device.placement()),
        }
    }
}
