//! After failures a model is tried again with the documented back-off, cool-down and breaker.
//!
//! The first replacement starts at once, the next after 1, 2, 4 … 30 s; a load that cannot work is tried
//! after 10 s, doubling to 5 minutes; failures in a row open the breaker.

use std::collections::BTreeMap;
use std::time::Duration;

use ipc_protocol::ids::ModelKey;
use pool::{
    Action, Event, Exit, JobFault, KilledBy, Moment, Notice, Outcome, StartFault, StopReason,
};

use super::standing::{Record, Standing};
use crate::scene::{Gone, Life, News, Scene, is_its_fault, span};
use crate::shadow::Verdict;

#[derive(Debug, Default)]
pub(crate) struct Trouble {
    records: BTreeMap<ModelKey, Record>,
    /// What the event means, before anybody says so.
    failed: Option<(ModelKey, Failed)>,
    expects: Vec<Expected>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Failed {
    /// No process, because this machine had none to give.
    NoProcess,
    /// No process, because the program cannot be run.
    NoProgram,
    /// At work: counts, and for nothing else.
    Job,
    Death(Death),
}

/// A worker's end, and what it is held to say of its model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Death {
    loading: bool,
    says: Says,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Says {
    /// The machine, the kernel or somebody on it.
    Nothing,
    /// The same, of a load whose room is raised now.
    NothingButRaise,
    /// No memory for its load: more room the next time.
    Raise,
    CannotLoad,
    /// No progress, which is not held against a load the first time.
    Hung,
    Failed,
}

/// Something that has to be told with this event.
#[derive(Debug, Clone, PartialEq)]
enum Expected {
    Opened(ModelKey, u32, Duration),
    Closed(ModelKey),
    Cools(ModelKey, Duration),
    Died(ModelKey, u32, Duration),
}

impl Trouble {
    pub(crate) fn standing(&self, scene: &Scene, key: &ModelKey, now: Moment) -> Standing {
        let none = Record::default();
        let record = self.records.get(key).unwrap_or(&none);
        let model = &scene.models[key];
        record.standing(model, now)
    }

    pub(crate) fn is_probing(&self, key: &ModelKey) -> bool {
        self.records.get(key).is_some_and(|record| record.probing)
    }

    pub(crate) fn deaths_in_a_row(&self, key: &ModelKey) -> u32 {
        self.records.get(key).map_or(0, |record| record.deaths)
    }

    /// What the event means for a model; read before the event changes anything.
    pub(super) fn before(&mut self, scene: &Scene, event: &Event) {
        self.expects.clear();
        self.failed = None;
        match event {
            Event::JobFailed { worker, job, fault } => {
                let hand = scene.workers.get(worker);
                let Some(hand) = hand.filter(|hand| hand.job() == Some(*job)) else {
                    return;
                };
                let counts = match fault {
                    JobFault::NotFinite { .. } | JobFault::Cancelled | JobFault::Other { .. } => {
                        true
                    }
                    JobFault::BadRequest { .. } | JobFault::OutOfMemory { .. } => false,
                };
                self.failed = counts.then(|| (hand.name.model.clone(), Failed::Job));
            }
            Event::WorkerStartFailed { worker, fault, .. } => {
                let failed = match fault {
                    StartFault::Own => Failed::NoProcess,
                    StartFault::Program => Failed::NoProgram,
                };
                let hand = scene.workers.get(worker).filter(|hand| hand.pid.is_none());
                self.failed = hand
                    .filter(|hand| matches!(hand.life, Life::Starting | Life::Leaving(_)))
                    .map(|hand| (hand.name.model.clone(), failed));
            }
            Event::StartRequested { target, .. } => {
                for key in scene.meant(target) {
                    let slot = match target {
                        pool::Target::Worker(name) => Some(name.slot),
                        pool::Target::All | pool::Target::Model(_) => None,
                    };
                    let runs = scene.live(&key).any(|(_, hand)| {
                        hand.is_resident() && slot.is_none_or(|slot| slot == hand.name.slot)
                    });
                    if !runs {
                        self.records.remove(&key);
                    }
                }
            }
            Event::RestartRequested { target, .. } => {
                for key in scene.meant(target) {
                    self.records.remove(&key);
                }
            }
            Event::ModelsChanged { registry } => {
                self.records.retain(|key, _| {
                    let new = registry.iter().find(|spec| spec.key == *key);
                    new.is_some_and(|new| crate::scene::serves_on(&scene.models[key].spec, new))
                });
            }
            _ => {}
        }
    }

    /// What follows from the event has to be told.
    pub(super) fn hear(&mut self, scene: &Scene, now: Moment, event: &Event) {
        if let (News::Died(gone), Event::WorkerExited { exit, .. }) = (&scene.news, event) {
            self.failed = Some((gone.hand.name.model.clone(), death(gone, *exit)));
        }
        if let Event::WorkerStarted { worker, .. } = event
            && let Some(hand) = scene.workers.get(worker)
            && let Some(record) = self.records.get_mut(&hand.name.model)
        {
            record.no_starts = 0;
        }
        if let Event::WorkerReady { worker, .. } = event
            && let Some(hand) = scene.workers.get(worker)
            && let Some(record) = self.records.get_mut(&hand.name.model)
            && hand.is_resident()
            && hand.since == now
        {
            (record.loads, record.cooling) = (0, None);
            (record.hung, record.lost) = (0, 0);
        }
        let Some((key, failed)) = self.failed.clone() else {
            return;
        };
        let counts = match failed {
            Failed::NoProcess => {
                self.no_process(now, &key);
                false
            }
            Failed::NoProgram => {
                self.died(now, &key, true);
                self.cools(now, &key);
                true
            }
            Failed::Job => true,
            Failed::Death(death) => self.ended(now, &key, death),
        };
        if counts {
            self.count(scene, now, key);
        }
    }

    /// This machine gave no process: again after a second, after five in a row after ten.
    fn no_process(&mut self, now: Moment, key: &ModelKey) {
        let record = self.records.entry(key.clone()).or_default();
        record.no_starts += 1;
        record.again = record.again.max(Some(now + Duration::from_secs(1)));
        if record.no_starts >= 5 {
            let span = Duration::from_secs(10);
            record.cooling = Some(now + span);
            self.expects.push(Expected::Cools(key.clone(), span));
        }
    }

    /// A worker ended; says whether that counts towards the breaker.
    fn ended(&mut self, now: Moment, key: &ModelKey, death: Death) -> bool {
        let nobodys = matches!(death.says, Says::Nothing | Says::NothingButRaise);
        let backoff = match nobodys {
            true => self.bad_luck(now, key),
            false => self.died(now, key, death.loading),
        };
        let record = self.records.entry(key.clone()).or_default();
        self.expects
            .push(Expected::Died(key.clone(), record.deaths, backoff));
        let (counts, cools) = match death.says {
            Says::NothingButRaise | Says::Raise => (false, false),
            Says::Nothing if death.loading => {
                record.lost += 1;
                let often = record.lost == 16;
                record.lost %= 16;
                (false, often)
            }
            Says::Nothing => (false, false),
            Says::Hung if death.loading => {
                record.hung += 1;
                (true, record.hung > 1)
            }
            Says::Hung | Says::Failed => (true, false),
            Says::CannotLoad => (true, true),
        };
        if cools {
            self.cools(now, key);
        }
        counts
    }

    fn cools(&mut self, now: Moment, key: &ModelKey) {
        let record = self.records.entry(key.clone()).or_default();
        let seconds = [10, 20, 40, 80, 160].get(record.loads as usize);
        let span = Duration::from_secs(seconds.copied().unwrap_or(300));
        record.loads += 1;
        record.cooling = Some(now + span);
        self.expects.push(Expected::Cools(key.clone(), span));
    }

    /// Nobody's fault: five within half a minute cost no time, the others a second each.
    fn bad_luck(&mut self, now: Moment, key: &ModelKey) -> Duration {
        let record = self.records.entry(key.clone()).or_default();
        let (since, count) = record.bad_luck;
        record.bad_luck = match span(now, since) > Duration::from_secs(30) {
            true => (now, 1),
            false => (since, count + 1),
        };
        if record.bad_luck.1 <= 5 {
            return Duration::ZERO;
        }
        let pause = Duration::from_secs(1);
        record.again = record.again.max(Some(now + pause));
        pause
    }

    fn died(&mut self, now: Moment, key: &ModelKey, loading: bool) -> Duration {
        let record = self.records.entry(key.clone()).or_default();
        record.deaths += 1;
        let seconds = match record.deaths + u32::from(loading) {
            0 | 1 => 0,
            2 => 1,
            3 => 2,
            4 => 4,
            5 => 8,
            6 => 16,
            _ => 30,
        };
        let backoff = Duration::from_secs(seconds);
        record.again = record.again.max(Some(now + backoff));
        backoff
    }

    fn count(&mut self, scene: &Scene, now: Moment, key: ModelKey) {
        let settings = &scene.settings;
        let record = self.records.entry(key.clone()).or_default();
        let open = record.opened.is_some_and(|until| now < until);
        record.failures += 1;
        if open {
            return;
        }
        if record.probing {
            record.failures = record.failures.max(settings.breaker_failures);
        }
        if record.failures >= settings.breaker_failures {
            record.opened = Some(now + settings.breaker_open);
            (record.probing, record.successes) = (true, 0);
            self.expects.push(Expected::Opened(
                key,
                record.failures,
                settings.breaker_open,
            ));
        }
    }

    fn succeeded(&mut self, scene: &Scene, now: Moment, key: &ModelKey) {
        let Some(record) = self.records.get_mut(key) else {
            return;
        };
        (record.deaths, record.again) = (0, None);
        if !record.probing {
            record.failures = 0;
            return;
        }
        if record.opened.is_some_and(|until| now < until) {
            return;
        }
        record.successes += 1;
        if record.successes >= scene.settings.breaker_probes {
            *record = Record {
                loads: record.loads,
                cooling: record.cooling,
                hung: record.hung,
                lost: record.lost,
                no_starts: record.no_starts,
                bad_luck: record.bad_luck,
                ..Record::default()
            };
            self.expects.push(Expected::Closed(key.clone()));
        }
    }

    pub(super) fn check(&mut self, scene: &Scene, now: Moment, action: &Action) -> Verdict {
        let told = match action {
            Action::Answer {
                job,
                outcome: Outcome::Picture(_),
            } => {
                if let Some(task) = scene.jobs.get(job) {
                    let key = task.model.clone();
                    self.succeeded(scene, now, &key);
                }
                return Ok(());
            }
            Action::Tell(Notice::BreakerOpened {
                model,
                failures,
                for_long,
                ..
            }) => Expected::Opened(model.clone(), *failures, *for_long),
            Action::Tell(Notice::BreakerClosed { model }) => Expected::Closed(model.clone()),
            Action::Tell(Notice::LoadCooling {
                model, for_long, ..
            }) => Expected::Cools(model.clone(), *for_long),
            Action::Tell(Notice::Died {
                name,
                in_a_row,
                backoff,
                ..
            }) => Expected::Died(name.model.clone(), *in_a_row, *backoff),
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

    pub(super) fn check_event(&self) -> Verdict {
        match self.expects.first() {
            Some(expected) => Err(format!("nobody is told {expected:?}")),
            None => Ok(()),
        }
    }
}

fn death(gone: &Gone, exit: Exit) -> Failed {
    let loading = gone.hand.was_loading;
    let memory = match (loading, gone.raised) {
        (false, _) => Says::Failed,
        (true, false) => Says::Raise,
        (true, true) => Says::CannotLoad,
    };
    let says = match gone.hand.told {
        Some(StopReason::Starved) => Says::Nothing,
        Some(why) if is_its_fault(why) => Says::Hung,
        Some(_) | None => match exit {
            Exit::Code(66 | 78 | 83) => Says::CannotLoad,
            Exit::Code(81 | 82) => Says::Nothing,
            Exit::Code(75) => memory,
            Exit::Code(_) => Says::Failed,
            Exit::Signal { signal, by } => match (by, signal) {
                (KilledBy::KernelOom, _) if loading && !gone.raised => Says::NothingButRaise,
                (KilledBy::KernelOom, _) => Says::Nothing,
                (KilledBy::AllocationFailed, _) => memory,
                (KilledBy::Other, 7) => Says::CannotLoad,
                (KilledBy::Other, 1 | 2 | 3 | 9 | 15) => Says::Nothing,
                (KilledBy::Us | KilledBy::Other, _) => Says::Failed,
            },
        },
    };
    Failed::Death(Death { loading, says })
}
