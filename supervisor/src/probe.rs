//! Measurements, never decisions: what this machine has and what its processes hold.

use std::fs;

use ipc_protocol::units::Mebibytes;
use sysinfo::System;

/// Memory that this daemon may plan with: all of the machine's, or less where its control group says
/// so. In bytes rounded down to whole mebibytes; nothing where the kernel does not tell.
pub fn host_memory() -> Mebibytes {
    let mut system = match System::new() {
        Ok(system) => system,
        Err(error) => {
            tracing::warn!(%error, "Cannot ask for the machine's memory");
            return Mebibytes::ZERO;
        }
    };
    system.refresh_memory();
    let total = system.total_memory();
    // sysinfo looks at version 1 and 2 of control groups and at the parents of ours.
    let bytes = match system.cgroup_limits() {
        Some(limits) => limits.total_memory.min(total),
        None => total,
    };
    Mebibytes(bytes >> 20)
}

/// Most memory that a process has held, in bytes; nothing once it is gone.
pub fn peak_bytes(pid: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let kib: u64 = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))
        .and_then(|rest| rest.trim().strip_suffix("kB")?.trim().parse().ok())?;
    Some(kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machine_has_memory_and_this_process_holds_some() {
        assert!(host_memory() > Mebibytes::ZERO);
        let held = peak_bytes(std::process::id()).expect("this process is alive");
        assert!(held > 0 && Mebibytes::holding(held) < host_memory());
        assert_eq!(peak_bytes(0), None);
    }
}
