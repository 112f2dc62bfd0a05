//! The host memory of this process, as counted by the kernel.

use crate::own_file::OwnFile;

static STATUS: OwnFile = OwnFile::new("/proc/self/status");

/// Memory of this process, in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ProcessMemory {
    /// Resident memory now.
    pub resident_bytes: u64,
    /// Peak of the resident memory.
    pub peak_bytes: u64,
}

/// Reads /proc/self/status; zeros if the file is missing.
pub fn measure() -> ProcessMemory {
    let status = STATUS.read();
    ProcessMemory {
        resident_bytes: field_bytes(&status, "VmRSS:"),
        peak_bytes: field_bytes(&status, "VmHWM:"),
    }
}

/// The value of a `Name:  123 kB` line in bytes.
fn field_bytes(status: &str, name: &str) -> u64 {
    status
        .lines()
        .find_map(|line| line.strip_prefix(name))
        .and_then(|rest| rest.trim().strip_suffix("kB")?.trim().parse::<u64>().ok())
        .map_or(0, |kib| kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kibibytes_of_the_kernel_are_converted_to_bytes() {
        let status = "Name:\tworker\nVmHWM:\t    2048 kB\nVmRSS:\t    1024 kB\n";
        assert_eq!(field_bytes(status, "VmRSS:"), 1 << 20);
        assert_eq!(field_bytes(status, "VmHWM:"), 2 << 20);
        assert_eq!(field_bytes(status, "VmSwap:"), 0);
    }

    #[test]
    fn resident_memory_is_above_zero_and_at_most_the_peak() {
        let footprint = measure();
        assert!(footprint.resident_bytes > 0);
        assert!(footprint.resident_bytes <= footprint.peak_bytes);
    }
}
