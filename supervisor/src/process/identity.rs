//! A process told apart from a later one with the same pid: the pid and the start time.

use std::fmt;
use std::str::FromStr;

use super::stat::Stat;

/// A pid together with its start time in clock ticks since boot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identity {
    pub pid: u32,
    /// Start time in clock ticks since boot.
    pub start_time: u64,
}

impl Identity {
    /// The identity of this process.
    pub fn own() -> Self {
        let pid = std::process::id();
        Self {
            pid,
            start_time: start_time(pid).unwrap_or(0),
        }
    }

    /// Whether this process still exists.
    pub fn is_alive(self) -> bool {
        start_time(self.pid) == Some(self.start_time)
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.pid, self.start_time)
    }
}

impl FromStr for Identity {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (pid, start_time) = text.split_once('-').ok_or(())?;
        Ok(Self {
            pid: pid.parse().map_err(|_| ())?,
            start_time: start_time.parse().map_err(|_| ())?,
        })
    }
}

fn start_time(pid: u32) -> Option<u64> {
    let stat = Stat::of(pid).filter(|stat| !stat.is_dead)?;
    Some(stat.start_time)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_alive_and_one_with_its_pid_and_another_start_is_not() {
        let own = Identity::own();
        assert!(own.is_alive());
        let former = Identity {
            start_time: own.start_time + 1,
            ..own
        };
        assert!(!former.is_alive());
    }

    #[test]
    fn an_identity_is_parsed_back_from_its_text() {
        let own = Identity::own();
        assert_eq!(own.to_string().parse(), Ok(own));
        assert!("12".parse::<Identity>().is_err());
        assert!("a-b".parse::<Identity>().is_err());
    }
}
