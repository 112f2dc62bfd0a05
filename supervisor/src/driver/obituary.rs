//! Writes the obituary of each worker that ended.
//!
//! It has the facts of the loop, the pool's verdict about the end, and what the pool did about it.

use ipc_protocol::ids::{Generation, JobId, ModelKey, WorkerName};
use ipc_protocol::obituary::Obituary;
use ipc_protocol::status::{WorkerState, WorkerStatus};
use pool::{Action, EndClass, Exit, KilledBy, Notice, Outcome, how_ended};

use super::Driver;
use super::worker::WorkerHandle;

/// A worker as it was when its process ended, until the pool has decided about its end.
#[derive(Debug)]
pub(super) struct EndedWorker {
    /// The facts that do not depend on the pool's verdict.
    facts: Obituary,
    exit: Option<Exit>,
}

/// The pool's verdict about an end.
struct Verdict {
    class: EndClass,
    sentence: String,
    in_a_row: u32,
    /// Seconds until another worker may start.
    backoff_s: f64,
}

impl Driver {
    /// Keeps the facts of a worker that is about to be forgotten.
    pub(super) fn note_ended(&mut self, worker: Generation) {
        if let Some(ended) = self.ended(worker) {
            self.ended.insert(worker, ended);
        }
    }

    fn ended(&self, worker: Generation) -> Option<EndedWorker> {
        let handle = self.workers.get(&worker)?;
        let status = self.pool.worker(self.clock.now(), worker);
        let status = status.as_ref();
        let running = handle.running.as_ref();
        let of_status = status.and_then(|status| status.job.as_ref());
        let job = of_status
            .map(|job| (job.id, job.step, job.steps))
            .or_else(|| running.map(|job| (job.job, job.step, job.steps)));
        let entry = job.and_then(|(job, ..)| self.jobs.get(&job));
        let started = entry.and_then(|entry| entry.started.as_ref());
        let held = *handle
            .held
            .lock()
            .expect("no holder of this lock can panic");
        let facts = Obituary {
            generation: worker.0,
            time: self.clock.date(),
            supervisor_pid: self.identity.pid,
            uptime_s: status.map_or(0.0, |status| status.uptime_s),
            state: state(status, job.is_some()).to_owned(),
            load_progress: status.and_then(|status| status.load_progress),
            job: job.map(|(job, ..)| job.0),
            attempt: started.map(|started| started.attempt),
            step: job.map(|(_, step, _)| step),
            steps: job.map(|(.., steps)| steps),
            jobs_done: status.map_or(0, |status| status.jobs_done),
            reserved_mb: status
                .map(|status| status.reserved_mb.clone())
                .unwrap_or_default(),
            measured_mb: status.and_then(|status| status.measured_mb),
            peak_mb: held.map(|held| held.peak >> 20),
            files: self.digest_of(worker),
            ..of_handle(handle)
        };
        Some(EndedWorker {
            facts,
            exit: handle.exit,
        })
    }

    /// Writes the obituaries of the workers that these actions report as ended, unless the pool wanted that.
    pub(super) fn keep_obituaries(&mut self, actions: &[Action]) {
        for action in actions {
            if let Action::Tell(notice) = action
                && let Some((ended, verdict)) = self.verdict(notice)
            {
                let model = ended.facts.model.clone();
                let next = consequences(actions, ended.facts.job, &model, &verdict);
                self.obituaries.add(written(ended, verdict, next));
            }
        }
    }

    /// The worker that a notice reports as ended, and the verdict.
    fn verdict(&mut self, notice: &Notice) -> Option<(EndedWorker, Verdict)> {
        if let Notice::Died {
            worker,
            name,
            exit,
            why,
            doing,
            in_a_row,
            backoff,
            ..
        } = notice
        {
            let how = how_ended(*exit, *why);
            let verdict = Verdict {
                class: EndClass::of(*exit, *why),
                sentence: format!("{name} {how} while {doing}"),
                in_a_row: *in_a_row,
                backoff_s: backoff.as_secs_f64(),
            };
            return Some((self.ended.remove(worker)?, verdict));
        }
        if let Notice::Left { worker, .. } = notice {
            // The log of its name still has its lines.
            self.ended.remove(worker);
            return None;
        }
        if let Notice::SpawnFailed { name, message } = notice {
            let class = EndClass::NotStarted;
            let sentence = format!("{name} did not start: {message}");
            let ended = self.take_ended(name)?;
            return Some((ended, Verdict::plain(class, sentence)));
        }
        if let Notice::NotReaped {
            worker,
            name,
            since,
        } = notice
        {
            let class = EndClass::NotReaped;
            let since = since.as_secs();
            let sentence =
                format!("{name} was killed {since} s ago and the kernel has not ended it");
            return Some((self.ended(*worker)?, Verdict::plain(class, sentence)));
        }
        None
    }

    fn take_ended(&mut self, name: &WorkerName) -> Option<EndedWorker> {
        let name = name.to_string();
        let mut ended = self.ended.iter();
        let (worker, _) = ended.find(|(_, ended)| ended.facts.worker == name)?;
        let worker = *worker;
        self.ended.remove(&worker)
    }
}

impl Verdict {
    fn plain(class: EndClass, sentence: String) -> Self {
        Self {
            class,
            sentence,
            in_a_row: 0,
            backoff_s: 0.0,
        }
    }
}

/// The word for a worker's state.
fn state(status: Option<&WorkerStatus>, has_job: bool) -> &'static str {
    match status.map(|status| status.state) {
        Some(WorkerState::Starting) | None => "starting",
        Some(WorkerState::Running) if has_job => "busy",
        Some(WorkerState::Running) => "idle",
        Some(WorkerState::Stopping) => "stopping",
        // A worker that exists has none of these states.
        Some(
            WorkerState::Stopped | WorkerState::Backoff | WorkerState::Exited | WorkerState::Fatal,
        ) => "unknown",
    }
}

/// The facts that the loop's entry of a worker has; all others are empty.
fn of_handle(handle: &WorkerHandle) -> Obituary {
    Obituary {
        worker: handle.name.to_string(),
        model: handle.model.to_string(),
        pid: handle.pid(),
        device: handle.device.placement(),
        message: handle.load_error.clone(),
        lines: handle.stderr.newest(usize::MAX),
        ..Obituary::default()
    }
}

fn written(ended: EndedWorker, verdict: Verdict, next: Vec<String>) -> Obituary {
    let exit_code = match ended.exit {
        Some(Exit::Code(code)) => Some(code),
        Some(Exit::Signal { .. }) | None => None,
    };
    let signal = match ended.exit {
        Some(Exit::Signal { signal, by }) => Some((signal, by)),
        Some(Exit::Code(_)) | None => None,
    };
    let class = ended.exit.map(|exit| EndClass::of(exit, None));
    let sent = signal.zip(class);
    let sender = sent.map(|((_, by), class)| sender(by, class).to_owned());
    Obituary {
        class: verdict.class.word().to_owned(),
        sentence: verdict.sentence,
        exit_code,
        signal: signal.map(|(signal, _)| signal),
        sender,
        in_a_row: verdict.in_a_row,
        backoff_s: verdict.backoff_s,
        next,
        ..ended.facts
    }
}

/// The sender of a signal, in a word; `class` is the end's without a reason to stop. SIGSEGV, SIGBUS and the like are
/// raised by a fault or sent by another process: the kernel does not report which.
fn sender(by: KilledBy, class: EndClass) -> &'static str {
    match by {
        KilledBy::Us => "us",
        KilledBy::Operator => "operator",
        KilledBy::KernelOom | KilledBy::OwnLimit | KilledBy::CutFile => "kernel",
        KilledBy::AllocationFailed => "itself",
        KilledBy::Other if class == EndClass::Killed => "other",
        KilledBy::Other => "unknown",
    }
}

/// The consequences of an end, from the actions of the same turn.
fn consequences(
    actions: &[Action],
    job: Option<u64>,
    model: &str,
    verdict: &Verdict,
) -> Vec<String> {
    let of_job = |id: &JobId| job == Some(id.0);
    let of_model = |key: &ModelKey| key.as_str() == model;
    let mut next: Vec<String> = actions
        .iter()
        .filter_map(|action| of_action(action, &of_job, &of_model))
        .collect();
    let starts = |action: &Action| matches!(action, Action::Start(start) if of_model(&start.model));
    if !actions.iter().any(starts) {
        next.push(match verdict.backoff_s {
            0.0 => "another worker may start as soon as one is needed".into(),
            seconds => format!("another worker may start in {seconds} s"),
        });
    }
    next
}

fn of_action(
    action: &Action,
    of_job: &impl Fn(&JobId) -> bool,
    of_model: &impl Fn(&ModelKey) -> bool,
) -> Option<String> {
    if let Action::Start(start) = action
        && of_model(&start.model)
    {
        let (name, worker) = (&start.name, start.worker);
        return Some(format!("{name} (generation {worker}) is started"));
    }
    if let Action::Answer {
        job,
        outcome: Outcome::Failure(failure),
    } = action
        && of_job(job)
    {
        return Some(format!("job {job} failed: {failure}"));
    }
    let Action::Tell(notice) = action else {
        return None;
    };
    of_notice(notice, of_job, of_model)
}

fn of_notice(
    notice: &Notice,
    of_job: &impl Fn(&JobId) -> bool,
    of_model: &impl Fn(&ModelKey) -> bool,
) -> Option<String> {
    if let Notice::PlacedAgain {
        job,
        resume_step,
        attempt,
    } = notice
        && of_job(job)
    {
        return Some(match resume_step {
            0 => format!("job {job} waits for attempt {attempt}, from its first step"),
            step => {
                format!("job {job} waits for attempt {attempt}, which resumes after step {step}")
            }
        });
    }
    if let Notice::Quarantined { job, digest, .. } = notice
        && of_job(job)
    {
        return Some(format!("job {job} is quarantined as {digest}"));
    }
    if let Notice::BreakerOpened {
        model,
        failures,
        for_long,
        ..
    } = notice
        && of_model(model)
    {
        let seconds = for_long.as_secs();
        return Some(format!(
            "{model} failed {failures} times in a row and is not started for {seconds} s"
        ));
    }
    if let Notice::LoadCooling {
        model, for_long, ..
    } = notice
        && of_model(model)
    {
        let seconds = for_long.as_secs();
        return Some(format!("{model} is not loaded again for {seconds} s"));
    }
    None
}
