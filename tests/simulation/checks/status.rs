//! What the pool says of itself is so: books, workers, models, jobs.

use crate::scene::span;
use ipc_protocol::ids::{Device, DeviceWish};
use ipc_protocol::status::{ModelStatus, QueuedStatus, WorkerState, WorkerStatus};
use pool::{Files, Moment, Pool};

use super::reports::place;
use super::standing::Standing;
use super::trouble::Trouble;
use crate::scene::{Hand, Life, Scene};
use crate::shadow::Verdict;

pub(super) fn check(scene: &Scene, trouble: &Trouble, now: Moment, pool: &Pool) -> Verdict {
    let snapshot = pool.snapshot(now);
    if snapshot.draining.is_some() != scene.draining {
        return Err(format!("draining: {:?}", snapshot.draining));
    }
    if snapshot.memory.len() != scene.devices.len() || snapshot.workers.len() != scene.workers.len()
    {
        return Err("a device or a worker is missing in the status".into());
    }
    let counters = &snapshot.counters;
    let counts = [
        counters.spawns,
        counters.exits,
        counters.evictions,
        counters.swaps,
    ];
    if counts != scene.counts {
        return Err(format!("{counters:?}, by our count {:?}", scene.counts));
    }
    check_books(scene, &snapshot.memory)?;
    for worker in &snapshot.workers {
        check_worker(scene, now, worker)?;
    }
    let offered = scene.models.values().filter(|model| model.offered).count();
    if snapshot.models.len() != offered {
        return Err(format!(
            "{} models are offered, {offered} are",
            snapshot.models.len()
        ));
    }
    for model in &snapshot.models {
        check_model(scene, trouble, now, pool, model)?;
    }
    snapshot
        .queue
        .iter()
        .try_for_each(|entry| check_job(scene, now, entry))
}

fn check_books(scene: &Scene, books: &[ipc_protocol::status::MemoryStatus]) -> Verdict {
    for (book, (&device, place)) in books.iter().zip(&scene.devices) {
        let theirs = (
            book.limit_mb,
            book.reserved_mb,
            book.settling_mb,
            book.measured_mb,
            book.foreign_mb,
        );
        let ours = (
            place.limit.0,
            scene.reserved(device).0,
            scene.settling_on(device, None).0,
            place.measured.map(|part| part.0),
            place.foreign.map(|part| part.0),
        );
        if book.device != device.to_string() || theirs != ours {
            return Err(format!(
                "the book of {device} is {book:?}, should be {ours:?}"
            ));
        }
    }
    Ok(())
}

fn check_worker(scene: &Scene, now: Moment, worker: &WorkerStatus) -> Verdict {
    let Some(hand) = scene.workers.get(&worker.generation) else {
        return Err(format!("{} is in the status and gone", worker.name));
    };
    let progress = match hand.life {
        Life::Starting => Some(0.0),
        Life::Loading => Some(f32::from(hand.permille) / 1000.0),
        Life::Idle | Life::Busy(_) | Life::Unwinding(_) | Life::Leaving(_) => None,
    };
    let job = hand
        .job()
        .and_then(|job| Some((job, scene.jobs.get(&job)?)));
    let right = [
        (
            "name",
            worker.name == hand.name.to_string() && worker.model == hand.name.model,
        ),
        ("place", worker.device == hand.device.placement()),
        ("pid", worker.pid == hand.pid),
        ("state", worker.state == word(hand)),
        ("jobs done", worker.jobs_done == hand.jobs_done),
        (
            "restarts",
            worker.restarts == scene.models[&worker.model].deaths,
        ),
        ("load", worker.load_progress == progress),
        ("age", seconds(worker.uptime_s, now, hand.started)),
        (
            "time in its state",
            seconds(worker.since_s, now, hand.since),
        ),
        (
            "footprint",
            worker.measured_mb == hand.footprint.map(|f| f.host.0 + f.device.0),
        ),
        (
            "job",
            worker.job.as_ref().map(|at| (at.id, at.steps))
                == job.map(|(id, task)| (id, task.steps)),
        ),
        (
            "step",
            !matches!(hand.life, Life::Busy(_))
                || worker.job.as_ref().map(|at| at.step) == job.map(|(_, task)| task.step),
        ),
        ("memory", holds(scene, hand, worker)),
    ];
    match right.iter().find(|(_, right)| !right) {
        Some((what, _)) => Err(format!("{what} of {}: {worker:?} is {hand:?}", worker.name)),
        None => Ok(()),
    }
}

fn holds(scene: &Scene, hand: &Hand, worker: &WorkerStatus) -> bool {
    let on = |device: &Device| {
        worker
            .reserved_mb
            .get(&device.to_string())
            .copied()
            .unwrap_or(0)
    };
    scene
        .devices
        .keys()
        .all(|device| on(device) == scene.held(hand, *device).0)
}

fn word(hand: &Hand) -> WorkerState {
    match hand.life {
        Life::Starting | Life::Loading => WorkerState::Starting,
        Life::Idle | Life::Busy(_) | Life::Unwinding(_) => WorkerState::Running,
        Life::Leaving(_) => WorkerState::Stopping,
    }
}

fn seconds(said: f64, now: Moment, from: Moment) -> bool {
    (said - span(now, from).as_secs_f64()).abs() < 0.001
}

fn check_model(
    scene: &Scene,
    trouble: &Trouble,
    now: Moment,
    pool: &Pool,
    status: &ModelStatus,
) -> Verdict {
    let key = &status.key;
    let Some(model) = scene.models.get(key) else {
        return Err(format!("{key} is in the status and was never offered"));
    };
    let lives = scene.live(key).next().is_some();
    if pool.has_workers(key) != lives {
        return Err(format!(
            "{key} has workers: {lives}, and the pool says the opposite"
        ));
    }
    let resident = scene.live(key).any(|(_, hand)| hand.is_resident());
    let word = match trouble.standing(scene, key, now) {
        Standing::Missing => match model.spec.files {
            Files::Broken(_) => "broken",
            Files::Unread => "cold",
            Files::Missing(_) | Files::Here { .. } => "missing",
        },
        Standing::Stopped => "cold",
        Standing::Broken(..) => "broken",
        Standing::Cooling(_) => "cooling",
        Standing::BackOff(_) | Standing::Probing | Standing::Well if resident => "ready",
        Standing::BackOff(_) | Standing::Probing | Standing::Well => "cold",
    };
    // On the first device it may run on: the fastest, then the roomiest.
    let needs = scene
        .devices
        .keys()
        .filter_map(|&at| Some(scene.need(model, at)?.get(&at)?.0));
    let right = status.pinned == model.pinned
        && status.family == model.spec.family.word()
        && status.state == word
        && status.at_rest.is_some() == scene.workers_of(key).next().is_none()
        && (scene.places(model, DeviceWish::Auto).is_empty()
            || needs.into_iter().any(|need| need == status.need_mb));
    if !right {
        return Err(format!("{status:?}, {word}, should have {model:?}"));
    }
    let Some((state, why)) = &status.at_rest else {
        return Ok(());
    };
    let says = |wanted: WorkerState, part: &str| *state == wanted && why.contains(part);
    let left = |until: Moment| format!("next try in {} s", now_left(until, now));
    let right = match trouble.standing(scene, key, now) {
        Standing::Missing => match &model.spec.files {
            Files::Broken(reason) => says(WorkerState::Fatal, reason),
            Files::Unread => says(WorkerState::Stopped, "Looking at its files"),
            Files::Missing(_) | Files::Here { .. } => says(WorkerState::Stopped, "Not started"),
        },
        Standing::Stopped => says(WorkerState::Stopped, "Stopped by operator"),
        Standing::Broken(until, failures) => {
            says(WorkerState::Fatal, &left(until)) && why.contains(&format!("{failures} times"))
        }
        Standing::Cooling(until) => says(WorkerState::Fatal, &left(until)),
        Standing::BackOff(until) => says(WorkerState::Backoff, &left(until)),
        Standing::Probing | Standing::Well => !why.is_empty(),
    };
    match right {
        true => Ok(()),
        false => Err(format!("{key} is at rest as {state:?} {why:?}")),
    }
}

fn now_left(until: Moment, now: Moment) -> u128 {
    span(until, now).as_millis().div_ceil(1000)
}

fn check_job(scene: &Scene, now: Moment, entry: &QueuedStatus) -> Verdict {
    let Some(task) = scene.jobs.get(&entry.job) else {
        return Err(format!("job {} is in the status and answered", entry.job));
    };
    let resident = || scene.live(&task.model).any(|(_, hand)| hand.is_resident());
    let coming = || scene.live(&task.model).any(|(_, hand)| hand.is_coming());
    let (state, position) = match task.on {
        Some(_) => ("running", 0),
        None if coming() && !resident() => ("loading", place(scene, entry.job)),
        None => ("waiting", place(scene, entry.job)),
    };
    let right = entry.model == task.model
        && entry.state == state
        && entry.position as usize == position
        && seconds(entry.waiting_s, now, task.accepted)
        && entry.reason.is_empty() == task.on.is_some();
    match right {
        true => Ok(()),
        false => Err(format!("{entry:?} should be {state}, place {position}")),
    }
}
