//! Checks of every event and its actions, one promise a file.
//!
//! All of them read the observed records, which an action changes only after they have seen it.
//!
//! - `jobs`, `workers` and `memory` are the rules that nothing may break; `status` compares the pool's own report
//! - `reports` what clients hear · `reasons` why a job waits · `refusals` which requests are refused, with which
//!   `refusal_words` · `files` which wait for files
//! - `ends` why and when workers leave (`patience`), `idle` and `evictions` among them · `commands` what operators get
//! - `floors` which workers start · `shares`, `overtakes` and `turns` which job is next
//! - `failures` when a model that failed is tried again, and `standing` what it may do until then

mod commands;
mod ends;
mod evictions;
mod failures;
mod files;
mod floors;
mod idle;
mod jobs;
mod memory;
mod overtakes;
mod patience;
mod reasons;
mod refusal_words;
mod refusals;
mod reports;
mod rules;
mod shares;
mod standing;
mod status;
mod turns;
mod workers;

pub(crate) use failures::ModelFailures;
pub(crate) use standing::ModelStanding;

use ipc_protocol::ids::ModelKey;
use pool::{Action, DeviceLimit, Event, Moment, Notice, Pool, Registry, Settings, StartReason};

use crate::observed::ObservedPool;
use crate::oracle::Oracle;

/// The error says what is wrong.
pub(crate) type CheckResult = Result<(), String>;

/// Whether deadlines are reached at their very moment.
#[allow(
    dead_code,
    reason = "each program that checks has one of the two clocks"
)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum WorldClock {
    /// In a simulated world.
    Virtual,
    /// In a recorded daemon, which runs late at times.
    Real,
}

/// The observed records and everything that is checked on them.
pub(crate) struct Checks {
    observed: ObservedPool,
    oracle: Oracle,
    idle: idle::IdleModels,
    commands: commands::OperatorCommands,
    failed: jobs::FailedJobs,
    queues: jobs::QueueLengths,
    overtakes: overtakes::OvertakeCounts,
    turns: turns::JobTurns,
    /// Models of jobs that were cancelled, or timed out, with this event.
    unwanted: Vec<ModelKey>,
    shares: shares::FairShares,
    failures: ModelFailures,
    clock: WorldClock,
    last: Moment,
    /// The pool has decided something since the driver last stalled.
    settled: bool,
}

impl Checks {
    pub(crate) fn new(
        settings: &Settings,
        registry: &Registry,
        limits: &[DeviceLimit],
        clock: WorldClock,
    ) -> Self {
        let observed = ObservedPool::new(settings, registry, limits);
        Self {
            oracle: Oracle::default(),
            idle: idle::IdleModels::default(),
            commands: commands::OperatorCommands::default(),
            failed: jobs::FailedJobs::default(),
            queues: jobs::QueueLengths::default(),
            overtakes: overtakes::OvertakeCounts::default(),
            turns: turns::JobTurns::default(),
            unwanted: Vec::new(),
            shares: shares::FairShares::new(&observed),
            failures: ModelFailures::default(),
            clock,
            last: Moment::START,
            settled: false,
            observed,
        }
    }

    /// The records after the last event.
    pub(crate) fn observed(&self) -> &ObservedPool {
        &self.observed
    }

    /// Checks one event and its actions, and records them.
    pub(crate) fn check(&mut self, now: Moment, event: &Event, actions: &[Action]) -> CheckResult {
        if self.observed.exited {
            return match actions {
                [] => Ok(()),
                _ => Err(format!("{actions:?} after the pool exited")),
            };
        }
        if matches!(event, Event::LoopStalled { .. }) {
            // The pool could not decide meanwhile. The next event decides what is due.
            self.settled = false;
            self.observed.event(now, event);
            return match actions {
                [] => Ok(()),
                _ => Err(format!("{actions:?} before what was due is decided")),
            };
        }
        check_no_defect(actions)?;
        self.check_overdue(now)?;
        workers::check_late_message(&self.observed, event, actions)?;
        self.commands.before(&self.observed, event);
        self.failures.before(&self.observed, event);
        self.observed.event(now, event);
        self.failures.event(&self.observed, now, event);
        self.oracle.event(&self.observed, now, event);
        self.turns.before(&self.observed, event, actions);
        self.overtakes.note_event(actions);
        for action in actions {
            self.check_action(now, event, action)?;
        }
        self.observed.bring_back();
        self.check_event(now, event, actions)
    }

    fn check_action(&mut self, now: Moment, event: &Event, action: &Action) -> CheckResult {
        if self.observed.exited {
            return Err(format!("{action:?} after the pool exited"));
        }
        if is_for_a_floor(action) {
            self.observed.bring_back();
        }
        let (observed, failures) = (&self.observed, &self.failures);
        jobs::check(observed, failures, (now, event), action)?;
        workers::check(observed, now, action)?;
        self.oracle.check(observed, failures, now, event, action)?;
        ends::check(observed, now, event, action)?;
        reports::check(observed, action)?;
        refusals::check(observed, failures, &self.oracle, (now, event), action)?;
        files::check(observed, failures, &self.oracle, (now, event), action)?;
        check_room(observed, failures, now, action)?;
        self.idle.check(observed, now, action)?;
        self.commands.check(observed, failures, action)?;
        self.shares.check(observed, action)?;
        self.overtakes.check(observed, failures, now, action)?;
        self.turns.check(observed, failures, now, action)?;
        self.unwanted.extend(idle::unwanted(observed, action));
        self.failed.note(observed, action);
        self.failures.check(&self.observed, now, action)?;
        self.observed.action(now, action);
        self.shares.note(&self.observed, action);
        Ok(())
    }

    /// A start that became possible by the passing of time alone was made in time.
    fn check_overdue(&mut self, now: Moment) -> CheckResult {
        let before = Moment(now.0.saturating_sub(1));
        let last = std::mem::replace(&mut self.last, now);
        match self.settled && last < before && self.clock == WorldClock::Virtual {
            true => floors::check_waits(&self.observed, &self.failures, before),
            false => Ok(()),
        }
    }

    fn check_event(&mut self, now: Moment, event: &Event, actions: &[Action]) -> CheckResult {
        self.settled |= floors::decides(event, actions);
        let observed = &self.observed;
        memory::check_event(observed)?;
        jobs::check_event(observed, actions)?;
        self.oracle.check_event(observed, now, event)?;
        files::check_event(observed, event)?;
        self.turns
            .check_event(observed, &self.failures, now, actions)?;
        ends::check_event(observed, self.clock, now, event, actions)?;
        reports::check_event(observed, now, actions)?;
        self.failures.check_event()?;
        if observed.exited {
            return self.commands.check_end();
        }
        if matches!(
            event,
            Event::RequestArrived { .. } | Event::FilesArrived { .. }
        ) {
            self.queues.check(observed)?;
        }
        self.commands.check_event(observed, event)?;
        self.idle.check_event(observed, now, event)?;
        idle::check_loads(observed, std::mem::take(&mut self.unwanted), actions)?;
        floors::check_event(observed, &self.failures, now, event, actions)
    }

    /// Compares everything that the pool reports about itself. `turn` chooses the jobs that are asked about.
    pub(crate) fn compare(&self, now: Moment, pool: &Pool, turn: u64) -> CheckResult {
        if self.observed.exited {
            return Ok(());
        }
        status::check(&self.observed, &self.failures, now, pool)?;
        reasons::check(&self.observed, &self.failures, now, pool, turn)
    }

    /// No job failed, as it must be in a world without faults.
    pub(crate) fn check_no_failures(&self) -> CheckResult {
        self.failed.check_none()
    }

    /// Nothing is left.
    pub(crate) fn check_end(&self, pool: &Pool) -> CheckResult {
        memory::check_end(&self.observed, pool)
    }
}

/// Checks that the registry refuses invalid models.
pub(crate) fn check_rules(registry: &Registry) -> CheckResult {
    rules::check(registry)
}

/// The pool reports no broken rule of its own.
fn check_no_defect(actions: &[Action]) -> CheckResult {
    let defect = |action: &Action| match action {
        Action::Tell(Notice::Defect { what }) => Some(what.clone()),
        _ => None,
    };
    match actions.iter().find_map(defect) {
        Some(what) => Err(format!("defect: {what}")),
        None => Ok(()),
    }
}

/// A start has the room that it needs, and an eviction is needed for one.
fn check_room(
    observed: &ObservedPool,
    failures: &ModelFailures,
    now: Moment,
    action: &Action,
) -> CheckResult {
    match action {
        Action::Start(start) => floors::check(observed, failures, now, start),
        Action::Tell(Notice::Evicted {
            name, for_model, ..
        }) => evictions::check(observed, failures, now, name, for_model),
        _ => Ok(()),
    }
}

/// From such an action on, the restarted workers of this event count as wanted.
fn is_for_a_floor(action: &Action) -> bool {
    match action {
        Action::Start(start) => start.reason == StartReason::Floor,
        Action::Tell(Notice::Evicted { .. }) => true,
        _ => false,
    }
}
