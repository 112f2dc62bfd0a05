//! Filters of system calls: applies lists of denied and of allowed ones.

use std::collections::BTreeMap;

use nix::errno::Errno;
use nix::libc::{SYS_clone3, c_long};
use seccompiler::{
    BackendError, BpfProgram, SeccompAction, SeccompFilter, SeccompRule, TargetArch, apply_filter,
    apply_filter_all_threads, sock_filter,
};

/// System calls by number, each with the arguments with which it is meant; none for all arguments.
pub type CallRules = BTreeMap<c_long, Vec<SeccompRule>>;

/// The newest system call that the list of denied ones was written for (`mseal`). Later ones do not exist for a confined
/// process, as on an older kernel. Neither do those of the x32 interface, whose numbers are above 2^30.
const NEWEST_KNOWN: u32 = 462;

/// Denies these calls to this thread and those that it starts. Returns whether the kernel has filters.
pub fn deny(denied: &Result<CallRules, BackendError>) -> bool {
    let Ok(denied) = denied else {
        return false;
    };
    let filter = program(denied, SeccompAction::Allow, refuse());
    let applied = |program: &BpfProgram| apply_filter(program).is_ok();
    filter.is_some_and(|filter| applied(&without_unknown()) && applied(&filter))
}

/// Denies all calls but these to all threads. Returns whether the kernel did.
pub fn allow_only(allowed: &CallRules) -> bool {
    let filter = program(allowed, refuse(), SeccompAction::Allow);
    filter.is_some_and(|filter| apply_filter_all_threads(&filter).is_ok())
}

/// A denied call fails as if a privilege were missing.
fn refuse() -> SeccompAction {
    SeccompAction::Errno(Errno::EPERM as u32)
}

/// `None` on an architecture that the library has no filters for.
fn program(calls: &CallRules, else_: SeccompAction, if_: SeccompAction) -> Option<BpfProgram> {
    let architecture = TargetArch::try_from(std::env::consts::ARCH).ok()?;
    let filter = SeccompFilter::new(calls.clone(), else_, if_, architecture).ok()?;
    filter.try_into().ok()
}

/// A program that makes unknown calls fail with `ENOSYS`, and `clone3` too, whose arguments no filter can see: libc uses
/// `clone` then. Written by hand, because the library compares numbers for equality only (linux/filter.h).
fn without_unknown() -> BpfProgram {
    const LOAD: u16 = 0x20; // BPF_LD | BPF_W | BPF_ABS
    const JUMP_IF_GREATER: u16 = 0x25; // BPF_JMP | BPF_JGT | BPF_K
    const JUMP_IF_EQUAL: u16 = 0x15; // BPF_JMP | BPF_JEQ | BPF_K
    const RETURN: u16 = 0x06; // BPF_RET | BPF_K
    const NUMBER: u32 = 0; // offset in struct seccomp_data
    let instruction = |code, jt, jf, k| sock_filter { code, jt, jf, k };
    let missing = SeccompAction::Errno(Errno::ENOSYS as u32);
    vec![
        instruction(LOAD, 0, 0, NUMBER),
        instruction(JUMP_IF_GREATER, 2, 0, NEWEST_KNOWN),
        instruction(JUMP_IF_EQUAL, 1, 0, SYS_clone3 as u32),
        instruction(RETURN, 0, 0, SeccompAction::Allow.into()),
        instruction(RETURN, 0, 0, missing.into()),
    ]
}
