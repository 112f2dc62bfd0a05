//! How far a worker has confined itself.

use std::fmt;

use bincode::{Decode, Encode};
use serde::{Serialize, Serializer};

/// The version of Landlock from which on signals to other processes are confined too (Linux 6.12).
const LANDLOCK_FULL: u32 = 6;

/// The parts of the sandbox that hold for a process. Its text is `full`, `off`, or `partial` with what is missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub enum SandboxReached {
    /// None: it was switched off.
    Off,
    /// As many as the kernel has.
    On {
        /// Version of Landlock, which confines files, network and signals; 0 for none.
        landlock: u32,
        /// Whether system calls are filtered.
        filters_calls: bool,
    },
}

impl SandboxReached {
    /// Whether no part is missing.
    pub fn is_full(self) -> bool {
        matches!(
            self,
            Self::On {
                landlock: LANDLOCK_FULL..,
                filters_calls: true
            }
        )
    }

    /// The degree in one word.
    pub fn word(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::On { .. } if self.is_full() => "full",
            Self::On { .. } => "partial",
        }
    }
}

impl fmt::Display for SandboxReached {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())?;
        let Self::On {
            landlock,
            filters_calls,
        } = *self
        else {
            return Ok(());
        };
        let files = match landlock {
            0 => Some("no Landlock".to_owned()),
            1..LANDLOCK_FULL => Some(format!("Landlock {landlock} of {LANDLOCK_FULL}")),
            LANDLOCK_FULL.. => None,
        };
        let calls = (!filters_calls).then(|| "no filter of system calls".to_owned());
        let missing: Vec<String> = files.into_iter().chain(calls).collect();
        match missing.is_empty() {
            true => Ok(()),
            false => write!(f, " ({})", missing.join(", ")),
        }
    }
}

impl Serialize for SandboxReached {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_names_the_missing_parts() {
        let on = |landlock, filters_calls| SandboxReached::On {
            landlock,
            filters_calls,
        };
        let texts = [
            (SandboxReached::Off, "off"),
            (on(7, true), "full"),
            (on(6, true), "full"),
            (on(4, true), "partial (Landlock 4 of 6)"),
            (on(7, false), "partial (no filter of system calls)"),
            (
                on(0, false),
                "partial (no Landlock, no filter of system calls)",
            ),
        ];
        for (reached, text) in texts {
            assert_eq!(reached.to_string(), text);
            assert_eq!(reached.is_full(), text == "full");
        }
    }
}
