//! After failures a model is tried again as was said: the first replacement at once and then after 1, 2,
//! 4 … 30 s, a load that cannot work after 10 s doubling to 5 minutes, and after so many failures in a
//! row not for a while, and then carefully.

use std::collections::BTreeMap;
use std::time::Duration;

use ipc_protocol::ids::ModelKey;
use pool::{Action, Event, Exit, Fault, KilledBy, Moment, Notice, Outcome};

use super::standing::{Record, Standing};
use crate::scene::{Gone, Life, News, Scene, is_its_fault};
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
    Start,
    /// At work: counts, and for nothing else.
    Job,
    Death {
        loading: bool,
        counts: bool,
        cannot_load: bool,
    },
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
                    Fault::NotFinite { .. } | Fault::Cancelled | Fault::Other { .. } => true,
                    Fault::BadRequest { .. } | Fault::OutOfMemory { .. } => false,
                };
                self.failed = counts.then(|| (hand.name.model.clone(), Failed::Job));
            }
            Event::WorkerStartFailed { worker, .. } => {
                let hand = scene.workers.get(worker).filter(|hand| hand.pid.is_none());
                self.failed = hand
                    .filter(|hand| matches!(hand.life, Life::Starting | Life::Leaving(_)))
                    .map(|hand| (hand.name.model.clone(), Failed::Start));
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
        if let Event::WorkerReady { worker, .. } = event
            && let Some(hand) = scene.workers.get(worker)
            && let Some(record) = self.records.get_mut(&hand.name.model)
            && hand.is_resident()
            && hand.since == now
        {
            (record.loads, record.cooling) = (0, None);
        }
        let Some((key, failed)) = self.failed.clone() else {
            return;
        };
        let counts = match failed {
            Failed::Start => {
                self.died(now, &key, true);
                true
            }
            Failed::Job => true,
            Failed::Death {
                loading,
                counts,
                cannot_load,
            } => {
                let backoff = self.died(now, &key, loading);
                let record = self.records.entry(key.clone()).or_default();
                self.expects
                    .push(Expected::Died(key.clone(), record.deaths, backoff));
                if cannot_load {
                    let seconds = [10, 20, 40, 80, 160].get(record.loads as usize);
                    let span = Duration::from_secs(seconds.copied().unwrap_or(300));
                    record.loads += 1;
                    record.cooling = Some(now + span);
                    self.expects.push(Expected::Cools(key.clone(), span));
                }
                counts
            }
        };
        if counts {
            self.count(scene, now, key);
        }
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
    let plain = |counts, cannot_load| Failed::Death {
        loading,
        counts,
        cannot_load,
    };
    if gone.hand.told.is_some_and(is_its_fault) {
        return plain(true, false);
    }
    let memory = match exit {
        Exit::Code(66 | 78 | 83) => return plain(true, true),
        Exit::Code(82) => return plain(false, false),
        Exit::Code(code) => code == 75 || code == 80 && !loading,
        Exit::Signal {
            by: KilledBy::KernelOom,
            ..
        } => true,
        Exit::Signal { signal, by } => {
            let innocent = by == KilledBy::Other && matches!(signal, 1 | 2 | 3 | 9 | 15);
            return plain(!innocent, false);
        }
    };
    match memory && loading {
        // The first time it gets a quarter more room instead.
        true => plain(gone.raised, gone.raised),
        false => plain(true, false),
    }
}
