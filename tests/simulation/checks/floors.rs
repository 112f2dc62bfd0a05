//! Missing workers start as memory and limits allow; no worker leaves without need.

use std::collections::BTreeSet;

use ipc_protocol::failure::FailureKind;
use ipc_protocol::ids::{Device, DeviceConstraint, JobId, ModelKey};
use pool::{Action, Event, Moment, Outcome, Start, StartReason};

use super::CheckResult;
use super::failures::ModelFailures;
use super::standing::ModelStanding;
use crate::observed::{JobRecord, ModelRecord, ObservedPool};

/// A cold start tries one worker after this many deaths in a row.
const CAREFUL_AFTER: u32 = 2;

pub(super) fn check(
    observed: &ObservedPool,
    failures: &ModelFailures,
    now: Moment,
    start: &Start,
) -> CheckResult {
    let key = &start.model;
    let model = &observed.models[key];
    let need = observed.need(model, start.device).unwrap_or_default();
    if need != start.reserved {
        return Err(format!(
            "{} is promised {:?}, it needs {need:?}",
            start.name, start.reserved
        ));
    }
    let coming = coming(observed);
    if coming >= observed.settings.max_starting_workers as usize {
        return Err(format!("{} starts beside {coming} others", start.name));
    }
    if !observed.has_room(&need) {
        return Err(format!(
            "{} is promised {need:?}, which is not free",
            start.name
        ));
    }
    if let Some(same) = observed
        .workers_of(key)
        .find(|(_, process)| process.name == start.name)
    {
        return Err(format!("two workers are called {}: {same:?}", start.name));
    }
    if model.held.contains(&start.name.slot) {
        return Err(format!("{} starts, an operator stopped it", start.name));
    }
    let lowest = (0..).find(|slot| {
        !model.held.contains(slot)
            && observed
                .workers_of(key)
                .all(|(_, process)| process.name.slot != *slot)
    });
    if lowest != Some(start.name.slot) && !observed.back.contains(key) {
        return Err(format!("{} starts, slot {lowest:?} is free", start.name));
    }
    let live = observed.live(key).count();
    let standing = failures.standing(observed, key, now);
    let careful =
        standing == ModelStanding::Probing || failures.deaths_in_a_row(key) >= CAREFUL_AFTER;
    let alone =
        start.reason == StartReason::ColdStart && careful || standing == ModelStanding::Probing;
    match standing {
        ModelStanding::Well | ModelStanding::Probing
            if (model.offered || observed.waiting(key).next().is_some())
                && !(alone && live > 0) => {}
        _ => {
            return Err(format!(
                "{} starts beside {live}, it is {standing:?}",
                start.name
            ));
        }
    }
    let floor = observed.floor(model);
    match start.reason {
        StartReason::Floor if live + observed.coming_back(key) >= floor => {
            Err(format!("{key} keeps {floor} and has {live}"))
        }
        StartReason::Floor if observed.draining => Err(format!("{key} is kept while draining")),
        StartReason::Replacement if model.owed == 0 => Err(format!("{key} lost nobody")),
        StartReason::Constraint if observed.devices.len() == 1 => {
            Err(format!("{key} is wished for elsewhere"))
        }
        StartReason::Floor
        | StartReason::Replacement
        | StartReason::Constraint
        | StartReason::ColdStart
        | StartReason::Growth => Ok(()),
    }
}

/// Checks that no job waits without need.
pub(super) fn check_event(
    observed: &ObservedPool,
    failures: &ModelFailures,
    now: Moment,
    event: &Event,
    actions: &[Action],
) -> CheckResult {
    if !decides(event, actions) {
        return Ok(());
    }
    check_cold_start(observed, failures, actions)?;
    check_waits(observed, failures, now)
}

pub(super) fn check_waits(
    observed: &ObservedPool,
    failures: &ModelFailures,
    now: Moment,
) -> CheckResult {
    let oldest = observed.oldest();
    for (key, model) in &observed.models {
        let may = match failures.standing(observed, key, now) {
            ModelStanding::Well => true,
            ModelStanding::Probing => observed.live(key).next().is_none(),
            ModelStanding::Missing
            | ModelStanding::Stopped
            | ModelStanding::Broken(..)
            | ModelStanding::Cooling(_)
            | ModelStanding::BackOff(_) => false,
        };
        let place = observed.workers_of(key).count() < observed.most(model);
        if !may || !place || is_full(observed, key) {
            continue;
        }
        if let Some(why) = lacks(observed, now, key, model, oldest) {
            return Err(format!("{key} {why}, there is room, and nobody starts"));
        }
    }
    Ok(())
}

/// The workers that start or load.
fn coming(observed: &ObservedPool) -> usize {
    let all = observed.workers.values();
    all.filter(|process| process.is_coming()).count()
}

/// Whether no further worker of the model can start, because of the others that start or load.
fn is_full(observed: &ObservedPool, key: &ModelKey) -> bool {
    let most = observed.settings.max_starting_workers as usize;
    let most = match observed.waiting(key).next() {
        Some(_) => most,
        None => most.div_ceil(2),
    };
    coming(observed) >= most
}

/// The rest are facts that the pool only writes down, and what it does not take.
pub(super) fn decides(event: &Event, actions: &[Action]) -> bool {
    let accepted = |action: &Action| matches!(action, Action::Accept(_));
    let replied = |action: &Action| matches!(action, Action::Refuse { .. }) || accepted(action);
    match event {
        Event::RequestArrived { .. } => return actions.iter().any(accepted),
        Event::FilesArrived { .. } => return actions.iter().any(replied),
        _ => {}
    }
    !matches!(
        event,
        Event::FilesFailed { .. }
            | Event::WorkerStarted { .. }
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
    observed: &ObservedPool,
    now: Moment,
    key: &ModelKey,
    model: &ModelRecord,
    oldest: Option<JobId>,
) -> Option<String> {
    let live = observed.live(key).count();
    let floor = observed.floor(model);
    let Some((id, first)) = observed.waiting(key).next() else {
        let kept = live + observed.coming_back(key) >= floor
            || observed.draining
            || oldest.is_some()
            || !fits(observed, model, None);
        return (!kept).then(|| format!("has {live} workers of {floor} that stay"));
    };
    // Others may be waited for: who wants nothing that an older job may want waits for nobody.
    let alone = oldest == Some(id) || live == 0 && wants_its_own(observed, key, id, first);
    if !alone || !fits(observed, model, first.wish.map(|_| id)) {
        return None;
    }
    if live == 0 {
        return Some(format!("has nobody for job {id}"));
    }
    let others = observed.others_wait(key);
    let busy = observed
        .live(key)
        .all(|(_, process)| !process.is_idle() && !process.is_coming());
    let due = first.since + observed.settings.grow_after <= now || model.owed > 0;
    let wishes = observed
        .waiting(key)
        .any(|(_, record)| record.wish != Some(DeviceConstraint::Auto));
    (busy && due && !others && !wishes).then(|| format!("should grow for job {id}"))
}

/// Nothing that one more worker takes is on a device where the model of an older job takes some.
fn wants_its_own(observed: &ObservedPool, key: &ModelKey, id: JobId, record: &JobRecord) -> bool {
    let takes = |model: &ModelRecord, places: Vec<Device>| {
        let needs = places.into_iter().filter_map(|at| observed.need(model, at));
        let parts = needs.flatten().filter(|(_, part)| part.0 > 0);
        parts.map(|(at, _)| at).collect::<BTreeSet<Device>>()
    };
    let own = takes(&observed.models[key], observed.places_of(record));
    let others = observed.models.iter().filter(|(other, _)| *other != key);
    let mut older = others.filter(|(other, _)| {
        observed
            .waiting(other)
            .next()
            .is_some_and(|(first, _)| first < id)
    });
    record.wish.is_some()
        && older.all(|(_, other)| {
            takes(other, observed.places(other, DeviceConstraint::Auto)).is_disjoint(&own)
        })
}

/// There is room on one of the devices, or on each where it is not known which are meant.
fn fits(observed: &ObservedPool, model: &ModelRecord, job: Option<JobId>) -> bool {
    let room = |at: &Device| {
        observed
            .need(model, *at)
            .is_some_and(|need| observed.has_room(&need))
    };
    match job.and_then(|job| observed.jobs.get(&job)) {
        Some(record) => observed.places_of(record).iter().any(room),
        None => {
            let places = observed.places(model, DeviceConstraint::Auto);
            !places.is_empty() && places.iter().all(room)
        }
    }
}

/// A job ends because the room that it waited for cannot be.
fn lacks_room(action: &Action) -> bool {
    match action {
        Action::Answer {
            outcome: Outcome::Failure(failure),
            ..
        } => {
            let memory = [FailureKind::MemoryExhausted, FailureKind::NeverFits];
            memory.contains(&failure.kind)
        }
        _ => false,
    }
}

/// A model without workers gets as many as a cold start makes, where room and others allow it.
fn check_cold_start(
    observed: &ObservedPool,
    failures: &ModelFailures,
    actions: &[Action],
) -> CheckResult {
    let cold = actions.iter().filter_map(|action| match action {
        Action::Start(start) if start.reason == StartReason::ColdStart => Some(start),
        _ => None,
    });
    let Some(start) = cold.clone().next() else {
        return Ok(());
    };
    let key = &start.model;
    let model = &observed.models[key];
    let started = cold.filter(|start| start.model == *key).count();
    let mates = observed.workers_of(key).count() - started;
    let wanted = observed.settings.cold_start_workers.max(1) as usize;
    let wanted = wanted
        .min(observed.most(model).saturating_sub(mates))
        .max(1);
    // A job that ends for lack of room only afterwards waited for some until then.
    let others = observed.others_wait(key) || actions.iter().any(lacks_room);
    let careful = failures.deaths_in_a_row(key) >= CAREFUL_AFTER || failures.is_probing(key);
    let unknown = observed
        .waiting(key)
        .any(|(_, record)| record.wish != Some(DeviceConstraint::Auto));
    let free = !others && !is_full(observed, key);
    match started < wanted && !careful && free && !unknown && fits(observed, model, None) {
        true => Err(format!(
            "a cold start of {started} of {key}, {wanted} may be"
        )),
        false => Ok(()),
    }
}
