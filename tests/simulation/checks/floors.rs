//! Who is wanted starts, with the memory it needs and as many as may at once; nobody has to leave
//! without need.

use ipc_protocol::ids::{Device, DeviceWish, Generation, JobId, ModelKey, WorkerName};
use pool::{Action, Event, Moment, Notice, Start, StartReason};

use super::trouble::{Standing, Trouble};
use crate::scene::{Hand, Model, Parts, Scene};
use crate::shadow::Verdict;

/// After so many deaths in a row a cold start tries one worker.
const CAREFUL_AFTER: u32 = 2;

pub(super) fn check(scene: &Scene, trouble: &Trouble, now: Moment, action: &Action) -> Verdict {
    match action {
        Action::Start(start) => check_start(scene, trouble, now, start),
        Action::Tell(Notice::Evicted {
            name, for_model, ..
        }) => check_eviction(scene, trouble, now, name, for_model),
        _ => Ok(()),
    }
}

fn check_start(scene: &Scene, trouble: &Trouble, now: Moment, start: &Start) -> Verdict {
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
        StartReason::Floor if live >= floor => Err(format!("{key} keeps {floor} and has {live}")),
        StartReason::Floor if scene.draining => Err(format!("{key} is kept while draining")),
        StartReason::Replacement if model.owed == 0 => Err(format!("{key} lost nobody")),
        StartReason::Wish if scene.devices.len() == 1 => {
            Err(format!("{key} is wished for elsewhere"))
        }
        StartReason::Floor
        | StartReason::Replacement
        | StartReason::Wish
        | StartReason::ColdStart
        | StartReason::Growth => Ok(()),
    }
}

/// Somebody idle has to leave: only for a model that has nobody, too few or nobody where it is wanted, or
/// for a large picture, and only while room is lacking.
fn check_eviction(
    scene: &Scene,
    trouble: &Trouble,
    now: Moment,
    name: &WorkerName,
    key: &ModelKey,
) -> Verdict {
    let victim = scene
        .workers_of(&name.model)
        .find(|(_, hand)| hand.name == *name);
    let Some((id, hand)) = victim else {
        return Err(format!("{name} is evicted and gone"));
    };
    if !hand.is_idle() {
        return Err(format!("{name} is evicted and {:?}", hand.life));
    }
    let model = &scene.models[key];
    let wished = scene.waiting(key).any(|(_, task)| {
        let elsewhere = |(_, hand): (Generation, &Hand)| task.serves(hand.device) == Some(false);
        task.wish.is_none() || scene.live(key).all(elsewhere)
    });
    if name.model == *key {
        let full = scene.workers_of(key).count() >= scene.most(model)
            || trouble.standing(scene, key, now) == Standing::Probing;
        let large = scene
            .waiting(key)
            .any(|(_, task)| (scene.extra(model, task.size) + task.more).0 > 0);
        let helps = full || gives_what_lacks(scene, model, hand);
        return match wished && helps || large {
            true => Ok(()),
            false => Err(format!(
                "{name} leaves for its own model, which has a place left"
            )),
        };
    }
    if scene.staying().contains(&id) {
        return Err(format!("{name} is to stay and is evicted for {key}"));
    }
    let oldest = |key: &ModelKey| scene.waiting(key).map(|(id, _)| id).next();
    let mut own = scene
        .waiting(&name.model)
        .filter(|(_, task)| task.serves(hand.device) == Some(true));
    if let Some((own, _)) = own
        .next()
        .filter(|(own, _)| oldest(key).is_none_or(|asks| *own < asks))
    {
        return Err(format!(
            "{name} waits for room for job {own} and is evicted for {key}, whose job is younger"
        ));
    }
    let live = scene.live(key).count();
    let idle = scene.live(key).any(|(_, hand)| hand.is_idle());
    if !wished && live >= scene.floor(model) && live > 0 && !idle {
        return Err(format!("{name} is evicted so that {key} can grow"));
    }
    match live == 0 && scene.devices.len() == 1 && room_comes(scene, model) {
        true => Err(format!(
            "{name} is evicted for {key}, which has room without it"
        )),
        false => Ok(()),
    }
}

/// It holds some of what one more worker lacks on a device that somebody wishes for.
fn gives_what_lacks(scene: &Scene, model: &Model, hand: &Hand) -> bool {
    let lacks = |wish: Option<DeviceWish>| {
        let places = scene.places(model, wish.unwrap_or(DeviceWish::Auto));
        let needs = places.iter().filter_map(|&at| scene.need(model, at));
        let short = needs.flatten().filter(|&(at, part)| part > scene.free(at));
        short.map(|(at, _)| at).collect::<Vec<_>>()
    };
    let mut waiting = scene.waiting(&model.spec.key);
    waiting.any(|(_, task)| {
        lacks(task.wish)
            .iter()
            .any(|&at| scene.held(hand, at).0 > 0)
    })
}

/// What is free, and what those held that are on their way out, is enough for one more.
fn room_comes(scene: &Scene, model: &Model) -> bool {
    let coming = |at: Device| {
        let leaving = scene.workers.values().filter(|hand| !hand.is_live());
        let leaving = leaving.map(|hand| scene.held(hand, at)).sum();
        scene.free(at) + scene.settling_on(at, Some(false)) + leaving
    };
    let enough = |parts: Parts| parts.iter().all(|(&at, &part)| part <= coming(at));
    scene.need(model, Device::Host).is_some_and(enough)
}

/// Nobody waits without need.
pub(super) fn check_event(
    scene: &Scene,
    trouble: &Trouble,
    now: Moment,
    event: &Event,
    actions: &[Action],
) -> Verdict {
    let refused = actions
        .iter()
        .any(|action| matches!(action, Action::Refuse { .. }));
    if decides_nothing(event) || refused {
        return Ok(());
    }
    check_cold_start(scene, trouble, actions)?;
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

/// Facts that the pool only writes down.
fn decides_nothing(event: &Event) -> bool {
    matches!(
        event,
        Event::WorkerStarted { .. }
            | Event::WorkerSaidHello { .. }
            | Event::LoadProgressed { .. }
            | Event::LoadFailed { .. }
            | Event::WorkerHeard { .. }
            | Event::StepFinished { .. }
            | Event::FootprintMeasured { .. }
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
        let kept = live >= floor || scene.draining || oldest.is_some() || !fits(scene, model, None);
        return (!kept).then(|| format!("has {live} workers of {floor} that stay"));
    };
    // Others may be waited for: who is first of all waits for nobody.
    if oldest != Some(id) || !fits(scene, model, first.wish.map(|_| id)) {
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
