//! What killed its workers and may not come back until somebody lets it.

use std::collections::BTreeMap;

use ipc_protocol::units::PictureSize;
use pool::{Event, Ticket};

use crate::shadow::Verdict;

/// What requests alike have in common.
pub(super) type Fingerprint = (String, String, Option<String>, PictureSize, u32, u32);

/// Each with the name that the pool gave it.
#[derive(Debug, Default)]
pub(super) struct Quarantine {
    kept: BTreeMap<Fingerprint, Option<String>>,
    /// By the last release.
    released: usize,
}

impl Quarantine {
    pub(super) fn insert(&mut self, fingerprint: Fingerprint) {
        self.kept.entry(fingerprint).or_default();
    }

    pub(super) fn contains(&self, fingerprint: &Fingerprint) -> bool {
        self.kept.contains_key(fingerprint)
    }

    /// No two are called the same.
    pub(super) fn call(&mut self, fingerprint: Fingerprint, name: &str) -> Verdict {
        let same = |(other, called): (&Fingerprint, &Option<String>)| {
            *other != fingerprint && called.as_deref() == Some(name)
        };
        if self.kept.iter().any(same) {
            return Err(format!("two requests are in quarantine as {name}"));
        }
        self.kept.insert(fingerprint, Some(name.to_owned()));
        Ok(())
    }

    /// One by its name, or all.
    pub(super) fn release(&mut self, name: Option<&str>) {
        let stays = |called: &Option<String>| name.is_some() && called.as_deref() != name;
        let before = self.kept.len();
        self.kept.retain(|_, called| stays(called));
        self.released = before - self.kept.len();
    }

    /// A list has a line for each, with its name.
    pub(super) fn check_answer(
        &self,
        event: &Event,
        to: Ticket,
        lines: &[String],
        success: bool,
    ) -> Verdict {
        let ticket = match event {
            Event::QuarantineListed { ticket } => ticket,
            Event::QuarantineReleased { ticket, digest } if *ticket == to => {
                return self.check_release(digest.as_deref(), &lines.join(" "), success);
            }
            _ => return Ok(()),
        };
        let named = |name: &String| lines.iter().any(|line| line.starts_with(name.as_str()));
        let mut names = self.kept.values().flatten();
        match *ticket == to && lines.len() == self.kept.len() && names.all(named) {
            true => Ok(()),
            false => Err(format!(
                "{lines:?} is not what is in quarantine: {:?}",
                self.kept
            )),
        }
    }

    fn check_release(&self, name: Option<&str>, text: &str, success: bool) -> Verdict {
        let right = match name {
            None => success && text.starts_with(&self.released.to_string()),
            Some(name) => success == (self.released > 0) && text.starts_with(name),
        };
        match right {
            true => Ok(()),
            false => Err(format!(
                "{} released, and the answer is {success} {text}",
                self.released
            )),
        }
    }
}
