//! Workers are evicted only for a model that needs the room, and never without a shortage.
//!
//! The reasons: a model without workers, with too few, or with none where one is wanted, or a large picture.

use ipc_protocol::ids::{Device, DeviceConstraint, Generation, ModelKey, WorkerName};
use pool::Moment;

use super::CheckResult;
use super::failures::ModelFailures;
use super::standing::ModelStanding;
use crate::observed::{JobRecord, MemoryParts, ModelRecord, ObservedPool, ProcessRecord};

pub(super) fn check(
    observed: &ObservedPool,
    failures: &ModelFailures,
    now: Moment,
    name: &WorkerName,
    key: &ModelKey,
) -> CheckResult {
    let victim = observed
        .workers_of(&name.model)
        .find(|(_, process)| process.name == *name);
    let Some((id, process)) = victim else {
        return Err(format!("{name} is evicted and gone"));
    };
    let unwanted = process.is_coming() && observed.waiting(&name.model).next().is_none();
    if !process.is_idle() && !unwanted {
        return Err(format!("{name} is evicted and {:?}", process.state));
    }
    let model = &observed.models[key];
    let wished = observed.waiting(key).any(|(_, record)| {
        let elsewhere = |(_, process): (Generation, &ProcessRecord)| {
            record.serves(process.device) == Some(false)
        };
        record.wish.is_none() || observed.live(key).all(elsewhere)
    });
    if name.model == *key {
        let full = observed.workers_of(key).count() >= observed.most(model)
            || failures.standing(observed, key, now) == ModelStanding::Probing;
        let large = observed
            .waiting(key)
            .any(|(_, record)| is_large(observed, model, record));
        let helps = full || gives_what_lacks(observed, model, process);
        waits_for_no_oldest(observed, model, process)?;
        return match wished && helps || large {
            true => Ok(()),
            false => Err(format!(
                "{name} leaves for its own model, which has a place left"
            )),
        };
    }
    // A restart that ends with this event keeps its workers from then on, and not before.
    if observed.staying().contains(&id) && !observed.back.contains(&name.model) {
        return Err(format!("{name} is to stay and is evicted for {key}"));
    }
    let oldest = |key: &ModelKey| observed.waiting(key).map(|(id, _)| id).next();
    let mut own = observed
        .waiting(&name.model)
        .filter(|(_, record)| record.serves(process.device) == Some(true));
    if let Some((own, _)) = own
        .next()
        .filter(|(own, _)| oldest(key).is_none_or(|asks| *own < asks))
    {
        return Err(format!(
            "{name} waits for room for job {own} and is evicted for {key}, whose job is younger"
        ));
    }
    let live = observed.live(key).count();
    let idle = observed.live(key).any(|(_, process)| process.is_idle());
    if !wished && live >= observed.floor(model) && live > 0 && !idle {
        return Err(format!("{name} is evicted so that {key} can grow"));
    }
    match live == 0 && observed.devices.len() == 1 && room_comes(observed, model) {
        true => Err(format!(
            "{name} is evicted for {key}, which has room without it"
        )),
        false => Ok(()),
    }
}

/// Returns whether a job takes more memory on some device than the start of a worker booked.
fn is_large(observed: &ObservedPool, model: &ModelRecord, record: &JobRecord) -> bool {
    let extra = |&on: &Device| observed.extra(model, on, record.parameters.size) + record.more;
    observed.devices.keys().any(|on| extra(on).0 > 0)
}

/// The only worker that can run the oldest job of its model does not leave for a younger one: it waits for memory.
fn waits_for_no_oldest(
    observed: &ObservedPool,
    model: &ModelRecord,
    process: &ProcessRecord,
) -> CheckResult {
    let key = &model.spec.key;
    let Some((id, oldest)) = observed.waiting(key).next() else {
        return Ok(());
    };
    let mut mates = observed
        .live(key)
        .filter(|(_, mate)| mate.name != process.name);
    let alone = mates.all(|(_, mate)| oldest.serves(mate.device) == Some(false));
    match alone && oldest.serves(process.device) == Some(true) {
        true => Err(format!(
            "{} is the only worker for job {id}, the oldest, and leaves for a younger one",
            process.name
        )),
        false => Ok(()),
    }
}

/// Returns whether the worker holds memory that one more worker lacks on a wanted device.
fn gives_what_lacks(observed: &ObservedPool, model: &ModelRecord, process: &ProcessRecord) -> bool {
    let lacks = |wish: Option<DeviceConstraint>| {
        let places = observed.places(model, wish.unwrap_or(DeviceConstraint::Auto));
        let needs = places.iter().filter_map(|&at| observed.need(model, at));
        let short = needs
            .flatten()
            .filter(|&(at, part)| part > observed.free(at));
        short.map(|(at, _)| at).collect::<Vec<_>>()
    };
    let mut waiting = observed.waiting(&model.spec.key);
    waiting.any(|(_, record)| {
        lacks(record.wish)
            .iter()
            .any(|&at| observed.held(process, at).0 > 0)
    })
}

/// Returns whether free memory and that of leaving workers is enough for one more.
fn room_comes(observed: &ObservedPool, model: &ModelRecord) -> bool {
    let coming = |at: Device| {
        let leaving = observed
            .workers
            .values()
            .filter(|process| !process.is_live());
        let leaving = leaving.map(|process| observed.held(process, at)).sum();
        observed.free(at) + observed.settling_on(at, Some(false)) + leaving
    };
    let enough = |parts: MemoryParts| parts.iter().all(|(&at, &part)| part <= coming(at));
    observed.need(model, Device::Host).is_some_and(enough)
}
