//! Whether the journal can be written, in sentences for clients and operators.

use std::fmt::{self, Display, Formatter};
use std::path::Path;
use std::sync::{Mutex, MutexGuard};

/// Why an order is not on the disk: a sentence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotWritten(pub(super) String);

impl Display for NotWritten {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

/// Whether the journal works, for the status report.
#[derive(Debug, Default)]
pub struct JournalCondition(Mutex<ConditionFacts>);

#[derive(Debug, Default)]
struct ConditionFacts {
    /// Why it cannot be written.
    failing: Option<NotWritten>,
    /// A damaged file that was moved aside.
    aside: Option<String>,
}

impl JournalCondition {
    /// Notes that the file cannot be written; returns the sentence, and whether it could be written before.
    pub(super) fn fails(&self, path: &Path, fault: &dyn Display) -> (NotWritten, bool) {
        let why = NotWritten(format!("{} cannot be written: {fault}", path.display()));
        let before = self.facts().failing.replace(why.clone());
        (why, before.is_none())
    }

    /// Notes that the file can be written; returns whether that is new.
    pub(super) fn works(&self) -> bool {
        self.facts().failing.take().is_some()
    }

    /// Notes that a damaged file was moved aside.
    pub(super) fn moved_aside(&self, aside: &Path, why: &dyn Display) {
        let aside = format!("it was damaged ({why}), and is now {}", aside.display());
        self.facts().aside = Some(aside);
    }

    /// A word, and the sentence about it: `failing`, `renewed` or `kept`.
    pub fn report(&self) -> (&'static str, String) {
        let facts = self.facts();
        match (&facts.failing, &facts.aside) {
            (Some(why), _) => ("failing", why.to_string()),
            (None, Some(aside)) => ("renewed", aside.clone()),
            (None, None) => ("kept", String::new()),
        }
    }

    fn facts(&self) -> MutexGuard<'_, ConditionFacts> {
        self.0.lock().expect("no holder of this lock can panic")
    }
}
