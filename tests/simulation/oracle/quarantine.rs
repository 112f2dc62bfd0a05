//! What killed its workers and may not come back for a time, or until somebody lets it.

use std::collections::BTreeMap;
use std::time::Duration;

use ipc_protocol::units::PictureSize;
use pool::{Event, Moment, Ticket};

use crate::shadow::Verdict;

/// What requests alike have in common.
pub(super) type Fingerprint = (String, String, Option<String>, PictureSize, u32, u32);

/// Each with the name that the pool gave it.
#[derive(Debug, Default)]
pub(super) struct Quarantine {
    kept: BTreeMap<Fingerprint, Kept>,
    /// By the last release.
    released: usize,
}

/// Since when, and as what.
#[derive(Debug, Clone)]
struct Kept {
    since: Moment,
    name: Option<String>,
}

impl Kept {
    fn holds(&self, now: Moment, lasts: Duration) -> bool {
        now < self.since + lasts
    }
}

impl Quarantine {
    pub(super) fn insert(&mut self, now: Moment, fingerprint: Fingerprint) {
        let kept = self.kept.entry(fingerprint).or_insert(Kept {
            since: now,
            name: None,
        });
        kept.since = now;
    }

    pub(super) fn contains(&self, now: Moment, lasts: Duration, of: &Fingerprint) -> bool {
        self.kept.get(of).is_some_and(|kept| kept.holds(now, lasts))
    }

    /// What is called so has just brought down as many workers as it may, and no two are called the same.
    pub(super) fn call(&mut self, now: Moment, fingerprint: Fingerprint, name: &str) -> Verdict {
        let same = |(other, kept): (&Fingerprint, &Kept)| {
            *other != fingerprint && kept.name.as_deref() == Some(name)
        };
        if self.kept.iter().any(same) {
            return Err(format!("two requests are in quarantine as {name}"));
        }
        let kept = self.kept.get_mut(&fingerprint);
        let Some(kept) = kept.filter(|kept| kept.since == now) else {
            return Err(format!("{name} is in quarantine and brought down nobody"));
        };
        kept.name = Some(name.to_owned());
        Ok(())
    }

    /// One by its name, or all.
    pub(super) fn release(&mut self, now: Moment, lasts: Duration, name: Option<&str>) {
        self.kept.retain(|_, kept| kept.holds(now, lasts));
        let before = self.kept.len();
        self.kept
            .retain(|_, kept| name.is_some() && kept.name.as_deref() != name);
        self.released = before - self.kept.len();
    }

    /// A list has a line for each, with its name.
    pub(super) fn check_answer(
        &self,
        (now, lasts): (Moment, Duration),
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
        let kept = || self.kept.values().filter(|kept| kept.holds(now, lasts));
        let named = |kept: &Kept| {
            let left = (kept.since + lasts).since(now).as_secs().max(1);
            let ends = format!("ends in {left} s");
            let name = kept.name.as_deref().unwrap_or_default();
            lines
                .iter()
                .any(|line| line.starts_with(name) && line.contains(&ends))
        };
        match *ticket == to && lines.len() == kept().count() && kept().all(named) {
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
