//! When a model gets one more worker, and when it has one too many.

use std::collections::BTreeMap;

use ipc_protocol::failure::{Failure, FailureKind};
use ipc_protocol::ids::{Device, DeviceWish, Generation, JobId, WorkerName};
use ipc_protocol::status::WorkerState;
use ipc_protocol::units::{Mebibytes, PictureSize};

use crate::action::{Action, Notice, Start, StartReason, StopReason};
use crate::drain::Phase;
use crate::model::{Model, ModelId, Standing};
use crate::moment::Moment;
use crate::placement::Lack;
use crate::pool::Pool;
use crate::restart::Verdict;
use crate::room::{Room, Shortage};
use crate::turn::Turn;
use crate::worker::{Lifecycle, Worker};

/// After so many deaths in a row a cold start tries one worker, not several.
const CAREFUL_AFTER_DEATHS: u32 = 2;

/// More workers for a model.
#[derive(Debug, Clone, Copy)]
struct Want {
    /// The oldest job that wants it; models with none come last.
    job: Option<JobId>,
    model: ModelId,
    reason: StartReason,
    wish: DeviceWish,
    count: usize,
}

impl Want {
    /// Idle workers of other models may be ended for it.
    fn may_evict(&self) -> bool {
        match self.reason {
            StartReason::ColdStart | StartReason::Wish | StartReason::Floor => true,
            StartReason::Growth | StartReason::Replacement => false,
        }
    }
}

impl Pool {
    /// Starts what is wanted, for the model of the oldest job first.
    pub(crate) fn start_wanted(&mut self, turn: &mut Turn) {
        let wants = self.model_ids().filter_map(|id| self.want(id, turn.now));
        let mut wants: Vec<Want> = wants.collect();
        wants.sort_by_key(|want| (want.job.is_none(), want.job, want.model));
        for want in wants {
            self.fulfil(turn, want);
        }
        self.make_way_for_wishes(turn);
    }

    /// Where a model has as many workers as it may now and a job wishes for a device without one, an
    /// idle worker, which has nothing it can do, leaves for one there.
    fn make_way_for_wishes(&mut self, turn: &mut Turn) {
        for id in self.model_ids() {
            let model = self.model(id);
            if model.wishing.is_empty()
                || !self.is_full(model, turn.now)
                || self.workers_of(model).any(|w| !w.is_live())
            {
                continue;
            }
            if self.unserved_wish(model, turn.now).is_some() {
                let idle = self.live(model).find(|worker| worker.is_idle());
                if let Some(idle) = idle.map(|worker| worker.generation) {
                    self.evict(turn, id, &[idle]);
                }
            }
        }
    }

    /// It has as many workers as it may have now.
    pub(crate) fn is_full(&self, model: &Model, now: Moment) -> bool {
        let probing = model.standing(now) == Standing::Tried(Verdict::Probe);
        probing || model.workers.len() >= model.most(&self.settings)
    }

    /// One more worker would take there what an older job that is due needs.
    fn is_claimed(&self, want: Want, device: Device, now: Moment) -> bool {
        let Some(amount) = self.model(want.model).need_on(device, &self.settings) else {
            return false;
        };
        let claims = self.barriers(now).into_iter().filter(|barrier| {
            barrier.lack == Lack::Room && want.job.is_none_or(|job| barrier.job < job)
        });
        let mut lacks = claims.flat_map(|barrier| &self.model(barrier.model).lacks);
        lacks.any(|lacking| {
            let takes = amount.at(lacking.at);
            takes > Mebibytes::ZERO && self.budget.free(lacking.at) < lacking.need + takes
        })
    }

    fn want(&self, id: ModelId, now: Moment) -> Option<Want> {
        let model = self.model(id);
        let careful = match model.standing(now) {
            Standing::Tried(Verdict::Go) => false,
            Standing::Tried(Verdict::Probe) => true,
            Standing::Tried(Verdict::BackOff(_) | Verdict::Cool(_) | Verdict::Open(..))
            | Standing::Retired
            | Standing::Missing(_)
            | Standing::Broken(_)
            | Standing::Unread
            | Standing::Stopped => return None,
        };
        let most = model.most(&self.settings);
        let live = self.live(model).count();
        if model.workers.len() >= most || careful && live > 0 {
            return None;
        }
        let (reason, wish, count) = self.reason_to_start(model, live, now)?;
        let careful = careful || model.record.deaths_in_a_row() >= CAREFUL_AFTER_DEATHS;
        let count = count.min(most - model.workers.len()).max(1);
        Some(Want {
            job: match reason {
                StartReason::Wish => self.unserved(model).next(),
                StartReason::ColdStart
                | StartReason::Floor
                | StartReason::Growth
                | StartReason::Replacement => model.queue.oldest(),
            },
            model: id,
            reason,
            wish,
            count: if careful { 1 } else { count },
        })
    }

    fn reason_to_start(
        &self,
        model: &Model,
        live: usize,
        now: Moment,
    ) -> Option<(StartReason, DeviceWish, usize)> {
        if let Some(wish) = self.unserved_wish(model, now) {
            let cold = self.settings.cold_start_workers.max(1) as usize;
            return Some(match live {
                0 => (StartReason::ColdStart, wish, cold),
                _ => (StartReason::Wish, wish, 1),
            });
        }
        let lacking = model.floor(&self.settings).saturating_sub(live);
        if self.phase == Phase::Serving && lacking > 0 && lacking > self.coming_back(model) {
            return Some((StartReason::Floor, DeviceWish::Auto, 1));
        }
        if model.queue.is_empty() || self.live(model).any(|w| w.is_idle() || w.is_coming()) {
            return None;
        }
        if model.to_replace > 0 {
            return Some((StartReason::Replacement, DeviceWish::Auto, 1));
        }
        let due = self.grows_at(model)? <= now;
        due.then_some((StartReason::Growth, DeviceWish::Auto, 1))
    }

    /// When the oldest waiting job will have waited long enough for one more worker.
    pub(crate) fn grows_at(&self, model: &Model) -> Option<Moment> {
        let oldest = self.jobs.get(&model.queue.oldest()?)?;
        Some(oldest.waiting_since()? + self.settings.grow_after)
    }

    fn fulfil(&mut self, turn: &mut Turn, want: Want) {
        for nth in 0..want.count {
            let Some((device, room)) = self.room_for_worker(want.model, want.wish) else {
                return self.nowhere_to_run(turn, want);
            };
            let first = nth == 0 && want.may_evict();
            if self.is_claimed(want, device, turn.now) {
                return;
            }
            // Second workers and growth take no room that somebody else waits for.
            let others_wait = self
                .model_ids()
                .any(|id| id != want.model && !self.model(id).lacks.is_empty());
            match room {
                Room::Free if first || !others_wait => {
                    self.start(turn, want.model, device, want.reason);
                    // Who would have had room before this start may lack it now.
                    self.note_lacks(turn.now);
                }
                Room::Evict(victims) if first => {
                    return self.evict(turn, want.model, &victims);
                }
                Room::Never(short) if first && want.reason != StartReason::Floor => {
                    return self.no_room(turn, want, short);
                }
                Room::Free | Room::Evict(_) | Room::Leaving | Room::Later | Room::Never(_) => {
                    return;
                }
            }
        }
    }

    fn start(&mut self, turn: &mut Turn, id: ModelId, device: Device, reason: StartReason) {
        let Some(amount) = self.model(id).need_on(device, &self.settings) else {
            return;
        };
        let Some(reservation) = self.budget.promise(amount) else {
            return;
        };
        self.generations += 1;
        let generation = Generation(self.generations);
        let name = WorkerName {
            model: self.model(id).spec.key.clone(),
            slot: self.free_slot(id),
        };
        let mut reserved = BTreeMap::new();
        for (at, part) in amount.parts() {
            reserved.insert(at, part);
        }
        turn.act(Action::Start(Start {
            worker: generation,
            name: name.clone(),
            model: name.model.clone(),
            device,
            reserved,
            reason,
        }));
        let worker = Worker {
            generation,
            name,
            model: id,
            device,
            pid: None,
            spawned: turn.now,
            since: turn.now,
            heard: turn.now,
            work: 0,
            ready: None,
            jobs_done: 0,
            footprint: None,
            stretched: false,
            outgrown: false,
            load_failure: None,
            outdated: false,
            life: Lifecycle::Starting { reservation },
        };
        self.workers.insert(generation, worker);
        self.counters.spawns += 1;
        let model = &mut self.models[id.0];
        model.workers.push(generation);
        model.to_replace = model.to_replace.saturating_sub(1);
        model.idle_since = None;
        if std::mem::take(&mut model.evicting) {
            self.counters.swaps += 1;
        }
        self.models[id.0].lacks.clear();
    }

    /// The lowest slot that no worker has and no operator holds.
    fn free_slot(&self, id: ModelId) -> u32 {
        let model = self.model(id);
        let taken = |slot: u32| {
            model.held_slots.contains(&slot)
                || self
                    .workers_of(model)
                    .any(|worker| worker.name.slot == slot)
        };
        (0..).find(|&slot| !taken(slot)).unwrap_or(u32::MAX)
    }

    /// Tells idle workers to leave so that a model can have their room.
    pub(crate) fn evict(&mut self, turn: &mut Turn, for_model: ModelId, victims: &[Generation]) {
        for &victim in victims {
            let Some(worker) = self.workers.get(&victim) else {
                continue;
            };
            self.counters.evictions += 1;
            turn.tell(Notice::Evicted {
                name: worker.name.clone(),
                for_model: self.model(for_model).spec.key.clone(),
                freed: worker.promised().map(|amount| amount.total()).sum(),
            });
            self.models[for_model.0].evicting |= worker.model != for_model;
            self.end_worker(turn, victim, StopReason::Evicted);
        }
    }

    /// Answers the jobs that wanted a worker there can be no room for.
    fn no_room(&mut self, turn: &mut Turn, want: Want, short: Shortage) {
        let failure = self.memory_exhausted(want.model, short);
        self.fail_wanting(turn, want, &failure);
    }

    fn nowhere_to_run(&mut self, turn: &mut Turn, want: Want) {
        let key = &self.model(want.model).spec.key;
        let message = format!("no device that is usable now can run {key}");
        let failure = Failure::new(FailureKind::MemoryExhausted, message);
        self.fail_wanting(turn, want, &failure);
    }

    fn fail_wanting(&mut self, turn: &mut Turn, want: Want, failure: &Failure) {
        let wants = |id: &JobId| {
            let job = self.jobs.get(id);
            job.is_some_and(|job| want.wish == DeviceWish::Auto || job.device == want.wish)
        };
        let all: Vec<JobId> = self.model(want.model).queue.iter().filter(wants).collect();
        for job in all {
            self.end_job(turn, job, failure.clone());
        }
    }

    /// The seed's sentence.
    pub(crate) fn memory_exhausted(&self, id: ModelId, short: Shortage) -> Failure {
        let key = &self.model(id).spec.key;
        let Shortage {
            need, available, ..
        } = short;
        Failure::new(
            FailureKind::MemoryExhausted,
            format!(
                "Cannot spawn workers for {key}. Need {} MB, only {} MB available",
                need.0, available.0
            ),
        )
    }

    pub(crate) fn never_fits(&self, id: ModelId, size: PictureSize, short: Shortage) -> Failure {
        let key = &self.model(id).spec.key;
        let Shortage {
            device,
            need,
            available,
        } = short;
        let limit = self.budget.limit(device);
        Failure::new(
            FailureKind::NeverFits,
            format!(
                "{size} with {key} never fits: it needs {} MB more on {device}, {} of {} MB are available",
                need.0, available.0, limit.0
            ),
        )
    }

    /// Keeps for every model the moment since when all its workers are idle.
    pub(crate) fn note_idle(&mut self, now: Moment) {
        for id in self.model_ids() {
            let model = self.model(id);
            let some = self.live(model).next().is_some();
            let all_idle = some && self.live(model).all(Worker::is_idle);
            let idle = all_idle && model.queue.is_empty();
            let since = model.idle_since.unwrap_or(now);
            self.model_mut(id).idle_since = idle.then_some(since);
        }
    }

    /// When a model's least recently used worker has been idle for long enough.
    pub(crate) fn shrinks_at(&self, model: &Model) -> Option<Moment> {
        let since = model.idle_since?;
        let spare = self.live(model).count() > model.floor(&self.settings);
        spare.then_some(since + self.settings.idle)
    }

    /// One worker leaves of every model that has been idle for long enough.
    pub(crate) fn shrink(&mut self, turn: &mut Turn) {
        for id in self.model_ids() {
            if self
                .shrinks_at(self.model(id))
                .is_none_or(|at| at > turn.now)
            {
                continue;
            }
            let model = self.model(id);
            let oldest = self
                .live(model)
                .min_by_key(|worker| (worker.since, worker.generation));
            let Some(oldest) = oldest.map(|worker| worker.generation) else {
                continue;
            };
            self.end_worker(turn, oldest, StopReason::Idle);
            let model = self.model_mut(id);
            model.idle_since = Some(turn.now);
            model.to_replace = 0;
            model.at_rest = (WorkerState::Exited, "Idle");
        }
    }

    /// Looks at the loads of a model after a client stopped waiting for it. One goes on, so that the next
    /// request finds it ready and a client that asks and leaves starts no second one; any beyond it ends.
    /// The one that goes on leaves for another model that needs its room, and when idle like any other.
    pub(crate) fn abandon_loads(&mut self, turn: &mut Turn, id: ModelId) {
        let model = self.model(id);
        if !model.queue.is_empty() {
            return;
        }
        let floor = model.floor(&self.settings);
        let live = self.live(model).count();
        let coming: Vec<Generation> = self
            .live(model)
            .filter(|worker| worker.is_coming())
            .map(|worker| worker.generation)
            .collect();
        let beyond_floor = live.saturating_sub(floor);
        let beyond_one = coming.len().saturating_sub(1);
        for worker in coming.into_iter().rev().take(beyond_floor.min(beyond_one)) {
            self.end_worker(turn, worker, StopReason::Abandoned);
        }
    }

    /// Memory of one worker at its default size on the first device it may run on.
    pub(crate) fn need_mb(&self, model: &Model) -> Mebibytes {
        let places = self.places(model, DeviceWish::Auto);
        let first = places.first().copied().unwrap_or(Device::Host);
        let amount = model.need_on(first, &self.settings);
        amount.map_or(Mebibytes::ZERO, |amount| amount.at(first))
    }
}
