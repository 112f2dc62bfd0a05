//! Workers are evicted only for a model that needs the room, and never without a shortage.
//!
//! The reasons: a model without workers, with too few, or with none where one is wanted, or a large picture.

use ipc_protocol::ids::{Device, DeviceWish, Generation, ModelKey, WorkerName};
use pool::Moment;

use super::standing::Standing;
use super::trouble::Trouble;
use crate::scene::{Hand, Model, Parts, Scene};
use crate::shadow::Verdict;

pub(super) fn check(
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
    let unwanted = hand.is_coming() && scene.waiting(&name.model).next().is_none();
    if !hand.is_idle() && !unwanted {
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
