//! strace, which makes the nth system call of a kind fail.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use tests::rounds::rounds;

/// The mark of strace behind a call that it made fail.
const INJECTED: &str = "(INJECTED)";

/// A kind of system call, and the error with which it fails.
#[derive(Debug, Clone, Copy)]
pub struct CallFault {
    /// Name of the system call.
    pub call: &'static str,
    /// Name of the error.
    pub error: &'static str,
}

impl fmt::Display for CallFault {
    fn fmt(&self, text: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(text, "{} with {}", self.call, self.error)
    }
}

impl CallFault {
    /// The options of strace that count these calls, and make the `nth` of each thread fail.
    pub fn options(self, nth: Option<u32>) -> Vec<String> {
        let Self { call, error } = self;
        let mut options = vec!["-e".to_owned(), format!("trace={call}")];
        if let Some(nth) = nth {
            options.push("-e".to_owned());
            options.push(format!("inject={call}:error={error}:when={nth}"));
        }
        options
    }
}

/// Fails the test if strace is missing.
pub fn require() {
    let is_here = |folder: &&&str| Path::new(folder).join("strace").is_file();
    let found = ["/usr/bin", "/bin"].iter().find(is_here);
    assert!(found.is_some(), "strace is missing: apt-get install strace");
}

/// The lines that strace has written.
#[derive(Debug)]
pub struct Trace(String);

impl Trace {
    pub fn read(file: &Path) -> Self {
        Self(std::fs::read_to_string(file).unwrap_or_default())
    }

    /// Whether a call was made fail.
    pub fn has_injected(&self) -> bool {
        self.0.contains(INJECTED)
    }

    /// The most calls of one thread.
    pub fn calls(&self) -> u32 {
        let mut counts: BTreeMap<&str, u32> = BTreeMap::new();
        let begun = |line: &&str| line.contains('(') && !line.contains("resumed>");
        for line in self.0.lines().filter(begun) {
            let thread = line.split_whitespace().next().unwrap_or_default();
            *counts.entry(thread).or_default() += 1;
        }
        counts.into_values().max().unwrap_or(0)
    }
}

/// The numbers of the calls that fail, of `calls` in all: spread evenly, `usual` of them unless the environment says
/// otherwise.
pub fn chosen(fault: CallFault, calls: u32, usual: u32) -> Vec<u32> {
    let most = rounds(&format!("{fault}, {calls} calls"), usual).max(1);
    let mut chosen: Vec<u32> = match calls <= most {
        true => (1..=calls).collect(),
        false => (0..most).map(|nth| 1 + nth * calls / most).collect(),
    };
    chosen.dedup();
    chosen
}
