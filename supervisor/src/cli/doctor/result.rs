//! The result of one check.

use ipc_protocol::untrusted::escaped;
use serde_json::{Value, json};

use crate::cli::colour::Tone;
use crate::cli::text::{TonedLine, wrapped};

/// How bad a result is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Grade {
    /// As it should be.
    Ok,
    /// The pool works, but not as well as it could.
    Warning,
    /// The pool does not work, or not for long.
    Problem,
}

impl Grade {
    /// The name of the grade.
    pub fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warning => "warning",
            Self::Problem => "problem",
        }
    }

    fn tone(self) -> Tone {
        match self {
            Self::Ok => Tone::Good,
            Self::Warning => Tone::Warning,
            Self::Problem => Tone::Bad,
        }
    }
}

/// The result of one check, with a remedy if something is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckResult {
    /// Name of the check.
    pub check: &'static str,
    /// How bad it is.
    pub grade: Grade,
    /// A sentence with the value.
    pub found: String,
    /// The fault and its remedy; `None` if all is well.
    pub advice: Option<Advice>,
}

/// The fault behind a result, and its remedy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Advice {
    /// The program, the person or the setting that is to blame.
    pub fault: String,
    /// The command or the setting that helps.
    pub remedy: String,
}

/// Widths of the first two columns.
const GRADE_WIDTH: usize = 9;
const CHECK_WIDTH: usize = 16;

impl CheckResult {
    /// A result that is as it should be.
    pub fn ok(check: &'static str, found: impl Into<String>) -> Self {
        Self {
            check,
            grade: Grade::Ok,
            found: found.into(),
            advice: None,
        }
    }

    /// A result that is not as it should be.
    pub fn bad(
        check: &'static str,
        grade: Grade,
        found: impl Into<String>,
        fault: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        let advice = Advice {
            fault: fault.into(),
            remedy: remedy.into(),
        };
        Self {
            check,
            grade,
            found: found.into(),
            advice: Some(advice),
        }
    }

    /// A warning.
    pub fn warning(
        check: &'static str,
        found: impl Into<String>,
        fault: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self::bad(check, Grade::Warning, found, fault, remedy)
    }

    /// A problem.
    pub fn problem(
        check: &'static str,
        found: impl Into<String>,
        fault: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self::bad(check, Grade::Problem, found, fault, remedy)
    }

    /// The result as an object.
    pub fn json(&self) -> Value {
        let advice = self.advice.as_ref();
        json!({
            "check": self.check,
            "grade": self.grade.word(),
            "found": self.found,
            "fault": advice.map(|advice| &advice.fault),
            "remedy": advice.map(|advice| &advice.remedy),
        })
    }

    /// The result as lines, wrapped to the columns of a terminal.
    pub fn lines(&self, columns: Option<usize>) -> Vec<TonedLine> {
        let begin = TonedLine::of(self.grade.tone(), self.grade.word())
            .pad(GRADE_WIDTH)
            .and(Tone::Heading, self.check)
            .pad(GRADE_WIDTH + CHECK_WIDTH);
        let mut texts = vec![(Tone::Plain, self.found.clone())];
        if let Some(Advice { fault, remedy }) = &self.advice {
            texts.push((Tone::Faint, format!("fault: {fault}")));
            texts.push((Tone::Plain, format!("do: {remedy}")));
        }
        let room = columns.map(|columns| columns.saturating_sub(GRADE_WIDTH + CHECK_WIDTH + 1));
        let mut lines = Vec::new();
        for (tone, text) in texts {
            let text = escaped(text);
            let broken = match room {
                Some(room) => wrapped(&[text], room.max(20)),
                None => vec![text],
            };
            for part in broken {
                let before = match lines.is_empty() {
                    true => begin.clone(),
                    false => TonedLine::default().pad(GRADE_WIDTH + CHECK_WIDTH),
                };
                lines.push(before.and(tone, part));
            }
        }
        lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_result_has_its_advice_below_and_fits_the_terminal() {
        let found = CheckResult::problem(
            "open files",
            "the limit is 64, and a daemon with four workers needs about 200",
            "the limits of this shell",
            "`ulimit -n 4096`",
        );
        let text = |columns| -> Vec<String> {
            let lines = found.lines(columns);
            lines.iter().map(|line| line.print(false)).collect()
        };
        assert_eq!(
            text(None),
            [
                "problem  open files      the limit is 64, and a daemon with four workers needs about 200",
                "                         fault: the limits of this shell",
                "                         do: `ulimit -n 4096`",
            ]
        );
        assert!(text(Some(60)).iter().all(|line| line.len() < 60));
        assert_eq!(found.json()["remedy"], "`ulimit -n 4096`");
        assert!(CheckResult::ok("clock", "2026").json()["fault"].is_null());
    }
}
