//! Attempts at privileges, at namespaces and mounts, and at parts of the kernel with many mended holes.

use nix::libc;
use nix::sys::resource::{RLIM_INFINITY, Resource, getrlimit, setrlimit};

use super::Attempt;
use super::call::{at, attempt, c_path, call, signed};

/// Option of keyctl: the id of a keyring; -3 is that of the session (linux/keyctl.h).
const GET_KEYRING: usize = 0;
const SESSION_KEYRING: i32 = -3;
/// `personality` with this only asks.
const ASK: usize = 0xffff_ffff;
/// The size of the kernel's log (syslog(2)).
const LOG_SIZE: usize = 10;
/// `struct perf_event_attr` of version 0, for a clock of this process.
const PERF_SIZE: u32 = 64;
/// `union bpf_attr` for an array of one value.
const MAP_CREATE: usize = 0;
const BPF_ARRAY: u32 = 2;

pub const ATTEMPTS: &[Attempt] = &[
    ("become a user", |_| {
        attempt(libc::SYS_setuid, [nix::unistd::getuid().as_raw() as usize])
    }),
    ("leave all groups", |_| attempt(libc::SYS_setgroups, [0, 0])),
    ("take capabilities", |_| {
        // Version 3; all that fit into the lower words.
        let header = [0x2008_0522u32, 0];
        let mut now = [0u32; 6];
        call(
            libc::SYS_capget,
            [at(&header), std::ptr::from_mut(&mut now) as usize],
        )?;
        (now[0], now[1]) = (now[0] | 1 << 21, now[1] | 1 << 21);
        attempt(libc::SYS_capset, [at(&header), at(&now)])
    }),
    ("raise a limit", |_| {
        let (_, hard) = getrlimit(Resource::RLIMIT_CORE)?;
        match hard {
            RLIM_INFINITY => Ok(()), // It was not lowered.
            _ => setrlimit(Resource::RLIMIT_CORE, RLIM_INFINITY, RLIM_INFINITY),
        }
    }),
    ("take more memory than its limit", |_| {
        let (_, hard) = getrlimit(Resource::RLIMIT_DATA)?;
        setrlimit(Resource::RLIMIT_DATA, hard, hard)
    }),
    ("become traceable", |_| {
        attempt(libc::SYS_prctl, [libc::PR_SET_DUMPABLE as usize, 1])
    }),
    ("outlive the supervisor", |_| {
        attempt(libc::SYS_prctl, [libc::PR_SET_PDEATHSIG as usize, 0])?;
        let signal = libc::SIGKILL as usize;
        attempt(libc::SYS_prctl, [libc::PR_SET_PDEATHSIG as usize, signal])
    }),
    ("inherit the processes of others", |_| {
        attempt(libc::SYS_prctl, [libc::PR_SET_CHILD_SUBREAPER as usize, 1])
    }),
    ("change how programs run", |_| {
        attempt(libc::SYS_personality, [ASK])
    }),
    ("make a namespace", |_| {
        attempt(libc::SYS_unshare, [libc::CLONE_NEWUTS as usize])
    }),
    ("make a user namespace by clone", |_| {
        let flags = libc::CLONE_NEWUSER | libc::SIGCHLD;
        match call(libc::SYS_clone, [flags as usize, 0])? {
            0 => {
                let _ = call(libc::SYS_exit_group, [0]);
                unreachable!("the call does not return")
            }
            pid => nix::sys::wait::waitpid(nix::unistd::Pid::from_raw(pid as i32), None).map(drop),
        }
    }),
    ("enter a namespace", |_| {
        let own = std::fs::File::open("/proc/self/ns/uts");
        let own = own.as_ref().map_or(signed(-1), |file| {
            std::os::fd::AsRawFd::as_raw_fd(file) as usize
        });
        attempt(libc::SYS_setns, [own, libc::CLONE_NEWUTS as usize])
    }),
    ("mount", |to| {
        let place = c_path(&to.scratch("mount"));
        let place = at(place.as_c_str());
        attempt(libc::SYS_mount, [at(c"none"), place, at(c"tmpfs"), 0, 0])?;
        attempt(libc::SYS_umount2, [place, 0])
    }),
    ("open a file system", |_| {
        attempt(libc::SYS_fsopen, [at(c"tmpfs"), 0])
    }),
    ("change the root folder", |_| {
        attempt(libc::SYS_chroot, [at(c"/")])
    }),
    ("load a program into the kernel", |_| {
        let mut map = [0u32; 32];
        map[..4].copy_from_slice(&[BPF_ARRAY, 4, 4, 1]);
        attempt(libc::SYS_bpf, [MAP_CREATE, at(&map), size_of_val(&map)])
    }),
    ("count events of the processor", |_| {
        let mut event = [0u32; 16];
        (event[0], event[1]) = (1, PERF_SIZE); // PERF_TYPE_SOFTWARE, PERF_COUNT_SW_CPU_CLOCK
        attempt(
            libc::SYS_perf_event_open,
            [at(&event), 0, signed(-1), signed(-1), 0],
        )
    }),
    ("handle page faults itself", |_| {
        attempt(libc::SYS_userfaultfd, [1])
    }),
    ("queue work to the kernel", |_| {
        let mut parameters = [0u32; 30];
        attempt(
            libc::SYS_io_uring_setup,
            [1, std::ptr::from_mut(&mut parameters) as usize],
        )
    }),
    ("use keys of the kernel", |_| {
        attempt(libc::SYS_keyctl, [GET_KEYRING, signed(SESSION_KEYRING), 1])
    }),
    ("share memory by a key", |_| {
        let memory = call(libc::SYS_shmget, [libc::IPC_PRIVATE as usize, 4096, 0o600])?;
        attempt(libc::SYS_shmctl, [memory, libc::IPC_RMID as usize, 0])
    }),
    ("share a queue by a key", |_| {
        let queue = call(libc::SYS_msgget, [libc::IPC_PRIVATE as usize, 0o600])?;
        attempt(libc::SYS_msgctl, [queue, libc::IPC_RMID as usize, 0])
    }),
    ("name the machine", |_| {
        // struct utsname: six names of 65 bytes, of which this is the second.
        let mut names = [0u8; 6 * 65];
        call(libc::SYS_uname, [std::ptr::from_mut(&mut names) as usize])?;
        let name = names[65..130].split(|byte| *byte == 0).next();
        let name = name.expect("a split has a first part");
        attempt(libc::SYS_sethostname, [at(name), name.len()])
    }),
    ("read the kernel's log", |_| {
        attempt(libc::SYS_syslog, [LOG_SIZE, 0, 0])
    }),
    ("type into a terminal", |_| {
        let letter = b'x';
        attempt(libc::SYS_ioctl, [2, libc::TIOCSTI as usize, at(&letter)])
    }),
    ("hide memory from the kernel", |_| {
        attempt(libc::SYS_memfd_secret, [0])
    }),
    ("lock memory", |_| {
        let page = [0u8; 4096];
        attempt(libc::SYS_mlock, [at(&page), page.len()])
    }),
    ("use a call newer than the filter", |_| {
        // file_getattr, of Linux 6.17.
        attempt(
            468,
            [signed(libc::AT_FDCWD), at(c"/"), at(&[0u64; 4]), 32, 0],
        )
    }),
];
