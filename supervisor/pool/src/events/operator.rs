//! Commands of operators: reload, start, stop, restart, pin, scale, yield, drain, quarantine.

use std::time::Duration;

use ipc_protocol::ids::Generation;
use ipc_protocol::messages::client::Target;
use ipc_protocol::units::counted;

use crate::questions::standing::{draining, has_slot};
use crate::settle::{drain, yielding};
use crate::state::State;
use crate::state::orders::OperatorOrder;
use crate::state::phase::Phase;
use crate::state::worker::Worker;
use crate::steps::end_request::end_fetch;
use crate::steps::end_worker::{end_for, end_worker};
use crate::words::event::{Drain, Ticket};
use crate::words::lasting::LastingFact;
use crate::words::notice::Notice;
use crate::words::reasons::StopReason;
use crate::words::registry::ModelId;
use crate::words::settings::Settings;
use crate::words::turn::Turn;

/// The models that a command is about, and the slot if it is about one worker.
struct Aim {
    models: Vec<ModelId>,
    slot: Option<u32>,
}

/// `imagepool stop`.
pub(crate) fn stop(state: &mut State, turn: &mut Turn, ticket: Ticket, target: &Target) {
    let Some(aim) = aim(state, turn, ticket, target) else {
        return;
    };
    let mut order = OperatorOrder::new(ticket, aim.slot, state.fleet().youngest());
    for &id in &aim.models {
        let told = end_for(state, turn, id, &mut order);
        if told == 0 && *target != Target::All {
            let slot = aim.slot.unwrap_or(0);
            let name = format!("{}:{slot}", state.model(id).spec().key);
            order.note_unchanged(name, "not running");
        }
        let none_left = !state.fleet().has_live(id);
        let model = state.model_mut(id);
        if let Some(slot) = aim.slot {
            model.wanted_mut().hold_slot(slot);
        }
        if aim.slot.is_none() || none_left || model.wanted().is_stopped() {
            model.stop();
        }
    }
    state.add_order(order);
}

/// `imagepool reload`: new settings, and no model or slot is stopped any longer.
pub(crate) fn reload(state: &mut State, settings: Settings) {
    state.set_settings(settings);
    for id in state.model_ids() {
        state.model_mut(id).lift_stops();
    }
}

/// `imagepool start`.
pub(crate) fn start(state: &mut State, turn: &mut Turn, ticket: Ticket, target: &Target) {
    let Some(aim) = aim(state, turn, ticket, target) else {
        return;
    };
    let mut order = OperatorOrder::new(ticket, aim.slot, state.fleet().youngest());
    for &id in &aim.models {
        let running = state.fleet().live(id).find(|worker| {
            worker.is_resident() && aim.slot.is_none_or(|slot| worker.name().slot == slot)
        });
        match running.map(|worker| worker.name().clone()) {
            Some(name) if *target != Target::All => order.note_unchanged(name, "already started"),
            Some(_) => {}
            None => {
                let model = state.model_mut(id);
                model.let_start(aim.slot);
                match aim.slot {
                    Some(slot) => model.wanted_mut().keep(slot.saturating_add(1)),
                    None => model.wanted_mut().keep_workers(1),
                }
                order.start(id);
            }
        }
    }
    state.add_order(order);
}

/// `imagepool restart`.
pub(crate) fn restart(state: &mut State, turn: &mut Turn, ticket: Ticket, target: &Target) {
    let Some(aim) = aim(state, turn, ticket, target) else {
        return;
    };
    let mut order = OperatorOrder::new(ticket, aim.slot, state.fleet().youngest());
    for &id in &aim.models {
        let told = end_for(state, turn, id, &mut order);
        if told > 0 || *target != Target::All {
            order.start(id);
        }
        if aim.slot.is_some() {
            // It comes back beside the workers that stay.
            let beside = state.fleet().live(id).count();
            order.set_least(beside + 1);
        }
        state.model_mut(id).let_start(aim.slot);
    }
    // If no worker has to exit first, it is a start.
    if order.all_gone() {
        for &id in order.starting() {
            let wanted = state.model_mut(id).wanted_mut();
            wanted.keep_workers(order.least());
        }
    }
    state.add_order(order);
}

/// The models that a command is about; an unknown target is acknowledged as an error.
fn aim(state: &State, turn: &mut Turn, ticket: Ticket, target: &Target) -> Option<Aim> {
    let (name, slot) = match target {
        Target::All => {
            let offered = |id: &ModelId| !state.model(*id).wanted().is_retired();
            let models = state.model_ids().filter(offered).collect();
            return Some(Aim { models, slot: None });
        }
        Target::Model(key) => (key, None),
        Target::Worker(name) => (&name.model, Some(name.slot)),
    };
    let exists = |&id: &ModelId| slot.is_none_or(|slot| has_slot(state, id, slot));
    let Some(id) = state.find_model(name.as_str()).filter(exists) else {
        let name = slot.map_or(name.to_string(), |slot| format!("{name}:{slot}"));
        no_such_process(turn, ticket, &name);
        return None;
    };
    Some(Aim {
        models: vec![id],
        slot,
    })
}

/// `imagepool pin` and `imagepool unpin`.
pub(crate) fn pin(state: &mut State, turn: &mut Turn, ticket: Ticket, name: &str, pinned: bool) {
    let Some(id) = state.find_model(name) else {
        return no_such_process(turn, ticket, name);
    };
    let model = state.model_mut(id);
    model.wanted_mut().set_pinned(pinned);
    let word = if pinned { "pinned" } else { "unpinned" };
    let line = format!("{}: {word}", model.spec().key);
    turn.acknowledge(ticket, vec![line], true);
}

/// `imagepool evict`: unlike after a stop, the next request starts workers again. It takes back `start` and `scale`; a
/// pin and `min_workers` stay.
pub(crate) fn evict(state: &mut State, turn: &mut Turn, ticket: Ticket, name: &str) {
    let Some(id) = state.find_model(name) else {
        return no_such_process(turn, ticket, name);
    };
    state.model_mut(id).wanted_mut().let_go();
    let key = state.model(id).spec().key.clone();
    let floor = state.model(id).floor(state.settings());
    let idle = state.fleet().live(id).filter(|worker| worker.is_idle());
    let idle: Vec<Generation> = idle.map(Worker::generation).collect();
    let surplus = state.fleet().live(id).count().saturating_sub(floor);
    let (line, success) = match (idle.len(), surplus) {
        (0, _) => (format!("{key}: ERROR (no idle worker)"), false),
        (_, 0) => {
            let kept = counted(floor as u64, "worker");
            (format!("{key}: ERROR (it keeps {kept})"), false)
        }
        (idle, surplus) => (format!("{key}: evicted {}", idle.min(surplus)), true),
    };
    for worker in idle.into_iter().take(surplus) {
        end_worker(state, turn, worker, StopReason::Scaled);
    }
    turn.acknowledge(ticket, vec![line], success);
}

/// `imagepool scale`.
pub(crate) fn scale(state: &mut State, turn: &mut Turn, ticket: Ticket, name: &str, workers: u32) {
    let Some(id) = state.find_model(name) else {
        return no_such_process(turn, ticket, name);
    };
    let most = state.model(id).most(state.settings());
    let key = state.model(id).spec().key.clone();
    if workers as usize > most {
        let line = format!("{key}: ERROR ({workers} workers are more than the {most} allowed)");
        return turn.acknowledge(ticket, vec![line], false);
    }
    state.model_mut(id).wanted_mut().scale(workers);
    let floor = state.model(id).floor(state.settings());
    let live = state.fleet().live(id);
    let idle = live.filter(|worker| worker.is_idle());
    let idle: Vec<Generation> = idle.map(Worker::generation).collect();
    let surplus = state.fleet().live(id).count().saturating_sub(floor);
    // The youngest go; workers with a job stay until they have been idle for long enough.
    for worker in idle.into_iter().rev().take(surplus) {
        end_worker(state, turn, worker, StopReason::Scaled);
    }
    turn.acknowledge(ticket, vec![format!("{key}: scaled to {workers}")], true);
}

/// `imagepool yield`.
pub(crate) fn yield_memory(state: &mut State, turn: &mut Turn, ticket: Ticket, lasts: Duration) {
    if matches!(state.phase(), Phase::Leaving { .. } | Phase::Gone { .. }) {
        let line = "Shutting down: every worker leaves anyway".to_owned();
        return turn.acknowledge(ticket, vec![line], false);
    }
    if lasts.is_zero() {
        let line = match yielding::end(state, turn) {
            true => "Serving again",
            false => "Serving: it did not yield",
        };
        return turn.acknowledge(ticket, vec![line.to_owned()], true);
    }
    state.set_yield(Some(turn.now() + lasts));
    turn.tell(Notice::Yielding { for_long: lasts });
    let live = state.fleet().iter().filter(|worker| worker.is_live());
    let (busy, parked): (Vec<&Worker>, Vec<&Worker>) =
        live.partition(|worker| !worker.is_idle() && !worker.is_coming());
    let leave = match parked.len() {
        1 => "1 worker leaves".to_owned(),
        parked => format!("{parked} workers leave"),
    };
    let finish = match busy.len() {
        1 => "1 finishes a job first".to_owned(),
        busy => format!("{busy} finish a job first"),
    };
    let line = format!("Yielding for {} s: {leave}, {finish}", lasts.as_secs());
    turn.acknowledge(ticket, vec![line], true);
}

/// `imagepool drain`, a signal, or the end of a drain.
pub(crate) fn drain(state: &mut State, turn: &mut Turn, ticket: Option<Ticket>, drain: Drain) {
    let until = match drain {
        Drain::Undo => return undo_drain(state, turn, ticket),
        Drain::Stay => None,
        Drain::Exit => Some(turn.now() + state.settings().drain),
        Drain::ExitNow => Some(turn.now()),
    };
    for id in state.requests().models().collect::<Vec<ModelId>>() {
        end_fetch(state, turn, id, &draining());
    }
    if until.is_some() {
        // The jobs that wait are to be finished in time.
        state.set_yield(None);
    }
    let jobs = state.jobs().len() as u64;
    turn.tell(Notice::Draining { jobs });
    state.set_phase(state.phase().drained(turn.now(), until));
    if let Some(ticket) = ticket {
        let to_finish = counted(jobs, "job");
        let end = match state.phase() {
            Phase::Refusing { .. } => "; `imagepool drain --undo` accepts requests again",
            Phase::Serving | Phase::Leaving { .. } | Phase::Gone { .. } => "",
        };
        let line = format!("Draining: {to_finish} to finish{end}");
        turn.acknowledge(ticket, vec![line], true);
    }
    drain::fail_overdue(state, turn);
}

/// Takes requests again, unless the pool is shutting down.
fn undo_drain(state: &mut State, turn: &mut Turn, ticket: Option<Ticket>) {
    let (line, success) = match state.phase() {
        Phase::Serving => ("Serving: it was not draining", true),
        Phase::Refusing { .. } => {
            state.set_phase(Phase::Serving);
            turn.tell(Notice::DrainUndone);
            ("Serving again", true)
        }
        Phase::Leaving { .. } | Phase::Gone { .. } => (
            "Shutting down, which cannot be undone: start the daemon again",
            false,
        ),
    };
    if let Some(ticket) = ticket {
        turn.acknowledge(ticket, vec![line.to_owned()], success);
    }
}

/// `imagepool quarantine list`.
pub(crate) fn list_quarantine(
    state: &State,
    turn: &mut Turn,
    ticket: Ticket,
    reader: Option<&str>,
) {
    let lasts = state.settings().quarantine;
    let lines = state.quarantine().lines(turn.now(), lasts, reader);
    turn.acknowledge(ticket, lines, true);
}

/// `imagepool quarantine release` and `imagepool quarantine drop`.
pub(crate) fn release_quarantine(
    state: &mut State,
    turn: &mut Turn,
    ticket: Ticket,
    digest: Option<&str>,
) {
    let lasts = state.settings().quarantine;
    let names = state.quarantine_mut().release(digest, turn.now(), lasts);
    let count = names.len();
    if count > 0 {
        turn.remember(LastingFact::Released { names });
    }
    let success = count > 0 || digest.is_none();
    let line = match (digest, success) {
        (Some(digest), true) => format!("{digest}: released"),
        (Some(digest), false) => format!("{digest}: ERROR (not in quarantine)"),
        (None, _) => format!("{count} dropped"),
    };
    turn.acknowledge(ticket, vec![line], success);
}

fn no_such_process(turn: &mut Turn, ticket: Ticket, name: &str) {
    let line = format!("{name}: ERROR (no such process)");
    turn.acknowledge(ticket, vec![line], false);
}
