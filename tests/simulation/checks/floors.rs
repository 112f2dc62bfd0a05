//! Missing workers start as memory and limits allow; no worker leaves without need.

use std::collections::BTreeSet;

use ipc_protocol::ids::{Device, DeviceWish, JobId, ModelKey};
use pool::{Action, Event, Moment, Start, StartReason};

use super::standing::Standing;
use super::trouble::Trouble;
use crate::scene::{Model, Scene, Task};
use crate::shadow::Verdict;

/// After so many deaths in a row a cold start tries one worker.
const CAREFUL_AFTER: u32 = 2;

pub(super) fn check(scene: &Scene, trouble: &Trouble, now: Moment, start: &Start) -> Verdict {
    let key = &start.model;
    let model = &scene.models[key];
    let need = scene.need(model, start.device).unwrap_or_default();
    if need != start.reserved {
        return Err(format!(
            "{} is promised {:?}, it needs {need:?}",
            start.name, start.reserved
        ));
    }
    if !scene.has_room(&need) {
        return Err(format!(
            "{} is promised {need:?}, which is not free",
            start.name
        ));
    }
    if let Some(same) = scene
        .workers_of(key)
        .find(|(_, hand)| hand.name == start.name)
    {
        return Err(format!("two workers are called {}: {same:?}", start.name));
    }
    if model.held.contains(&start.name.slot) {
        return Err(format!("{} starts, an operator stopped it", start.name));
    }
    let lowest = (0..).find(|slot| {
        !model.held.contains(slot)
            && scene
                .workers_of(key)
                .all(|(_, hand)| hand.name.slot != *slot)
    });
    if lowest != Some(start.name.slot) && !scene.back.contains(key) {
        return Err(format!("{} starts, slot {lowest:?} is free", start.name));
    }
    let live = scene.live(key).count();
    let standing = trouble.standing(scene, key, now);
    let careful = standing == Standing::Probing || trouble.deaths_in_a_row(key) >= CAREFUL_AFTER;
    let alone = start.reason == StartReason::ColdStart && careful || standing == Standing::Probing;
    match standing {
        Standing::Well | Standing::Probing if model.offered && !(alone && live > 0) => {}
        _ => {
            return Err(format!(
                "{} starts beside {live}, it is {standing:?}",
                start.name
            ));
        }
    }
    let floor = scene.floor(model);
    match start.reason {
        StartReason::Floor if live + scene.coming_back(key) >= floor => {
            Err(format!("{key} keeps {floor} and has {live}"))
        }
        StartReason::Floor if scene.draining => Err(format!("{key} is kept while draining")),
        StartReason::Replacement if model.owed == 0 => Err(format!("{key} lost nobody")),
        StartReason::Constraint if scene.devices.len() == 1 => {
            Err(format!("{key} is wished for elsewhere"))
        }
        StartReason::Floor
        | StartReason::Replacement
        | StartReason::Constraint
        | StartReason::ColdStart
        | StartReason::Growth => Ok(()),
    }
}

/// Nobody waits without need.
pub(super) fn check_event(
    scene: &Scene,
    trouble: &Trouble,
    now: Moment,
    event: &Event,
    actions: &[Action],
) -> Verdict {
    if !decides(event, actions) {
        return Ok(());
    }
    check_cold_start(scene, trouble, actions)?;
    check_waits(scene, trouble, now)
}

pub(super) fn check_waits(scene: &Scene, trouble: &Trouble, now: Moment) -> Verdict {
    let oldest = scene.oldest();
    for (key, model) in &scene.models {
        let may = match trouble.standing(scene, key, now) {
            Standing::Well => true,
            Standing::Probing => scene.live(key).next().is_none(),
            Standing::Missing
            | Standing::Stopped
            | Standing::Broken(..)
            | Standing::Cooling(_)
            | Standing::BackOff(_) => false,
        };
        let place = scene.workers_of(key).count() < scene.most(model);
        if !may || !place || !model.offered {
            continue;
        }
        if let Some(why) = lacks(scene, now, key, model, oldest) {
            return Err(format!("{key} {why}, there is room, and nobody starts"));
        }
    }
    Ok(())
}

/// The rest are facts that the pool only writes down, and what it does not take.
pub(super) fn decides(event: &Event, actions: &[Action]) -> bool {
    let refused = |action: &Action| matches!(action, Action::Refuse { .. });
    !actions.iter().any(refused)
        && !matches!(
            event,
            Event::WorkerStarted { .. }
                | Event::WorkerSaidHello { .. }
                | Event::LoadProgressed { .. }
                | Event::LoadFailed { .. }
                | Event::WorkerHeard { .. }
                | Event::WorkerWorked { .. }
                | Event::LoopStalled { .. }
                | Event::StepFinished { .. }
                | Event::FootprintMeasured { .. }
                | Event::CpuMeasured { .. }
                | Event::QuarantineListed { .. }
                | Event::QuarantineReleased { .. }
        )
}

/// Why one more worker of the model should have been started by now.
fn lacks(
    scene: &Scene,
    now: Moment,
    key: &ModelKey,
    model: &Model,
    oldest: Option<JobId>,
) -> Option<String> {
    let live = scene.live(key).count();
    let floor = scene.floor(model);
    let Some((id, first)) = scene.waiting(key).next() else {
        let kept = live + scene.coming_back(key) >= floor
            || scene.draining
            || oldest.is_some()
            || !fits(scene, model, None);
        return (!kept).then(|| format!("has {live} workers of {floor} that stay"));
    };
    // Others may be waited for: who wants nothing that an older job may want waits for nobody.
    let alone = oldest == Some(id) || live == 0 && wants_its_own(scene, key, id, first);
    if !alone || !fits(scene, model, first.wish.map(|_| id)) {
        return None;
    }
    if live == 0 {
        return Some(format!("has nobody for job {id}"));
    }
    let others = scene.others_wait(key);
    let busy = scene
        .live(key)
        .all(|(_, hand)| !hand.is_idle() && !hand.is_coming());
    let due = first.since + scene.settings.grow_after <= now || model.owed > 0;
    let wishes = scene
        .waiting(key)
        .any(|(_, task)| task.wish != Some(DeviceWish::Auto));
    (busy && due && !others && !wishes).then(|| format!("should grow for job {id}"))
}

/// Nothing that one more worker takes is on a device where the model of an older job takes some.
fn wants_its_own(scene: &Scene, key: &ModelKey, id: JobId, task: &Task) -> bool {
    let takes = |model: &Model, places: Vec<Device>| {
        let needs = places.into_iter().filter_map(|at| scene.need(model, at));
        let parts = needs.flatten().filter(|(_, part)| part.0 > 0);
        parts.map(|(at, _)| at).collect::<BTreeSet<Device>>()
    };
    let own = takes(&scene.models[key], scene.places_of(task));
    let others = scene.models.iter().filter(|(other, _)| *other != key);
    let mut older = others.filter(|(other, _)| {
        scene
            .waiting(other)
            .next()
            .is_some_and(|(first, _)| first < id)
    });
    task.wish.is_some()
        && older
            .all(|(_, other)| takes(other, scene.places(other, DeviceWish::Auto)).is_disjoint(&own))
}

/// There is room on one of the devices, or on each where it is not known which are meant.
fn fits(scene: &Scene, model: &Model, job: Option<JobId>) -> bool {
    let room = |at: &Device| {
        scene
            .need(model, *at)
            .is_some_and(|need| scene.has_room(&need))
    };
    match job.and_then(|job| scene.jobs.get(&job)) {
        Some(task) => scene.places_of(task).iter().any(room),
        None => {
            let places = scene.places(model, DeviceWish::Auto);
            !places.is_empty() && places.iter().all(room)
        }
    }
}

/// A model without workers gets as many as a cold start makes, where room and others allow it.
fn check_cold_start(scene: &Scene, trouble: &Trouble, actions: &[Action]) -> Verdict {
    let cold = actions.iter().filter_map(|action| match action {
        Action::Start(start) if start.reason == StartReason::ColdStart => Some(start),
        _ => None,
    });
    let Some(start) = cold.clone().next() else {
        return Ok(());
    };
    let key = &start.model;
    let model = &scene.models[key];
    let started = cold.filter(|start| start.model == *key).count();
    let mates = scene.workers_of(key).count() - started;
    let wanted = scene.settings.cold_start_workers.max(1) as usize;
    let wanted = wanted.min(scene.most(model).saturating_sub(mates)).max(1);
    let others = scene.others_wait(key);
    let careful = trouble.deaths_in_a_row(key) >= CAREFUL_AFTER || trouble.is_probing(key);
    let unknown = scene
        .waiting(key)
        .any(|(_, task)| task.wish != Some(DeviceWish::Auto));
    match started < wanted && !careful && !others && !unknown && fits(scene, model, None) {
        true => Err(format!(
            "a cold start of {started} of {key}, {wanted} may be"
        )),
        false => Ok(()),
    }
}
