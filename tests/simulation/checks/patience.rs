//! How long a worker with a job may go without progress, by what was measured of its model.

use std::time::Duration;

use crate::scene::{Hand, Life, Scene};

/// A wait is never taken for too long before so many usual steps.
const STEPS_OF_PATIENCE: u32 = 10;

/// The shortest after which a worker with a job is said to be stuck.
pub(super) fn shortest(scene: &Scene, hand: &Hand) -> Duration {
    let patience = &scene.settings.patience;
    let pace = &scene.models[&hand.name.model].pace;
    let Some(task) = hand.job().and_then(|job| scene.jobs.get(&job)) else {
        return patience.step;
    };
    let slack = Duration::from_millis(50);
    let times = |usual: Duration| {
        (usual * STEPS_OF_PATIENCE)
            .saturating_sub(slack)
            .max(patience.step)
    };
    let Some(step) = pace.least_step(task.size.pixels()) else {
        return patience.first_step;
    };
    if task.step >= task.steps {
        return pace
            .decode
            .map_or(patience.decode, |decode| times(decode.least));
    }
    if task.step == task.from_step {
        return pace
            .encode
            .map_or(patience.first_step, |encode| times(encode.least + step));
    }
    times(step)
}

/// The longest that a worker with a job may go without progress.
pub(super) fn longest(scene: &Scene, hand: &Hand) -> Duration {
    let patience = &scene.settings.patience;
    let pace = &scene.models[&hand.name.model].pace;
    let unknown = patience.first_step.max(patience.decode);
    let Life::Busy(job) = hand.life else {
        return unknown.max(Duration::from_secs(600));
    };
    let task = &scene.jobs[&job];
    let times =
        |usual: Duration| (usual * STEPS_OF_PATIENCE).max(patience.step) + Duration::from_secs(1);
    let Some(step) = pace.most_step(task.size.pixels()) else {
        return unknown;
    };
    if task.step >= task.steps {
        return pace
            .decode
            .map_or(patience.decode, |decode| times(decode.most));
    }
    if task.step == task.from_step {
        return pace
            .encode
            .map_or(patience.first_step, |encode| times(encode.most + step));
    }
    times(step)
}
