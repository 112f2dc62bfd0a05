//! The runtime folder with its sockets and its lock, and the folder for the state.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use ipc_protocol::client::ClientError;
use ipc_protocol::folders;
use ipc_protocol::status::SupervisorStatus;
use nix::unistd::Uid;

use super::machine::Machine;
use crate::cli::doctor::result::CheckResult;
use crate::config::paths::{self, SOCKET_PATH_BYTES_MAX};
use crate::process::identity::Identity;

const RUNTIME: &str = "runtime folder";
const DAEMON: &str = "daemon";
const STATE: &str = "state folder";

/// Bytes that are written to find out whether a folder takes them.
const TRIAL_BYTES: usize = 64 * 1024;

/// Checks the owner, the mode and the length of the runtime folder's path.
pub fn runtime(machine: &Machine) -> Vec<CheckResult> {
    let folder = &machine.runtime_dir;
    let shown = folder.display();
    let elsewhere = "start with another `--runtime-dir`, or set XDG_RUNTIME_DIR";
    let socket = match paths::socket(folder) {
        Ok(socket) => socket,
        Err(error) => {
            return vec![CheckResult::problem(
                RUNTIME,
                error.to_string(),
                "the length of the folder's path",
                elsewhere,
            )];
        }
    };
    if let Err(error) = paths::examine(folder) {
        return vec![CheckResult::problem(
            RUNTIME,
            error.to_string(),
            "the owner or the mode of the folder",
            format!("`ls -ld {shown}` shows them; {elsewhere}"),
        )];
    }
    if let Err(error) = takes_files(folder) {
        return vec![CheckResult::problem(
            RUNTIME,
            format!("no file can be written in {shown}: {error}"),
            "the file system of the folder",
            format!("`df {shown}` and `df -i {shown}`; {elsewhere}"),
        )];
    }
    let private = folder
        .join(paths::PRIVATE)
        .join(Identity::own().to_string());
    if let Err(error) = paths::socket(&private) {
        return vec![CheckResult::warning(
            RUNTIME,
            format!("a daemon works, but no private pool: {error}"),
            "the length of the folder's path",
            elsewhere,
        )];
    }
    vec![CheckResult::ok(
        RUNTIME,
        format!(
            "{shown} is safe to use; its socket's path has {} of {SOCKET_PATH_BYTES_MAX} bytes",
            socket.as_os_str().len()
        ),
    )]
}

/// Checks that the lock and the socket of the runtime folder fit together, and whether a daemon answers.
pub fn daemon(machine: &Machine) -> Vec<CheckResult> {
    let folder = &machine.runtime_dir;
    let lock = folder.join("lock");
    if let Some(finding) = unusable_lock(&lock) {
        return vec![finding];
    }
    match (&machine.daemon, holder(&lock)) {
        (Ok(daemon), _) => vec![CheckResult::ok(
            DAEMON,
            format!(
                "version {} serves with pid {}; workers: {}, jobs: {}",
                daemon.version,
                daemon.pid,
                daemon.report.workers.len(),
                daemon.report.queue.len()
            ),
        )],
        (Err(error), Some(pid)) => vec![CheckResult::problem(
            DAEMON,
            format!(
                "process {pid} ({}) has locked {} and does not answer: {error}",
                name_of(pid),
                lock.display()
            ),
            "that process: it hangs, or is another program",
            format!("`kill {pid}`, then start the daemon again"),
        )],
        (Err(ClientError::NoDaemonAnywhere { .. } | ClientError::NoDaemon { .. }), None) => {
            vec![CheckResult::ok(DAEMON, no_daemon(folder))]
        }
        (Err(error), None) => vec![CheckResult::problem(
            DAEMON,
            error.to_string(),
            "the daemon, or the owner of its folder",
            "`imagepool version` shows the same; restart the daemon",
        )],
    }
}

fn no_daemon(folder: &Path) -> String {
    let socket = folder.join(folders::SOCKET);
    let left = fs::symlink_metadata(&socket).is_ok_and(|file| file.file_type().is_socket());
    match left {
        true => format!(
            "no daemon runs; {} is left of one that was killed, and the next one replaces it",
            socket.display()
        ),
        false => "no daemon runs: `generate` starts a private pool for each call".to_owned(),
    }
}

/// The result if no daemon of this user could open the lock.
fn unusable_lock(lock: &Path) -> Option<CheckResult> {
    let found = fs::symlink_metadata(lock).ok()?;
    let own = Uid::effective().as_raw();
    let why = match found.uid() {
        _ if !found.is_file() => "is a link or a folder, not a file".to_owned(),
        owner if owner != own && own != 0 => format!("belongs to user {owner}"),
        _ => return None,
    };
    let shown = lock.display();
    Some(CheckResult::problem(
        DAEMON,
        format!("the lock {shown} {why}: no daemon can start there"),
        "the user who made that file",
        format!("remove it: `rm -r {shown}`, as its owner or root"),
    ))
}

/// The process that has locked a file, as the kernel lists it. Asking so cannot disturb a daemon that starts.
fn holder(lock: &Path) -> Option<u32> {
    let inode = fs::metadata(lock).ok()?.ino();
    let locks = fs::read_to_string("/proc/locks").ok()?;
    holder_in(&locks, inode)
}

/// Finds the holder in the text of /proc/locks: `1: FLOCK ADVISORY WRITE PID MAJOR:MINOR:INODE 0 EOF`. The device is
/// left out: stacked file systems report another one.
fn holder_in(locks: &str, inode: u64) -> Option<u32> {
    locks.lines().find_map(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [_, "FLOCK", _, "WRITE", pid, place, ..] = words.as_slice() else {
            return None;
        };
        let is_same = place.rsplit(':').next() == Some(inode.to_string().as_str());
        is_same.then(|| pid.parse().ok()).flatten()
    })
}

fn name_of(pid: u32) -> String {
    let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    name.trim().to_owned()
}

/// Checks that the state folder is safe to use and takes files.
pub fn state(machine: &Machine) -> Vec<CheckResult> {
    let of_daemon = match &machine.daemon {
        Ok(daemon) => daemon
            .report
            .supervisor
            .state_dir
            .clone()
            .map(PathBuf::from),
        Err(_) => None,
    };
    let given = of_daemon.or_else(paths::given_state_dir);
    let Some(folder) = given.or_else(paths::own_state_dir) else {
        return vec![CheckResult::warning(
            STATE,
            "there is none: neither STATE_DIRECTORY nor XDG_STATE_HOME nor HOME names a folder of this user",
            "the environment",
            "set HOME, or start with `--state-dir DIR`",
        )];
    };
    let shown = folder.display();
    let advice =
        || format!("`df {shown}` and `ls -ld {shown}`; choose another with `--state-dir DIR`");
    if let Err(error) = paths::examine_state(&folder) {
        let fault = "the owner or the mode of the folder";
        return vec![CheckResult::problem(
            STATE,
            error.to_string(),
            fault,
            advice(),
        )];
    }
    let journal = machine.daemon.as_ref().ok();
    let journal = journal.and_then(|daemon| of_journal(&daemon.report.supervisor));
    let folder = match takes_files(&folder) {
        Ok(()) => CheckResult::ok(STATE, format!("{shown} takes files")),
        Err(error) => CheckResult::problem(
            STATE,
            format!("no file can be written in {shown}: {error}"),
            "the folder's permissions or its file system",
            advice(),
        ),
    };
    [folder].into_iter().chain(journal).collect()
}

/// The finding about the daemon's journal, unless it works and was never damaged.
fn of_journal(supervisor: &SupervisorStatus) -> Option<CheckResult> {
    let told = format!(
        "the journal of detached jobs: {}",
        supervisor.journal_detail
    );
    match supervisor.journal.as_str() {
        "failing" => Some(CheckResult::problem(
            STATE,
            told,
            "its disk, which is full or read-only, or fails",
            "`df` on the state folder; free space: the daemon then goes on without a restart",
        )),
        "renewed" => Some(CheckResult::warning(
            STATE,
            told,
            "the disk, or another program that wrote to the file",
            "`imagepool jobs` shows the jobs that are left; ask for the others again",
        )),
        _ => None,
    }
}

/// Writes a file in a folder, or in the closest parent of one that is missing, and removes it.
pub fn takes_files(folder: &Path) -> io::Result<()> {
    let there = existing(folder);
    let mut file: File = tempfile::tempfile_in(there)?;
    file.write_all(&[0; TRIAL_BYTES])?;
    file.sync_all()
}

/// The folder, or its closest parent that exists.
pub fn existing(folder: &Path) -> &Path {
    let there = folder.ancestors().find(|folder| folder.is_dir());
    there.unwrap_or(Path::new("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_holder_of_a_lock_is_found_by_its_file() {
        let locks = "1: FLOCK  ADVISORY  WRITE 4711 00:1b:1234 0 EOF\n2: POSIX  ADVISORY  WRITE 9 00:1b:77 0 EOF\n3: FLOCK  ADVISORY  READ 8 00:1b:88 0 EOF\n";
        assert_eq!(holder_in(locks, 1234), Some(4711));
        assert_eq!(holder_in(locks, 234), None);
        assert_eq!(holder_in(locks, 77), None, "another kind of lock");
        assert_eq!(holder_in(locks, 88), None, "not exclusive");
    }

    #[test]
    fn the_closest_parent_counts_for_a_missing_folder() {
        let base = tempfile::tempdir().expect("a folder");
        assert_eq!(existing(&base.path().join("a/b")), base.path());
        takes_files(&base.path().join("a/b")).expect("our own folder");
    }
}
