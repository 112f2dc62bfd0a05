//! The worker's faults, one variant for each reaction of the supervisor.
//!
//! A fault that ends the process has an [`ExitCode`]; a fault that concerns one job has none and is sent as
//! that job's answer.

use std::io::Write;
use std::path::Path;

use ipc_protocol::exit_code::ExitCode;
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
            | WorkerFault::Compute(_) => None,
        }
    }

    /// Converts a fault during loading: exhausted memory has another exit code then.
    pub fn while_loading(self) -> WorkerFault {
        match self {
            WorkerFault::OutOfMemoryRunning(what) => WorkerFault::OutOfMemoryLoading(what),
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

/// Texts in errors and panics that report exhausted memory of device or host.
///
/// CUDA reports it in three forms: a driver error, a cuBLAS status, and a boxed `Display` from the cuDNN
/// path that cannot be downcast. Each may be wrapped in a backtrace or context. The debug text contains one
/// of these words in every case, so the text is searched.
const MEMORY_MARKS: [&str; 9] = [
    "CUDA_ERROR_OUT_OF_MEMORY",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_ALLOC_FAILED",
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
    MEMORY_MARKS.iter().any(|mark| text.contains(mark))
}

/// Texts of errors for a missing device.
const GONE_MARKS: [&str; 2] = ["CUDA_ERROR_NO_DEVICE", "CUDA_ERROR_INVALID_DEVICE"];

/// Texts of all other device errors. They make the context unusable: illegal address, failed launch, ECC.
const DEVICE_MARKS: [&str; 5] = [
    "CUDA_ERROR_",
    "DriverError(",
    "CUBLAS_STATUS_",
    "CUDNN_STATUS_",
    "CurandError(",
];

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
        let said = without_backtrace(&error);
        if lacks_memory(&text) || lacks_memory(&said) {
            WorkerFault::OutOfMemoryRunning(said)
        } else if GONE_MARKS.iter().any(|mark| text.contains(mark)) {
            WorkerFault::DeviceGone(said)
        } else if DEVICE_MARKS.iter().any(|mark| text.contains(mark)) {
            WorkerFault::DeviceLost(said)
        } else {
            WorkerFault::Compute(said)
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
    fn exhausted_memory_differs_from_a_lost_device() {
        let full = "DriverError(CUDA_ERROR_OUT_OF_MEMORY, \"out of memory\")";
        assert_eq!(candle(full).exit_code(), Some(ExitCode::OutOfMemoryRunning));
        assert_eq!(
            candle(full).while_loading().exit_code(),
            Some(ExitCode::OutOfMemoryLoading)
        );
        assert_eq!(
            candle("CublasError(CUBLAS_STATUS_ALLOC_FAILED)").exit_code(),
            Some(ExitCode::OutOfMemoryRunning)
        );
        assert_eq!(
            candle("DriverError(CUDA_ERROR_ILLEGAL_ADDRESS, \"…\")").exit_code(),
            Some(ExitCode::DeviceLost)
        );
        assert_eq!(
            candle("DriverError(CUDA_ERROR_NO_DEVICE, \"…\")").exit_code(),
            Some(ExitCode::DeviceGone)
        );
        assert_eq!(candle("shape mismatch in matmul").exit_code(), None);
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
