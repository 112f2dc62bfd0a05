//! What operators say: start, stop, restart, pin, scale, quarantine.

use std::collections::BTreeMap;

use ipc_protocol::ids::{DeviceWish, Generation, WorkerName};

use crate::action::StopReason;
use crate::aftermath::is_settled;
use crate::event::{Target, Ticket};
use crate::model::{Model, ModelId};
use crate::pool::Pool;
use crate::room::Room;
use crate::turn::Turn;
use crate::worker::Worker;

/// A verb that is acknowledged once it is done.
#[derive(Debug)]
pub(crate) struct Order {
    ticket: Ticket,
    /// Workers that have to be reaped.
    leaving: BTreeMap<Generation, WorkerName>,
    /// Models that have to have a resident worker after that.
    starting: Vec<ModelId>,
    /// The one worker it is about.
    slot: Option<u32>,
    /// The youngest worker there was when it was said.
    youngest: Generation,
    /// Workers each of them has to have then.
    least: usize,
    lines: Vec<String>,
    success: bool,
}

/// What a target means here.
struct Aim {
    models: Vec<ModelId>,
    slot: Option<u32>,
}

impl Order {
    fn new(ticket: Ticket, slot: Option<u32>, youngest: u64) -> Self {
        Self {
            ticket,
            leaving: BTreeMap::new(),
            starting: Vec::new(),
            slot,
            youngest: Generation(youngest),
            least: 1,
            lines: Vec::new(),
            success: true,
        }
    }

    fn error(&mut self, name: impl std::fmt::Display, what: &str) {
        self.settled(name, what);
        self.success = false;
    }

    /// Whether a worker is one that the order is about: whoever comes after it may have got another slot.
    fn means(&self, worker: &Worker) -> bool {
        let own = |slot| worker.name.slot == slot || worker.generation > self.youngest;
        self.slot.is_none_or(own)
    }

    /// What was so already is told as supervisorctl tells it, and is no failure.
    fn settled(&mut self, name: impl std::fmt::Display, what: &str) {
        self.lines.push(format!("{name}: ERROR ({what})"));
    }
}

impl Pool {
    pub(crate) fn stop_requested(&mut self, turn: &mut Turn, ticket: Ticket, target: &Target) {
        let Some(aim) = self.aim(turn, ticket, target) else {
            return;
        };
        let mut order = Order::new(ticket, aim.slot, self.generations);
        for &id in &aim.models {
            let told = self.tell_to_leave(turn, id, aim.slot, &mut order);
            if told == 0 && *target != Target::All {
                let slot = aim.slot.unwrap_or(0);
                let name = format!("{}:{slot}", self.model(id).spec.key);
                order.settled(name, "not running");
            }
            let nobody_left = self.live(self.model(id)).next().is_none();
            let model = self.model_mut(id);
            model.held_slots.extend(aim.slot);
            model.stopped |= aim.slot.is_none() || nobody_left;
            if model.stopped {
                (model.kept, model.to_replace) = (0, 0);
            }
        }
        self.orders.push(order);
    }

    pub(crate) fn start_requested(&mut self, turn: &mut Turn, ticket: Ticket, target: &Target) {
        let Some(aim) = self.aim(turn, ticket, target) else {
            return;
        };
        let mut order = Order::new(ticket, aim.slot, self.generations);
        for &id in &aim.models {
            let running = self.live(self.model(id)).find(|worker| {
                worker.is_resident() && aim.slot.is_none_or(|slot| worker.name.slot == slot)
            });
            match running.map(|worker| worker.name.clone()) {
                Some(name) if *target != Target::All => order.settled(name, "already started"),
                Some(_) => {}
                None => {
                    self.let_start(id, aim.slot);
                    match aim.slot {
                        Some(slot) => self.keep(id, slot.saturating_add(1)),
                        None => self.keep_workers(id, 1),
                    }
                    order.starting.push(id);
                }
            }
        }
        self.orders.push(order);
    }

    pub(crate) fn restart_requested(&mut self, turn: &mut Turn, ticket: Ticket, target: &Target) {
        let Some(aim) = self.aim(turn, ticket, target) else {
            return;
        };
        let mut order = Order::new(ticket, aim.slot, self.generations);
        for &id in &aim.models {
            let told = self.tell_to_leave(turn, id, aim.slot, &mut order);
            if told > 0 || *target != Target::All {
                order.starting.push(id);
            }
            if aim.slot.is_some() {
                // It comes back beside those that live.
                let beside = self.live(self.model(id)).count();
                order.least = beside + 1;
            }
            self.let_start(id, aim.slot);
        }
        // Where nothing has to leave first, it is a start.
        if order.leaving.is_empty() {
            for &id in &order.starting {
                self.keep_workers(id, order.least);
            }
        }
        self.orders.push(order);
    }

    /// Ends the workers of a model that an operator means, and has the order wait for their exits.
    fn tell_to_leave(
        &mut self,
        turn: &mut Turn,
        id: ModelId,
        slot: Option<u32>,
        order: &mut Order,
    ) -> usize {
        let meant: Vec<(Generation, WorkerName)> = self
            .workers_of(self.model(id))
            .filter(|worker| slot.is_none_or(|slot| worker.name.slot == slot))
            .map(|worker| (worker.generation, worker.name.clone()))
            .collect();
        for (worker, _) in &meant {
            self.end_worker(turn, *worker, StopReason::Operator);
        }
        let told = meant.len();
        order.leaving.extend(meant);
        told
    }

    /// Takes back what held a model or a slot of it, an operator's stop or its own failures.
    fn let_start(&mut self, id: ModelId, slot: Option<u32>) {
        let model = self.model_mut(id);
        model.stopped = false;
        model.record.forgive();
        match slot {
            Some(slot) => model.held_slots.retain(|&held| held != slot),
            None => model.held_slots.clear(),
        }
    }

    /// Wants the first slots of a model resident from now on.
    fn keep(&mut self, id: ModelId, slots: u32) {
        let model = self.model_mut(id);
        model.kept = model.kept.max(slots);
    }

    /// Wants at least so many workers of a model resident from now on.
    fn keep_workers(&mut self, id: ModelId, least: usize) {
        self.keep(id, self.model(id).slots_for(least));
    }

    /// Workers of a model that are on their way out and will be replaced in their own slots.
    pub(crate) fn coming_back(&self, model: &Model) -> usize {
        let restarts = |worker: &&Worker| {
            let mut orders = self.orders.iter();
            orders.any(|order| {
                !order.starting.is_empty() && order.leaving.contains_key(&worker.generation)
            })
        };
        self.workers_of(model).filter(restarts).count()
    }

    /// Whether an operator said that this model, or this slot of it, is not to run.
    fn is_held(&self, id: ModelId, slot: Option<u32>) -> bool {
        let model = self.model(id);
        model.stopped || slot.is_some_and(|slot| model.held_slots.contains(&slot))
    }

    fn aim(&self, turn: &mut Turn, ticket: Ticket, target: &Target) -> Option<Aim> {
        let (name, slot) = match target {
            Target::All => {
                let offered = |id: &ModelId| !self.model(*id).retired;
                let models = self.model_ids().filter(offered).collect();
                return Some(Aim { models, slot: None });
            }
            Target::Model(key) => (key, None),
            Target::Worker(name) => (&name.model, Some(name.slot)),
        };
        let found = self.find_model(name.as_str()).filter(|&id| {
            slot.is_none_or(|slot| (slot as usize) < self.model(id).most(&self.settings))
        });
        let Some(id) = found else {
            let name = slot.map_or(name.to_string(), |slot| format!("{name}:{slot}"));
            turn.acknowledge(
                ticket,
                vec![format!("{name}: ERROR (no such process)")],
                false,
            );
            return None;
        };
        Some(Aim {
            models: vec![id],
            slot,
        })
    }

    /// Acknowledges the verbs that are done.
    pub(crate) fn finish_orders(&mut self, turn: &mut Turn) {
        let mut orders = std::mem::take(&mut self.orders);
        let mut come_back = false;
        for order in &mut orders {
            come_back |= self.note_gone(order);
        }
        // What is started now must know who else restarts.
        self.orders = orders;
        if come_back {
            self.start_wanted(turn);
        }
        let mut orders = std::mem::take(&mut self.orders);
        for order in &mut orders {
            self.decide(turn, order);
        }
        let done = |order: &mut Order| order.leaving.is_empty() && order.starting.is_empty();
        for order in orders.extract_if(.., done) {
            turn.acknowledge(order.ticket, order.lines, order.success);
        }
        self.orders = orders;
    }

    /// Notes which workers are gone; says whether the last of a restart is, so that others are wanted now.
    fn note_gone(&mut self, order: &mut Order) -> bool {
        let gone = |id: &Generation, _: &mut WorkerName| !self.workers.contains_key(id);
        let gone: Vec<WorkerName> = order.leaving.extract_if(.., gone).map(|(_, n)| n).collect();
        let had_some = !gone.is_empty();
        order
            .lines
            .extend(gone.iter().map(|name| format!("{name}: stopped")));
        let come_back = had_some && order.leaving.is_empty() && !order.starting.is_empty();
        if come_back {
            for &id in &order.starting {
                // A stop that was said since then holds.
                if !self.is_held(id, order.slot) {
                    self.keep_workers(id, order.least);
                }
            }
        }
        come_back
    }

    /// Drops the starts that went well or badly by now.
    fn decide(&self, turn: &Turn, order: &mut Order) {
        if !order.leaving.is_empty() {
            return;
        }
        let waiting = std::mem::take(&mut order.starting);
        order.starting = waiting
            .into_iter()
            .filter(|&id| !self.is_decided(turn, id, order))
            .collect();
    }

    /// Whether a start went well or badly by now; writes the line that says so.
    fn is_decided(&self, turn: &Turn, id: ModelId, order: &mut Order) -> bool {
        let model = self.model(id);
        let meant = |worker: &&Worker| order.means(worker);
        let up = |worker: &&Worker| meant(worker) && worker.is_resident();
        if let Some(up) = self.live(model).find(up) {
            order.lines.push(format!("{}: started", up.name));
            return true;
        }
        if self.live(model).any(|worker| meant(&worker)) {
            return false;
        }
        let name = format!("{}:{}", model.spec.key, order.slot.unwrap_or(0));
        if self.is_held(id, order.slot) {
            order.error(name, "stopped");
            return true;
        }
        if let Some(failure) = self.refusal(id, turn.now) {
            if !is_settled(&failure) {
                return false;
            }
            order.error(name, &failure.message);
            return true;
        }
        let others = self.live(model).count();
        if others > 0 && others >= model.floor(&self.settings) {
            order.error(name, "not wanted any more");
            return true;
        }
        match self.room_for_worker(id, DeviceWish::Auto) {
            Some((_, Room::Never(short))) => {
                order.error(name, &self.memory_exhausted(id, short).message);
                true
            }
            None => {
                order.error(name, "no device that is usable now can run it");
                true
            }
            Some((_, Room::Free)) if model.record.deaths_in_a_row() > 0 => {
                order.error(name, "spawn error");
                true
            }
            Some((_, Room::Evict(_) | Room::Later)) if others > 0 => {
                order.error(
                    name,
                    "no room beside the others now, it starts when there is",
                );
                true
            }
            Some((_, Room::Free | Room::Leaving | Room::Evict(_) | Room::Later)) => {
                // A pool that winds down starts nothing for an operator any more.
                if self.phase.refuses() {
                    order.error(name, "draining");
                }
                self.phase.refuses()
            }
        }
    }

    pub(crate) fn pin_changed(
        &mut self,
        turn: &mut Turn,
        ticket: Ticket,
        name: &str,
        pinned: bool,
    ) {
        let Some(id) = self.find_model(name) else {
            return no_such_model(turn, ticket, name);
        };
        let model = self.model_mut(id);
        model.pinned = pinned;
        let word = if pinned { "pinned" } else { "unpinned" };
        let line = format!("{}: {word}", model.spec.key);
        turn.acknowledge(ticket, vec![line], true);
    }

    pub(crate) fn scaled(&mut self, turn: &mut Turn, ticket: Ticket, name: &str, workers: u32) {
        let Some(id) = self.find_model(name) else {
            return no_such_model(turn, ticket, name);
        };
        let most = self.model(id).most(&self.settings);
        let key = self.model(id).spec.key.clone();
        if workers as usize > most {
            let line = format!("{key}: ERROR ({workers} workers are more than the {most} allowed)");
            return turn.acknowledge(ticket, vec![line], false);
        }
        let model = self.model_mut(id);
        model.held_slots.clear();
        model.kept = workers;
        model.stopped &= workers == 0;
        let floor = self.model(id).floor(&self.settings);
        let surplus = self.live(self.model(id)).count().saturating_sub(floor);
        let idle = self.live(self.model(id)).filter(|worker| worker.is_idle());
        let idle: Vec<Generation> = idle.map(|worker| worker.generation).collect();
        // The youngest go; those with a job stay until the idle time takes them.
        for worker in idle.into_iter().rev().take(surplus) {
            self.end_worker(turn, worker, StopReason::Scaled);
        }
        turn.acknowledge(ticket, vec![format!("{key}: scaled to {workers}")], true);
    }

    pub(crate) fn quarantine_released(
        &mut self,
        turn: &mut Turn,
        ticket: Ticket,
        digest: Option<&str>,
    ) {
        let count = self
            .quarantine
            .release(digest, turn.now, self.settings.quarantine);
        let success = count > 0 || digest.is_none();
        let line = match (digest, success) {
            (Some(digest), true) => format!("{digest}: released"),
            (Some(digest), false) => format!("{digest}: ERROR (not in quarantine)"),
            (None, _) => format!("{count} dropped"),
        };
        turn.acknowledge(ticket, vec![line], success);
    }
}

fn no_such_model(turn: &mut Turn, ticket: Ticket, name: &str) {
    turn.acknowledge(
        ticket,
        vec![format!("{name}: ERROR (no such process)")],
        false,
    );
}
