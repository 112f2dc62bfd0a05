//! Reads the state of a process from /proc/PID/stat (proc(5)).

use std::fs;
use std::path::Path;

/// Flag of a thread that has begun to exit (`PF_EXITING`, include/linux/sched.h). The kernel sets it before it
/// closes the descriptors, and long before the process can be reaped.
const EXITING: u64 = 0x4;

/// The state of a process that has an entry in /proc.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stat {
    /// Whether it is a zombie or being removed.
    pub is_dead: bool,
    /// Whether it has begun to exit: its exit status is fixed, and no signal changes it.
    pub is_ending: bool,
    /// Whether it waits uninterruptibly for a disk or another device.
    pub is_blocked: bool,
    /// Start time in clock ticks since boot.
    pub start_time: u64,
}

impl Stat {
    /// Reads the state of a process; `None` if it does not exist.
    pub fn of(pid: u32) -> Option<Self> {
        Self::read(Path::new(&format!("/proc/{pid}/stat")))
    }

    /// Reads the state of the process or thread with this file.
    pub fn read(path: &Path) -> Option<Self> {
        Self::parse(&fs::read_to_string(path).ok()?)
    }

    /// Whether the process has begun to exit or is gone. Checks every thread, because the first one may exit while
    /// others still run.
    pub fn all_ending(pid: u32) -> bool {
        let threads = fs::read_dir(format!("/proc/{pid}/task"));
        let mut threads = threads.into_iter().flatten().flatten();
        threads.all(|thread| {
            let stat = Self::read(&thread.path().join("stat"));
            stat.is_none_or(|stat| stat.is_ending)
        })
    }

    /// Parses the file. The second field is the program's name in parentheses and may contain anything, so fields are
    /// counted from its end. The state is field 3, the flags are field 9, the start time is field 22.
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

/// Where the kernel holds this process's first thread, in words: its state, and the kernel function that it waits in.
pub fn main_thread() -> String {
    let folder = format!("/proc/self/task/{}", std::process::id());
    let read = |file: &str| fs::read_to_string(format!("{folder}/{file}")).unwrap_or_default();
    let stat = read("stat");
    let state = stat.rsplit_once(") ").map_or("", |(_, fields)| fields);
    let state = match state.chars().next() {
        Some('R') => "running".to_owned(),
        Some(letter) => format!("in state {letter}"),
        None => "in an unknown state".to_owned(),
    };
    match read("wchan").as_str() {
        "" | "0" => state,
        function => format!("{state}, in the kernel's {function}"),
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
    fn the_state_of_the_first_thread_is_found() {
        // It waits for this test.
        assert!(main_thread().starts_with("in state S"), "{}", main_thread());
    }

    #[test]
    fn this_process_is_not_exiting() {
        let own = Stat::of(std::process::id()).expect("it runs");
        assert!(!own.is_dead && !own.is_ending && own.start_time > 0);
    }
}
