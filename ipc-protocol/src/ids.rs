//! Names that cannot be mixed up: jobs, worker generations, models, devices.

use std::fmt;
use std::str::FromStr;

use bincode::{Decode, Encode};
use serde::Serialize;

/// A job that the pool accepted. Unique for the life of one supervisor, never reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode, Serialize)]
pub struct JobId(pub u64);

impl fmt::Display for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// One life of one worker process. A message that carries an older generation changes nothing.
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
    /// Checks the spelling of a key; the error says what is wrong with it.
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

/// The operators' name of a worker: the model and the lowest free slot at its start, `flux-schnell:0`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode, Serialize)]
pub struct WorkerName {
    /// The model it serves.
    pub model: ModelKey,
    /// Counts from 0; free again once the process is gone.
    pub slot: u32,
}

impl fmt::Display for WorkerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{}:{}", self.model, self.slot))
    }
}

/// Where memory is booked: the machine's own, or that of one accelerator.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub enum Device {
    /// The host's memory; work placed here runs on the CPU.
    Host,
    /// The CUDA device with this ordinal.
    Cuda(u32),
}

impl Device {
    /// The word for where work runs, `cpu` or `cuda:N` (`Display` gives the memory's name, `host`).
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

/// Where a client would like its job to run; the supervisor decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Encode, Decode)]
pub enum DeviceWish {
    /// Wherever there is room, fastest first.
    #[default]
    Auto,
    /// This device or nothing.
    On(Device),
}

impl FromStr for DeviceWish {
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

impl fmt::Display for DeviceWish {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.pad("auto"),
            Self::On(device) => f.pad(&device.placement()),
        }
    }
}
