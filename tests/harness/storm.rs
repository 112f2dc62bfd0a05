//! The letters of the storm: how a worker is to end, and at which point of its life.
//!
//! A model of the storm has steps of [`STEP_MS`]. Its next worker looks for a letter in the sandbox's home, takes it, and
//! stands between the supervisor and an honest worker until that point is reached.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// Milliseconds a step of a model of the storm takes.
pub const STEP_MS: u32 = 11;
/// The same of a model whose every worker dies of requests with [`POISON`] in their prompt.
pub const POISONED_STEP_MS: u32 = 21;
/// Most steps of its good requests: from the third on a worker writes where it has written before, and one that is struck may
/// be ahead of what was passed on.
pub const POISONED_STEPS_MAX: u32 = 2;
/// The word that such a worker dies of.
pub const POISON: &str = "poison";

/// A point of a worker's life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum LifePoint {
    /// Before it has said anything.
    Starting,
    /// With half of its greeting said.
    Greeting,
    /// After its greeting.
    Loading,
    /// Ready, without a job.
    Idle,
    /// With a job, before its first step.
    Encoding,
    /// After this step of a job; or after the job, if it has fewer.
    Step(u32),
    /// After the last step of a job.
    Decoding,
    /// With the picture handed over.
    Publishing,
    /// Asked to leave.
    Stopping,
}

/// Points with their words; a step has its number after it.
const POINTS: [(&str, LifePoint); 9] = [
    ("starting", LifePoint::Starting),
    ("greeting", LifePoint::Greeting),
    ("loading", LifePoint::Loading),
    ("idle", LifePoint::Idle),
    ("encoding", LifePoint::Encoding),
    ("step", LifePoint::Step(0)),
    ("decoding", LifePoint::Decoding),
    ("publishing", LifePoint::Publishing),
    ("stopping", LifePoint::Stopping),
];

/// An end of a worker's own making.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum OwnEnd {
    Exit(u8),
    /// A signal that it raises.
    Signal(i32),
    Panic,
    StackOverflow,
    /// More memory than there is.
    Allocation,
    /// More memory than the control group of [`oom_group`] has.
    KernelOutOfMemory,
}

/// An end, and when it comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Letter {
    pub point: LifePoint,
    pub end: OwnEnd,
}

impl fmt::Display for Letter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = point_word(self.point);
        let step = match self.point {
            LifePoint::Step(step) => step,
            _ => 0,
        };
        let (end, number) = match self.end {
            OwnEnd::Exit(code) => ("exit", i32::from(code)),
            OwnEnd::Signal(number) => ("signal", number),
            OwnEnd::Panic => ("panic", 0),
            OwnEnd::StackOverflow => ("overflow", 0),
            OwnEnd::Allocation => ("allocation", 0),
            OwnEnd::KernelOutOfMemory => ("oom", 0),
        };
        write!(f, "{word} {step} {end} {number}")
    }
}

/// The word of a point, without its number.
pub fn point_word(point: LifePoint) -> &'static str {
    let same = |known: &LifePoint| std::mem::discriminant(known) == std::mem::discriminant(&point);
    let found = POINTS.iter().find(|(_, known)| same(known));
    found.expect("all are listed").0
}

impl FromStr for Letter {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let words: Vec<&str> = text.split_whitespace().collect();
        let [word, step, end, number] = words[..] else {
            return Err(format!("{text:?} is no letter"));
        };
        let step = step.parse().map_err(|_| "a step is a number")?;
        let number: i32 = number.parse().map_err(|_| "an end has a number")?;
        let point = POINTS.iter().find(|(known, _)| *known == word);
        let point = match point.ok_or("an unknown point")?.1 {
            LifePoint::Step(_) => LifePoint::Step(step),
            other => other,
        };
        let end = match end {
            "exit" => OwnEnd::Exit(u8::try_from(number).map_err(|_| "a code has 8 bits")?),
            "signal" => OwnEnd::Signal(number),
            "panic" => OwnEnd::Panic,
            "overflow" => OwnEnd::StackOverflow,
            "allocation" => OwnEnd::Allocation,
            "oom" => OwnEnd::KernelOutOfMemory,
            other => return Err(format!("{other:?} is no end")),
        };
        Ok(Self { point, end })
    }
}

/// The box of one model, which holds one letter at most.
#[derive(Debug, Clone)]
pub struct LetterBox {
    path: PathBuf,
    taken: PathBuf,
}

impl LetterBox {
    /// The box of the model with this `load_ms`, in a sandbox's home.
    pub fn of(home: &Path, load_ms: u32) -> Self {
        Self {
            path: home.join(format!("letter-{load_ms}")),
            taken: home.join(format!("letter-{load_ms}.taken")),
        }
    }

    /// Puts a letter in, for the next worker.
    pub fn put(&self, letter: Letter) {
        let written = self.path.with_extension("new");
        fs::write(&written, letter.to_string()).expect("our own folder");
        fs::rename(written, &self.path).expect("our own folder");
    }

    /// Takes the letter out; only one of several workers gets it.
    pub fn take(&self) -> Option<Letter> {
        let own = self.path.with_extension(std::process::id().to_string());
        fs::rename(&self.path, &own).ok()?;
        let letter = fs::read_to_string(&own).expect("a letter is text");
        fs::write(&own, std::process::id().to_string()).expect("our own folder");
        fs::rename(own, &self.taken).expect("our own folder");
        Some(letter.parse().expect("a letter can be read"))
    }

    /// Forgets what was put in or taken out.
    pub fn clear(&self) {
        for path in [&self.path, &self.taken] {
            // There may be none.
            let _ = fs::remove_file(path);
        }
    }

    /// The worker that took the letter.
    ///
    /// It must not be struck from outside: the honest worker behind it would be ahead of what it has passed on.
    pub fn taker(&self) -> Option<u32> {
        fs::read_to_string(&self.taken).ok()?.trim().parse().ok()
    }

    /// Whether a letter waits, or the worker that took it lives.
    pub fn is_in_use(&self) -> bool {
        if self.path.exists() {
            return true;
        }
        let lives = |pid: String| Path::new("/proc").join(pid.trim()).exists();
        fs::read_to_string(&self.taken).is_ok_and(lives)
    }
}

/// The file with the path of the control group whose memory ends early.
pub fn oom_group(home: &Path) -> PathBuf {
    home.join("oom-group")
}

#[cfg(test)]
mod letters {
    use super::*;

    #[test]
    fn a_letter_reads_as_it_was_written() {
        for (_, point) in POINTS {
            for end in [OwnEnd::Exit(255), OwnEnd::Signal(11), OwnEnd::Panic] {
                let letter = Letter { point, end };
                assert_eq!(letter.to_string().parse(), Ok(letter));
            }
        }
        assert!("step x exit 1".parse::<Letter>().is_err());
    }
}
