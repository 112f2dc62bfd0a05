//! Operators' commands are carried out at once, and each is answered once it is done.

use std::collections::{BTreeMap, BTreeSet};

use ipc_protocol::ids::{Generation, ModelKey};
use pool::{Action, Drain, Event, Target, Ticket};

use super::CheckResult;
use super::failures::ModelFailures;
use crate::observed::{ObservedPool, ProcessRecord};

#[derive(Debug, Default)]
pub(super) struct OperatorCommands {
    open: BTreeMap<Ticket, OpenCommand>,
    /// The command that waits for its shutdown, if any.
    winds_down: Option<Ticket>,
}

#[derive(Debug, Clone)]
struct OpenCommand {
    kind: CommandKind,
    /// No process has the name.
    unknown: bool,
    models: Vec<ModelKey>,
    /// Its workers that were not reaped.
    workers: BTreeSet<Generation>,
    /// How many of its models were as wanted already.
    already: usize,
    all: bool,
    slot: Option<u32>,
    /// The youngest worker when it came.
    youngest: Option<Generation>,
    /// The pool has drained since it came, even if only for a time.
    drained: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum CommandKind {
    Start,
    Stop,
    Restart,
    Pin(bool),
    Scale { workers: u32, most: usize },
    Evict,
    Other,
}

impl OperatorCommands {
    /// Notes a command before it changes anything.
    pub(super) fn before(&mut self, observed: &ObservedPool, event: &Event) {
        let (ticket, kind, target) = match event {
            Event::StartRequested { ticket, target } => (ticket, CommandKind::Start, target),
            Event::StopRequested { ticket, target } => (ticket, CommandKind::Stop, target),
            Event::RestartRequested { ticket, target } => (ticket, CommandKind::Restart, target),
            Event::PinChanged {
                ticket,
                model,
                pinned,
            } => {
                return self.of_model(observed, *ticket, model, |_| CommandKind::Pin(*pinned));
            }
            Event::EvictRequested { ticket, model } => {
                return self.of_model(observed, *ticket, model, |_| CommandKind::Evict);
            }
            Event::Scaled {
                ticket,
                model,
                workers,
            } => {
                let scale = |most| CommandKind::Scale {
                    workers: *workers,
                    most,
                };
                return self.of_model(observed, *ticket, model, scale);
            }
            Event::DrainRequested { ticket, drain } => {
                self.winds_down = *ticket;
                for command in self.open.values_mut() {
                    command.drained |= *drain != Drain::Undo;
                }
                return;
            }
            Event::QuarantineListed { ticket, .. } | Event::QuarantineReleased { ticket, .. } => {
                return self.of_model(observed, *ticket, "", |_| CommandKind::Other);
            }
            _ => return,
        };
        let models = observed.meant(target);
        let slot = slot_of(target);
        let own = |process: &ProcessRecord| {
            models.contains(&process.name.model)
                && slot.is_none_or(|slot| slot == process.name.slot)
        };
        let workers = observed
            .workers
            .iter()
            .filter(|(_, process)| own(process))
            .map(|(&id, _)| id);
        let resident = |key: &&ModelKey| {
            observed
                .live(key)
                .any(|(_, process)| process.is_resident() && own(process))
        };
        let command = OpenCommand {
            kind,
            unknown: models.is_empty() && *target != Target::All,
            already: models.iter().filter(resident).count(),
            workers: workers.collect(),
            models,
            all: *target == Target::All,
            slot,
            youngest: observed.workers.last_key_value().map(|(&id, _)| id),
            drained: observed.draining,
        };
        self.open.insert(*ticket, command);
    }

    fn of_model(
        &mut self,
        observed: &ObservedPool,
        ticket: Ticket,
        name: &str,
        kind: impl Fn(usize) -> CommandKind,
    ) {
        let model = observed.called(name);
        let kind = kind(model.map_or(0, |model| observed.most(model)));
        let command = OpenCommand {
            kind,
            unknown: model.is_none() && kind != CommandKind::Other,
            models: model.iter().map(|model| model.spec.key.clone()).collect(),
            workers: BTreeSet::new(),
            already: 0,
            all: false,
            slot: None,
            youngest: None,
            drained: observed.draining,
        };
        self.open.insert(ticket, command);
    }

    /// An answer is true when it comes.
    pub(super) fn check(
        &mut self,
        observed: &ObservedPool,
        failures: &ModelFailures,
        action: &Action,
    ) -> CheckResult {
        let Action::Acknowledge {
            ticket,
            lines,
            success,
        } = action
        else {
            return Ok(());
        };
        let Some(command) = self.open.remove(ticket) else {
            // Winding down, and taking that back, is acknowledged by the words of its own event.
            return match self.winds_down == Some(*ticket) || observed.draining {
                true => Ok(()),
                false => Err(format!("{ticket:?} said nothing and is told {lines:?}")),
            };
        };
        let text = lines.join("\n");
        let right = match command.kind {
            _ if command.unknown => !success && text.contains("no such process"),
            CommandKind::Pin(true) => *success && text.contains(": pinned"),
            CommandKind::Pin(false) => *success && text.contains(": unpinned"),
            CommandKind::Scale { workers, most } if workers as usize > most => {
                !success && text.contains(&format!("{most} allowed"))
            }
            CommandKind::Scale { workers, .. } => {
                *success && text.contains(&format!("scaled to {workers}"))
            }
            CommandKind::Evict => *success == text.contains(": evicted "),
            CommandKind::Stop => {
                let settled = command.workers.is_empty() && !command.all;
                *success
                    && text.contains("ERROR (not running)") == settled
                    && stopped(observed, &command, &text)
            }
            CommandKind::Restart => {
                stopped(observed, &command, &text)
                    && started(observed, failures, &command, &text, *success)
            }
            CommandKind::Start => started(observed, failures, &command, &text, *success),
            CommandKind::Other => true,
        };
        match right {
            true => Ok(()),
            false => Err(format!("{command:?} is answered {success} {lines:?}")),
        }
    }

    /// Checks that a command's immediate effects happened at once.
    pub(super) fn check_event(&self, observed: &ObservedPool, event: &Event) -> CheckResult {
        let ticket = match event {
            Event::StopRequested { ticket, .. } | Event::RestartRequested { ticket, .. } => {
                let command = self.open.get(ticket);
                let mut told = command.iter().flat_map(|command| &command.workers);
                let stays =
                    |id: &&Generation| observed.workers.get(id).is_some_and(ProcessRecord::is_live);
                return match told.find(stays) {
                    Some(worker) => Err(format!("worker {worker} is to stop and was not told")),
                    None => Ok(()),
                };
            }
            Event::EvictRequested { ticket, model } => {
                check_evicted(observed, model)?;
                ticket
            }
            Event::PinChanged { ticket, .. }
            | Event::Scaled { ticket, .. }
            | Event::QuarantineListed { ticket, .. }
            | Event::QuarantineReleased { ticket, .. } => ticket,
            _ => return Ok(()),
        };
        match self.open.contains_key(ticket) {
            true => Err(format!("{event:?} has no answer")),
            false => Ok(()),
        }
    }

    /// Checks that no command waits for an answer when the pool is gone.
    pub(super) fn check_end(&self) -> CheckResult {
        match self.open.first_key_value() {
            Some((ticket, command)) => Err(format!("{ticket:?} never got an answer: {command:?}")),
            None => Ok(()),
        }
    }
}

fn slot_of(target: &Target) -> Option<u32> {
    match target {
        Target::Worker(name) => Some(name.slot),
        Target::All | Target::Model(_) => None,
    }
}

fn stopped(observed: &ObservedPool, command: &OpenCommand, text: &str) -> bool {
    let gone = command
        .workers
        .iter()
        .all(|worker| !observed.workers.contains_key(worker));
    gone && text.matches(": stopped").count() == command.workers.len()
}

/// Checks the answer to a start: success if a worker is resident, else a reason.
fn started(
    observed: &ObservedPool,
    failures: &ModelFailures,
    command: &OpenCommand,
    text: &str,
    success: bool,
) -> bool {
    // Who comes after the command may have got another slot than the one that was meant.
    let meant = |id: Generation, process: &ProcessRecord| {
        let own = |slot| process.name.slot == slot || Some(id) > command.youngest;
        command.slot.is_none_or(own)
    };
    let resident = |key: &&ModelKey| {
        let mut live = observed.live(key);
        live.any(|(id, process)| process.is_resident() && meant(id, process))
    };
    let coming = |key: &&ModelKey| observed.live(key).any(|(_, process)| process.is_coming());
    let up = command.models.iter().filter(resident).count();
    let errors = text.matches("ERROR").count();
    let starts = text.matches(": started").count();
    // Still on its way: neither good nor bad.
    if !command.all
        && success
        && command
            .models
            .iter()
            .any(|key| coming(&key) && !resident(&key))
    {
        return false;
    }
    if text.contains("already started") {
        return success
            && command.kind == CommandKind::Start
            && !command.all
            && command.already > 0;
    }
    if command.kind == CommandKind::Start && !command.all && command.already > 0 {
        return false;
    }
    let spawn = text.matches("spawn error").count();
    let died = command
        .models
        .iter()
        .filter(|key| failures.deaths_in_a_row(key) > 0);
    let draining = text.contains("(draining)");
    let wanted = match command.kind {
        CommandKind::Restart if command.all => starts + errors <= command.models.len(),
        CommandKind::Start if command.all => {
            starts + errors + command.already >= command.models.len()
        }
        _ => starts + errors == command.models.len(),
    };
    wanted
        && success == (errors == 0)
        && (command.all || starts <= up)
        && (command.all || spawn <= died.count())
        && (!draining || command.drained)
}

/// After an eviction no worker is idle that the model does not have to keep.
fn check_evicted(observed: &ObservedPool, name: &str) -> CheckResult {
    let Some(model) = observed.called(name) else {
        return Ok(());
    };
    let live = || observed.live(&model.spec.key);
    let idle = live().filter(|(_, process)| process.is_idle()).count();
    let all = live().count();
    match idle > 0 && all > observed.floor(model) {
        true => Err(format!(
            "{idle} of {all} workers of {name} are idle and were not evicted"
        )),
        false => Ok(()),
    }
}
