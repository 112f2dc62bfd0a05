//! One model: its specification, what is wanted of it, what was observed of it, and its failures.

use std::time::Duration;

use ipc_protocol::ids::Device;
use ipc_protocol::status::WorkerState;
use ipc_protocol::units::{Mebibytes, PictureSize};

use crate::state::attempt::Attempt;
use crate::state::budget::Amount;
use crate::state::observed::Observed;
use crate::state::record::{FailureRecord, RestartVerdict};
use crate::state::wanted::Wanted;
use crate::state::watch::ProgressLimits;
use crate::words::moment::Moment;
use crate::words::reasons::StopReason;
use crate::words::registry::{Files, ModelSpec};
use crate::words::settings::{Patience, Settings};

/// This many usual steps without progress are a hang.
const STEPS_OF_PATIENCE: u32 = 10;
/// So are this many usual loads without a part of one.
const LOADS_OF_PATIENCE: u32 = 2;

/// A model and everything about it but its jobs and its workers.
#[derive(Debug)]
pub(crate) struct Model {
    spec: ModelSpec,
    wanted: Wanted,
    observed: Observed,
    record: FailureRecord,
    /// Workers that died and may be replaced without waiting for the growth rule.
    to_replace: u32,
    /// Since when all its workers are idle.
    idle_since: Option<Moment>,
    /// The memory that the model lacks on each device because other models hold it. Empty if it lacks none.
    lacks: Vec<Lacking>,
    /// Idle workers of other models were told to exit for it.
    evicting: bool,
    at_rest: (WorkerState, &'static str),
}

/// A part of the memory that a model waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Lacking {
    at: Device,
    need: Mebibytes,
    short: bool,
}

/// A time for each MiB of `size`.
fn times(per_mb: Duration, size: Mebibytes) -> Duration {
    per_mb.saturating_mul(u32::try_from(size.0).unwrap_or(u32::MAX))
}

/// How long a model of this size may count work and nothing else.
fn believed(patience: &Patience, size: Mebibytes) -> Duration {
    let all = patience.believed + times(patience.believed_per_mb, size);
    all.min(patience.longest)
}

/// Whether a model may serve, and if not why.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Standing<'a> {
    Missing(&'a str),
    Broken(&'a str),
    Unread,
    Stopped,
    Tried(RestartVerdict<'a>),
}

impl Standing<'_> {
    /// True if a worker of the model may start now.
    pub(crate) fn may_start(self) -> bool {
        match self {
            Self::Tried(RestartVerdict::Go | RestartVerdict::Probe) => true,
            Self::Tried(
                RestartVerdict::BackOff(_) | RestartVerdict::Cool(_) | RestartVerdict::Open(..),
            )
            | Self::Missing(_)
            | Self::Broken(_)
            | Self::Unread
            | Self::Stopped => false,
        }
    }
}

impl Lacking {
    /// `need` on device `at`, of which `free` is free.
    pub(crate) fn new(at: Device, need: Mebibytes, free: Mebibytes) -> Self {
        let short = need > free;
        Self { at, need, short }
    }

    pub(crate) fn at(self) -> Device {
        self.at
    }

    pub(crate) fn need(self) -> Mebibytes {
        self.need
    }

    /// Others hold some of it. A part that is not short is free here, and reserved for the rest to come.
    pub(crate) fn is_short(self) -> bool {
        self.short
    }
}

impl Model {
    pub(super) fn new(spec: ModelSpec) -> Self {
        Self {
            wanted: Wanted::new(spec.pinned),
            spec,
            observed: Observed::default(),
            record: FailureRecord::default(),
            to_replace: 0,
            idle_since: None,
            lacks: Vec::new(),
            evicting: false,
            at_rest: (WorkerState::Stopped, "Not started"),
        }
    }

    pub(crate) fn spec(&self) -> &ModelSpec {
        &self.spec
    }

    pub(crate) fn wanted(&self) -> &Wanted {
        &self.wanted
    }

    pub(crate) fn wanted_mut(&mut self) -> &mut Wanted {
        &mut self.wanted
    }

    pub(crate) fn observed(&self) -> &Observed {
        &self.observed
    }

    pub(crate) fn observed_mut(&mut self) -> &mut Observed {
        &mut self.observed
    }

    pub(crate) fn record(&self) -> &FailureRecord {
        &self.record
    }

    pub(crate) fn record_mut(&mut self) -> &mut FailureRecord {
        &mut self.record
    }

    /// It is called `name`, by key or alias, and still offered.
    pub(super) fn answers_to(&self, name: &str) -> bool {
        let named = self.spec.key.as_str() == name || self.spec.aliases.iter().any(|a| a == name);
        named && !self.wanted.is_retired()
    }

    /// Whether it may serve the jobs that it has, offered or not.
    pub(crate) fn standing(&self, now: Moment) -> Standing<'_> {
        match &self.spec.files {
            Files::Missing(why) => return Standing::Missing(why),
            Files::Broken(why) => return Standing::Broken(why),
            Files::Unread => return Standing::Unread,
            Files::Here { .. } => {}
        }
        if self.wanted.is_stopped() {
            return Standing::Stopped;
        }
        Standing::Tried(self.record.verdict(now))
    }

    /// Returns the message of its last failure, after `lead`; empty without a failure.
    pub(crate) fn last_failure(&self, lead: &str) -> String {
        let last = self.record.last();
        last.map(|why| format!("{lead}{why}")).unwrap_or_default()
    }

    /// Names the class of the last death, and the command that prints more; empty without a death.
    pub(crate) fn last_death(&self) -> String {
        let last = self.record.last_death();
        let hint = last.map(|(name, class)| {
            let word = class.word();
            format!(" ({word}, try \"last-crash {name}\")")
        });
        hint.unwrap_or_default()
    }

    /// Most workers it may have.
    pub(crate) fn most(&self, settings: &Settings) -> usize {
        let most = self
            .spec
            .max_workers
            .unwrap_or(settings.max_workers_per_model);
        most.max(1) as usize
    }

    /// Workers it keeps whatever the load is.
    pub(crate) fn floor(&self, settings: &Settings) -> usize {
        if self.wanted.is_retired() || self.wanted.is_stopped() || !self.spec.files.are_here() {
            return 0;
        }
        let least = self.spec.min_workers.unwrap_or(settings.min_workers);
        self.wanted.floor(least, self.most(settings))
    }

    /// Workers that died and may be replaced without waiting for the growth rule.
    pub(crate) fn to_replace(&self) -> u32 {
        self.to_replace
    }

    /// Since when all its workers are idle.
    pub(crate) fn idle_since(&self) -> Option<Moment> {
        self.idle_since
    }

    /// Returns the memory that it needs, on every device, while other models hold a part of it.
    pub(crate) fn lacks(&self) -> &[Lacking] {
        &self.lacks
    }

    /// Its state and its line of `imagepool status` while it has no worker.
    pub(crate) fn at_rest(&self) -> (WorkerState, &'static str) {
        self.at_rest
    }

    /// The memory that the start of a worker on `device` books: residency, and activation at the default size.
    /// The larger of two values: the predicted need, and the largest measured footprint plus a margin.
    pub(crate) fn need_on(&self, device: Device, settings: &Settings) -> Option<Amount> {
        let (host, part) = self.spec.residency_on(device)?;
        let activation = self.spec.activation_on(device).at(self.spec.default_size);
        let predicted = Amount::on(device, host, part + activation);
        let worst = self.observed.worst();
        // The host's part is not learned for workers on an accelerator.
        let seen = match device {
            Device::Host => Amount::on(device, worst.host, Mebibytes::ZERO),
            Device::Cuda(_) => Amount::on(device, Mebibytes::ZERO, worst.device),
        };
        let predicted = predicted.raised(self.observed.raised_percent());
        Some(predicted.max(seen.raised(settings.margin_percent)))
    }

    /// How long a worker on `device` may go without the next part of its load. Derived from measured loads; without any,
    /// from the size of the model.
    pub(crate) fn load_limits(&self, patience: &Patience, device: Device) -> ProgressLimits {
        let size = self.held_on(device);
        let busy = patience.cold + times(patience.cold_per_mb, size);
        let usual = self.observed.pace().load();
        // No part takes longer than the whole, unless it gets less of the processor.
        let known = usual.map(|usual| usual.saturating_mul(LOADS_OF_PATIENCE).max(patience.step));
        let busy = busy.min(patience.load).min(known.unwrap_or(busy));
        let still = match device {
            Device::Host => patience.still,
            // The driver may wait for the device.
            Device::Cuda(_) => patience.still_load,
        };
        ProgressLimits {
            still,
            busy: busy.max(still),
            believed: believed(patience, size),
            longest: patience.longest,
        }
    }

    /// How long a worker on `device` may go without the next step of an attempt, or its picture. Derived from measured
    /// steps; without any, from how much there is to do.
    pub(crate) fn limits(
        &self,
        patience: &Patience,
        device: Device,
        attempt: &Attempt,
    ) -> ProgressLimits {
        if let Some(usual) = self.observed.pace().usual(attempt) {
            let most = usual.saturating_mul(STEPS_OF_PATIENCE).max(patience.step);
            let many = usual.saturating_mul(10 * STEPS_OF_PATIENCE);
            return ProgressLimits {
                still: most,
                busy: most,
                believed: many.max(patience.believed_known),
                longest: many.max(patience.longest_known),
            };
        }
        let larger = attempt
            .pixels()
            .div_ceil(self.spec.default_size.pixels().max(1));
        let size = Mebibytes(self.held_on(device).0.saturating_mul(larger));
        let busy = patience.cold + times(patience.cold_per_mb, size);
        let busy = busy.min(patience.first_step);
        let still = match device {
            Device::Host => patience.still.min(busy),
            // The processor may rest while the device works.
            Device::Cuda(_) => patience.first_step,
        };
        ProgressLimits {
            still,
            busy: busy.max(still),
            believed: believed(patience, size),
            longest: patience.longest,
        }
    }

    /// Memory that it holds on the host and on `device`, once it is loaded there.
    fn held_on(&self, device: Device) -> Mebibytes {
        let part = self.spec.residency_on(device);
        part.map_or(Mebibytes::ZERO, |(host, part)| host + part)
    }

    /// Memory that a picture of `size` takes on `device` beyond what the start booked.
    pub(crate) fn extra_for(&self, device: Device, size: PictureSize, more: Mebibytes) -> Amount {
        let activation = self.spec.activation_on(device);
        let usual = activation.at(self.spec.default_size);
        let beyond = activation.at(size).saturating_sub(usual) + more;
        Amount::on(device, Mebibytes::ZERO, beyond)
    }

    /// Takes over what the registry says of it now, or that it is no longer there.
    pub(crate) fn update(&mut self, new: Option<&ModelSpec>) {
        self.wanted.set_retired(new.is_none());
        if let Some(new) = new {
            if self.spec.pinned != new.pinned {
                self.wanted.set_pinned(new.pinned);
            }
            self.spec = new.clone();
            self.observed
                .forget_other(|digest| new.differs_from(digest));
        }
    }

    /// Stops the model because an operator said so: no worker is kept or replaced.
    pub(crate) fn stop(&mut self) {
        self.wanted.stop();
        self.to_replace = 0;
    }

    /// Takes back an operator's stop and forgets the failures: of one slot, or of the whole model.
    pub(crate) fn let_start(&mut self, slot: Option<u32>) {
        self.wanted.let_start(slot);
        self.record.forgive();
    }

    /// Takes back what operators stopped of it: the model, or slots.
    pub(crate) fn lift_stops(&mut self) {
        self.wanted.let_start(None);
    }

    /// Notes the death of a worker, which may be replaced without waiting for the growth rule.
    pub(crate) fn note_death(&mut self) {
        self.to_replace += 1;
        self.observed.note_death();
        self.at_rest = (WorkerState::Backoff, "Died");
    }

    /// Notes the exit of a worker that was stopped for `why`.
    pub(crate) fn note_exit(&mut self, why: StopReason) {
        self.at_rest = at_rest(why);
    }

    /// Notes the start of a worker; returns whether idle workers of other models were evicted for it.
    pub(crate) fn note_start(&mut self) -> bool {
        self.to_replace = self.to_replace.saturating_sub(1);
        self.idle_since = None;
        self.lacks.clear();
        std::mem::take(&mut self.evicting)
    }

    /// Notes that idle workers of other models were told to exit for it.
    pub(crate) fn note_evicting(&mut self) {
        self.evicting = true;
    }

    /// Notes what it lacks now.
    pub(crate) fn set_lacks(&mut self, lacks: Vec<Lacking>) {
        self.lacks = lacks;
    }

    /// Notes whether all its workers are idle; keeps the moment since when.
    pub(crate) fn note_idle(&mut self, idle: bool, now: Moment) {
        let since = self.idle_since.unwrap_or(now);
        self.idle_since = idle.then_some(since);
    }

    /// Notes that a worker was stopped after its idle time.
    pub(crate) fn note_shrunk(&mut self, now: Moment) {
        self.idle_since = Some(now);
        self.to_replace = 0;
        self.at_rest = at_rest(StopReason::Idle);
    }
}

fn at_rest(why: StopReason) -> (WorkerState, &'static str) {
    match why {
        StopReason::Idle => (WorkerState::Exited, "Idle"),
        StopReason::Evicted => (WorkerState::Exited, "Evicted"),
        StopReason::Scaled => (WorkerState::Exited, "Scaled down"),
        StopReason::Abandoned => (WorkerState::Exited, "Load abandoned"),
        StopReason::Outdated => (WorkerState::Exited, "Model changed"),
        StopReason::Yielded => (WorkerState::Exited, "Yielded"),
        StopReason::Operator | StopReason::Drain => (WorkerState::Stopped, "Stopped by operator"),
        StopReason::NoHello
        | StopReason::Silent
        | StopReason::Stuck
        | StopReason::Starved
        | StopReason::IgnoredCancel
        | StopReason::Protocol
        | StopReason::Outgrown => (WorkerState::Backoff, "Ended for its own fault"),
    }
}
