//! Whether a request may enter.
//!
//! First the request is checked, field by field, then the state of the pool. A refusal names the field or the
//! state, and says when another try may help.

use std::time::Duration;

use ipc_protocol::failure::{Failure, FailureKind, Field};
use ipc_protocol::ids::{Device, DeviceConstraint};
use ipc_protocol::request::ImageRequest;
use ipc_protocol::units::{Mebibytes, PictureSize};

use crate::questions::parameters::resolve;
use crate::questions::quota::{check_quota, jobs_per_hour};
use crate::questions::room::{self, Room, Shortage};
use crate::questions::standing::{draining, quarantined, refusal};
use crate::questions::waiting::takers;
use crate::state::State;
use crate::state::job::text_bytes;
use crate::state::quarantine::Fingerprint;
use crate::state::worker::Worker;
use crate::words::action::Parameters;
use crate::words::moment::{Moment, ms};
use crate::words::new_request::NewRequest;
use crate::words::registry::{Files, ModelId};

/// The way of a request that is not refused.
#[derive(Debug)]
pub(crate) enum Admission {
    /// It becomes jobs now.
    Enter(Admitted),
    /// The files of its model may be here, or whole again, once they are inspected.
    AwaitFiles(ModelId),
}

/// An admitted request, with every default filled in.
#[derive(Debug)]
pub(crate) struct Admitted {
    pub(crate) model: ModelId,
    pub(crate) parameters: Parameters,
    /// Where its jobs may run.
    pub(crate) device: DeviceConstraint,
}

/// Decides about a request that arrives.
///
/// # Errors
/// The refusal.
pub(crate) fn admit(state: &State, now: Moment, asked: &NewRequest) -> Result<Admission, Failure> {
    asked.request.check()?;
    let settings = state.settings();
    let name = asked.request.model.as_deref();
    let name = name.unwrap_or(&settings.default_model);
    let model = state
        .find_model(name)
        .ok_or_else(|| unknown_model(state, name))?;
    match admit_to(state, now, model, asked) {
        Err(failure) if !files_may_come(failure.kind) => Err(failure),
        // Nobody overtakes those that wait already.
        Ok(admitted) if !state.requests().waits_for(model) => Ok(Admission::Enter(admitted)),
        Ok(_) | Err(_) => {
            if !asked.is_restored() {
                check_waiting(state, now, model, asked)?;
            }
            Ok(Admission::AwaitFiles(model))
        }
    }
}

/// Admits a request to a model whose files were looked at, or says why not.
///
/// # Errors
/// The refusal.
pub(crate) fn admit_to(
    state: &State,
    now: Moment,
    model: ModelId,
    asked: &NewRequest,
) -> Result<Admitted, Failure> {
    let request = &asked.request;
    check_files(state, now, model)?;
    let spec = state.model(model).spec();
    let parameters = resolve(spec, state.settings(), request, asked.entropy)?;
    if !asked.is_restored() {
        check_count(state, asked)?;
    }
    check_device(state, model, request.device)?;
    if !asked.is_restored() {
        check_quota(state, now, model, asked)?;
    }
    check_state(state, now, model, &parameters)?;
    check_digest(state, model, asked)?;
    let admitted = Admitted {
        device: check_room(state, model, &parameters, request.device)?,
        model,
        parameters,
    };
    if !asked.is_restored() {
        check_queue(state, now, request.count, &admitted)?;
        check_deadline(state, request, &admitted)?;
    }
    Ok(admitted)
}

/// Whether a refusal is about files that may be here, or whole again, when they are looked at.
fn files_may_come(kind: FailureKind) -> bool {
    matches!(
        kind,
        FailureKind::ModelMissing | FailureKind::ModelUnusable | FailureKind::ModelUnread
    )
}

/// The refusal of a name that no model has, with the closest one.
pub(crate) fn unknown_model(state: &State, name: &str) -> Failure {
    let offered = state.models().filter(|model| !model.wanted().is_retired());
    let names = offered.map(|model| model.spec().key.as_str());
    let near = names.filter(|offered| distance(name, offered) <= offered.len() / 2 + 1);
    let nearest = near.min_by_key(|offered| distance(name, offered));
    let hint = nearest.map(|nearest| format!("; the nearest name is {nearest}"));
    let hint = hint.unwrap_or_default();
    let shown: String = name.chars().take(80).collect();
    Failure {
        field: Some(Field::Model),
        ..Failure::new(
            FailureKind::UnknownModel,
            format!("there is no model called {shown:?}{hint}"),
        )
    }
}

/// Refuses more images than the queues, or the quota of the user, can ever hold.
fn check_count(state: &State, asked: &NewRequest) -> Result<(), Failure> {
    let settings = state.settings();
    let queues = [
        ("may wait (pool.queue_per_model)", settings.queue_per_model),
        ("may wait (pool.queue_total)", settings.queue_total),
    ];
    let quota = jobs_per_hour(state, &asked.user);
    let quota = quota.map(|limit| ("the user may request in an hour (jobs_per_hour)", limit));
    let limits = queues.into_iter().chain(quota);
    let count = asked.request.count;
    match limits.min_by_key(|&(_, most)| most) {
        Some((what, most)) if count as usize > most => Err(Failure::bad_value(
            Field::Count,
            format!("{count} pictures at once are more than the {most} that {what}"),
        )),
        Some(_) | None => Ok(()),
    }
}

fn check_device(state: &State, id: ModelId, device: DeviceConstraint) -> Result<(), Failure> {
    let DeviceConstraint::On(device) = device else {
        return Ok(());
    };
    let place = device.placement();
    if !state.budget().devices().any(|known| known == device) {
        return Err(Failure::bad_value(
            Field::Device,
            format!("there is no {place} here"),
        ));
    }
    let spec = state.model(id).spec();
    match spec.residency_on(device) {
        Some(_) => Ok(()),
        None => Err(Failure::bad_value(
            Field::Device,
            format!("{} cannot run on {place}", spec.key),
        )),
    }
}

/// Refuses at once if the model's files cannot be read: the files say what the model allows, so the request
/// cannot be checked without them.
fn check_files(state: &State, now: Moment, id: ModelId) -> Result<(), Failure> {
    match &state.model(id).spec().files {
        Files::Unread | Files::Broken(_) if state.phase().refuses() => Err(draining()),
        Files::Unread | Files::Broken(_) => refusal(state, id, now).map_or(Ok(()), Err),
        Files::Here { .. } | Files::Missing(_) => Ok(()),
    }
}

fn check_state(
    state: &State,
    now: Moment,
    id: ModelId,
    parameters: &Parameters,
) -> Result<(), Failure> {
    if state.phase().refuses() {
        return Err(draining());
    }
    let holds = |failure: &Failure| match failure.kind {
        FailureKind::LoadRefused | FailureKind::ModelUnusable => !state.fleet().has_live(id),
        _ => true,
    };
    if let Some(failure) = refusal(state, id, now).filter(holds) {
        return Err(failure);
    }
    if !state.quarantine().is_empty() {
        let fingerprint = Fingerprint::of(&state.model(id).spec().digest, parameters);
        let lasts = state.settings().quarantine;
        if let Some((evidence, left)) = state.quarantine().find(&fingerprint, now, lasts) {
            let deaths = evidence.deaths().join("; ");
            return Err(quarantined(&fingerprint.name(), &deaths, left));
        }
    }
    Ok(())
}

/// Refuses a job that was accepted for other weights: it would become another picture.
fn check_digest(state: &State, id: ModelId, asked: &NewRequest) -> Result<(), Failure> {
    let spec = state.model(id).spec();
    match &asked.before {
        Some(before) if spec.differs_from(&before.digest) => Err(Failure::new(
            FailureKind::ModelFailed,
            format!(
                "the files of {} changed since the job was accepted: ask for it again",
                spec.key
            ),
        )),
        Some(_) | None => Ok(()),
    }
}

/// Refuses requests that would not fit even after evicting every evictable worker. If only some devices could
/// hold the picture, its jobs are constrained to the best of them.
fn check_room(
    state: &State,
    id: ModelId,
    parameters: &Parameters,
    device: DeviceConstraint,
) -> Result<DeviceConstraint, Failure> {
    let size = parameters.size;
    let devices = room::devices(state, id, device);
    if devices.is_empty() {
        return Err(room::nowhere(state, id));
    }
    let rooms = devices
        .iter()
        .map(|&device| (device, shortage_at_best(state, id, device, size)));
    let (able, unable): (Vec<_>, Vec<_>) = rooms.partition(|(_, short)| short.is_none());
    match (able.first(), unable.first()) {
        (Some(_), None) => Ok(device),
        (Some(&(best, _)), Some(_)) => Ok(DeviceConstraint::On(best)),
        (None, _) => {
            let short = unable.into_iter().find_map(|(_, short)| short);
            Err(cannot_fit(state, id, size, device, short))
        }
    }
}

/// Returns the memory that a picture of `size` lacks on `device` in the best case; `None` if a present worker, or one
/// more, could draw it.
fn shortage_at_best(
    state: &State,
    id: ModelId,
    device: Device,
    size: PictureSize,
) -> Option<Shortage> {
    let model = state.model(id);
    let extra = model.extra_for(device, size, Mebibytes::ZERO);
    let live = state.fleet().live(id);
    let mut there = live.filter(|worker| worker.device() == device);
    let has_room = |worker: &Worker| {
        let room = room::available(state, extra, id, Some(worker.generation()));
        room.shortage().is_none()
    };
    if there.any(has_room) {
        return None;
    }
    let base = model.need_on(device, state.settings())?;
    room::available(state, base.plus(extra), id, None).shortage()
}

fn cannot_fit(
    state: &State,
    id: ModelId,
    size: PictureSize,
    device: DeviceConstraint,
    short: Option<Shortage>,
) -> Failure {
    match (room::for_worker(state, id, device), short) {
        (Some((_, Room::Never(base))), _) if !state.fleet().has_live(id) => {
            room::memory_exhausted(state, id, base)
        }
        (_, Some(short)) => room::never_fits(state, id, size, short),
        (_, None) => Failure::new(FailureKind::NeverFits, format!("{size} never fits")),
    }
}

/// Refuses a request that would wait for files beside too many others.
fn check_waiting(
    state: &State,
    now: Moment,
    id: ModelId,
    asked: &NewRequest,
) -> Result<(), Failure> {
    check_count(state, asked)?;
    let wanted = asked.request.count as usize;
    check_places(state, now, id, wanted, wanted)?;
    check_text(state, now, id, asked.text_bytes())
}

fn check_queue(state: &State, now: Moment, count: u32, admitted: &Admitted) -> Result<(), Failure> {
    let wanted = count as usize;
    let beyond_idle = wanted.saturating_sub(can_run_at_once(state, now, admitted));
    check_places(state, now, admitted.model, wanted, beyond_idle)?;
    let bytes = text_bytes(&admitted.parameters) * wanted;
    check_text(state, now, admitted.model, bytes)
}

/// Refuses `wanted` jobs, of which `beyond_idle` would wait, where they find no places. Requests that wait for files
/// hold places for their jobs.
fn check_places(
    state: &State,
    now: Moment,
    id: ModelId,
    wanted: usize,
    beyond_idle: usize,
) -> Result<(), Failure> {
    let (settings, jobs, requests) = (state.settings(), state.jobs(), state.requests());
    let full = |places: String| {
        let why = format!("{places} are taken, {wanted} wanted");
        Err(queue_full(state, now, id, &why))
    };
    let there = jobs.queue(id).len() + requests.places(id);
    let max = settings.queue_per_model;
    if there + beyond_idle > max {
        let key = &state.model(id).spec().key;
        return full(format!("{there} of {max} places for {key}"));
    }
    let all = jobs.waiting() + requests.all_places();
    let max = settings.queue_total;
    if all + beyond_idle > max {
        return full(format!("{all} of {max} places in all"));
    }
    Ok(())
}

/// Refuses `more` bytes of text that would wait beside too many others.
fn check_text(state: &State, now: Moment, id: ModelId, more: usize) -> Result<(), Failure> {
    let bytes = state.jobs().waiting_bytes() + state.requests().text_bytes() + more;
    let max = state.settings().queue_bytes;
    match bytes > max {
        true => {
            let why = format!("{bytes} bytes of text would wait, {max} may");
            Err(queue_full(state, now, id, &why))
        }
        false => Ok(()),
    }
}

fn queue_full(state: &State, now: Moment, id: ModelId, why: &str) -> Failure {
    let after = slot_free_in(state, id, now);
    let message = format!("queue full: {why}");
    Failure::new(FailureKind::QueueFull, message).retry_after_ms(ms(after).max(1000))
}

/// Images of a request that take no place in the queue, because idle workers take them at once.
fn can_run_at_once(state: &State, now: Moment, admitted: &Admitted) -> usize {
    let id = admitted.model;
    let default_size = state.model(id).spec().default_size;
    let usual = admitted.parameters.size.pixels() <= default_size.pixels();
    let anywhere = admitted.device == DeviceConstraint::Auto;
    let none_lacks = state.models().all(|model| model.lacks().is_empty());
    let starts = state.yields_until().is_none();
    match starts && usual && anywhere && none_lacks && state.jobs().queue(id).is_empty() {
        true => takers(state, id, now).len(),
        false => 0,
    }
}

/// Refuses a time limit that cannot be kept even if no other job came first.
fn check_deadline(
    state: &State,
    request: &ImageRequest,
    admitted: &Admitted,
) -> Result<(), Failure> {
    let Some(timeout) = request.timeout_ms else {
        return Ok(());
    };
    let yields = state.yields_until().map(|until| until.since(state.now()));
    let least = least_time(state, admitted) + yields.unwrap_or_default();
    let least_ms = ms(least);
    if least_ms <= timeout {
        return Ok(());
    }
    let before = match state.jobs().queue(admitted.model).len() {
        1 => "1 job waits".to_owned(),
        jobs => format!("{jobs} jobs wait"),
    };
    let message = format!(
        "cannot be done within {timeout} ms: {before} before it and it takes at least {least_ms} ms"
    );
    Err(Failure {
        field: Some(Field::Timeout),
        ..Failure::new(FailureKind::DeadlineExceeded, message)
    })
}

/// The shortest time in which a job with these parameters can be done, by what was measured.
fn least_time(state: &State, admitted: &Admitted) -> Duration {
    let pace = state.model(admitted.model).observed().pace();
    let pixels = admitted.parameters.size.pixels();
    let own = pace
        .picture(pixels, admitted.parameters.steps)
        .unwrap_or_default();
    let mut live = state.fleet().live(admitted.model);
    if live.any(Worker::is_resident) {
        return own;
    }
    own + pace.load().unwrap_or_default() / 2
}

/// Time until a full queue is likely to have a free place.
fn slot_free_in(state: &State, id: ModelId, now: Moment) -> Duration {
    let pace = state.model(id).observed().pace();
    let live = state.fleet().live(id);
    let rests = live.filter_map(|worker| pace.rest(worker.attempt()?, now));
    rests.min().unwrap_or(Duration::from_secs(1))
}

/// Letters to change, add or drop to turn one word into the other.
fn distance(one: &str, two: &str) -> usize {
    let (one, two): (Vec<char>, Vec<char>) = (
        one.chars().take(80).collect(),
        two.chars().take(80).collect(),
    );
    let mut row: Vec<usize> = (0..=two.len()).collect();
    for (i, a) in one.iter().enumerate() {
        let mut corner = row[0];
        row[0] = i + 1;
        for (j, b) in two.iter().enumerate() {
            let changed = corner + usize::from(a != b);
            corner = row[j + 1];
            row[j + 1] = changed.min(row[j] + 1).min(row[j + 1] + 1);
        }
    }
    row[two.len()]
}
