//! The exit codes of a worker; each has the same meaning in worker, supervisor and log.
//!
//! 66, 75 and 78 come from sysexits.h (`EX_NOINPUT`, `EX_TEMPFAIL`, `EX_CONFIG`); from 80 on they are our own.

use std::process;

/// The reason why a worker process exited by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExitCode {
    /// The supervisor asked it to exit.
    Left,
    /// A weight file is missing or corrupt.
    UnusableWeights,
    /// Memory ran out while the model was loaded.
    OutOfMemoryLoading,
    /// Files and configuration do not match each other.
    BadConfiguration,
    /// Memory ran out while a job ran.
    OutOfMemoryRunning,
    /// The device's context is lost; a new process can use the device.
    DeviceLost,
    /// The device is no longer on this machine.
    DeviceGone,
    /// The supervisor speaks another protocol version.
    ProtocolMismatch,
    /// The supervisor's end of the socket is closed, or the parent is another process.
    SupervisorGone,
    /// The worker program panicked.
    Panicked,
}

/// Every code with its number and its text in the log.
const TABLE: [(ExitCode, u8, &str); 10] = [
    (ExitCode::Left, 0, "asked to leave"),
    (ExitCode::UnusableWeights, 66, "weights missing or corrupt"),
    (
        ExitCode::OutOfMemoryLoading,
        75,
        "out of memory while loading",
    ),
    (ExitCode::BadConfiguration, 78, "bad model configuration"),
    (
        ExitCode::OutOfMemoryRunning,
        80,
        "out of memory while running",
    ),
    (ExitCode::DeviceLost, 81, "device context lost"),
    (ExitCode::DeviceGone, 82, "device gone"),
    (ExitCode::ProtocolMismatch, 83, "protocol mismatch"),
    (ExitCode::SupervisorGone, 84, "supervisor gone"),
    (ExitCode::Panicked, 85, "panic"),
];

impl ExitCode {
    /// All codes, in the order of their numbers.
    pub fn all() -> impl Iterator<Item = Self> {
        TABLE.into_iter().map(|(code, ..)| code)
    }

    /// The code with this number; `None` if our workers never exit with it.
    pub fn from_number(number: i32) -> Option<Self> {
        let found = TABLE
            .into_iter()
            .find(|(_, known, _)| i32::from(*known) == number);
        found.map(|(code, ..)| code)
    }

    /// The exit status of the process.
    pub fn number(self) -> u8 {
        self.row().1
    }

    /// The meaning of the code in a few words, for the log.
    pub fn meaning(self) -> &'static str {
        self.row().2
    }

    /// The name of the code in metrics.
    pub fn word(self) -> &'static str {
        match self {
            Self::Left => "left",
            Self::UnusableWeights => "unusable_weights",
            Self::OutOfMemoryLoading => "out_of_memory_loading",
            Self::BadConfiguration => "bad_configuration",
            Self::OutOfMemoryRunning => "out_of_memory_running",
            Self::DeviceLost => "device_lost",
            Self::DeviceGone => "device_gone",
            Self::ProtocolMismatch => "protocol_mismatch",
            Self::SupervisorGone => "supervisor_gone",
            Self::Panicked => "panicked",
        }
    }

    fn row(self) -> (Self, u8, &'static str) {
        let found = TABLE.into_iter().find(|(code, ..)| *code == self);
        found.expect("the table has a row for every code, as a test checks")
    }

    /// Exits this process with the code.
    pub fn exit(self) -> ! {
        process::exit(i32::from(self.number()))
    }
}

impl From<ExitCode> for process::ExitCode {
    fn from(code: ExitCode) -> Self {
        Self::from(code.number())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_has_one_number_and_one_meaning() {
        use ExitCode as E;
        let all = [
            E::Left,
            E::UnusableWeights,
            E::OutOfMemoryLoading,
            E::BadConfiguration,
            E::OutOfMemoryRunning,
            E::DeviceLost,
            E::DeviceGone,
            E::ProtocolMismatch,
            E::SupervisorGone,
            E::Panicked,
        ];
        for code in all {
            // A code that is added above and not here does not compile.
            match code {
                E::Left
                | E::UnusableWeights
                | E::OutOfMemoryLoading
                | E::BadConfiguration
                | E::OutOfMemoryRunning
                | E::DeviceLost
                | E::DeviceGone
                | E::ProtocolMismatch
                | E::SupervisorGone
                | E::Panicked => {}
            }
            assert_eq!(E::from_number(i32::from(code.number())), Some(code));
        }
        let numbers: Vec<u8> = E::all().map(E::number).collect();
        assert_eq!(numbers, [0, 66, 75, 78, 80, 81, 82, 83, 84, 85]);
        assert_eq!(E::all().count(), all.len());
        for number in [1, 2, 74, 79, 86, 137, -1, 256 + 66] {
            assert_eq!(E::from_number(number), None, "{number}");
        }
    }
}
