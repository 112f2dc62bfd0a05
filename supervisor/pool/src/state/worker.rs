//! One worker process, from its start to its reaped exit.

use std::time::Duration;

use ipc_protocol::ids::{Device, DeviceConstraint, Generation, JobId, WorkerName};
use ipc_protocol::units::Mebibytes;

use crate::state::attempt::Attempt;
use crate::state::budget::{Amount, Reservation};
use crate::state::lifecycle::{Lifecycle, Remains, Transition};
use crate::state::watch::{Due, ProgressLimits, Watch};
use crate::words::action::Action;
use crate::words::event::Footprint;
use crate::words::moment::Moment;
use crate::words::reasons::StopReason;
use crate::words::registry::ModelId;
use crate::words::settings::Patience;

/// A worker that is not reaped yet.
#[derive(Debug)]
pub(crate) struct Worker {
    generation: Generation,
    name: WorkerName,
    model: ModelId,
    device: Device,
    pid: Option<u32>,
    spawned: Moment,
    /// Entry into the present state.
    since: Moment,
    /// Last sign of life.
    heard: Moment,
    /// Finished pieces of work, as the worker counts them.
    work: u64,
    /// When it became ready.
    ready: Option<Moment>,
    jobs_done: u64,
    footprint: Option<Footprint>,
    /// It has had a job that took more memory than its start booked. What it holds since then says nothing
    /// about the need of its model's next worker.
    stretched: bool,
    /// It was reported to hold more than was promised to it.
    outgrown: bool,
    /// Memory that was promised to it on its device because it held that already.
    growth: Mebibytes,
    /// Its message about a load that failed.
    load_failure: Option<String>,
    /// Its model changed: it exits as soon as it is idle.
    outdated: bool,
    life: Lifecycle,
}

/// The next action at a worker's deadline.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Overdue {
    /// Stop it, for this reason.
    Stop(StopReason),
    /// Take the next step of its stop plan.
    NextStep,
    /// Ask for its processor time.
    Measure,
    /// Go on without the processor time that was asked for.
    NoSample,
}

/// The fate of a worker's attempt when its job ended without it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Withdrawal {
    /// The worker is busy with it and must be sent a cancel.
    Cancel,
    /// The worker is being stopped anyway.
    Dropped,
    /// The worker has no attempt of that job.
    Unknown,
}

impl Worker {
    /// A worker whose process is being made.
    pub(super) fn new(
        generation: Generation,
        name: WorkerName,
        model: ModelId,
        device: Device,
        reservation: Reservation,
        now: Moment,
    ) -> Self {
        Self {
            generation,
            name,
            model,
            device,
            pid: None,
            spawned: now,
            since: now,
            heard: now,
            work: 0,
            ready: None,
            jobs_done: 0,
            footprint: None,
            stretched: false,
            outgrown: false,
            growth: Mebibytes::ZERO,
            load_failure: None,
            outdated: false,
            life: Lifecycle::Starting {
                reservation,
                watch: None,
            },
        }
    }

    pub(crate) fn generation(&self) -> Generation {
        self.generation
    }

    pub(crate) fn name(&self) -> &WorkerName {
        &self.name
    }

    pub(crate) fn model(&self) -> ModelId {
        self.model
    }

    pub(crate) fn device(&self) -> Device {
        self.device
    }

    pub(crate) fn pid(&self) -> Option<u32> {
        self.pid
    }

    /// When its start was decided.
    pub(crate) fn spawned(&self) -> Moment {
        self.spawned
    }

    /// Entry into the present state.
    pub(crate) fn since(&self) -> Moment {
        self.since
    }

    /// When it became ready.
    pub(crate) fn ready(&self) -> Option<Moment> {
        self.ready
    }

    pub(crate) fn jobs_done(&self) -> u64 {
        self.jobs_done
    }

    pub(crate) fn footprint(&self) -> Option<Footprint> {
        self.footprint
    }

    /// It has only had jobs that took no more memory than its start booked.
    pub(crate) fn is_usual(&self) -> bool {
        !self.stretched
    }

    /// Its model changed: it exits as soon as it is idle.
    pub(crate) fn is_outdated(&self) -> bool {
        self.outdated
    }

    pub(crate) fn life(&self) -> &Lifecycle {
        &self.life
    }

    pub(crate) fn is_idle(&self) -> bool {
        matches!(self.life, Lifecycle::Idle { .. })
    }

    /// It has not said hello yet, and was not told to exit.
    pub(crate) fn is_starting(&self) -> bool {
        matches!(self.life, Lifecycle::Starting { .. })
    }

    /// It serves or will serve: it was not told to exit.
    pub(crate) fn is_live(&self) -> bool {
        !matches!(self.life, Lifecycle::Stopping { .. })
    }

    /// It is not ready yet.
    pub(crate) fn is_coming(&self) -> bool {
        matches!(
            self.life,
            Lifecycle::Starting { .. } | Lifecycle::Loading { .. }
        )
    }

    /// Its process has been seen: it said hello or has a pid.
    pub(crate) fn has_said_hello(&self) -> bool {
        match self.life {
            Lifecycle::Starting { .. } => false,
            Lifecycle::Stopping { .. } => self.pid.is_some(),
            Lifecycle::Loading { .. }
            | Lifecycle::Idle { .. }
            | Lifecycle::Busy { .. }
            | Lifecycle::Unwinding { .. } => true,
        }
    }

    /// Its model is loaded and it was not told to exit.
    pub(crate) fn is_resident(&self) -> bool {
        self.is_live() && !self.is_coming()
    }

    /// It runs where a job may run.
    pub(crate) fn serves(&self, device: DeviceConstraint) -> bool {
        match device {
            DeviceConstraint::Auto => true,
            DeviceConstraint::On(device) => self.device == device,
        }
    }

    /// The attempt whose job it answers, or whose job is placed again after its exit.
    pub(crate) fn attempt(&self) -> Option<&Attempt> {
        match &self.life {
            Lifecycle::Busy { attempt, .. } => Some(attempt),
            Lifecycle::Stopping { attempt, .. } => attempt.as_ref(),
            Lifecycle::Starting { .. }
            | Lifecycle::Loading { .. }
            | Lifecycle::Idle { .. }
            | Lifecycle::Unwinding { .. } => None,
        }
    }

    pub(crate) fn attempt_mut(&mut self, job: JobId) -> Option<&mut Attempt> {
        let attempt = match &mut self.life {
            Lifecycle::Busy { attempt, .. } => Some(attempt),
            Lifecycle::Stopping { attempt, .. } => attempt.as_mut(),
            Lifecycle::Starting { .. }
            | Lifecycle::Loading { .. }
            | Lifecycle::Idle { .. }
            | Lifecycle::Unwinding { .. } => None,
        };
        attempt.filter(|attempt| attempt.job() == job)
    }

    /// The attempt that its process is working on, wanted or not.
    pub(crate) fn attempt_at_work(&self) -> Option<&Attempt> {
        match &self.life {
            Lifecycle::Busy { attempt, .. } | Lifecycle::Unwinding { attempt, .. } => Some(attempt),
            Lifecycle::Starting { .. }
            | Lifecycle::Loading { .. }
            | Lifecycle::Idle { .. }
            | Lifecycle::Stopping { .. } => None,
        }
    }

    /// The job it works on as far as its process knows, wanted or not.
    pub(crate) fn job_at_hand(&self) -> Option<JobId> {
        let attempt = self.attempt_at_work().or(self.attempt());
        attempt.map(Attempt::job)
    }

    /// Everything promised to it.
    pub(crate) fn promised(&self) -> impl Iterator<Item = Amount> {
        let (base, extra) = match &self.life {
            Lifecycle::Busy {
                reservation, extra, ..
            }
            | Lifecycle::Unwinding {
                reservation, extra, ..
            } => (reservation, extra.as_ref()),
            Lifecycle::Starting { reservation, .. }
            | Lifecycle::Loading { reservation, .. }
            | Lifecycle::Idle { reservation }
            | Lifecycle::Stopping { reservation, .. } => (reservation, None),
        };
        [base].into_iter().chain(extra).map(Reservation::amount)
    }

    /// When it has been silent or without progress for too long, and what to do then.
    pub(crate) fn deadline(
        &self,
        patience: &Patience,
        limits: &ProgressLimits,
        now: Moment,
    ) -> (Moment, Overdue) {
        let silent = (
            self.heard + patience.heartbeat,
            Overdue::Stop(StopReason::Silent),
        );
        let watched = |watch: &Watch, progressed: Moment| {
            let (at, due) = watch.due(limits, progressed, now);
            let overdue = match due {
                Due::Measure => Overdue::Measure,
                Due::NoSample => Overdue::NoSample,
                Due::End(why) => Overdue::Stop(why),
            };
            (at, overdue)
        };
        let stuck = match &self.life {
            // Nothing is heard before the hello.
            Lifecycle::Starting { watch, .. } => {
                let last = self.spawned + patience.hello;
                return match watch.as_ref().map(|watch| watched(watch, self.spawned)) {
                    Some((at, what @ (Overdue::Measure | Overdue::NoSample))) => (at, what),
                    Some((_, Overdue::Stop(_) | Overdue::NextStep)) | None => {
                        (last, Overdue::Stop(StopReason::NoHello))
                    }
                };
            }
            Lifecycle::Stopping { plan, .. } => return (plan.due(), Overdue::NextStep),
            Lifecycle::Idle { .. } => return silent,
            Lifecycle::Loading {
                progressed, watch, ..
            } => watched(watch, *progressed),
            Lifecycle::Busy { attempt, .. } => watched(attempt.watch(), attempt.progressed()),
            Lifecycle::Unwinding { asked, .. } => (
                *asked + limits.busy,
                Overdue::Stop(StopReason::IgnoredCancel),
            ),
        };
        if stuck.0 < silent.0 { stuck } else { silent }
    }

    /// The watch over its progress, in the states that require some.
    pub(crate) fn watch_mut(&mut self) -> Option<&mut Watch> {
        match &mut self.life {
            Lifecycle::Starting { watch, .. } => watch.as_mut(),
            Lifecycle::Loading { watch, .. } => Some(watch),
            Lifecycle::Busy { attempt, .. } => Some(attempt.watch_mut()),
            Lifecycle::Idle { .. } | Lifecycle::Unwinding { .. } | Lifecycle::Stopping { .. } => {
                None
            }
        }
    }

    /// Extends all its deadlines by a time in which it could not be heard, and restarts the watch over its
    /// progress. The steps of a stop plan keep their times: they do not depend on hearing the worker.
    pub(crate) fn excuse(&mut self, now: Moment, lasted: Duration) {
        let later = |moment: Moment| (moment + lasted).min(now);
        self.heard = later(self.heard);
        if let Some(watch) = self.watch_mut() {
            *watch = Watch::new(now);
        }
        match &mut self.life {
            Lifecycle::Starting { .. } => self.spawned = later(self.spawned),
            Lifecycle::Loading { progressed, .. } => *progressed = later(*progressed),
            Lifecycle::Busy { attempt, .. } => attempt.excuse(now, lasted),
            Lifecycle::Unwinding { asked, .. } => *asked = later(*asked),
            Lifecycle::Idle { .. } | Lifecycle::Stopping { .. } => {}
        }
    }

    /// Notes a sign of life.
    pub(crate) fn note_heard(&mut self, now: Moment) {
        self.heard = now;
    }

    /// Notes that its process exists.
    pub(crate) fn note_started(&mut self, pid: u32, now: Moment) {
        self.pid = Some(pid);
        self.heard = now;
        if let Lifecycle::Starting { watch, .. } = &mut self.life {
            *watch = Some(Watch::new(now));
        }
    }

    /// Notes how far its load is; returns whether that is news.
    pub(crate) fn note_load(&mut self, done: u16, now: Moment) -> bool {
        let Lifecycle::Loading {
            permille,
            progressed,
            watch,
            ..
        } = &mut self.life
        else {
            return false;
        };
        if done <= *permille {
            return false;
        }
        (*permille, *progressed) = (done.min(1000), now);
        *watch = Watch::new(now);
        true
    }

    /// Notes its message about a load that failed.
    pub(crate) fn note_load_failure(&mut self, message: String) {
        self.load_failure = Some(message);
    }

    /// Notes how it broke the protocol, unless a failed load explains more.
    pub(crate) fn note_broken_protocol(&mut self, what: String) {
        self.load_failure.get_or_insert(what);
    }

    /// Its message about a load that failed.
    pub(crate) fn take_load_failure(&mut self) -> Option<String> {
        self.load_failure.take()
    }

    /// Notes that it is ready; returns how long it took.
    pub(crate) fn note_ready(&mut self, now: Moment) -> Duration {
        self.ready = Some(now);
        now.since(self.spawned)
    }

    /// Notes its count of finished pieces of work. A higher count is a sign of work.
    pub(crate) fn note_work(&mut self, work: u64, now: Moment) {
        if std::mem::replace(&mut self.work, work) < work
            && let Some(watch) = self.watch_mut()
        {
            watch.note_work(now);
        }
    }

    pub(crate) fn note_footprint(&mut self, footprint: Footprint) {
        self.footprint = Some(footprint);
    }

    /// Memory that was promised to it on its device because it held that already.
    pub(crate) fn growth(&self) -> Mebibytes {
        self.growth
    }

    /// The same worker, with `more` promised to it because it holds that.
    pub(super) fn holding(self, more: Reservation) -> Self {
        Self {
            growth: self.growth + more.amount().at(self.device),
            life: self.life.holding(more),
            ..self
        }
    }

    /// Notes that it holds more than was promised to it; returns whether that is news.
    pub(crate) fn note_outgrown(&mut self) -> bool {
        !std::mem::replace(&mut self.outgrown, true)
    }

    pub(crate) fn note_job_done(&mut self) {
        self.jobs_done += 1;
    }

    pub(crate) fn note_outdated(&mut self) {
        self.outdated = true;
    }

    /// Notes that its job takes more memory than its start booked.
    pub(super) fn note_stretched(&mut self) {
        self.stretched = true;
    }

    /// Takes the next step of its stop plan, and returns the action, with the time since the first SIGKILL if
    /// there was one. `None` unless it is being stopped.
    pub(crate) fn next_stop_step(
        &mut self,
        now: Moment,
        patience: &Patience,
    ) -> Option<(Action, Option<Duration>)> {
        let Lifecycle::Stopping { plan, .. } = &mut self.life else {
            return None;
        };
        let killing_for = plan.killing_for(now);
        let (next, action) = plan.next(now, patience, self.generation);
        *plan = next;
        Some((action, killing_for))
    }

    /// The same worker after `next`, and whether the transition was made.
    pub(super) fn turned(
        self,
        now: Moment,
        next: impl FnOnce(Lifecycle) -> Transition,
    ) -> (Self, bool) {
        match next(self.life) {
            Transition::Made(life) => {
                let since = now;
                (
                    Self {
                        since,
                        life,
                        ..self
                    },
                    true,
                )
            }
            Transition::Refused(life) => (Self { life, ..self }, false),
        }
    }

    /// Drops the attempt of a worker that is being stopped.
    pub(super) fn drop_attempt(&mut self) {
        if let Lifecycle::Stopping { attempt, .. } = &mut self.life {
            *attempt = None;
        }
    }

    /// The same worker without its job, with the memory beyond the usual, and with the attempt if its job still
    /// wants an answer.
    pub(super) fn released(mut self, now: Moment) -> (Self, Option<Reservation>, Option<Attempt>) {
        match self.life {
            Lifecycle::Busy {
                reservation,
                extra,
                attempt,
            } => {
                self.life = Lifecycle::Idle { reservation };
                self.since = now;
                (self, extra, Some(attempt))
            }
            Lifecycle::Unwinding {
                reservation, extra, ..
            } => {
                self.life = Lifecycle::Idle { reservation };
                self.since = now;
                (self, extra, None)
            }
            Lifecycle::Stopping {
                ref mut attempt, ..
            } => {
                let attempt = attempt.take();
                (self, None, attempt)
            }
            Lifecycle::Starting { .. } | Lifecycle::Loading { .. } | Lifecycle::Idle { .. } => {
                (self, None, None)
            }
        }
    }

    /// Returns its remains now that its process has exited.
    pub(crate) fn remains(self) -> Remains {
        self.life.remains()
    }
}
