//! The system calls that a confined process does not get, with the arguments that make them dangerous.
//!
//! Most are denied by Landlock, by missing capabilities or by the limits too: each of them alone is enough.

use nix::libc::{self, c_long};
use nix::unistd::getpid;
use seccompiler::{BackendError, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompRule};

use crate::SandboxProfile;
use crate::filter::CallRules;

/// Denied to every process.
const DENIED: &[c_long] = &[
    // Programs, processes of others, and leaving the own process group.
    libc::SYS_execve,
    libc::SYS_execveat,
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_process_madvise,
    libc::SYS_process_mrelease,
    libc::SYS_pidfd_open,
    libc::SYS_pidfd_getfd,
    libc::SYS_pidfd_send_signal,
    libc::SYS_kcmp,
    libc::SYS_get_robust_list,
    libc::SYS_migrate_pages,
    libc::SYS_move_pages,
    libc::SYS_setpgid,
    libc::SYS_setsid,
    libc::SYS_tkill,
    libc::SYS_rt_sigqueueinfo,
    libc::SYS_rt_tgsigqueueinfo,
    libc::SYS_setpriority,
    libc::SYS_ioprio_set,
    libc::SYS_sched_setscheduler,
    libc::SYS_sched_setparam,
    libc::SYS_sched_setattr,
    // Sockets other than the one that it has, and descriptors over it.
    libc::SYS_socket,
    libc::SYS_socketpair,
    libc::SYS_connect,
    libc::SYS_bind,
    libc::SYS_listen,
    libc::SYS_accept,
    libc::SYS_accept4,
    libc::SYS_sendmsg,
    libc::SYS_sendmmsg,
    libc::SYS_recvmsg,
    libc::SYS_recvmmsg,
    libc::SYS_setsockopt,
    // Memory and queues that processes share by name.
    libc::SYS_shmget,
    libc::SYS_shmat,
    libc::SYS_shmctl,
    libc::SYS_semget,
    libc::SYS_semctl,
    libc::SYS_msgget,
    libc::SYS_msgsnd,
    libc::SYS_msgrcv,
    libc::SYS_msgctl,
    libc::SYS_mq_open,
    libc::SYS_mq_unlink,
    // Users, groups and capabilities.
    libc::SYS_setuid,
    libc::SYS_setgid,
    libc::SYS_setreuid,
    libc::SYS_setregid,
    libc::SYS_setresuid,
    libc::SYS_setresgid,
    libc::SYS_setfsuid,
    libc::SYS_setfsgid,
    libc::SYS_setgroups,
    libc::SYS_capset,
    libc::SYS_personality,
    // Namespaces and mounts.
    libc::SYS_unshare,
    libc::SYS_setns,
    libc::SYS_chroot,
    libc::SYS_pivot_root,
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_mount_setattr,
    libc::SYS_move_mount,
    libc::SYS_open_tree,
    libc::SYS_fsopen,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fspick,
    // Files: changes that Landlock does not know, others as a second lock, and looking at others' use of files.
    libc::SYS_open_by_handle_at,
    libc::SYS_name_to_handle_at,
    libc::SYS_openat2,
    libc::SYS_mkdirat,
    libc::SYS_mknodat,
    libc::SYS_unlinkat,
    libc::SYS_symlinkat,
    libc::SYS_linkat,
    libc::SYS_renameat2,
    libc::SYS_truncate,
    libc::SYS_ftruncate,
    libc::SYS_fallocate,
    libc::SYS_fchmod,
    libc::SYS_fchmodat,
    libc::SYS_fchmodat2,
    libc::SYS_fchown,
    libc::SYS_fchownat,
    libc::SYS_utimensat,
    libc::SYS_setxattr,
    libc::SYS_lsetxattr,
    libc::SYS_fsetxattr,
    libc::SYS_removexattr,
    libc::SYS_lremovexattr,
    libc::SYS_fremovexattr,
    libc::SYS_flock,
    libc::SYS_inotify_init1,
    libc::SYS_inotify_add_watch,
    libc::SYS_fanotify_init,
    libc::SYS_fanotify_mark,
    libc::SYS_quotactl,
    libc::SYS_quotactl_fd,
    libc::SYS_sync,
    libc::SYS_syncfs,
    // Parts of the kernel with a long list of mended holes.
    libc::SYS_bpf,
    libc::SYS_perf_event_open,
    libc::SYS_userfaultfd,
    libc::SYS_io_uring_setup,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    libc::SYS_io_setup,
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_keyctl,
    libc::SYS_splice,
    libc::SYS_vmsplice,
    libc::SYS_tee,
    libc::SYS_memfd_secret,
    libc::SYS_lookup_dcookie,
    libc::SYS_nfsservctl,
    // The machine.
    libc::SYS_reboot,
    libc::SYS_kexec_load,
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    libc::SYS_acct,
    libc::SYS_syslog,
    libc::SYS_sethostname,
    libc::SYS_setdomainname,
    libc::SYS_settimeofday,
    libc::SYS_clock_settime,
    libc::SYS_adjtimex,
    libc::SYS_clock_adjtime,
    libc::SYS_vhangup,
];

/// Further ones that only this architecture has.
#[cfg(target_arch = "x86_64")]
const DENIED_HERE: &[c_long] = &[
    libc::SYS_fork,
    libc::SYS_vfork,
    libc::SYS_creat,
    libc::SYS_mkdir,
    libc::SYS_rmdir,
    libc::SYS_mknod,
    libc::SYS_unlink,
    libc::SYS_symlink,
    libc::SYS_link,
    libc::SYS_rename,
    libc::SYS_renameat,
    libc::SYS_chmod,
    libc::SYS_chown,
    libc::SYS_lchown,
    libc::SYS_utime,
    libc::SYS_utimes,
    libc::SYS_futimesat,
    libc::SYS_inotify_init,
    libc::SYS_kexec_file_load,
    libc::SYS_modify_ldt,
    libc::SYS_ioperm,
    libc::SYS_iopl,
    libc::SYS_uselib,
    libc::SYS_ustat,
    libc::SYS_sysfs,
];
#[cfg(not(target_arch = "x86_64"))]
const DENIED_HERE: &[c_long] = &[libc::SYS_kexec_file_load];

/// Denied to a process that computes on the CPU. The driver of a GPU needs them.
const DENIED_ON_CPU: &[c_long] = &[
    libc::SYS_memfd_create,
    libc::SYS_mlock,
    libc::SYS_mlock2,
    libc::SYS_mlockall,
    libc::SYS_mbind,
    libc::SYS_set_mempolicy,
];

/// Options of `prctl` that weaken the confinement, or untie this process from its parent.
const PRCTL_DENIED: [i32; 6] = [
    libc::PR_SET_PDEATHSIG,
    libc::PR_SET_DUMPABLE,
    libc::PR_SET_PTRACER,
    libc::PR_SET_MM,
    libc::PR_SET_CHILD_SUBREAPER,
    libc::PR_SET_SECUREBITS,
];

/// Commands of `fcntl` that lock files of others, or send signals.
const FCNTL_DENIED: [i32; 9] = [
    libc::F_SETLK,
    libc::F_SETLKW,
    libc::F_OFD_SETLK,
    libc::F_OFD_SETLKW,
    libc::F_SETLEASE,
    libc::F_NOTIFY,
    libc::F_SETOWN,
    F_SETSIG,
    F_SETOWN_EX,
];
/// From asm-generic/fcntl.h.
const F_SETSIG: i32 = 10;
const F_SETOWN_EX: i32 = 15;

/// Requests of `ioctl` that type into a terminal, or send signals.
const IOCTL_DENIED: [u64; 5] = [
    libc::TIOCSTI,
    libc::TIOCLINUX,
    0x8901, // FIOSETOWN of asm-generic/sockios.h
    0x8902, // SIOCSPGRP of asm-generic/sockios.h
    libc::FIOASYNC,
];

/// The denied calls of a process with this profile.
///
/// # Errors
/// None: the arguments are constants.
pub fn denied(profile: SandboxProfile) -> Result<CallRules, BackendError> {
    let always = DENIED.iter().chain(DENIED_HERE);
    let mut rules: CallRules = always.map(|call| (*call, Vec::new())).collect();
    let own = u64::from(getpid().as_raw().unsigned_abs());
    rules.insert(libc::SYS_kill, vec![other(0, own)?]);
    rules.insert(libc::SYS_tgkill, vec![other(0, own)?]);
    let another = rule([
        condition(0, SeccompCmpOp::Ne, 0)?,
        condition(0, SeccompCmpOp::Ne, own)?,
    ])?;
    // The supervisor limits the memory of a worker, and raises the limit.
    let memory = u64::from(libc::RLIMIT_DATA);
    let own_memory = rule([condition(1, SeccompCmpOp::Eq, memory)?, is_given(2)?])?;
    rules.insert(libc::SYS_prlimit64, vec![another, own_memory]);
    let own_memory = rule([condition(0, SeccompCmpOp::Eq, memory)?])?;
    rules.insert(libc::SYS_setrlimit, vec![own_memory]);
    // 0 is the calling thread.
    rules.insert(libc::SYS_sched_setaffinity, vec![other(0, 0)?]);
    let process = rule([without(0, libc::CLONE_THREAD as u64)?])?;
    rules.insert(libc::SYS_clone, vec![process]);
    rules.insert(
        libc::SYS_prctl,
        each(0, PRCTL_DENIED.map(|option| option as u64))?,
    );
    rules.insert(
        libc::SYS_fcntl,
        each(1, FCNTL_DENIED.map(|command| command as u64))?,
    );
    rules.insert(libc::SYS_ioctl, each(1, IOCTL_DENIED)?);
    if profile == SandboxProfile::Cpu {
        rules.extend(DENIED_ON_CPU.iter().map(|call| (*call, Vec::new())));
        let executable = rule([with(2, libc::PROT_EXEC as u64)?])?;
        for call in [libc::SYS_mmap, libc::SYS_mprotect, libc::SYS_pkey_mprotect] {
            rules.insert(call, vec![executable.clone()]);
        }
        rules.insert(libc::SYS_openat, to_change(2)?);
        #[cfg(target_arch = "x86_64")]
        rules.insert(libc::SYS_open, to_change(1)?);
    }
    Ok(rules)
}

/// The flags in argument `index` open a file for a change.
fn to_change(index: u8) -> Result<Vec<SeccompRule>, BackendError> {
    let flags = [
        libc::O_WRONLY,
        libc::O_RDWR,
        libc::O_CREAT,
        libc::O_TRUNC,
        libc::O_APPEND,
    ];
    let rules = flags.map(|flag| rule([with(index, flag as u64)?]));
    rules.into_iter().collect()
}

/// Argument `index` names another process or thread than `own`.
fn other(index: u8, own: u64) -> Result<SeccompRule, BackendError> {
    rule([condition(index, SeccompCmpOp::Ne, own)?])
}

/// Argument `index` is one of `values`.
fn each<const N: usize>(index: u8, values: [u64; N]) -> Result<Vec<SeccompRule>, BackendError> {
    let rules = values.map(|value| rule([condition(index, SeccompCmpOp::Eq, value)?]));
    rules.into_iter().collect()
}

/// Argument `index` has this bit.
fn with(index: u8, bit: u64) -> Result<SeccompCondition, BackendError> {
    condition(index, SeccompCmpOp::MaskedEq(bit), bit)
}

/// Argument `index` is a pointer, not null.
fn is_given(index: u8) -> Result<SeccompCondition, BackendError> {
    SeccompCondition::new(index, SeccompCmpArgLen::Qword, SeccompCmpOp::Ne, 0)
}

/// Argument `index` lacks this bit.
fn without(index: u8, bit: u64) -> Result<SeccompCondition, BackendError> {
    condition(index, SeccompCmpOp::MaskedEq(bit), 0)
}

/// All arguments that this is for use the lower 32 bits only, as the kernel does for them.
fn condition(
    index: u8,
    operation: SeccompCmpOp,
    value: u64,
) -> Result<SeccompCondition, BackendError> {
    SeccompCondition::new(index, SeccompCmpArgLen::Dword, operation, value)
}

fn rule<const N: usize>(conditions: [SeccompCondition; N]) -> Result<SeccompRule, BackendError> {
    SeccompRule::new(conditions.into())
}
