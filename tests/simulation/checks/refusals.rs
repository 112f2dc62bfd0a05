//! Refused are exactly the requests that our own count would refuse, with the right numbers.

use std::time::Duration;

use ipc_protocol::failure::{Failure, FailureKind, Field};
use ipc_protocol::ids::{Device, DeviceWish, ModelKey};
use ipc_protocol::request::ImageRequest;
use pool::{AcceptedJobs, Action, Event, Moment, Outcome};

use super::standing::Standing;
use super::trouble::Trouble;
use super::words::{names_field, names_nearest, says_sums, says_when};
use crate::scene::{Model, Scene, Task};
use crate::shadow::Verdict;

pub(super) fn check(
    scene: &Scene,
    trouble: &Trouble,
    now: Moment,
    event: &Event,
    action: &Action,
) -> Verdict {
    match (action, event) {
        (Action::Refuse { failure, .. }, Event::RequestArrived { request, .. }) => {
            refused(scene, trouble, now, request, failure)
        }
        (Action::Accept(accepted), Event::RequestArrived { request, .. }) => {
            entered(scene, trouble, now, request, accepted)
        }
        (
            Action::Answer {
                job,
                outcome: Outcome::Failure(failure),
            },
            _,
        ) => match scene.jobs.get(job) {
            Some(task) => failed(scene, task, failure),
            None => Ok(()),
        },
        _ => Ok(()),
    }
}

/// A failure says what it is about, and a job that had room does not end for lack of it.
fn failed(scene: &Scene, task: &Task, failure: &Failure) -> Verdict {
    let text = &failure.message;
    let model = &scene.models[&task.model];
    let right = match failure.kind {
        FailureKind::Quarantined if task.accused() >= scene.settings.max_attempts as usize => {
            let accused = task.losses.iter().filter(|(_, _, accused)| *accused);
            accused
                .clone()
                .all(|(name, how, _)| text.contains(name) && text.contains(how))
        }
        FailureKind::WorkerLost => {
            let last = task.losses.iter().rev().take(3);
            let count = format!(" {} times", task.losses.len());
            let all = last
                .clone()
                .all(|(name, how, _)| text.contains(name) && text.contains(how));
            all && text.contains(&count) && failure.retry_after_ms.is_some()
        }
        FailureKind::MemoryExhausted if text.starts_with("ran out of memory") => {
            let last = task.losses.last();
            last.is_some_and(|(name, how, _)| text.contains(name) && text.contains(how))
        }
        FailureKind::MemoryExhausted if scene.devices.len() == 1 && !scene.comes_back() => {
            let need = scene.need(model, Device::Host).unwrap_or_default();
            let best = scene.at_best(Device::Host, &scene.staying());
            need.values().any(|&part| part > best) && text.contains(task.model.as_str())
        }
        FailureKind::Stopped
        | FailureKind::ModelMissing
        | FailureKind::ModelUnusable
        | FailureKind::ModelUnread
        | FailureKind::LoadRefused
        | FailureKind::ModelBroken => {
            text.contains(task.model.as_str()) && scene.live(&task.model).next().is_none()
        }
        FailureKind::UnknownModel => {
            text.contains(task.model.as_str()) && failure.field == Some(Field::Model)
        }
        FailureKind::NeverFits => text.contains(&task.size.to_string()),
        _ => !text.is_empty(),
    };
    match right {
        true => Ok(()),
        false => Err(format!("a job ends with {failure:?}: {task:?}")),
    }
}

/// What must be refused is not let in.
fn entered(
    scene: &Scene,
    trouble: &Trouble,
    now: Moment,
    request: &ImageRequest,
    accepted: &AcceptedJobs,
) -> Verdict {
    let key = &accepted.model;
    let model = &scene.models[key];
    let lives = scene.live(key).next().is_some();
    match trouble.standing(scene, key, now) {
        Standing::Missing | Standing::Stopped | Standing::Broken(..) => {
            return Err(format!(
                "let in while {key} is {:?}",
                trouble.standing(scene, key, now)
            ));
        }
        Standing::Cooling(_) if !lives => return Err(format!("let in while {key} cannot load")),
        Standing::Cooling(_) | Standing::BackOff(_) | Standing::Probing | Standing::Well => {}
    }
    let places = scene.places(model, request.device);
    // Where others hold much, it may become true later.
    let squeezed = scene.devices.keys().any(|&at| scene.is_squeezed(at));
    if !squeezed
        && !places
            .iter()
            .any(|&at| scene.could_have(key, at, accepted.size))
    {
        return Err(format!(
            "let in {} of {key}, which never fits",
            accepted.size
        ));
    }
    if is_full(
        scene,
        key,
        request,
        scene.live(key).filter(|(_, hand)| hand.is_idle()).count(),
    ) {
        return Err(format!(
            "let in {} of {key}, for which no place is left",
            request.count
        ));
    }
    let least = least_time(scene, model, accepted.size.pixels(), accepted.steps);
    let limit = request.timeout_ms.map(Duration::from_millis);
    match limit.is_some_and(|limit| limit + Duration::from_millis(1) < least.0) {
        true => Err(format!("let in for {limit:?}, it takes {least:?}")),
        false => Ok(()),
    }
}

/// One more worker fits there once every worker that may leave has left. Memory that others take on one of
/// its devices, host memory of a GPU worker included, can come back at any time: it is no reason for "never".
fn starts(scene: &Scene, model: &Model, at: Device) -> bool {
    let staying = scene.staying();
    let need = scene.need(model, at).unwrap_or_default();
    need.iter()
        .all(|(&on, &part)| scene.is_squeezed(on) || part <= scene.at_best(on, &staying))
}

/// More than may wait, where so many are taken at once.
fn is_full(scene: &Scene, key: &ModelKey, request: &ImageRequest, at_once: usize) -> bool {
    let settings = &scene.settings;
    let waiting = scene.waiting(key).count();
    let count = request.count as usize;
    let more = count.saturating_sub(at_once);
    let waits = || {
        scene
            .models
            .keys()
            .flat_map(|key| scene.waiting(key))
            .map(|(_, task)| task)
    };
    let bytes = request.prompt.len() + request.negative.as_ref().map_or(0, String::len);
    let held: usize = waits().map(|task| task.bytes).sum();
    waiting + more > settings.queue_per_model
        || waits().count() + more > settings.queue_total
        || held + bytes * count > settings.queue_bytes
}

/// What a picture is known to take at least, between two bounds: the pool's estimate is one of them.
fn least_time(scene: &Scene, model: &Model, pixels: u64, steps: u32) -> (Duration, Duration) {
    let own = model.pace.picture(pixels, steps).unwrap_or_default();
    let resident = scene
        .live(&model.spec.key)
        .any(|(_, hand)| hand.is_resident());
    let load = model.pace.load.filter(|_| !resident).unwrap_or_default();
    (own.least + load.least / 2, own.most + load.most / 2)
}

/// A refusal is for what is so.
fn refused(
    scene: &Scene,
    trouble: &Trouble,
    now: Moment,
    request: &ImageRequest,
    failure: &Failure,
) -> Verdict {
    let name = request
        .model
        .as_ref()
        .unwrap_or(&scene.settings.default_model);
    let Some(model) = scene.called(name) else {
        return names_nearest(scene, name, failure);
    };
    let key = &model.spec.key;
    let (size, text) = (
        request.size.unwrap_or(model.spec.default_size),
        &failure.message,
    );
    let right = match failure.kind {
        FailureKind::MemoryExhausted | FailureKind::NeverFits => {
            let places = scene.places(model, request.device);
            let able = places.iter().any(|&at| scene.could_have(key, at, size));
            let nobody = scene.live(key).next().is_none();
            let seeds = nobody
                && !scene
                    .places(model, request.device)
                    .iter()
                    .any(|&at| starts(scene, model, at));
            let kind = failure.kind == FailureKind::MemoryExhausted;
            !able && (kind || !seeds) && says_sums(scene, model, failure, size)
        }
        FailureKind::QueueFull => {
            let at_once = takers(scene, trouble, now, model, request);
            let wait = failure
                .retry_after_ms
                .is_some_and(|ms| says_when(scene, now, model, ms));
            is_full(scene, key, request, at_once) && wait
        }
        FailureKind::DeadlineExceeded => {
            let steps = request.steps.unwrap_or(model.spec.default_steps);
            let most = least_time(scene, model, size.pixels(), steps).1;
            let waiting = scene.waiting(key).count();
            let limit = request.timeout_ms.map(Duration::from_millis);
            limit.is_some_and(|limit| limit < most)
                && failure.field == Some(Field::Timeout)
                && text.contains(&format!("{waiting} jobs wait"))
        }
        FailureKind::ModelBroken => {
            matches!(trouble.standing(scene, key, now), Standing::Broken(..))
        }
        FailureKind::LoadRefused => {
            matches!(trouble.standing(scene, key, now), Standing::Cooling(_))
                && scene.live(key).next().is_none()
        }
        FailureKind::Stopped => model.stopped,
        FailureKind::Quarantined => {
            text.contains("signal") || text.contains("code") || text.contains("out of memory")
        }
        FailureKind::BadValue => !text.is_empty() && names_field(scene, model, request, failure),
        _ => true,
    };
    match right {
        true => Ok(()),
        false => Err(format!("refused with {failure:?}: {request:?}")),
    }
}

/// Idle workers that certainly take pictures of this request at once.
fn takers(
    scene: &Scene,
    trouble: &Trouble,
    now: Moment,
    model: &Model,
    request: &ImageRequest,
) -> usize {
    let key = &model.spec.key;
    let size = request.size.unwrap_or(model.spec.default_size);
    let nobody_waits = scene.oldest().is_none();
    let usual =
        size.pixels() <= model.spec.default_size.pixels() && request.device == DeviceWish::Auto;
    let everywhere = scene
        .places(model, DeviceWish::Auto)
        .iter()
        .all(|&at| scene.could_have(key, at, size));
    let well = trouble.standing(scene, key, now) == Standing::Well;
    match nobody_waits && usual && everywhere && well {
        true => scene
            .live(key)
            .filter(|(_, hand)| hand.is_idle() && !hand.outdated)
            .count(),
        false => 0,
    }
}
