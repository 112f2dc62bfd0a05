//! The worker's faults, one variant for each reaction of the supervisor.
//!
//! A fault that ends the process has an [`ExitCode`]; a fault that concerns one job has none and is sent as
//! that job's answer.

mod device_errors;

use std::io::Write;
use std::path::Path;

use device_errors::{DeviceErrorKind, recognised};
use ipc_protocol::exit_code::ExitCode;
use ipc_protocol::untrusted::escaped;
use nix::errno::Errno;

/// A failure of the worker, with a message for the user.
#[derive(Debug, thiserror::Error)]
pub enum WorkerFault {
    /// A file that the model needs is missing.
    #[error("{file}: {what}")]
    WeightsMissing {
        /// The missing file or folder.
        file: String,
        /// The missing part.
        what: String,
    },
    /// A file cannot be read, or does not match its header.
    #[error("{file}: {what}")]
    WeightsCorrupt {
        /// The damaged file.
        file: String,
        /// The defect.
        what: String,
    },
    /// Files and configuration do not match each other.
    #[error("{file}: {tensor}: {what}")]
    Configuration {
        /// The file that does not match.
        file: String,
        /// The tensor or configuration key that does not match.
        tensor: String,
        /// The expected and the found value.
        what: String,
    },
    /// Host or device memory ran out while the weights were loaded.
    #[error("out of memory while loading: {0}")]
    OutOfMemoryLoading(String),
    /// Host or device memory ran out while a job ran.
    #[error("out of memory while running: {0}")]
    OutOfMemoryRunning(String),
    /// The device had no room for a job. The context is intact and the job's memory is free again, so the worker
    /// continues.
    #[error("the device is out of memory: {0}")]
    DeviceMemoryFull(String),
    /// The device's context is unusable; a new process is needed.
    #[error("device lost: {0}")]
    DeviceLost(String),
    /// The device is not, or no longer, on this machine.
    #[error("device gone: {0}")]
    DeviceGone(String),
    /// A stage of the computation produced NaN or infinity. It is an error and never a black picture.
    #[error("the {stage} produced values that are not finite")]
    NotFinite {
        /// The stage: `text encoder`, `denoising step 3` or `autoencoder`.
        stage: String,
    },
    /// The job was cancelled.
    #[error("cancelled")]
    Cancelled,
    /// A value of the job is not possible with this model.
    #[error("{field}: {sentence}")]
    BadRequest {
        /// The field at fault: `prompt`, `size`, `steps`, `guidance`, `negative` …
        field: &'static str,
        /// The reason, and the possible values.
        sentence: String,
    },
    /// A computation failed because of a defect of this program.
    #[error("computation failed: {0}")]
    Compute(String),
}

/// Longest message in a frame to the supervisor, in bytes.
const MESSAGE_BYTES_MAX: usize = 2000;

/// Cuts a message to `MESSAGE_BYTES_MAX`, between characters, so that it fits a frame.
pub fn short(mut message: String) -> String {
    message.truncate(message.floor_char_boundary(MESSAGE_BYTES_MAX));
    message
}

/// Writes a line to stderr and ignores a missing reader.
pub fn complain(line: std::fmt::Arguments<'_>) {
    let _ = writeln!(std::io::stderr().lock(), "{line}");
}

impl WorkerFault {
    /// Returns the message, short enough for a frame.
    pub fn sentence(&self) -> String {
        short(self.to_string())
    }

    /// Exit code of a worker with this fault; `None` if only the job is affected.
    pub fn exit_code(&self) -> Option<ExitCode> {
        match self {
            WorkerFault::WeightsMissing { .. } | WorkerFault::WeightsCorrupt { .. } => {
                Some(ExitCode::UnusableWeights)
            }
            WorkerFault::OutOfMemoryLoading(_) => Some(ExitCode::OutOfMemoryLoading),
            WorkerFault::Configuration { .. } => Some(ExitCode::BadConfiguration),
            WorkerFault::OutOfMemoryRunning(_) => Some(ExitCode::OutOfMemoryRunning),
            WorkerFault::DeviceLost(_) => Some(ExitCode::DeviceLost),
            WorkerFault::DeviceGone(_) => Some(ExitCode::DeviceGone),
            WorkerFault::NotFinite { .. }
            | WorkerFault::Cancelled
            | WorkerFault::BadRequest { .. }
            | WorkerFault::DeviceMemoryFull(_)
            | WorkerFault::Compute(_) => None,
        }
    }

    /// Converts a fault during loading: exhausted memory has another exit code then.
    pub fn while_loading(self) -> WorkerFault {
        match self {
            WorkerFault::OutOfMemoryRunning(what) | WorkerFault::DeviceMemoryFull(what) => {
                WorkerFault::OutOfMemoryLoading(what)
            }
            other => other,
        }
    }

    /// The fault for a file system error on `path`: a missing file, an unreadable file, or a lack of memory.
    pub fn reading(path: &Path, error: &std::io::Error) -> WorkerFault {
        let file = path.display().to_string();
        if error.kind() == std::io::ErrorKind::NotFound {
            return WorkerFault::WeightsMissing {
                file,
                what: "no such file".to_owned(),
            };
        }
        match error.raw_os_error().map(Errno::from_raw) {
            // The machine or this process lacks a resource; the file may be intact.
            Some(Errno::ENOMEM | Errno::EAGAIN | Errno::EMFILE | Errno::ENFILE) => {
                WorkerFault::OutOfMemoryRunning(format!("{file}: {error}"))
            }
            Some(_) | None => WorkerFault::WeightsCorrupt {
                file,
                what: error.to_string(),
            },
        }
    }

    /// Makes a [`WorkerFault::Configuration`].
    pub fn configuration(
        file: impl Into<String>,
        tensor: impl Into<String>,
        what: impl Into<String>,
    ) -> WorkerFault {
        WorkerFault::Configuration {
            file: file.into(),
            tensor: tensor.into(),
            what: what.into(),
        }
    }
}

/// Texts in errors and panics that report exhausted memory of the host.
const MEMORY_MARKS: [&str; 6] = [
    "out of memory",
    // ENOMEM and EAGAIN as strerror(3) and std print them: memory could not be mapped or a thread started.
    "Cannot allocate memory",
    "Resource temporarily unavailable",
    "failed to spawn thread",
    // How the standard library panics if a size exceeds any possible memory.
    "capacity overflow",
    "memory allocation of",
];

/// Tells whether the text of an error or panic reports that memory or threads ran out.
pub fn lacks_memory(text: &str) -> bool {
    let of_device = recognised(text).map(|error| error.kind);
    of_device == Some(DeviceErrorKind::MemoryFull)
        || MEMORY_MARKS.iter().any(|mark| text.contains(mark))
}

/// Returns an error's message without its backtrace, which names folders of the machine that built the program.
fn without_backtrace(error: &candle_core::Error) -> String {
    match error {
        candle_core::Error::WithBacktrace { inner, .. } => without_backtrace(inner),
        other => other.to_string(),
    }
}

impl From<candle_core::Error> for WorkerFault {
    fn from(error: candle_core::Error) -> WorkerFault {
        let text = format!("{error:?}");
        let said = escaped(without_backtrace(&error));
        let found = recognised(&text).or_else(|| recognised(&said));
        let Some(found) = found else {
            return if lacks_memory(&text) || lacks_memory(&said) {
                WorkerFault::OutOfMemoryRunning(said)
            } else {
                WorkerFault::Compute(said)
            };
        };
        let said = match found.sentence {
            "" => said,
            sentence => format!("{sentence} ({said})"),
        };
        match found.kind {
            DeviceErrorKind::MemoryFull => WorkerFault::DeviceMemoryFull(said),
            DeviceErrorKind::Lost => WorkerFault::DeviceLost(said),
            DeviceErrorKind::Gone => WorkerFault::DeviceGone(said),
            DeviceErrorKind::Refused => WorkerFault::Compute(said),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sentence_fits_into_a_frame_whatever_a_library_put_into_it() {
        let long = WorkerFault::Compute("ü".repeat(5000));
        assert!(long.sentence().len() <= MESSAGE_BYTES_MAX);
    }

    fn candle(text: &str) -> WorkerFault {
        WorkerFault::from(candle_core::Error::Msg(text.to_owned()).bt())
    }

    #[test]
    fn a_full_device_ends_a_load_and_only_the_job_of_a_loaded_worker() {
        for full in [
            "DriverError(CUDA_ERROR_OUT_OF_MEMORY, \"out of memory\")",
            "CublasError(CUBLAS_STATUS_ALLOC_FAILED)",
        ] {
            assert!(matches!(candle(full), WorkerFault::DeviceMemoryFull(_)));
            assert_eq!(candle(full).exit_code(), None);
            let loading = candle(full).while_loading().exit_code();
            assert_eq!(loading, Some(ExitCode::OutOfMemoryLoading));
            assert!(lacks_memory(full));
        }
        let host = candle("Cannot allocate memory (os error 12)");
        assert_eq!(host.exit_code(), Some(ExitCode::OutOfMemoryRunning));
    }

    #[test]
    fn a_device_error_has_its_exit_code_and_a_remedy() {
        let codes = [
            (
                "DriverError(CUDA_ERROR_ILLEGAL_ADDRESS, \"…\")",
                Some(81),
                "other processes",
            ),
            (
                "DriverError(CUDA_ERROR_ECC_UNCORRECTABLE, \"…\")",
                Some(81),
                "nvidia-smi",
            ),
            (
                "DriverError(CUDA_ERROR_SYSTEM_DRIVER_MISMATCH, \"…\")",
                Some(81),
                "restart the machine",
            ),
            (
                "DriverError(CUDA_ERROR_NO_BINARY_FOR_GPU, \"…\")",
                Some(81),
                "CUDA_COMPUTE_CAP",
            ),
            ("GPU has fallen off the bus", Some(81), "XID 79"),
            (
                "DriverError(CUDA_ERROR_NO_DEVICE, \"…\")",
                Some(82),
                "no CUDA driver",
            ),
            (
                "DriverError(CUDA_ERROR_INVALID_VALUE, \"…\")",
                None,
                "INVALID_VALUE",
            ),
            ("shape mismatch in matmul", None, "shape mismatch"),
        ];
        for (text, code, words) in codes {
            let fault = candle(text);
            assert_eq!(fault.exit_code().map(ExitCode::number), code, "{text}");
            assert!(fault.to_string().contains(words), "{fault}");
        }
    }

    #[test]
    fn control_characters_in_an_error_are_escaped() {
        let said = candle("CUDA_ERROR_UNKNOWN \u{1b}[2J\nbad").to_string();
        assert!(said.contains("\\u001b[2J\\nbad"), "{said}");
    }

    #[test]
    fn a_missing_file_and_a_wrong_shape_have_their_own_codes() {
        let gone = std::io::Error::from(std::io::ErrorKind::NotFound);
        assert_eq!(
            WorkerFault::reading(Path::new("ae.safetensors"), &gone).exit_code(),
            Some(ExitCode::UnusableWeights)
        );
        let full = std::io::Error::from(Errno::ENOMEM);
        let full = WorkerFault::reading(Path::new("ae.safetensors"), &full);
        assert_eq!(full.exit_code(), Some(ExitCode::OutOfMemoryRunning));
        assert_eq!(
            full.while_loading().exit_code(),
            Some(ExitCode::OutOfMemoryLoading)
        );
        let wrong = WorkerFault::configuration("ae.safetensors", "decoder.conv_in.weight", "…");
        assert_eq!(wrong.exit_code(), Some(ExitCode::BadConfiguration));
        assert!(wrong.to_string().contains("decoder.conv_in.weight"));
    }
}
