//! Attempts at files and folders: to read what is not the model's, and to change anything.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::Read;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use nix::errno::Errno;
use nix::libc;
use nix::sys::stat::{Mode, SFlag, mknod};

use super::Attempt;
use super::call::{at, attempt, c_path, call, done, errno, signed};

pub const ATTEMPTS: &[Attempt] = &[
    ("read /etc/shadow", |_| read(Path::new("/etc/shadow"))),
    ("read /etc/passwd", |_| read(Path::new("/etc/passwd"))),
    ("read the settings", |to| read(&to.path("settings"))),
    ("read an obituary", |to| read(&to.path("obituary"))),
    ("read weights of another model", |to| {
        read(&to.path("weights"))
    }),
    ("read its own program", |_| {
        read(Path::new("/proc/self/exe"))
    }),
    ("read shared memory with a name", |to| {
        read(&to.path("shared"))
    }),
    ("list the root folder", |_| list(Path::new("/"))),
    ("list the folder of sockets", |to| list(&to.path("runtime"))),
    ("list all processes", |_| list(Path::new("/proc"))),
    ("list its own descriptors", |_| {
        list(Path::new("/proc/self/fd"))
    }),
    ("write shared memory with a name", |to| {
        write(&to.path("shared"))
    }),
    ("create shared memory with a name", |to| {
        create(&to.path("new_shared"))
    }),
    ("write the settings", |to| write(&to.path("settings"))),
    ("write weights of another model", |to| {
        write(&to.path("weights"))
    }),
    ("write the lock of the daemon", |to| write(&to.path("lock"))),
    ("create a file", |to| create(&to.scratch("new"))),
    ("create a file without a name", |to| {
        let flags = libc::O_TMPFILE | libc::O_RDWR;
        let folder = c_path(&to.path("scratch"));
        attempt(
            libc::SYS_openat,
            [
                signed(libc::AT_FDCWD),
                at(folder.as_c_str()),
                flags as usize,
                0o600,
            ],
        )
    }),
    ("truncate a file", |to| {
        let path = c_path(&to.scratch("file"));
        attempt(libc::SYS_truncate, [at(path.as_c_str()), 0])
    }),
    ("make a folder", |to| {
        done(fs::create_dir(to.scratch("folder")))
    }),
    ("make a link", |to| {
        done(fs::hard_link(to.scratch("file"), to.scratch("link")))
    }),
    ("make a symbolic link", |to| {
        done(symlink("/etc", to.scratch("symbolic")))
    }),
    ("make a pipe with a name", |to| {
        let mode = Mode::from_bits_truncate(0o600);
        mknod(&to.scratch("pipe"), SFlag::S_IFIFO, mode, 0)
    }),
    ("rename a file", |to| {
        done(fs::rename(to.scratch("file"), to.scratch("renamed")))
    }),
    ("remove a file", |to| {
        done(fs::remove_file(to.scratch("old")))
    }),
    ("change permissions", |to| {
        done(fs::set_permissions(
            to.scratch("other"),
            Permissions::from_mode(0o777),
        ))
    }),
    ("change the owner", |to| {
        done(std::os::unix::fs::chown(to.scratch("other"), Some(0), None))
    }),
    ("change times", |to| {
        let path = c_path(&to.scratch("other"));
        attempt(
            libc::SYS_utimensat,
            [signed(libc::AT_FDCWD), at(path.as_c_str()), 0, 0],
        )
    }),
    ("watch a folder", |to| {
        let watch = call(libc::SYS_inotify_init1, [0])?;
        let path = c_path(&to.path("runtime"));
        attempt(
            libc::SYS_inotify_add_watch,
            [watch, at(path.as_c_str()), libc::IN_CREATE as usize],
        )
    }),
    ("watch all files", |_| {
        attempt(libc::SYS_fanotify_init, [0, 0])
    }),
    ("open by a handle", |to| {
        // struct file_handle with room for 128 bytes.
        let mut handle = [0u32; 34];
        handle[0] = 128;
        let mut mount = 0i32;
        let path = c_path(&to.scratch("other"));
        let arguments = [
            signed(libc::AT_FDCWD),
            at(path.as_c_str()),
            std::ptr::from_mut(&mut handle) as usize,
            std::ptr::from_mut(&mut mount) as usize,
            0,
        ];
        attempt(libc::SYS_name_to_handle_at, arguments)
    }),
    ("lock a file against others", |_| {
        let how = libc::LOCK_EX | libc::LOCK_NB;
        let locked = (3..10).map(|file| attempt(libc::SYS_flock, [file, how as usize]));
        let mut open = locked.filter(|locked| *locked != Err(Errno::EBADF));
        open.next().unwrap_or(Err(Errno::EBADF))
    }),
    ("write all files to the disk", |_| {
        attempt(libc::SYS_sync, [])
    }),
];

fn read(path: &Path) -> Result<(), Errno> {
    let opened = File::open(path);
    done(opened.and_then(|mut file| file.read(&mut [0])))
}

fn list(path: &Path) -> Result<(), Errno> {
    let entries = fs::read_dir(path).map_err(|error| errno(&error))?;
    entries.flatten().next().map(drop).ok_or(Errno::ENOENT)
}

fn write(path: &Path) -> Result<(), Errno> {
    done(OpenOptions::new().append(true).open(path))
}

fn create(path: &Path) -> Result<(), Errno> {
    done(File::create_new(path))
}
