//! Idle workers leave one per idle time, least recently used first, down to the minimum.

use std::collections::BTreeMap;

use ipc_protocol::failure::FailureKind;
use ipc_protocol::ids::{Generation, ModelKey};
use pool::{Action, Event, Moment, Notice, Outcome, StopReason};

use crate::scene::Scene;
use crate::shadow::Verdict;

#[derive(Debug, Default)]
pub(super) struct Idle {
    since: BTreeMap<ModelKey, Moment>,
}

impl Idle {
    pub(super) fn check(&mut self, scene: &Scene, now: Moment, action: &Action) -> Verdict {
        match action {
            Action::Start(start) => {
                self.since.remove(&start.model);
                Ok(())
            }
            Action::Tell(Notice::Stopping {
                worker,
                name,
                why: StopReason::Idle,
            }) => {
                let since = self.since.insert(name.model.clone(), now);
                self.check_leave(scene, now, *worker, &name.model, since)
            }
            _ => Ok(()),
        }
    }

    fn check_leave(
        &self,
        scene: &Scene,
        now: Moment,
        worker: Generation,
        key: &ModelKey,
        since: Option<Moment>,
    ) -> Verdict {
        if since.is_none_or(|since| now < since + scene.settings.idle) {
            return Err(format!(
                "{key} is idle since {since:?} and loses a worker at {now}"
            ));
        }
        let left = |id: Generation| {
            let hand = &scene.workers[&id];
            hand.stops.map_or(hand.since, |stops| stops.from)
        };
        let floor = scene.floor(&scene.models[key]);
        let stay: Vec<Generation> = scene.live(key).map(|(id, _)| id).collect();
        if stay.len() < floor {
            return Err(format!(
                "{key} keeps {} workers, {floor} should stay",
                stay.len()
            ));
        }
        match stay
            .iter()
            .find(|&&id| (left(id), id) < (left(worker), worker))
        {
            Some(other) => Err(format!(
                "worker {worker} leaves, {other} is idle for longer"
            )),
            None => Ok(()),
        }
    }

    pub(super) fn check_event(&mut self, scene: &Scene, now: Moment, event: &Event) -> Verdict {
        for (key, model) in &scene.models {
            let all = scene.live(key).all(|(_, hand)| hand.is_idle());
            let idle =
                all && scene.live(key).next().is_some() && scene.waiting(key).next().is_none();
            if !idle {
                self.since.remove(key);
                continue;
            }
            let since = *self.since.entry(key.clone()).or_insert(now);
            let spare = scene.live(key).count() > scene.floor(model);
            if spare && *event == Event::DeadlineReached && since + scene.settings.idle < now {
                return Err(format!("{key} is idle since {since} and nobody leaves"));
            }
        }
        Ok(())
    }
}

/// The model of a job that somebody stopped waiting for.
pub(super) fn unwanted(scene: &Scene, action: &Action) -> Option<ModelKey> {
    let Action::Answer {
        job,
        outcome: Outcome::Failure(failure),
    } = action
    else {
        return None;
    };
    let given_up = [FailureKind::Cancelled, FailureKind::DeadlineExceeded];
    let task = given_up.contains(&failure.kind).then_some(job)?;
    scene.jobs.get(task).map(|task| task.model.clone())
}

/// For jobs that nobody waits for any more one load goes on, and no second.
pub(super) fn check_loads(scene: &Scene, unwanted: Vec<ModelKey>, actions: &[Action]) -> Verdict {
    // The last that waited may have gone to a worker after the loads were looked at.
    let runs = actions
        .iter()
        .any(|action| matches!(action, Action::Run(_)));
    for key in unwanted.into_iter().filter(|_| !runs) {
        let (live, floor) = (scene.live(&key).count(), scene.floor(&scene.models[&key]));
        let coming = scene.live(&key).filter(|(_, hand)| hand.is_coming());
        if coming.count() > 1 && live > floor && scene.waiting(&key).next().is_none() {
            return Err(format!(
                "{key} loads twice and nobody waits for it any more"
            ));
        }
    }
    Ok(())
}
