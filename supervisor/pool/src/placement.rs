//! Which waiting job goes to which idle worker.
//!
//! Work goes to workers that have its model. Jobs of a model that lacks the room others hold are
//! overtaken by that, and each overtaking is counted: at a bound the oldest of them is due, and from
//! then on no worker that holds what it lacks takes a later job.

use ipc_protocol::ids::{Device, DeviceWish, Generation, JobId};
use ipc_protocol::units::Mebibytes;

use crate::action::{Action, Progress, Run};
use crate::budget::{Amount, Reservation};
use crate::job::{Attempt, FirstStart, Job, Stage};
use crate::model::{Lacking, Model, ModelId, Standing};
use crate::moment::Moment;
use crate::pool::Pool;
use crate::queue::Order;
use crate::restart::Verdict;
use crate::room::Room;
use crate::turn::Turn;
use crate::watch::Watch;
use crate::worker::Worker;

/// Waiting jobs told about their new place when one before them goes.
const TOLD_MAX: usize = 4;

/// A due job: others must take neither later jobs nor more of what it lacks.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Barrier {
    pub(crate) job: JobId,
    pub(crate) model: ModelId,
    pub(crate) lack: Lack,
}

/// What a waiting job lacks that somebody else has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lack {
    /// Room on the devices that its model has noted.
    Room,
    /// A place among its model's workers: there are as many as may be, none of them on the device
    /// that it is for.
    Place,
}

impl Pool {
    /// Notes for every model whether it lacks room that others hold.
    pub(crate) fn note_lacks(&mut self, now: Moment) {
        for id in self.model_ids() {
            let lacks = self.lacks_of(id, now);
            self.model_mut(id).lacks = lacks;
        }
    }

    /// What a model lacks room for: one more worker, and the next jobs of its idle ones. All of it, where
    /// a part is free as well: what is made free in turn must not be gone when the last part is.
    fn lacks_of(&self, id: ModelId, now: Moment) -> Vec<Lacking> {
        let model = self.model(id);
        if model.queue.is_empty() {
            return Vec::new();
        }
        let start = self.unserved_wish(model, now).and_then(|wish| {
            let (device, room) = self.room_for_worker(id, wish)?;
            Some((model.need_on(device, &self.settings)?, room))
        });
        let mut lacks = Vec::new();
        for (amount, room) in start.into_iter().chain(self.extra_wanted(id)) {
            match room {
                Room::Free | Room::Never(_) => {}
                Room::Leaving | Room::Evict(_) | Room::Later => {
                    let parts = amount.parts().filter(|(_, need)| *need > Mebibytes::ZERO);
                    lacks.extend(parts.map(|(at, need)| Lacking {
                        at,
                        need,
                        short: need > self.budget.free(at),
                    }));
                }
            }
        }
        lacks
    }

    /// The wish of a waiting job that no live worker of its model can serve, where one may start.
    pub(crate) fn unserved_wish(&self, model: &Model, now: Moment) -> Option<DeviceWish> {
        match model.standing(now) {
            Standing::Tried(Verdict::Go | Verdict::Probe) => {}
            Standing::Tried(Verdict::BackOff(_) | Verdict::Cool(_) | Verdict::Open(..))
            | Standing::Retired
            | Standing::Missing(_)
            | Standing::Broken(_)
            | Standing::Unread
            | Standing::Stopped => return None,
        }
        if self.live(model).next().is_none() {
            let oldest = model.queue.oldest()?;
            return self.jobs.get(&oldest).map(|job| job.device);
        }
        let first = self.unserved(model).next()?;
        self.jobs.get(&first).map(|job| job.device)
    }

    /// The waiting jobs that wish for a device where their model has no live worker, oldest first.
    pub(crate) fn unserved<'a>(&'a self, model: &'a Model) -> impl Iterator<Item = JobId> + 'a {
        model.wishing.iter().copied().filter(|id| {
            self.jobs
                .get(id)
                .is_some_and(|job| !self.live(model).any(|worker| serves(worker, job.device)))
        })
    }

    /// The unserved jobs of a model that has no place for a worker there.
    fn stranded(&self, id: ModelId, now: Moment) -> impl Iterator<Item = JobId> {
        let model = self.model(id);
        let full = !model.wishing.is_empty()
            && self.is_full(model, now)
            && self.unserved_wish(model, now).is_some();
        self.unserved(model).take_while(move |_| full)
    }

    /// The room that the next jobs of a model take beyond what its idle workers hold.
    fn extra_wanted(&self, id: ModelId) -> impl Iterator<Item = (Amount, Room)> {
        let model = self.model(id);
        let idle = self.live(model).filter(|worker| worker.is_idle());
        idle.filter_map(move |worker| {
            let job = self.jobs.get(&self.next_for(model, worker, &[])?)?;
            Some(self.room_for_picture(id, worker, job))
        })
    }

    /// The room that a job takes beyond what a worker holds. More than it was let in with, after it ran out of
    /// memory, is a guess: where that can never be had it goes without.
    fn room_for_picture(&self, id: ModelId, worker: &Worker, job: &Job) -> (Amount, Room) {
        let room = |more: Mebibytes| {
            let size = job.parameters.size;
            let amount = self.model(id).extra_for(worker.device, size, more);
            (amount, self.room(amount, id, Some(worker.generation)))
        };
        match room(job.more_room) {
            (_, Room::Never(_)) if job.more_room > Mebibytes::ZERO => room(Mebibytes::ZERO),
            (amount, room) => (amount, room),
        }
    }

    /// Gives waiting jobs to idle workers: first what needs nobody to leave, then what does.
    pub(crate) fn run_waiting(&mut self, turn: &mut Turn) {
        for may_evict in [false, true] {
            for id in self.model_ids() {
                for worker in self.offering(id, turn.now) {
                    self.offer(turn, id, worker, may_evict);
                }
            }
        }
    }

    /// The idle workers of a model that may take a job now, longest idle first.
    fn offering(&self, id: ModelId, now: Moment) -> Vec<Generation> {
        match self.model(id).queue.is_empty() {
            true => Vec::new(),
            false => self.takers(id, now),
        }
    }

    /// The idle workers of a model that would take a job if one waited.
    pub(crate) fn takers(&self, id: ModelId, now: Moment) -> Vec<Generation> {
        let model = self.model(id);
        let most = match model.standing(now) {
            Standing::Tried(Verdict::Go | Verdict::BackOff(_) | Verdict::Cool(_)) => usize::MAX,
            // A probe runs alone, so that one failure is one failure.
            Standing::Tried(Verdict::Probe) => {
                usize::from(self.live(model).all(|worker| worker.attempt().is_none()))
            }
            Standing::Tried(Verdict::Open(..))
            | Standing::Retired
            | Standing::Missing(_)
            | Standing::Broken(_)
            | Standing::Unread
            | Standing::Stopped => 0,
        };
        let idle = self
            .live(model)
            .filter(|worker| worker.is_idle() && !worker.outdated);
        let mut idle: Vec<_> = idle
            .map(|worker| (worker.since, worker.generation))
            .collect();
        idle.sort();
        idle.into_iter()
            .map(|(_, worker)| worker)
            .take(most)
            .collect()
    }

    /// Offers the queue of a model to one of its idle workers.
    fn offer(&mut self, turn: &mut Turn, id: ModelId, worker: Generation, may_evict: bool) {
        // Drawn anew for each worker: the start before this one may have made a job due.
        let barriers = self.barriers(turn.now);
        while let Some(to) = self.workers.get(&worker).filter(|worker| worker.is_idle())
            && let Some(job) = self.next_for(self.model(id), to, &barriers)
            && let Some(waiting) = self.jobs.get(&job)
        {
            let size = waiting.parameters.size;
            let (amount, room) = self.room_for_picture(id, to, waiting);
            match room {
                Room::Free => {
                    let extra = self.budget.promise(amount);
                    self.run(turn, worker, job, extra);
                    if amount.total() > Mebibytes::ZERO {
                        // Who would have had room before this may lack it now.
                        self.note_lacks(turn.now);
                    }
                    return;
                }
                Room::Evict(victims) if may_evict => return self.evict(turn, id, &victims),
                Room::Evict(_) | Room::Leaving | Room::Later => return,
                Room::Never(short) => {
                    let failure = self.never_fits(id, size, short);
                    self.end_job(turn, job, failure);
                }
            }
        }
    }

    /// The next job of a model for one of its workers.
    fn next_for(&self, model: &Model, worker: &Worker, barriers: &[Barrier]) -> Option<JobId> {
        let before = barriers
            .iter()
            .filter(|barrier| self.is_behind(worker, barrier))
            .map(|barrier| barrier.job)
            .min();
        let fits = |job: JobId| {
            before.is_none_or(|due| job < due)
                && self
                    .jobs
                    .get(&job)
                    .is_some_and(|job| serves(worker, job.device))
        };
        model.queue.next(self.order(), fits)
    }

    fn order(&self) -> Order {
        match self.settings.fifo {
            true => Order::Arrival,
            false => Order::Shares(self.settings.max_overtakes),
        }
    }

    /// The worker has what the due job lacks.
    fn is_behind(&self, worker: &Worker, barrier: &Barrier) -> bool {
        match barrier.lack {
            Lack::Room => self.competes(worker, barrier.model),
            Lack::Place => worker.model == barrier.model,
        }
    }

    /// The worker holds room that the other model lacks.
    fn competes(&self, worker: &Worker, with: ModelId) -> bool {
        let mut lacks = self.model(with).lacks.iter();
        let holds = |at: Device| worker.promised().any(|part| part.at(at) > Mebibytes::ZERO);
        worker.model != with && lacks.any(|lacking| lacking.short && holds(lacking.at))
    }

    /// The oldest job of every model that lacks something and has been overtaken or has waited
    /// enough.
    pub(crate) fn barriers(&self, now: Moment) -> Vec<Barrier> {
        let of_room = |model: ModelId| {
            if self.model(model).lacks.is_empty() {
                return None;
            }
            // Not always the oldest: a job that lost its worker was not overtaken while it ran.
            let mut waiting = self.model(model).queue.iter();
            let job = waiting.find(|&job| self.is_due(job, now))?;
            let lack = Lack::Room;
            Some(Barrier { job, model, lack })
        };
        let of_place = |model: ModelId| {
            let job = self
                .stranded(model, now)
                .find(|&job| self.is_due(job, now))?;
            let lack = Lack::Place;
            Some(Barrier { job, model, lack })
        };
        let rooms = self.model_ids().filter_map(of_room);
        rooms.chain(self.model_ids().filter_map(of_place)).collect()
    }

    fn is_due(&self, job: JobId, now: Moment) -> bool {
        let settings = &self.settings;
        self.jobs.get(&job).is_some_and(|job| {
            settings.fifo
                || job.overtaken >= settings.max_overtakes
                || now >= job.accepted + settings.max_overtake
        })
    }

    fn run(&mut self, turn: &mut Turn, worker: Generation, job: JobId, extra: Option<Reservation>) {
        self.count_overtakes(turn.now, worker, job);
        let Some(mut to) = self.workers.remove(&worker) else {
            return;
        };
        let Some(waiting) = self.jobs.get_mut(&job) else {
            return;
        };
        let model = &mut self.models[waiting.model.0];
        model.queue.take(&waiting.place);
        model.wishing.remove(&job);
        self.waiting_bytes -= waiting.bytes();
        waiting.stage = Stage::Running { worker };
        waiting.attempts += 1;
        waiting.first_start.get_or_insert_with(|| {
            let waited = turn.now.since(waiting.accepted);
            let ready = to.ready.unwrap_or(turn.now);
            let load = ready.since(waiting.accepted.max(to.spawned)).min(waited);
            FirstStart {
                queue: waited - load,
                load,
            }
        });
        let attempt = Attempt {
            job,
            from_step: waiting.salvaged,
            step: waiting.salvaged,
            steps: waiting.parameters.steps,
            pixels: waiting.parameters.size.pixels(),
            began: turn.now,
            progressed: turn.now,
            watch: Watch::new(turn.now),
        };
        turn.act(Action::Run(Run {
            worker,
            job,
            parameters: waiting.parameters.clone(),
            from_step: waiting.salvaged,
            attempt: waiting.attempts,
        }));
        turn.report(
            job,
            Progress::Started {
                worker: to.name.clone(),
                attempt: waiting.attempts,
                from_step: waiting.salvaged,
            },
        );
        let id = to.model;
        let more = extra.as_ref().map(|extra| extra.amount().total());
        to.stretched |= more.is_some_and(|more| more > Mebibytes::ZERO);
        to = to.turned(turn.now, |life| life.busy(extra, attempt));
        self.workers.insert(worker, to);
        self.tell_places(turn, id);
    }

    /// Counts a start for every earlier job that lacks what this worker has.
    fn count_overtakes(&mut self, now: Moment, worker: Generation, job: JobId) {
        let Some(by) = self.workers.get(&worker) else {
            return;
        };
        let competing = self.model_ids().filter(|&id| self.competes(by, id));
        let lacking_room = competing.flat_map(|id| self.model(id).queue.before(job));
        let lacking_place = self
            .stranded(by.model, now)
            .filter(|&earlier| earlier < job);
        for earlier in lacking_room.chain(lacking_place).collect::<Vec<_>>() {
            if let Some(earlier) = self.jobs.get_mut(&earlier) {
                earlier.overtaken += 1;
                let most = &mut self.counters.overtakes_max;
                *most = (*most).max(u64::from(earlier.overtaken));
            }
        }
    }

    /// Tells the first few that wait where they stand now.
    fn tell_places(&self, turn: &mut Turn, id: ModelId) {
        let model = self.model(id);
        for (position, job) in (1..).zip(model.queue.iter().take(TOLD_MAX)) {
            let reason = format!("{} wait for {}", model.queue.len(), model.spec.key);
            turn.report(job, Progress::Waiting { position, reason });
        }
    }
}

pub(crate) fn serves(worker: &Worker, wish: DeviceWish) -> bool {
    match wish {
        DeviceWish::Auto => true,
        DeviceWish::On(device) => worker.device == device,
    }
}
