//! Gives up privileges, and hides this process from others of its user.

use std::fs;

use caps::CapSet;
use nix::sys::prctl;

/// Score for the out-of-memory killer, as the supervisor sets it; at most 1000 (proc(5)).
const END_FIRST: &str = "500";

/// Every set of capabilities. The bounding set comes first: dropping from it needs a capability.
const SETS: [CapSet; 5] = [
    CapSet::Bounding,
    CapSet::Ambient,
    CapSet::Inheritable,
    CapSet::Effective,
    CapSet::Permitted,
];

/// Drops all capabilities for good. From then on, processes of the same user can neither trace this process nor read
/// its memory, descriptors and environment.
pub fn drop_all() {
    // The supervisor writes the same, but cannot any more once this process is hidden from it.
    let _ = fs::write("/proc/self/oom_score_adj", END_FIRST);
    // Only kernels before 3.5 refuse.
    let _ = prctl::set_no_new_privs();
    for set in SETS {
        // Without CAP_SETPCAP the bounding set stays. It gives nothing to a process that can execute nothing.
        let _ = caps::clear(None, set);
    }
    // Cannot fail with this value.
    let _ = prctl::set_dumpable(false);
}
