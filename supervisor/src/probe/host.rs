//! Measures the memory of the host and of processes there; makes no decisions.

use std::fs;

use ipc_protocol::units::Mebibytes;
use sysinfo::System;

use crate::cgroup::MemoryGroup;
use crate::telemetry;

/// The memory that this daemon may use: all of the machine's, or the limit of its control group (version 1 or 2) or
/// of a parent group if that is less. Rounded down to whole MiB; zero if the kernel does not report it.
pub fn host_memory() -> Mebibytes {
    let mut system = match System::new() {
        Ok(system) => system,
        Err(error) => {
            telemetry::daemon::memory_unknown(&error);
            return Mebibytes::ZERO;
        }
    };
    system.refresh_memory();
    let total = system.total_memory();
    let limit = MemoryGroup::own().and_then(|group| group.limit_bytes());
    Mebibytes(limit.map_or(total, |limit| limit.min(total)) >> 20)
}

/// Memory of a process, in bytes, as the kernel counts it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeldMemory {
    /// Current use, in RAM and in swap.
    pub now: u64,
    /// Highest use so far, in RAM.
    pub peak: u64,
}

/// Reads the memory of a process from /proc; `None` if the process is gone.
pub fn held_bytes(pid: u32) -> Option<HeldMemory> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let resident = field_bytes(&status, "VmRSS:")?;
    Some(HeldMemory {
        now: resident + field_bytes(&status, "VmSwap:").unwrap_or(0),
        peak: field_bytes(&status, "VmHWM:")?,
    })
}

/// Parses a line `Name:  123 kB`; returns bytes.
fn field_bytes(status: &str, name: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machine_has_memory_and_this_process_uses_some() {
        assert!(host_memory() > Mebibytes::ZERO);
        let held = held_bytes(std::process::id()).expect("this process is alive");
        assert!(held.now > 0 && Mebibytes::holding(held.peak) < host_memory());
        assert_eq!(held_bytes(0), None);
    }

    #[test]
    fn the_measured_memory_follows_an_allocation() {
        let now = || {
            held_bytes(std::process::id())
                .expect("this process is alive")
                .now
        };
        let before = now();
        let taken = vec![1u8; 64 << 20];
        assert!(now() >= before + (48 << 20), "{before} to {}", now());
        drop(std::hint::black_box(taken));
    }
}
