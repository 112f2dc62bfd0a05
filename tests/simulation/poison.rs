//! Requests that crash workers, among thousands of good ones, cost no other request its picture.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use ipc_protocol::failure::FailureKind;
use ipc_protocol::ids::{Generation, JobId};
use ipc_protocol::request::ImageRequest;
use ipc_protocol::units::Mebibytes;
use pool::{
    Action, Event, Exit, Files, KilledBy, ModelSpec, Moment, Outcome, Phases, Pool, Registry, Run,
    Settings, Ticket,
};

use crate::first_requests::comes_up;
use crate::plan::WorldPlan;
use crate::random::SeededRandom;

/// Good requests of a crowd.
const GOOD: u64 = 5_000;
/// Requests that crash their worker, spread among the good ones.
const POISON: u64 = 100;
/// Workers that one poison prompt may bring down.
const DEATHS_MAX: u64 = 2;

/// Checks crowds with one worker and with several, and with one poison prompt and with many; the error names the crowd
/// that failed.
pub(crate) fn check() -> Result<(), String> {
    for (workers, prompts) in [(1, 1), (1, 25), (4, 1), (4, 25)] {
        let mut crowd = Crowd::new(workers, prompts)?;
        let lived = crowd.live();
        lived.map_err(|what| format!("{workers} workers, {prompts} poison prompts: {what}"))?;
    }
    Ok(())
}

/// One pool and everything that was asked of it.
struct Crowd {
    pool: Pool,
    now: Moment,
    random: SeededRandom,
    workers: u64,
    prompts: u64,
    asked: Vec<String>,
    prompt_of: BTreeMap<JobId, String>,
    alive: BTreeSet<Generation>,
    /// Deaths by prompt.
    deaths: BTreeMap<String, u64>,
    drawn: u64,
    quarantined: u64,
}

impl Crowd {
    fn new(workers: u64, prompts: u64) -> Result<Self, String> {
        let plan = WorldPlan::quiet(1, 1);
        let all = usize::try_from(GOOD + POISON).unwrap_or(usize::MAX);
        let most = u32::try_from(workers).unwrap_or(1);
        let settings = Settings {
            default_model: crate::plan::name(0).into(),
            queue_per_model: all,
            queue_total: all,
            cold_start_workers: most,
            max_workers_per_model: most,
            ..Settings::default()
        };
        let mut random = SeededRandom::new(workers * 100 + prompts);
        let mut limits = plan.device_limits(&mut random);
        limits[0].limit = Mebibytes(1_000_000);
        let registry = plan.registry(&mut random);
        let specs = registry.iter().cloned().map(|spec| ModelSpec {
            pinned: false,
            min_workers: None,
            max_workers: None,
            files: Files::default(),
            ..spec
        });
        let registry = Registry::new(specs.collect())?;
        Ok(Self {
            pool: Pool::new(settings, registry, limits),
            now: Moment::START,
            random,
            workers,
            prompts,
            asked: Vec::new(),
            prompt_of: BTreeMap::new(),
            alive: BTreeSet::new(),
            deaths: BTreeMap::new(),
            drawn: 0,
            quarantined: 0,
        })
    }

    fn live(&mut self) -> Result<(), String> {
        let mut pending: VecDeque<Action> = VecDeque::new();
        for nth in 0..GOOD + POISON {
            let every = (GOOD + POISON) / POISON;
            let prompt = match nth % every {
                0 => format!("poison {}", nth / every % self.prompts),
                _ => format!("good {nth}"),
            };
            self.asked.push(prompt.clone());
            let event = Event::RequestArrived {
                ticket: Ticket(nth),
                request: ImageRequest::new(prompt),
                user: "uid:1".into(),
                entropy: nth,
            };
            self.tell(event, &mut pending)?;
        }
        let mut idle = 0;
        while self.drawn + self.quarantined < GOOD + POISON {
            let Some(action) = pending.pop_front() else {
                idle += 1;
                let Some(at) = self.pool.next_deadline().filter(|_| idle < 1000) else {
                    return Err(format!("{} of {GOOD} good jobs are drawn", self.drawn));
                };
                self.now = self.now.max(at);
                self.hear_all(&mut pending)?;
                self.tell(Event::DeadlineReached, &mut pending)?;
                continue;
            };
            idle = 0;
            self.now = self.now + Duration::from_millis(self.random.from(1, 50));
            for event in self.reaction(&action) {
                self.tell(event, &mut pending)?;
            }
            self.hear_all(&mut pending)?;
        }
        self.judge()
    }

    /// Every worker shows a sign of life.
    fn hear_all(&mut self, pending: &mut VecDeque<Action>) -> Result<(), String> {
        for worker in self.alive.clone() {
            self.tell(Event::WorkerHeard { worker }, pending)?;
        }
        Ok(())
    }

    fn tell(&mut self, event: Event, pending: &mut VecDeque<Action>) -> Result<(), String> {
        match &event {
            Event::WorkerStarted { worker, .. } => self.alive.insert(*worker),
            Event::WorkerExited { worker, .. } => self.alive.remove(worker),
            _ => false,
        };
        let mut actions = Vec::new();
        self.pool.handle(self.now, event, &mut actions);
        for action in actions {
            match &action {
                Action::Accept(accepted) => {
                    let nth = usize::try_from(accepted.ticket.0).unwrap_or(usize::MAX);
                    let prompt = self.asked[nth].clone();
                    self.prompt_of.insert(accepted.jobs[0], prompt);
                }
                Action::Refuse { failure, .. } => {
                    return Err(format!("a request is refused: {failure}"));
                }
                Action::Answer { job, outcome } => self.answered(*job, outcome)?,
                Action::Start(_) | Action::Run(_) | Action::Cancel { .. } => {
                    pending.push_back(action);
                }
                Action::AskToLeave { .. } => pending.push_back(action),
                _ => {}
            }
        }
        Ok(())
    }

    fn answered(&mut self, job: JobId, outcome: &Outcome) -> Result<(), String> {
        let prompt = &self.prompt_of[&job];
        let poison = prompt.starts_with("poison");
        match outcome {
            Outcome::Picture(_) if !poison => self.drawn += 1,
            Outcome::Failure(failure) if poison && failure.kind == FailureKind::Quarantined => {
                self.quarantined += 1;
            }
            Outcome::Picture(_) | Outcome::Failure(_) => {
                return Err(format!("{prompt:?} ends with {outcome:?}"));
            }
        }
        Ok(())
    }

    fn reaction(&mut self, action: &Action) -> Vec<Event> {
        match action {
            Action::Start(start) => comes_up(start.worker),
            Action::Run(run) => self.work(run),
            Action::Cancel { worker, job } => vec![Event::JobFailed {
                worker: *worker,
                job: *job,
                fault: pool::JobFault::Cancelled,
            }],
            Action::AskToLeave { worker } => vec![Event::WorkerExited {
                worker: *worker,
                exit: Exit::Code(0),
                resume_step: None,
            }],
            _ => Vec::new(),
        }
    }

    /// A worker draws a picture, or dies of the poison after its first step.
    fn work(&mut self, run: &Run) -> Vec<Event> {
        let (worker, job) = (run.worker, run.job);
        let prompt = run.parameters.prompt.to_string();
        // It was answered before it began.
        let known = self.pool.explain(self.now, job).is_some();
        if !known || !prompt.starts_with("poison") {
            return vec![Event::JobFinished {
                worker,
                job,
                phases: Phases::default(),
            }];
        }
        *self.deaths.entry(prompt).or_default() += 1;
        let died = Event::WorkerExited {
            worker,
            exit: Exit::Signal {
                signal: 11,
                by: KilledBy::Other,
            },
            resume_step: Some(1),
        };
        vec![
            Event::StepFinished {
                worker,
                job,
                step: 1,
            },
            died,
        ]
    }

    fn judge(&self) -> Result<(), String> {
        // Copies that run at the same moment may all die of it.
        let most = DEATHS_MAX.max(self.workers);
        match self.deaths.iter().find(|(_, deaths)| **deaths > most) {
            Some((prompt, deaths)) => Err(format!("{prompt:?} brought {deaths} workers down")),
            None if (self.drawn, self.quarantined) == (GOOD, POISON) => Ok(()),
            None => Err(format!(
                "{} good jobs drawn, {} poison requests quarantined",
                self.drawn, self.quarantined
            )),
        }
    }
}
