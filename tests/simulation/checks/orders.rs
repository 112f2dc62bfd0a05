//! Operators' orders are carried out, and each is answered once it is done.

use std::collections::{BTreeMap, BTreeSet};

use ipc_protocol::ids::{Generation, ModelKey};
use pool::{Action, Event, Moment, Target, Ticket};

use super::trouble::Trouble;
use crate::scene::{Hand, Scene};
use crate::shadow::Verdict;

#[derive(Debug, Default)]
pub(super) struct Orders {
    open: BTreeMap<Ticket, Order>,
    /// Who wants it to wind down, or not any more.
    winds_down: Option<Ticket>,
}

#[derive(Debug, Clone)]
struct Order {
    verb: Verb,
    /// Nothing is called that.
    unknown: bool,
    models: Vec<ModelKey>,
    /// Those it was about that were not reaped.
    workers: BTreeSet<Generation>,
    /// Those of its models where it was true already.
    already: usize,
    all: bool,
    slot: Option<u32>,
    /// Before any worker that comes after it.
    youngest: Option<Generation>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verb {
    Start,
    Stop,
    Restart,
    Pin(bool),
    Scale { workers: u32, most: usize },
    Other,
}

impl Orders {
    /// What is asked for, before it changes anything.
    pub(super) fn before(&mut self, scene: &Scene, _now: Moment, event: &Event) {
        let (ticket, verb, target) = match event {
            Event::StartRequested { ticket, target } => (ticket, Verb::Start, target),
            Event::StopRequested { ticket, target } => (ticket, Verb::Stop, target),
            Event::RestartRequested { ticket, target } => (ticket, Verb::Restart, target),
            Event::PinChanged {
                ticket,
                model,
                pinned,
            } => {
                return self.of_model(scene, *ticket, model, |_| Verb::Pin(*pinned));
            }
            Event::Scaled {
                ticket,
                model,
                workers,
            } => {
                let scale = |most| Verb::Scale {
                    workers: *workers,
                    most,
                };
                return self.of_model(scene, *ticket, model, scale);
            }
            Event::DrainRequested { ticket, .. } => {
                self.winds_down = *ticket;
                return;
            }
            Event::QuarantineListed { ticket } | Event::QuarantineReleased { ticket, .. } => {
                return self.of_model(scene, *ticket, "", |_| Verb::Other);
            }
            _ => return,
        };
        let models = scene.meant(target);
        let slot = slot_of(target);
        let own = |hand: &Hand| {
            models.contains(&hand.name.model) && slot.is_none_or(|slot| slot == hand.name.slot)
        };
        let workers = scene
            .workers
            .iter()
            .filter(|(_, hand)| own(hand))
            .map(|(&id, _)| id);
        let resident = |key: &&ModelKey| {
            scene
                .live(key)
                .any(|(_, hand)| hand.is_resident() && own(hand))
        };
        let order = Order {
            verb,
            unknown: models.is_empty() && *target != Target::All,
            already: models.iter().filter(resident).count(),
            workers: workers.collect(),
            models,
            all: *target == Target::All,
            slot,
            youngest: scene.workers.last_key_value().map(|(&id, _)| id),
        };
        self.open.insert(*ticket, order);
    }

    fn of_model(
        &mut self,
        scene: &Scene,
        ticket: Ticket,
        name: &str,
        verb: impl Fn(usize) -> Verb,
    ) {
        let model = scene.called(name);
        let verb = verb(model.map_or(0, |model| scene.most(model)));
        let order = Order {
            verb,
            unknown: model.is_none() && verb != Verb::Other,
            models: model.iter().map(|model| model.spec.key.clone()).collect(),
            workers: BTreeSet::new(),
            already: 0,
            all: false,
            slot: None,
            youngest: None,
        };
        self.open.insert(ticket, order);
    }

    /// An answer is true when it comes.
    pub(super) fn check(&mut self, scene: &Scene, trouble: &Trouble, action: &Action) -> Verdict {
        let Action::Acknowledge {
            ticket,
            lines,
            success,
        } = action
        else {
            return Ok(());
        };
        let Some(order) = self.open.remove(ticket) else {
            // Winding down, and taking that back, is acknowledged by the words of its own event.
            return match self.winds_down == Some(*ticket) || scene.draining {
                true => Ok(()),
                false => Err(format!("{ticket:?} said nothing and is told {lines:?}")),
            };
        };
        let text = lines.join("\n");
        let right = match order.verb {
            _ if order.unknown => !success && text.contains("no such process"),
            Verb::Pin(true) => *success && text.contains(": pinned"),
            Verb::Pin(false) => *success && text.contains(": unpinned"),
            Verb::Scale { workers, most } if workers as usize > most => {
                !success && text.contains(&format!("{most} allowed"))
            }
            Verb::Scale { workers, .. } => {
                *success && text.contains(&format!("scaled to {workers}"))
            }
            Verb::Stop => {
                let settled = order.workers.is_empty() && !order.all;
                *success
                    && text.contains("ERROR (not running)") == settled
                    && stopped(scene, &order, &text)
            }
            Verb::Restart => {
                stopped(scene, &order, &text) && started(scene, trouble, &order, &text, *success)
            }
            Verb::Start => started(scene, trouble, &order, &text, *success),
            Verb::Other => true,
        };
        match right {
            true => Ok(()),
            false => Err(format!("{order:?} is answered {success} {lines:?}")),
        }
    }

    /// What an order wants at once was done at once.
    pub(super) fn check_event(&self, scene: &Scene, event: &Event) -> Verdict {
        let ticket = match event {
            Event::StopRequested { ticket, .. } | Event::RestartRequested { ticket, .. } => {
                let order = self.open.get(ticket);
                let mut told = order.iter().flat_map(|order| &order.workers);
                let stays = |id: &&Generation| scene.workers.get(id).is_some_and(Hand::is_live);
                return match told.find(stays) {
                    Some(worker) => Err(format!("worker {worker} is to stop and was not told")),
                    None => Ok(()),
                };
            }
            Event::PinChanged { ticket, .. }
            | Event::Scaled { ticket, .. }
            | Event::QuarantineListed { ticket }
            | Event::QuarantineReleased { ticket, .. } => ticket,
            _ => return Ok(()),
        };
        match self.open.contains_key(ticket) {
            true => Err(format!("{event:?} has no answer")),
            false => Ok(()),
        }
    }

    /// Nobody waits for an answer when the pool is gone.
    pub(super) fn check_end(&self) -> Verdict {
        match self.open.first_key_value() {
            Some((ticket, order)) => Err(format!("{ticket:?} never got an answer: {order:?}")),
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

fn stopped(scene: &Scene, order: &Order, text: &str) -> bool {
    let gone = order
        .workers
        .iter()
        .all(|worker| !scene.workers.contains_key(worker));
    gone && text.matches(": stopped").count() == order.workers.len()
}

/// A start went well where a worker is resident; else it is said why not.
fn started(scene: &Scene, trouble: &Trouble, order: &Order, text: &str, success: bool) -> bool {
    // Who comes after the order may have got another slot than the one that was meant.
    let meant = |id: Generation, hand: &Hand| {
        let own = |slot| hand.name.slot == slot || Some(id) > order.youngest;
        order.slot.is_none_or(own)
    };
    let resident = |key: &&ModelKey| {
        let mut live = scene.live(key);
        live.any(|(id, hand)| hand.is_resident() && meant(id, hand))
    };
    let coming = |key: &&ModelKey| scene.live(key).any(|(_, hand)| hand.is_coming());
    let up = order.models.iter().filter(resident).count();
    let errors = text.matches("ERROR").count();
    let starts = text.matches(": started").count();
    // Still on its way: neither good nor bad.
    if !order.all
        && success
        && order
            .models
            .iter()
            .any(|key| coming(&key) && !resident(&key))
    {
        return false;
    }
    if text.contains("already started") {
        return success && order.verb == Verb::Start && !order.all && order.already > 0;
    }
    if order.verb == Verb::Start && !order.all && order.already > 0 {
        return false;
    }
    let spawn = text.matches("spawn error").count();
    let died = order
        .models
        .iter()
        .filter(|key| trouble.deaths_in_a_row(key) > 0);
    let draining = text.contains("(draining)");
    let wanted = match order.verb {
        Verb::Restart if order.all => starts + errors <= order.models.len(),
        Verb::Start if order.all => starts + errors + order.already >= order.models.len(),
        _ => starts + errors == order.models.len(),
    };
    wanted
        && success == (errors == 0)
        && (order.all || starts <= up)
        && (order.all || spawn <= died.count())
        && (!draining || scene.draining)
}
