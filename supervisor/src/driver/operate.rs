//! Operators' verbs: turned into events, or answered at once where nothing has to happen.

use std::time::Duration;

use ipc_protocol::failure::{Failure, FailureKind};
use ipc_protocol::ids::JobId;
use ipc_protocol::messages::client::{Told, Verb};
use ipc_protocol::units::PictureSize;
use pool::{Drain, Event, Files, ModelSpec};
use tokio::sync::oneshot;

use super::Driver;
use super::conversation::Conversation;
use super::handle::Caller;
use super::settings::SettingsTask;
use crate::catalogue::placement;

/// Where an operator waits for lines.
pub(super) type Answer = oneshot::Sender<Result<Told, Failure>>;

impl Driver {
    pub(super) fn operate(&mut self, verb: Verb, by: &Caller, answer: Answer) {
        let ticket = self.next_ticket();
        if let Verb::Start(target) | Verb::Restart(target) = &verb {
            self.try_again(target);
        }
        let event = match verb {
            Verb::Stop(target) => Event::StopRequested { ticket, target },
            Verb::Start(target) => Event::StartRequested { ticket, target },
            Verb::Restart(target) => Event::RestartRequested { ticket, target },
            Verb::Shutdown => Event::DrainRequested {
                ticket: Some(ticket),
                drain: Drain::Exit,
            },
            Verb::Drain => Event::DrainRequested {
                ticket: Some(ticket),
                drain: Drain::Stay,
            },
            Verb::Undrain => Event::DrainRequested {
                ticket: Some(ticket),
                drain: Drain::Undo,
            },
            Verb::Pin { model, pinned } => Event::PinChanged {
                ticket,
                model,
                pinned,
            },
            Verb::Yield { seconds } => Event::YieldRequested {
                ticket,
                lasts: Duration::from_secs(u64::from(seconds)),
            },
            Verb::Evict { model } => Event::EvictRequested { ticket, model },
            Verb::Scale { model, workers } => Event::Scaled {
                ticket,
                model,
                workers,
            },
            Verb::Quarantined => Event::QuarantineListed {
                ticket,
                reader: (!by.operator).then(|| by.user.clone()),
            },
            Verb::Release { digest } => Event::QuarantineReleased { ticket, digest },
            Verb::CancelJob { job } => {
                let cancelled = self.cancel_for(by, job);
                return answer_now(answer, cancelled);
            }
            Verb::Signal { signal, target } => {
                return answer_now(answer, Ok(self.signal_workers(&signal, &target)));
            }
            Verb::Clear(target) => return answer_now(answer, Ok(self.clear_logs(&target))),
            Verb::Reread => return self.with_settings(SettingsTask::Compare(answer)),
            Verb::Update { models } => {
                return self.with_settings(SettingsTask::Update { models, answer });
            }
            Verb::Reload => return self.with_settings(SettingsTask::Reload(answer)),
            Verb::Why { job } => return answer_now(answer, self.explain(job)),
            Verb::Plan { model, size } => return answer_now(answer, self.plan(&model, size)),
        };
        self.operators.insert(ticket, answer);
        self.happen(event);
    }

    fn cancel_for(&mut self, caller: &Caller, job: JobId) -> Result<Told, Failure> {
        if self.user_of(job).is_none() {
            return Err(no_such_job(job));
        }
        if !self.owns(caller, job) {
            return Err(Failure::new(
                FailureKind::NotPermitted,
                format!("job {job} is another user's; only that user and operators may cancel it"),
            ));
        }
        let by = match caller.operator {
            true => "an operator".to_owned(),
            false => caller.user.clone(),
        };
        self.happen(Event::RequestCancelled { job, by });
        Ok(done(vec![format!("{job}: cancelled")]))
    }

    /// Whether a job is the caller's to end.
    pub(super) fn owns(&self, caller: &Caller, job: JobId) -> bool {
        self.user_of(job).is_some_and(|user| caller.owns(user))
    }

    /// The user whom a job, or a job to be, counts for.
    fn user_of(&self, job: JobId) -> Option<&str> {
        let accepted = self.jobs.get(&job).map(|job| job.fields.user.as_str());
        accepted.or_else(|| Some(self.awaited_by(job)?.user.as_str()))
    }

    fn explain(&self, job: JobId) -> Result<Told, Failure> {
        let reason = self.pool.explain(self.clock.now(), job);
        let awaited = self.awaited_by(job).and_then(Conversation::awaited);
        let far = awaited.map(|files| self.how_far(&files.model));
        reason
            .map(|reason| done(vec![reason + &far.unwrap_or_default()]))
            .ok_or_else(|| no_such_job(job))
    }

    fn plan(&self, model: &str, size: Option<PictureSize>) -> Result<Told, Failure> {
        // What its files say of its need is not known.
        if let Some(failure) = self.registry.find(model).and_then(unusable) {
            return Err(failure);
        }
        let mut plan = self.pool.plan(model, size)?;
        let spec = self.registry.find(model);
        let served = spec.and_then(|spec| Some((spec, self.catalogue.get(&spec.key)?)));
        if let Some((spec, served)) = served {
            let size = size.unwrap_or(spec.default_size);
            let lines = placement::lines(&served.on_cuda, served.cuda, size);
            plan.lines.extend(lines);
        }
        Ok(Told {
            success: plan.possible,
            ..done(plan.lines)
        })
    }
}

fn done(lines: Vec<String>) -> Told {
    Told {
        lines,
        success: true,
        more: false,
    }
}

/// Returns why a model's need is unknown.
fn unusable(spec: &ModelSpec) -> Option<Failure> {
    let key = &spec.key;
    match &spec.files {
        Files::Broken(why) => Some(Failure::new(
            FailureKind::ModelUnusable,
            format!("{key} cannot be loaded: {why}"),
        )),
        Files::Unread => Some(Failure::new(
            FailureKind::ModelUnread,
            format!("the files of {key} are being looked at"),
        )),
        Files::Here { .. } | Files::Missing(_) => None,
    }
}

/// A door that no longer waits for an answer needs none.
fn answer_now(answer: Answer, told: Result<Told, Failure>) {
    let _ = answer.send(told);
}

fn no_such_job(job: JobId) -> Failure {
    Failure::new(
        FailureKind::NoSuchName,
        format!("job {job} is answered already, or never was"),
    )
}
