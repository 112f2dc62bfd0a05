//! Requests that crashed their workers: refused for a time, or until they are released.

use std::collections::BTreeMap;
use std::time::Duration;

use ipc_protocol::ids::ModelKey;
use ipc_protocol::units::PictureSize;
use pool::{Event, Moment, Parameters, Ticket};

use crate::checks::CheckResult;
use crate::observed::ObservedPool;

/// Everything of a request except its seed.
pub(super) type RequestFingerprint = (String, String, Option<String>, PictureSize, u32, u32);

pub(super) fn fingerprint(
    observed: &ObservedPool,
    model: &ModelKey,
    parameters: &Parameters,
) -> RequestFingerprint {
    (
        observed.models[model].spec.digest.clone(),
        parameters.prompt.to_string(),
        parameters.negative.as_ref().map(|text| text.to_string()),
        parameters.size,
        parameters.steps,
        parameters.guidance.to_bits(),
    )
}

/// The requests in quarantine, with the names that the pool gave them.
#[derive(Debug, Default)]
pub(super) struct ExpectedQuarantine {
    kept: BTreeMap<RequestFingerprint, QuarantineEntry>,
    /// How many the last release let go.
    released: usize,
}

#[derive(Debug, Clone)]
struct QuarantineEntry {
    since: Moment,
    name: Option<String>,
}

impl QuarantineEntry {
    fn holds(&self, now: Moment, lasts: Duration) -> bool {
        now < self.since + lasts
    }
}

impl ExpectedQuarantine {
    pub(super) fn insert(&mut self, now: Moment, fingerprint: RequestFingerprint) {
        let kept = self.kept.entry(fingerprint).or_insert(QuarantineEntry {
            since: now,
            name: None,
        });
        kept.since = now;
    }

    pub(super) fn contains(&self, now: Moment, lasts: Duration, of: &RequestFingerprint) -> bool {
        self.kept.get(of).is_some_and(|kept| kept.holds(now, lasts))
    }

    /// Notes the name of a request that was just put in quarantine. No two requests have one name.
    pub(super) fn named(
        &mut self,
        now: Moment,
        fingerprint: RequestFingerprint,
        name: &str,
    ) -> CheckResult {
        let same = |(other, kept): (&RequestFingerprint, &QuarantineEntry)| {
            *other != fingerprint && kept.name.as_deref() == Some(name)
        };
        if self.kept.iter().any(same) {
            return Err(format!("two requests are in quarantine as {name}"));
        }
        let kept = self.kept.get_mut(&fingerprint);
        let Some(kept) = kept.filter(|kept| kept.since == now) else {
            return Err(format!(
                "{name} is put in quarantine and crashed too few workers"
            ));
        };
        kept.name = Some(name.to_owned());
        Ok(())
    }

    /// Releases one by its name, or all.
    pub(super) fn release(&mut self, now: Moment, lasts: Duration, name: Option<&str>) {
        self.kept.retain(|_, kept| kept.holds(now, lasts));
        let before = self.kept.len();
        self.kept
            .retain(|_, kept| name.is_some() && kept.name.as_deref() != name);
        self.released = before - self.kept.len();
    }

    /// A list has a line for each request, with its name and the seconds that are left.
    pub(super) fn check_answer(
        &self,
        (now, lasts): (Moment, Duration),
        event: &Event,
        to: Ticket,
        lines: &[String],
        success: bool,
    ) -> CheckResult {
        let ticket = match event {
            Event::QuarantineListed { ticket, .. } => ticket,
            Event::QuarantineReleased { ticket, digest } if *ticket == to => {
                return self.check_release(digest.as_deref(), &lines.join(" "), success);
            }
            _ => return Ok(()),
        };
        let kept = || self.kept.values().filter(|kept| kept.holds(now, lasts));
        let named = |kept: &QuarantineEntry| {
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

    fn check_release(&self, name: Option<&str>, text: &str, success: bool) -> CheckResult {
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
