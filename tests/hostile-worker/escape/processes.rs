//! Attempts at other processes: to signal, trace and read them, and to start some.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use nix::errno::Errno;
use nix::libc;
use nix::sys::wait::waitpid;
use nix::unistd::Pid;

use super::Attempt;
use super::call::{at, attempt, call, done, errno, signed};
use super::targets::parent;

/// From linux/ptrace.h.
const SEIZE: usize = 0x4206;
const INTERRUPT: usize = 0x4207;
const DETACH: usize = 17;

pub const ATTEMPTS: &[Attempt] = &[
    ("signal the supervisor", |_| signal(parent(), libc::SIGCONT)),
    ("signal its sibling", |to| {
        signal(to.sibling(), libc::SIGCONT)
    }),
    ("stop its sibling", |to| {
        signal(to.sibling(), libc::SIGSTOP)?;
        signal(to.sibling(), libc::SIGCONT)
    }),
    ("signal every process", |_| signal(-1, 0)),
    ("signal a thread of the supervisor", |_| {
        let pid = parent() as usize;
        attempt(libc::SYS_tgkill, [pid, pid, 0])
    }),
    ("signal a thread by its number", |_| {
        attempt(libc::SYS_tkill, [parent() as usize, 0])
    }),
    ("queue a signal to the supervisor", |_| {
        let mut info = [0i32; 32];
        (info[0], info[2]) = (libc::SIGCONT, libc::SI_QUEUE);
        attempt(
            libc::SYS_rt_sigqueueinfo,
            [parent() as usize, libc::SIGCONT as usize, at(&info)],
        )
    }),
    ("open the supervisor by a descriptor", |_| {
        attempt(libc::SYS_pidfd_open, [parent() as usize, 0])
    }),
    ("signal the supervisor by a descriptor", |_| {
        let process = descriptor_of(parent());
        attempt(
            libc::SYS_pidfd_send_signal,
            [process, libc::SIGCONT as usize, 0, 0],
        )
    }),
    ("take a descriptor of its sibling", |to| {
        let process = descriptor_of(to.sibling());
        attempt(libc::SYS_pidfd_getfd, [process, 0, 0])
    }),
    ("trace its sibling", |to| trace(to.sibling())),
    ("trace the supervisor", |_| trace(parent())),
    ("read memory of its sibling", |to| {
        copy(libc::SYS_process_vm_readv, to.sibling())
    }),
    ("read memory of the supervisor", |_| {
        copy(libc::SYS_process_vm_readv, parent())
    }),
    ("write memory of its sibling", |to| {
        copy(libc::SYS_process_vm_writev, to.sibling())
    }),
    ("read /proc/PID/mem of its sibling", |to| {
        memory(to.sibling())
    }),
    ("read /proc/PID/mem of the supervisor", |_| memory(parent())),
    ("read the environment of the supervisor", |_| {
        read(parent(), "environ")
    }),
    ("read the environment of its sibling", |to| {
        read(to.sibling(), "environ")
    }),
    ("read the mappings of its sibling", |to| {
        read(to.sibling(), "maps")
    }),
    ("read the command line of its sibling", |to| {
        read(to.sibling(), "cmdline")
    }),
    ("list the descriptors of its sibling", |to| {
        done(fs::read_dir(proc(to.sibling(), "fd")))
    }),
    ("open the segment of its sibling", |to| {
        segment(to.sibling())
    }),
    ("open descriptor 0 of the supervisor", |_| {
        done(File::open(proc(parent(), "fd/0")))
    }),
    ("enter the root folder of its sibling", |to| {
        done(File::open(proc(to.sibling(), "root/etc/passwd")))
    }),
    (
        "make another process the first victim of a lack of memory",
        |to| {
            done(
                OpenOptions::new()
                    .write(true)
                    .open(proc(to.sibling(), "oom_score_adj")),
            )
        },
    ),
    ("fork", |_| child(call(libc::SYS_fork, []))),
    ("fork by clone3", |_| {
        // struct clone_args of version 0; only exit_signal is set.
        let mut arguments = [0u64; 8];
        arguments[4] = libc::SIGCHLD as u64;
        child(call(
            libc::SYS_clone3,
            [at(&arguments), size_of_val(&arguments)],
        ))
    }),
    ("start a program", |_| start_program()),
    ("replace its program", |_| {
        let none = c"/nonexistent";
        attempt(libc::SYS_execve, [at(none), 0, 0])
    }),
    ("execute a file in memory", |_| {
        let file = call(libc::SYS_memfd_create, [at(c"program"), 0])?;
        attempt(libc::SYS_fchmod, [file, 0o700])
    }),
    ("make memory executable", |_| {
        let page = call(
            libc::SYS_mmap,
            [
                0,
                4096,
                (libc::PROT_READ | libc::PROT_WRITE) as usize,
                (libc::MAP_PRIVATE | libc::MAP_ANONYMOUS) as usize,
                signed(-1),
                0,
            ],
        )?;
        attempt(
            libc::SYS_mprotect,
            [page, 4096, (libc::PROT_READ | libc::PROT_EXEC) as usize],
        )
    }),
    ("leave its process group", |_| {
        // In a session of one's own, a group cannot be left to another.
        match attempt(libc::SYS_setsid, []) {
            Err(Errno::EPERM) => attempt(libc::SYS_setpgid, [0, group_of(parent())?]),
            other => other,
        }
    }),
    ("move the supervisor to other processors", |_| {
        let mut mask = [0u64; 16];
        let (pid, bytes) = (parent() as usize, size_of_val(&mask));
        let written = call(
            libc::SYS_sched_getaffinity,
            [pid, bytes, std::ptr::from_mut(&mut mask) as usize],
        );
        attempt(
            libc::SYS_sched_setaffinity,
            [pid, written.unwrap_or(8), at(&mask)],
        )
    }),
    ("change the priority of its sibling", |to| {
        attempt(
            libc::SYS_setpriority,
            [libc::PRIO_PROCESS as usize, to.sibling() as usize, 5],
        )
    }),
    ("change the limits of its sibling", |to| {
        let mut limits = [0u64; 2];
        let resource = libc::RLIMIT_NOFILE as usize;
        let now = std::ptr::from_mut(&mut limits) as usize;
        let pid = to.sibling() as usize;
        call(libc::SYS_prlimit64, [pid, resource, 0, now])?;
        attempt(libc::SYS_prlimit64, [pid, resource, at(&limits), 0])
    }),
];

fn signal(pid: i32, signal: i32) -> Result<(), Errno> {
    attempt(libc::SYS_kill, [signed(pid), signal as usize])
}

/// A descriptor of a process; one that is not open, where it cannot be had.
fn descriptor_of(pid: i32) -> usize {
    call(libc::SYS_pidfd_open, [pid as usize, 0]).unwrap_or(999)
}

fn trace(pid: i32) -> Result<(), Errno> {
    let pid = pid as usize;
    attempt(libc::SYS_ptrace, [SEIZE, pid, 0, 0])?;
    attempt(libc::SYS_ptrace, [INTERRUPT, pid, 0, 0])?;
    let _ = waitpid(Pid::from_raw(pid as i32), None);
    attempt(libc::SYS_ptrace, [DETACH, pid, 0, 0])
}

fn proc(pid: i32, file: &str) -> PathBuf {
    format!("/proc/{pid}/{file}").into()
}

fn read(pid: i32, file: &str) -> Result<(), Errno> {
    done(fs::read(proc(pid, file)))
}

/// Where a mapping of a process that it may write begins, as far as it can be read.
fn address(pid: i32) -> u64 {
    let maps = fs::read_to_string(proc(pid, "maps")).unwrap_or_default();
    let line = maps.lines().find(|line| line.contains(" rw-p "));
    let first = line.and_then(|line| line.split('-').next());
    first.map_or(0x40_0000, |first| {
        u64::from_str_radix(first, 16).expect("hexadecimal")
    })
}

/// Copies no bytes to or from a process: the right is checked all the same where there is one.
fn copy(number: libc::c_long, pid: i32) -> Result<(), Errno> {
    let mut byte = [0u8; 1];
    let length = usize::from(number == libc::SYS_process_vm_readv);
    let here = [std::ptr::from_mut(&mut byte) as usize, length];
    let there = [address(pid) as usize, length];
    attempt(number, [pid as usize, at(&here), 1, at(&there), 1, 0])
}

fn memory(pid: i32) -> Result<(), Errno> {
    let opened = File::open(proc(pid, "mem"));
    done(opened.and_then(|file| file.read_at(&mut [0], address(pid))))
}

/// Opens the first descriptor of a process that leads to a segment.
fn segment(pid: i32) -> Result<(), Errno> {
    let entries = fs::read_dir(proc(pid, "fd")).map_err(|error| errno(&error))?;
    let is_segment = |path: &PathBuf| {
        fs::read_link(path).is_ok_and(|to| to.to_string_lossy().contains("memfd:"))
    };
    let mut paths = entries.flatten().map(|entry| entry.path());
    let path = paths.find(is_segment).ok_or(Errno::ENOENT)?;
    done(OpenOptions::new().read(true).write(true).open(path))
}

fn child(born: Result<usize, Errno>) -> Result<(), Errno> {
    match born? {
        0 => {
            // The child; nothing of the parent's must run in it.
            let _ = call(libc::SYS_exit_group, [0]);
            unreachable!("the call does not return")
        }
        pid => waitpid(Pid::from_raw(pid as i32), None).map(drop),
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "a worker that starts processes is what this is"
)]
fn start_program() -> Result<(), Errno> {
    done(std::process::Command::new("/bin/true").status())
}

fn group_of(pid: i32) -> Result<usize, Errno> {
    call(libc::SYS_getpgid, [pid as usize])
}
