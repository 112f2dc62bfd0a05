//! The errors of CUDA and its libraries, with their effect and what an operator can do.
//!
//! An error reaches us as a driver error, a library's status, or a boxed value of the cuDNN path that cannot be
//! downcast, each possibly within a context or a backtrace. Its debug text contains the name of the error in every
//! case, so the text is searched. Names: `CUresult` of the CUDA driver API, `cublasStatus_t`, `cudnnStatus_t`.

/// The effect of a device error on this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum DeviceErrorKind {
    /// An allocation did not fit. The context is intact, and everything of the job is freed.
    MemoryFull,
    /// The context is unusable, or the device cannot run this program; see the sentence.
    Lost,
    /// The device is not, or no longer, visible to this process.
    Gone,
    /// A call was refused because of its arguments. The context is intact.
    Refused,
}

/// A device error, with a sentence for the operator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct DeviceError {
    /// A text that the error contains.
    pub(super) mark: &'static str,
    pub(super) kind: DeviceErrorKind,
    /// The meaning and the remedy; empty if the error's own text says it.
    pub(super) sentence: &'static str,
}

use DeviceErrorKind::{Gone, Lost, MemoryFull, Refused};

const fn row(mark: &'static str, kind: DeviceErrorKind, sentence: &'static str) -> DeviceError {
    DeviceError {
        mark,
        kind,
        sentence,
    }
}

const DRIVER_OLD: &str = "the CUDA driver is older than this program needs: update the driver";
const DRIVER_MIXED: &str = "the CUDA driver's library and kernel module have different versions: restart the machine, \
     or load the module of the installed driver";
const OTHER_CARD: &str = "this program has no kernels for this card's compute capability: build it for the card, \
     with CUDA_COMPUTE_CAP=NN scripts/build-cuda";
const MEMORY_ERROR: &str = "the card reports memory errors that it could not correct: look at `nvidia-smi -q -d ECC`, \
     and reset or replace the card";
const BROKEN_KERNEL: &str = "a kernel made an invalid access and the context is lost: other processes on the card are \
     not affected";
const OFF_THE_BUS: &str = "the driver does not reach the card: look for XID 79 in the kernel's log; a reset of the card or \
     a restart of the machine is needed";

/// All known errors. The first row whose mark is in the text applies, so longer names come before their beginnings.
pub(super) const DEVICE_ERRORS: &[DeviceError] = &[
    row("CUDA_ERROR_OUT_OF_MEMORY", MemoryFull, ""),
    row("CUBLAS_STATUS_ALLOC_FAILED", MemoryFull, ""),
    row("CUDNN_STATUS_ALLOC_FAILED", MemoryFull, ""),
    row("DEVICE_ALLOCATION_FAILED", MemoryFull, ""),
    row("CURAND_STATUS_ALLOCATION_FAILED", MemoryFull, ""),
    row(
        "CUDA_ERROR_NO_DEVICE",
        Gone,
        "no CUDA driver with a device is visible to this process",
    ),
    row(
        "CUDA_ERROR_INVALID_DEVICE",
        Gone,
        "the driver has no device of this number",
    ),
    row("fallen off the bus", Lost, OFF_THE_BUS),
    row("GPU is lost", Lost, OFF_THE_BUS),
    row(
        "CUDA_ERROR_DEVICE_UNAVAILABLE",
        Lost,
        "the card is busy or in exclusive mode for another process",
    ),
    row("CUDA_ERROR_ECC_UNCORRECTABLE", Lost, MEMORY_ERROR),
    row("CUDA_ERROR_CONTAINED", Lost, MEMORY_ERROR),
    row(
        "CUDA_ERROR_NVLINK_UNCORRECTABLE",
        Lost,
        "a link between cards failed: look at `nvidia-smi nvlink -e`",
    ),
    row("CUDA_ERROR_HARDWARE_STACK_ERROR", Lost, BROKEN_KERNEL),
    row("CUDA_ERROR_ILLEGAL_ADDRESS", Lost, BROKEN_KERNEL),
    row("CUDA_ERROR_ILLEGAL_INSTRUCTION", Lost, BROKEN_KERNEL),
    row("CUDA_ERROR_MISALIGNED_ADDRESS", Lost, BROKEN_KERNEL),
    row("CUDA_ERROR_INVALID_ADDRESS_SPACE", Lost, BROKEN_KERNEL),
    row("CUDA_ERROR_INVALID_PC", Lost, BROKEN_KERNEL),
    row("CUDA_ERROR_ASSERT", Lost, BROKEN_KERNEL),
    row("CUDA_ERROR_LAUNCH_FAILED", Lost, BROKEN_KERNEL),
    row(
        "CUDA_ERROR_LAUNCH_TIMEOUT",
        Lost,
        "the driver ended a kernel after its time limit: the card also serves a display",
    ),
    row(
        "CUDA_ERROR_CONTEXT_IS_DESTROYED",
        Lost,
        "the context was destroyed, as by a reset of the card",
    ),
    row(
        "CUDA_ERROR_INVALID_CONTEXT",
        Lost,
        "the context is lost, as after a reset of the card",
    ),
    row(
        "CUDA_ERROR_DEINITIALIZED",
        Lost,
        "the driver is shutting down",
    ),
    row(
        "CUDA_ERROR_MPS_",
        Lost,
        "the CUDA MPS server failed or refused this process: look at its log",
    ),
    row("CUDA_ERROR_SYSTEM_DRIVER_MISMATCH", Lost, DRIVER_MIXED),
    row(
        "CUDA_ERROR_SYSTEM_NOT_READY",
        Lost,
        "the driver is not ready: start nvidia-persistenced or the fabric manager, and try again",
    ),
    row(
        "CUDA_ERROR_COMPAT_NOT_SUPPORTED_ON_DEVICE",
        Lost,
        "the compatibility libraries do not support this card: use the driver's own library",
    ),
    row("CUDA_ERROR_INSUFFICIENT_DRIVER", Lost, DRIVER_OLD),
    row("CUDA_ERROR_UNSUPPORTED_PTX_VERSION", Lost, DRIVER_OLD),
    row("CUDA_ERROR_CALL_REQUIRES_NEWER_DRIVER", Lost, DRIVER_OLD),
    row("CUDA_ERROR_INSUFFICIENT_LOADER_VERSION", Lost, DRIVER_OLD),
    row(
        "CUDA_ERROR_STUB_LIBRARY",
        Lost,
        "libcuda.so.1 is the toolkit's stub and not a driver: correct the library path",
    ),
    row("CUDA_ERROR_NO_BINARY_FOR_GPU", Lost, OTHER_CARD),
    row("no kernel image is available", Lost, OTHER_CARD),
    row("CUDA_ERROR_INVALID_PTX", Lost, OTHER_CARD),
    row("CUDA_ERROR_INVALID_IMAGE", Lost, OTHER_CARD),
    row("CUDA_ERROR_INVALID_SOURCE", Lost, OTHER_CARD),
    row("CUDNN_STATUS_ARCH_MISMATCH", Lost, OTHER_CARD),
    row("CUBLAS_STATUS_ARCH_MISMATCH", Lost, OTHER_CARD),
    row(
        "CUDA_ERROR_JIT_COMPILER_NOT_FOUND",
        Lost,
        "the driver's compiler libnvidia-ptxjitcompiler.so is missing: install the whole driver",
    ),
    row(
        "CUBLAS_STATUS_NOT_INITIALIZED",
        Lost,
        "cuBLAS did not start: libcublas is not installed, or the device has no memory for it",
    ),
    row(
        "CUDNN_STATUS_NOT_INITIALIZED",
        Lost,
        "cuDNN did not start: libcudnn is not installed, or the device has no memory for it",
    ),
    row(
        "CURAND_STATUS_INITIALIZATION_FAILED",
        Lost,
        "cuRAND did not start: libcurand is not installed",
    ),
    row(
        "CUDNN_STATUS_SUBLIBRARY_",
        Lost,
        "the libraries of cuDNN have different versions: install one version",
    ),
    row("INCOMPATIBLE_CUDA_DRIVER", Lost, DRIVER_OLD),
    row("CUDNN_STATUS_NOT_SUPPORTED", Refused, ""),
    row("CUDNN_STATUS_BAD_PARAM", Refused, ""),
    row("CUBLAS_STATUS_INVALID_VALUE", Refused, ""),
    row("CUBLAS_STATUS_NOT_SUPPORTED", Refused, ""),
    row("CUDA_ERROR_INVALID_VALUE", Refused, ""),
    row("CUDA_ERROR_NOT_SUPPORTED", Refused, ""),
    row("CUDA_ERROR_NOT_FOUND", Refused, ""),
    row("CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES", Refused, ""),
    // Any other error is taken for one after which the context is unusable.
    row("CUDA_ERROR_", Lost, ""),
    row("DriverError(", Lost, ""),
    row("CUBLAS_STATUS_", Lost, ""),
    row("CUDNN_STATUS_", Lost, ""),
    row("CURAND_STATUS_", Lost, ""),
    row("CurandError(", Lost, ""),
    row(
        "not been built with cuda support",
        Lost,
        "this worker is built without CUDA: build and install worker-cuda with scripts/build-cuda",
    ),
];

/// Finds the device error in the text of an error.
pub(super) fn recognised(text: &str) -> Option<&'static DeviceError> {
    DEVICE_ERRORS.iter().find(|error| text.contains(error.mark))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Texts of candle 0.11.1 with cudarc 0.19.10, and of kernels' launchers, each with the mark that applies.
    const SAMPLES: &[(&str, &str, DeviceErrorKind)] = &[
        (
            "WithBacktrace { inner: Cuda(Cuda(DriverError(CUDA_ERROR_OUT_OF_MEMORY, \"out of memory\"))), backtrace: … }",
            "CUDA_ERROR_OUT_OF_MEMORY",
            MemoryFull,
        ),
        (
            "Cuda(Cublas(CublasError(CUBLAS_STATUS_ALLOC_FAILED)))",
            "CUBLAS_STATUS_ALLOC_FAILED",
            MemoryFull,
        ),
        (
            "Wrapped(CudnnError(CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED))",
            "DEVICE_ALLOCATION_FAILED",
            MemoryFull,
        ),
        (
            "Cuda(Cuda(DriverError(CUDA_ERROR_NO_DEVICE, \"<Failure when calling cuGetErrorString()>\")))",
            "CUDA_ERROR_NO_DEVICE",
            Gone,
        ),
        (
            "DriverError(CUDA_ERROR_INVALID_DEVICE, \"invalid device ordinal\")",
            "CUDA_ERROR_INVALID_DEVICE",
            Gone,
        ),
        (
            "Cuda(Cuda(DriverError(CUDA_ERROR_ILLEGAL_ADDRESS, \"an illegal memory access was encountered\")))",
            "CUDA_ERROR_ILLEGAL_ADDRESS",
            Lost,
        ),
        (
            "DriverError(CUDA_ERROR_ECC_UNCORRECTABLE, \"uncorrectable ECC error encountered\")",
            "CUDA_ERROR_ECC_UNCORRECTABLE",
            Lost,
        ),
        (
            "NVRM: GPU 0000:41:00.0: GPU has fallen off the bus.",
            "fallen off the bus",
            Lost,
        ),
        (
            "DriverError(CUDA_ERROR_UNKNOWN, \"unknown error\")",
            "CUDA_ERROR_",
            Lost,
        ),
        (
            "Load { cuda: DriverError(CUDA_ERROR_UNSUPPORTED_PTX_VERSION, \"the provided PTX was compiled with an unsupported toolchain.\"), module_name: \"cast\" }",
            "CUDA_ERROR_UNSUPPORTED_PTX_VERSION",
            Lost,
        ),
        (
            "Load { cuda: DriverError(CUDA_ERROR_NO_BINARY_FOR_GPU, \"no kernel image is available for execution on the device\"), module_name: \"unary\" }",
            "CUDA_ERROR_NO_BINARY_FOR_GPU",
            Lost,
        ),
        (
            "CUDA error (flash_fwd_launch_template.h:82): no kernel image is available for execution on the device",
            "no kernel image is available",
            Lost,
        ),
        (
            "DriverError(CUDA_ERROR_SYSTEM_DRIVER_MISMATCH, \"system has unsupported display driver / cuda driver combination\")",
            "CUDA_ERROR_SYSTEM_DRIVER_MISMATCH",
            Lost,
        ),
        (
            "Cuda(Cublas(CublasError(CUBLAS_STATUS_NOT_INITIALIZED)))",
            "CUBLAS_STATUS_NOT_INITIALIZED",
            Lost,
        ),
        (
            "Cuda(Cublas(CublasError(CUBLAS_STATUS_EXECUTION_FAILED)))",
            "CUBLAS_STATUS_",
            Lost,
        ),
        (
            "Cuda(Cuda(DriverError(CUDA_ERROR_INVALID_VALUE, \"invalid argument\")))",
            "CUDA_ERROR_INVALID_VALUE",
            Refused,
        ),
        (
            "CudnnError(CUDNN_STATUS_NOT_SUPPORTED_SHAPE)",
            "CUDNN_STATUS_NOT_SUPPORTED",
            Refused,
        ),
        (
            "the candle crate has not been built with cuda support",
            "not been built with cuda support",
            Lost,
        ),
    ];

    #[test]
    fn each_sample_text_is_recognised_by_its_most_precise_row() {
        for (text, mark, kind) in SAMPLES {
            let found = recognised(text).map(|error| (error.mark, error.kind));
            assert_eq!(found, Some((*mark, *kind)), "{text}");
        }
        assert_eq!(recognised("shape mismatch in matmul"), None);
    }

    #[test]
    fn no_row_is_hidden_by_an_earlier_one() {
        for error in DEVICE_ERRORS {
            assert_eq!(recognised(error.mark), Some(error), "{}", error.mark);
        }
    }
}
