//! What /proc/PID/stat says of a process (proc(5)).

use std::fs;
use std::path::Path;

/// Set on a thread from the moment it has begun to end (`PF_EXITING`, include/linux/sched.h), which is
/// before the kernel closes its descriptors and long before it can be reaped.
const EXITING: u64 = 0x4;

/// A process that still has an entry in /proc.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stat {
    /// It is a zombie, or being removed.
    pub is_dead: bool,
    /// The kernel is taking it apart: how it ends is settled, and no signal changes that.
    pub is_ending: bool,
    /// It waits for a disk or another device, and no signal wakes it.
    pub is_blocked: bool,
    /// When it started, in clock ticks since boot.
    pub start_time: u64,
}

impl Stat {
    /// Of the process with this pid, if there is one.
    pub fn of(pid: u32) -> Option<Self> {
        Self::read(Path::new(&format!("/proc/{pid}/stat")))
    }

    /// Of the process or thread with this file.
    pub fn read(path: &Path) -> Option<Self> {
        Self::parse(&fs::read_to_string(path).ok()?)
    }

    /// Whether the kernel is taking the process with this pid apart, or it is gone. Its first thread may be
    /// gone while others run on, so every thread is looked at.
    pub fn all_ending(pid: u32) -> bool {
        let threads = fs::read_dir(format!("/proc/{pid}/task"));
        let mut threads = threads.into_iter().flatten().flatten();
        threads.all(|thread| {
            let stat = Self::read(&thread.path().join("stat"));
            stat.is_none_or(|stat| stat.is_ending)
        })
    }

    /// The second field is the program's name in parentheses and may hold anything, so fields are
    /// counted from its end: the state is field 3, the flags are field 9, the start time is field 22.
    fn parse(line: &str) -> Option<Self> {
        let (_, after_name) = line.rsplit_once(')')?;
        let mut fields = after_name.split_ascii_whitespace();
        let state = fields.next()?;
        let is_dead = matches!(state, "Z" | "X");
        let flags: u64 = fields.nth(5)?.parse().ok()?;
        Some(Self {
            is_dead,
            is_ending: is_dead || flags & EXITING != 0,
            is_blocked: state == "D",
            start_time: fields.nth(12)?.parse().ok()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_counted_from_the_end_of_the_name() {
        let line = "71 (a) R (b) S 1 71 71 0 -1 4194564 9 0 0 0 1 2 0 0 20 0 3 0 8812 1 2 3";
        let expected = Stat {
            is_dead: false,
            is_ending: true,
            is_blocked: false,
            start_time: 8812,
        };
        assert_eq!(Stat::parse(line), Some(expected));
        assert_eq!(Stat::parse("71 (a"), None);
    }

    #[test]
    fn this_process_is_not_ending() {
        let own = Stat::of(std::process::id()).expect("it runs");
        assert!(!own.is_dead && !own.is_ending && own.start_time > 0);
    }
}
