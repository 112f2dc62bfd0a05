//! Requests that killed their workers: each is refused for a limited time, whatever its seed.

use std::collections::BTreeMap;
use std::time::Duration;

use ipc_protocol::units::{PictureSize, counted};

use crate::words::action::Parameters;
use crate::words::lasting::QuarantinedRequest;
use crate::words::moment::Moment;
use crate::words::user::is_job_of;

/// Most fingerprints kept; the oldest goes first.
const KEPT_MAX: usize = 1000;

/// Everything in a request that decides what it does to a worker: all but its seed.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Fingerprint {
    digest: String,
    prompt: String,
    negative: Option<String>,
    size: PictureSize,
    steps: u32,
    guidance_bits: u32,
}

/// Why and since when a fingerprint is in quarantine.
#[derive(Debug, Clone)]
pub(crate) struct QuarantineEvidence {
    since: Moment,
    /// Its age then: it began under an earlier daemon.
    aged: Duration,
    /// The user of the job; empty if that is not known.
    user: String,
    deaths: Vec<String>,
}

/// Everything in quarantine.
#[derive(Debug, Default)]
pub(crate) struct Quarantine {
    kept: BTreeMap<Fingerprint, QuarantineEvidence>,
}

impl Fingerprint {
    pub(crate) fn of(digest: &str, parameters: &Parameters) -> Self {
        Self {
            digest: digest.to_owned(),
            prompt: parameters.prompt.to_string(),
            negative: parameters.negative.as_ref().map(|text| text.to_string()),
            size: parameters.size,
            steps: parameters.steps,
            guidance_bits: parameters.guidance.to_bits(),
        }
    }

    /// The fingerprint of a request that an earlier daemon quarantined.
    pub(crate) fn restored(request: QuarantinedRequest) -> Self {
        Self {
            digest: request.digest,
            prompt: request.prompt,
            negative: request.negative,
            size: request.size,
            steps: request.steps,
            guidance_bits: request.guidance.to_bits(),
        }
    }

    /// Everything about it, for the next daemon. Its quarantine begins now.
    pub(crate) fn told(&self, user: String, deaths: Vec<String>) -> QuarantinedRequest {
        QuarantinedRequest {
            name: self.name(),
            user,
            digest: self.digest.clone(),
            prompt: self.prompt.clone(),
            negative: self.negative.clone(),
            size: self.size,
            steps: self.steps,
            guidance: f32::from_bits(self.guidance_bits),
            deaths,
            age: Duration::ZERO,
        }
    }

    /// A short name for it: 64 bits of FNV-1a over all fields.
    pub(crate) fn name(&self) -> String {
        let text = format!("{self:?}");
        let step = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        format!("{:016x}", text.bytes().fold(0xcbf2_9ce4_8422_2325, step))
    }
}

impl Quarantine {
    /// The evidence against a request and for how long it still holds. Each piece holds for `lasts`.
    pub(crate) fn find(
        &self,
        fingerprint: &Fingerprint,
        now: Moment,
        lasts: Duration,
    ) -> Option<(&QuarantineEvidence, Duration)> {
        let evidence = self.kept.get(fingerprint)?;
        let left = evidence.left(now, lasts)?;
        Some((evidence, left))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.kept.is_empty()
    }

    pub(crate) fn keep(
        &mut self,
        fingerprint: Fingerprint,
        evidence: QuarantineEvidence,
        lasts: Duration,
    ) {
        self.forget_old(evidence.since, lasts);
        self.kept.insert(fingerprint, evidence);
        if self.kept.len() > KEPT_MAX {
            let now = self.kept.values().map(|evidence| evidence.since).max();
            let now = now.unwrap_or(Moment::START);
            let oldest = self
                .kept
                .iter()
                .max_by_key(|(_, evidence)| evidence.age(now));
            let oldest = oldest.map(|(fingerprint, _)| fingerprint.clone());
            oldest.and_then(|fingerprint| self.kept.remove(&fingerprint));
        }
    }

    /// Releases the fingerprint called `name`, or all of them; returns the names of those released.
    pub(crate) fn release(
        &mut self,
        name: Option<&str>,
        now: Moment,
        lasts: Duration,
    ) -> Vec<String> {
        self.forget_old(now, lasts);
        let meant = |fingerprint: &Fingerprint| name.is_none_or(|name| fingerprint.name() == name);
        let released = self
            .kept
            .extract_if(.., |fingerprint, _| meant(fingerprint));
        released
            .map(|(fingerprint, _)| fingerprint.name())
            .collect()
    }

    /// One line per fingerprint, with the time until it ends. Prompts of other users are left out for a `reader`;
    /// without one, an operator reads.
    pub(crate) fn lines(&self, now: Moment, lasts: Duration, reader: Option<&str>) -> Vec<String> {
        let line = |(fingerprint, evidence): (&Fingerprint, &QuarantineEvidence)| {
            let left = evidence.left(now, lasts)?;
            let prompt = match reader.is_none_or(|reader| is_job_of(&evidence.user, reader)) {
                true => format!("{:?}", prompt_start(&fingerprint.prompt)),
                false => "of another user".to_owned(),
            };
            Some(format!(
                "{}   {} s ago, ends in {} s   {} {}   {prompt}   {}",
                fingerprint.name(),
                evidence.age(now).as_secs(),
                left.as_secs().max(1),
                fingerprint.size,
                counted(fingerprint.steps.into(), "step"),
                evidence.deaths.join("; ")
            ))
        };
        self.kept.iter().filter_map(line).collect()
    }

    fn forget_old(&mut self, now: Moment, lasts: Duration) {
        self.kept
            .retain(|_, evidence| evidence.left(now, lasts).is_some());
    }
}

/// The part of a prompt that a list shows.
fn prompt_start(prompt: &str) -> String {
    prompt.chars().take(60).collect()
}

impl QuarantineEvidence {
    pub(crate) fn new(since: Moment, user: String, deaths: Vec<String>) -> Self {
        Self {
            since,
            aged: Duration::ZERO,
            user,
            deaths,
        }
    }

    /// Evidence that was `aged` at `since`.
    pub(crate) fn aged(self, aged: Duration) -> Self {
        Self { aged, ..self }
    }

    fn age(&self, now: Moment) -> Duration {
        self.aged.saturating_add(now.since(self.since))
    }

    /// How each worker died.
    pub(crate) fn deaths(&self) -> &[String] {
        &self.deaths
    }

    /// Time until it ends; `None` if it has ended.
    fn left(&self, now: Moment, lasts: Duration) -> Option<Duration> {
        let left = lasts.checked_sub(self.age(now))?;
        (left > Duration::ZERO).then_some(left)
    }
}
