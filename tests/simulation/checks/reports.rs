//! Who has to be told is told: places, loads, starts and steps.

use crate::scene::span;
use ipc_protocol::ids::JobId;
use pool::{Action, Moment, Notice, Outcome, Progress};

use crate::scene::{News, Scene, Task};
use crate::shadow::Verdict;

/// The first so many that wait are told how a load goes.
const TOLD: usize = 8;

/// A report says what is so.
pub(super) fn check(scene: &Scene, action: &Action) -> Verdict {
    if let Action::Tell(Notice::PlacedAgain {
        job,
        resume_step,
        attempt,
    }) = action
    {
        let right = |task: &Task| *resume_step == task.step && *attempt == task.attempts + 1;
        return match scene.jobs.get(job).is_some_and(right) {
            true => Ok(()),
            false => Err(format!("{action:?}: {:?}", scene.jobs.get(job))),
        };
    }
    let Action::Report { job, progress } = action else {
        return Ok(());
    };
    let Some(task) = scene.jobs.get(job) else {
        return Ok(());
    };
    let right = match progress {
        Progress::Waiting { position, reason } => {
            task.on.is_none()
                && *position as usize == place(scene, *job)
                && (reason.contains(task.model.as_str())
                    || reason.contains("one more worker needs "))
        }
        Progress::Loading { permille } => {
            matches!(scene.news, News::Loaded(_, now) if now == *permille) && task.on.is_none()
        }
        Progress::Started {
            worker,
            attempt,
            resume_step,
        } => {
            let on = task.on.and_then(|on| scene.workers.get(&on));
            on.is_some_and(|hand| hand.name == *worker)
                && *attempt == task.attempts
                && *resume_step == task.resume_step
        }
        Progress::Step { index, total, .. } => {
            scene.news == News::Stepped(*job, *index) && *total == task.steps
        }
    };
    match right {
        true => Ok(()),
        false => Err(format!(
            "job {job} is told {progress:?}, place {}",
            place(scene, *job)
        )),
    }
}

/// Its place among those that wait for its model, from 1.
pub(super) fn place(scene: &Scene, job: JobId) -> usize {
    let Some(task) = scene.jobs.get(&job) else {
        return 0;
    };
    scene
        .waiting(&task.model)
        .take_while(|(id, _)| *id < job)
        .count()
        + 1
}

/// Whom the event or its actions concern was told.
pub(super) fn check_event(scene: &Scene, now: Moment, actions: &[Action]) -> Verdict {
    check_news(scene, now, actions)?;
    for action in actions {
        match action {
            Action::Run(run) => {
                let started = |p: &Progress| matches!(p, Progress::Started { .. });
                if !is_told(actions, run.job, started) {
                    return Err(format!("job {} runs and is not told so", run.job));
                }
                let ends = |action: &Action| {
                    matches!(
                        action,
                        Action::Answer {
                            outcome: Outcome::Failure(_),
                            ..
                        }
                    )
                };
                if actions.iter().any(ends) {
                    continue;
                }
                let model = scene.workers.get(&run.worker).map(|hand| &hand.name.model);
                let next = model.and_then(|model| scene.waiting(model).next());
                let waits = |p: &Progress| matches!(p, Progress::Waiting { .. });
                if let Some((next, _)) = next.filter(|(next, _)| !is_told(actions, *next, waits)) {
                    return Err(format!(
                        "job {} runs and job {next} is not told its place",
                        run.job
                    ));
                }
            }
            Action::Accept(accepted) => {
                for &job in &accepted.jobs {
                    let waits = |p: &Progress| matches!(p, Progress::Waiting { .. });
                    let still = scene.jobs.get(&job).is_some_and(|task| task.on.is_none());
                    if still && !is_told(actions, job, waits) {
                        return Err(format!("job {job} waits and is not told its place"));
                    }
                }
            }
            _ => {}
        }
    }
    Ok(())
}

fn check_news(scene: &Scene, now: Moment, actions: &[Action]) -> Verdict {
    match scene.news {
        News::Loaded(worker, permille) => {
            let Some(hand) = scene.workers.get(&worker) else {
                return Ok(());
            };
            let model = &hand.name.model;
            if scene.live(model).any(|(_, hand)| hand.is_resident()) {
                return Ok(());
            }
            let loads = |p: &Progress| *p == Progress::Loading { permille };
            match scene
                .waiting(model)
                .take(TOLD)
                .find(|(id, _)| !is_told(actions, *id, loads))
            {
                Some((job, _)) => Err(format!("job {job} is not told that {model} loads")),
                None => Ok(()),
            }
        }
        News::Stepped(job, step) => {
            let Some(task) = scene.jobs.get(&job) else {
                return Ok(());
            };
            let elapsed = span(now, task.began);
            let step = Progress::Step {
                index: step,
                total: task.steps,
                elapsed,
            };
            match is_told(actions, job, |p| *p == step) {
                true => Ok(()),
                false => Err(format!("job {job} is not told of {step:?}")),
            }
        }
        News::Nothing | News::Impossible(_) | News::Died(_) | News::Left(_) => Ok(()),
    }
}

fn is_told(actions: &[Action], whom: JobId, what: impl Fn(&Progress) -> bool) -> bool {
    actions.iter().any(|action| match action {
        Action::Report { job, progress } => *job == whom && what(progress),
        _ => false,
    })
}
