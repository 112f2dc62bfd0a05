//! After failures a model is tried again with the documented back-off, cool-down and breaker.
//!
//! The first replacement starts at once, the next after 1, 2, 4 … 30 s; a load that cannot work is tried
//! after 10 s, doubling to 5 minutes; failures in a row open the breaker.

use std::collections::BTreeMap;
use std::time::Duration;

use ipc_protocol::ids::ModelKey;
use pool::{Action, Event, JobFault, Moment, Notice, Outcome, StartFault};

use super::CheckResult;
use super::standing::{FailureCounts, ModelStanding};
use crate::observed::{Consequence, EndedProcess, ObservedPool, ProcessState, WorkerEnd, span};

#[derive(Debug, Default)]
pub(crate) struct ModelFailures {
    models: BTreeMap<ModelKey, FailureCounts>,
    /// The meaning of the event, before the pool reports it.
    failed: Option<(ModelKey, FailureCause)>,
    /// The model whose loads ended so often in a row that its waiting jobs fail now.
    gave_up: Option<ModelKey>,
    expects: Vec<ExpectedNotice>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum FailureCause {
    /// No process, because this machine had none to give.
    NoProcess,
    /// No process, because the supervisor had no descriptor left.
    NoDescriptors,
    /// No process, because the program cannot be run.
    NoProgram,
    /// At work: counts, and for nothing else.
    Job,
    WorkerDeath(DeathKind),
}

/// A worker's end, and what it is held to say of its model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct DeathKind {
    loading: bool,
    says: EndMeaning,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum EndMeaning {
    /// The machine, the kernel or a user of the machine.
    Nothing,
    /// The same, of a load whose room is raised now.
    NothingButRaise,
    /// No memory for its load: more room the next time.
    Raise,
    /// No memory for its load, although it had more room.
    TooLarge,
    CannotLoad,
    /// Its own making, at work on a job: it is charged to the job.
    Job,
    /// No progress, which is not held against a load the first time.
    Hung,
    FailureCause,
}

/// A notice that must come with this event.
#[derive(Debug, Clone, PartialEq)]
enum ExpectedNotice {
    Opened(ModelKey, u32, Duration),
    Closed(ModelKey),
    Cools(ModelKey, Duration),
    Died(ModelKey, u32, Duration),
}

impl ModelFailures {
    pub(crate) fn standing(
        &self,
        observed: &ObservedPool,
        key: &ModelKey,
        now: Moment,
    ) -> ModelStanding {
        let none = FailureCounts::default();
        let counts = self.models.get(key).unwrap_or(&none);
        let model = &observed.models[key];
        counts.standing(model, now)
    }

    pub(crate) fn is_probing(&self, key: &ModelKey) -> bool {
        self.models.get(key).is_some_and(|counts| counts.probing)
    }

    /// Whether the load that failed last works only after its files or its program were mended.
    pub(crate) fn is_to_mend(&self, key: &ModelKey) -> bool {
        self.models.get(key).is_some_and(|counts| counts.to_mend)
    }

    /// Whether the waiting jobs of a model fail with this event, because its loads ended too often in a row.
    pub(crate) fn gave_up(&self, key: &ModelKey) -> bool {
        self.gave_up.as_ref() == Some(key)
    }

    pub(crate) fn deaths_in_a_row(&self, key: &ModelKey) -> u32 {
        self.models.get(key).map_or(0, |counts| counts.deaths)
    }

    /// Notes the meaning of the event for a model, before the event changes anything.
    pub(super) fn before(&mut self, observed: &ObservedPool, event: &Event) {
        self.expects.clear();
        (self.failed, self.gave_up) = (None, None);
        match event {
            Event::JobFailed { worker, job, fault } => {
                let process = observed.workers.get(worker);
                let Some(process) = process.filter(|process| process.job() == Some(*job)) else {
                    return;
                };
                let counts = match fault {
                    JobFault::NotFinite { .. } | JobFault::Cancelled | JobFault::Other { .. } => {
                        true
                    }
                    JobFault::BadRequest { .. } | JobFault::OutOfMemory { .. } => false,
                };
                self.failed = counts.then(|| (process.name.model.clone(), FailureCause::Job));
            }
            Event::WorkerStartFailed { worker, fault, .. } => {
                let failed = match fault {
                    StartFault::Own => FailureCause::NoProcess,
                    StartFault::Descriptors => FailureCause::NoDescriptors,
                    StartFault::Program => FailureCause::NoProgram,
                };
                let process = observed
                    .workers
                    .get(worker)
                    .filter(|process| process.pid.is_none());
                self.failed = process
                    .filter(|process| {
                        matches!(
                            process.state,
                            ProcessState::Starting | ProcessState::Leaving(_)
                        )
                    })
                    .map(|process| (process.name.model.clone(), failed));
            }
            Event::StartRequested { target, .. } => {
                for key in observed.meant(target) {
                    let slot = match target {
                        pool::Target::Worker(name) => Some(name.slot),
                        pool::Target::All | pool::Target::Model(_) => None,
                    };
                    let runs = observed.live(&key).any(|(_, process)| {
                        process.is_resident() && slot.is_none_or(|slot| slot == process.name.slot)
                    });
                    if !runs {
                        self.models.remove(&key);
                    }
                }
            }
            Event::RestartRequested { target, .. } => {
                for key in observed.meant(target) {
                    self.models.remove(&key);
                }
            }
            Event::ModelsChanged { registry } => {
                self.models.retain(|key, _| {
                    let new = registry.iter().find(|spec| spec.key == *key);
                    let old = &observed.models[key];
                    // One that is back begins anew, like one that changed.
                    new.is_none_or(|new| old.offered && crate::observed::serves_on(&old.spec, new))
                });
            }
            _ => {}
        }
    }

    /// Checks that the consequences of the event are reported.
    pub(super) fn event(&mut self, observed: &ObservedPool, now: Moment, event: &Event) {
        if let Consequence::Ended(ended) = &observed.consequence
            && ended.end != WorkerEnd::Wanted
        {
            self.failed = Some((ended.process.name.model.clone(), death(ended)));
        }
        if let Event::WorkerStarted { worker, .. } = event
            && let Some(process) = observed.workers.get(worker)
            && let Some(counts) = self.models.get_mut(&process.name.model)
        {
            counts.no_starts = 0;
        }
        if let Event::WorkerReady { worker, .. } = event
            && let Some(process) = observed.workers.get(worker)
            && let Some(counts) = self.models.get_mut(&process.name.model)
            && process.is_resident()
            && process.since == now
        {
            (counts.loads, counts.cooling) = (0, None);
            (counts.hung, counts.lost) = (0, 0);
        }
        let Some((key, failed)) = self.failed.clone() else {
            return;
        };
        let counts = match failed {
            FailureCause::NoProcess => {
                self.no_process(now, &key);
                false
            }
            FailureCause::NoDescriptors => {
                let counts = self.models.entry(key.clone()).or_default();
                counts.again = counts.again.max(Some(now + Duration::from_secs(1)));
                false
            }
            FailureCause::NoProgram => {
                self.died(now, &key, true);
                self.cools(now, &key, true);
                true
            }
            FailureCause::Job => true,
            FailureCause::WorkerDeath(death) => self.ended(observed, now, &key, death),
        };
        if counts {
            self.count(observed, now, key);
        }
    }

    /// This machine gave no process: again after a second, after five in a row after ten.
    fn no_process(&mut self, now: Moment, key: &ModelKey) {
        let counts = self.models.entry(key.clone()).or_default();
        counts.no_starts += 1;
        counts.again = counts.again.max(Some(now + Duration::from_secs(1)));
        if counts.no_starts >= 5 {
            let span = Duration::from_secs(10);
            (counts.cooling, counts.to_mend) = (Some(now + span), false);
            self.expects.push(ExpectedNotice::Cools(key.clone(), span));
        }
    }

    /// A worker ended; says whether that counts towards the breaker.
    fn ended(
        &mut self,
        observed: &ObservedPool,
        now: Moment,
        key: &ModelKey,
        death: DeathKind,
    ) -> bool {
        let nobodys = matches!(
            death.says,
            EndMeaning::Nothing | EndMeaning::NothingButRaise | EndMeaning::Job
        );
        let backoff = match nobodys {
            true => self.bad_luck(now, key),
            false => self.died(now, key, death.loading),
        };
        let counts = self.models.entry(key.clone()).or_default();
        self.expects
            .push(ExpectedNotice::Died(key.clone(), counts.deaths, backoff));
        let lost = matches!(death.says, EndMeaning::Nothing | EndMeaning::FailureCause);
        if death.loading && lost {
            counts.lost += 1;
            let ready = observed.live(key).any(|(_, process)| process.is_resident());
            if counts.lost == 16 && !ready {
                self.gave_up = Some(key.clone());
            }
            counts.lost %= 16;
        }
        let (counts, cools) = match death.says {
            EndMeaning::NothingButRaise | EndMeaning::Raise => (false, false),
            EndMeaning::Nothing | EndMeaning::Job => (false, false),
            EndMeaning::Hung if death.loading => {
                counts.hung += 1;
                (true, counts.hung > 1)
            }
            EndMeaning::Hung | EndMeaning::FailureCause => (true, false),
            EndMeaning::TooLarge | EndMeaning::CannotLoad => (true, true),
        };
        if cools {
            self.cools(now, key, death.says == EndMeaning::CannotLoad);
        }
        counts
    }

    fn cools(&mut self, now: Moment, key: &ModelKey, to_mend: bool) {
        let counts = self.models.entry(key.clone()).or_default();
        let seconds = [10, 20, 40, 80, 160].get(counts.loads as usize);
        let span = Duration::from_secs(seconds.copied().unwrap_or(300));
        counts.loads += 1;
        (counts.cooling, counts.to_mend) = (Some(now + span), to_mend);
        self.expects.push(ExpectedNotice::Cools(key.clone(), span));
    }

    /// Nobody's fault: five within half a minute cost no time, the others a second each.
    fn bad_luck(&mut self, now: Moment, key: &ModelKey) -> Duration {
        let counts = self.models.entry(key.clone()).or_default();
        let (since, count) = counts.bad_luck;
        counts.bad_luck = match span(now, since) > Duration::from_secs(30) {
            true => (now, 1),
            false => (since, count + 1),
        };
        if counts.bad_luck.1 <= 5 {
            return Duration::ZERO;
        }
        let pause = Duration::from_secs(1);
        counts.again = counts.again.max(Some(now + pause));
        pause
    }

    fn died(&mut self, now: Moment, key: &ModelKey, loading: bool) -> Duration {
        let counts = self.models.entry(key.clone()).or_default();
        counts.deaths += 1;
        let seconds = match counts.deaths + u32::from(loading) {
            0 | 1 => 0,
            2 => 1,
            3 => 2,
            4 => 4,
            5 => 8,
            6 => 16,
            _ => 30,
        };
        let backoff = Duration::from_secs(seconds);
        counts.again = counts.again.max(Some(now + backoff));
        backoff
    }

    fn count(&mut self, observed: &ObservedPool, now: Moment, key: ModelKey) {
        let settings = &observed.settings;
        let counts = self.models.entry(key.clone()).or_default();
        let open = counts.opened.is_some_and(|until| now < until);
        counts.failures += 1;
        if open {
            return;
        }
        if counts.probing {
            counts.failures = counts.failures.max(settings.breaker_failures);
        }
        if counts.failures >= settings.breaker_failures {
            counts.opened = Some(now + settings.breaker_open);
            (counts.probing, counts.successes) = (true, 0);
            self.expects.push(ExpectedNotice::Opened(
                key,
                counts.failures,
                settings.breaker_open,
            ));
        }
    }

    fn succeeded(&mut self, observed: &ObservedPool, now: Moment, key: &ModelKey) {
        let Some(counts) = self.models.get_mut(key) else {
            return;
        };
        (counts.deaths, counts.again) = (0, None);
        if !counts.probing {
            counts.failures = 0;
            return;
        }
        if counts.opened.is_some_and(|until| now < until) {
            return;
        }
        counts.successes += 1;
        if counts.successes >= observed.settings.breaker_probes {
            *counts = FailureCounts {
                loads: counts.loads,
                cooling: counts.cooling,
                to_mend: counts.to_mend,
                hung: counts.hung,
                lost: counts.lost,
                no_starts: counts.no_starts,
                bad_luck: counts.bad_luck,
                ..FailureCounts::default()
            };
            self.expects.push(ExpectedNotice::Closed(key.clone()));
        }
    }

    pub(super) fn check(
        &mut self,
        observed: &ObservedPool,
        now: Moment,
        action: &Action,
    ) -> CheckResult {
        let told = match action {
            Action::Answer {
                job,
                outcome: Outcome::Picture(_),
            } => {
                if let Some(record) = observed.jobs.get(job) {
                    let key = record.model.clone();
                    self.succeeded(observed, now, &key);
                }
                return Ok(());
            }
            Action::Tell(Notice::BreakerOpened {
                model,
                failures,
                for_long,
                ..
            }) => ExpectedNotice::Opened(model.clone(), *failures, *for_long),
            Action::Tell(Notice::BreakerClosed { model }) => ExpectedNotice::Closed(model.clone()),
            Action::Tell(Notice::LoadCooling {
                model, for_long, ..
            }) => ExpectedNotice::Cools(model.clone(), *for_long),
            Action::Tell(Notice::Died {
                name,
                in_a_row,
                backoff,
                ..
            }) => ExpectedNotice::Died(name.model.clone(), *in_a_row, *backoff),
            _ => return Ok(()),
        };
        match self.expects.iter().position(|expected| *expected == told) {
            Some(at) => {
                self.expects.remove(at);
                Ok(())
            }
            None => Err(format!(
                "{action:?}, and by our count that is {:?}",
                self.expects
            )),
        }
    }

    pub(super) fn check_event(&self) -> CheckResult {
        match self.expects.first() {
            Some(expected) => Err(format!("nobody is told {expected:?}")),
            None => Ok(()),
        }
    }
}

fn death(ended: &EndedProcess) -> FailureCause {
    let loading = ended.process.was_loading;
    let at_work = match ended.process.state {
        ProcessState::Busy(_) | ProcessState::Unwinding(_) | ProcessState::Leaving(Some(_)) => true,
        ProcessState::Starting
        | ProcessState::Loading
        | ProcessState::Idle
        | ProcessState::Leaving(None) => false,
    };
    let memory = match (loading, ended.raised) {
        (false, _) => EndMeaning::FailureCause,
        (true, false) => EndMeaning::Raise,
        (true, true) => EndMeaning::TooLarge,
    };
    let says = match ended.end {
        WorkerEnd::Wanted | WorkerEnd::Starved | WorkerEnd::Outside => EndMeaning::Nothing,
        WorkerEnd::KernelOutOfMemory => match loading && !ended.raised {
            true => EndMeaning::NothingButRaise,
            false => EndMeaning::Nothing,
        },
        WorkerEnd::Misbehaved
        | WorkerEnd::Crashed
        | WorkerEnd::OutOfMemory
        | WorkerEnd::OutOfMemoryForJob
            if at_work =>
        {
            EndMeaning::Job
        }
        WorkerEnd::Silent | WorkerEnd::Misbehaved => EndMeaning::Hung,
        WorkerEnd::Files => EndMeaning::CannotLoad,
        WorkerEnd::OutOfMemory => memory,
        WorkerEnd::OutOfMemoryForJob | WorkerEnd::Crashed => EndMeaning::FailureCause,
    };
    FailureCause::WorkerDeath(DeathKind { loading, says })
}
