//! A driver on a desk: events in by hand, actions out to look at.

#![allow(
    dead_code,
    unreachable_pub,
    reason = "each test file uses its own part"
)]

use std::time::Duration;

use ipc_protocol::failure::Failure;
use ipc_protocol::family::Family;
use ipc_protocol::ids::{Device, DeviceWish, Generation, JobId, ModelKey};
use ipc_protocol::request::ImageRequest;
use ipc_protocol::units::{Mebibytes, PictureSize};
use pool::{
    Action, Activation, CpuTime, CudaResidency, DeviceLimit, Event, Exit, GuidanceRule, KilledBy,
    ModelSpec, Moment, Need, Notice, Outcome, Phases, PictureFacts, Pool, Registry, Run, Settings,
    SizeRule, Start, Ticket,
};

/// A pool, the time, and everything it ever said.
pub struct Desk {
    pub pool: Pool,
    pub now: Moment,
    pub said: Vec<Action>,
    /// What the kernel says of a worker's processor time when it is asked.
    pub cpu: fn(Moment) -> Option<CpuTime>,
    tickets: u64,
}

/// A worker that sleeps.
pub fn still(_: Moment) -> Option<CpuTime> {
    Some(CpuTime::default())
}

/// A worker that has one processor to itself.
pub fn computing(now: Moment) -> Option<CpuTime> {
    Some(CpuTime {
        ran: now.since(Moment::START),
        ..CpuTime::default()
    })
}

/// A worker that gets a hundredth of the processor it wants.
pub fn starved(now: Moment) -> Option<CpuTime> {
    Some(CpuTime {
        ran: now.since(Moment::START) / 100,
        waited: now.since(Moment::START) * 99 / 100,
        blocked: false,
    })
}

/// A worker that waits for a disk.
pub fn reading(_: Moment) -> Option<CpuTime> {
    Some(CpuTime {
        blocked: true,
        ..CpuTime::default()
    })
}

/// A model that runs anywhere and takes `mb` in all.
pub fn model(key: &str, mb: u64) -> ModelSpec {
    let size = PictureSize {
        width: 256,
        height: 256,
    };
    ModelSpec {
        key: ModelKey::new(key).expect("a plain key"),
        aliases: Vec::new(),
        family: Family::SYNTHETIC,
        need: Need {
            on_cpu: Some(Mebibytes(mb - 10)),
            on_cuda: Some(CudaResidency {
                host: Mebibytes(5),
                device: Mebibytes(mb - 10),
            }),
            activation: Activation {
                base: Mebibytes(10),
                per_megapixel: Mebibytes(0),
                per_megapixel_squared: Mebibytes(0),
                least: Mebibytes(0),
            },
        },
        default_size: size,
        sizes: SizeRule {
            multiple: 16,
            min: 64,
            max: 2048,
        },
        default_steps: 4,
        max_steps: 64,
        guidance: GuidanceRule::None,
        empty_prompt: false,
        digest: format!("{key}-digest"),
        pinned: false,
        min_workers: None,
        max_workers: None,
        device: DeviceWish::Auto,
        params: String::new(),
        files: pool::Files::default(),
    }
}

pub fn settings() -> Settings {
    Settings {
        default_model: "a".into(),
        ..Settings::default()
    }
}

pub fn host(limit: u64) -> Vec<DeviceLimit> {
    vec![DeviceLimit {
        device: Device::Host,
        limit: Mebibytes(limit),
        confirms: false,
    }]
}

impl Desk {
    pub fn new(models: Vec<ModelSpec>, limit: u64) -> Self {
        Self::with(settings(), models, host(limit))
    }

    pub fn with(settings: Settings, models: Vec<ModelSpec>, devices: Vec<DeviceLimit>) -> Self {
        let registry = Registry::new(models).expect("a sound registry");
        Self {
            pool: Pool::new(settings, registry, devices),
            now: Moment::START,
            said: Vec::new(),
            cpu: still,
            tickets: 0,
        }
    }

    /// Handles one event and gives what came of it.
    pub fn tell(&mut self, event: Event) -> Vec<Action> {
        let mut actions = Vec::new();
        self.pool.handle(self.now, event, &mut actions);
        let defect = |action: &Action| matches!(action, Action::Tell(Notice::Defect { .. }));
        assert!(!actions.iter().any(defect), "{actions:?}");
        self.said.extend(actions.iter().cloned());
        actions
    }

    /// Lets time pass, with every deadline on the way.
    pub fn pass(&mut self, duration: Duration) -> Vec<Action> {
        let until = self.now + duration;
        let from = self.said.len();
        while let Some(at) = self.pool.next_deadline().filter(|&at| at <= until) {
            assert!(at >= self.now || at <= until, "a deadline in the past");
            self.now = self.now.max(at);
            for action in self.tell(Event::DeadlineReached) {
                if let Action::Measure { worker } = action {
                    let cpu = (self.cpu)(self.now);
                    self.tell(Event::CpuMeasured { worker, cpu });
                }
            }
        }
        self.now = until;
        self.said[from..].to_vec()
    }

    /// Lets time pass while every worker shows signs of life.
    pub fn pass_alive(&mut self, duration: Duration) -> Vec<Action> {
        let from = self.said.len();
        let end = self.now + duration;
        while self.now < end {
            let left = end.since(self.now).min(Duration::from_millis(500));
            self.pass(left);
            for worker in self.workers() {
                self.tell(Event::WorkerHeard { worker });
            }
        }
        self.said[from..].to_vec()
    }

    pub fn workers(&self) -> Vec<Generation> {
        let snapshot = self.pool.snapshot(self.now);
        snapshot
            .workers
            .iter()
            .map(|worker| worker.generation)
            .collect()
    }

    pub fn ask(&mut self, request: ImageRequest) -> Vec<Action> {
        self.ask_as(request, "uid:1")
    }

    pub fn ask_as(&mut self, request: ImageRequest, user: &str) -> Vec<Action> {
        self.tickets += 1;
        self.tell(Event::RequestArrived {
            ticket: Ticket(self.tickets),
            request,
            user: user.into(),
            entropy: 42,
        })
    }

    pub fn ask_model(&mut self, key: &str) -> Vec<Action> {
        self.ask(request(key))
    }

    /// A started worker up to its readiness.
    pub fn bring_up(&mut self, worker: Generation) -> Vec<Action> {
        let pid = u32::try_from(worker.0).expect("few workers") + 1000;
        self.tell(Event::WorkerStarted { worker, pid });
        self.tell(Event::WorkerSaidHello { worker });
        self.tell(Event::WorkerReady {
            worker,
            footprint: None,
        })
    }

    pub fn finish(&mut self, run: &Run) -> Vec<Action> {
        for step in run.from_step + 1..=run.parameters.steps {
            self.tell(Event::StepFinished {
                worker: run.worker,
                job: run.job,
                step,
            });
        }
        self.tell(Event::JobFinished {
            worker: run.worker,
            job: run.job,
            phases: Phases::default(),
        })
    }

    pub fn die(&mut self, worker: Generation, signal: i32, salvaged: Option<u32>) -> Vec<Action> {
        self.tell(Event::WorkerExited {
            worker,
            exit: Exit::Signal {
                signal,
                by: KilledBy::Other,
            },
            salvaged_step: salvaged,
        })
    }

    /// The kernel ends it, out of memory.
    pub fn die_for_memory(&mut self, worker: Generation) -> Vec<Action> {
        self.tell(Event::WorkerExited {
            worker,
            exit: Exit::Signal {
                signal: 9,
                by: KilledBy::KernelOom,
            },
            salvaged_step: None,
        })
    }

    pub fn exit(&mut self, worker: Generation, code: i32) -> Vec<Action> {
        self.tell(Event::WorkerExited {
            worker,
            exit: Exit::Code(code),
            salvaged_step: None,
        })
    }

    pub fn leave(&mut self, worker: Generation) -> Vec<Action> {
        self.tell(Event::WorkerExited {
            worker,
            exit: Exit::Code(0),
            salvaged_step: None,
        })
    }

    /// The books agree with the workers.
    pub fn check_books(&self) {
        let snapshot = self.pool.snapshot(self.now);
        for book in &snapshot.memory {
            let sum: u64 = snapshot
                .workers
                .iter()
                .filter_map(|worker| worker.reserved_mb.get(&book.device))
                .sum();
            assert_eq!(book.reserved_mb, sum, "{}", book.device);
            assert!(book.reserved_mb <= book.limit_mb);
        }
    }
}

pub fn request(key: &str) -> ImageRequest {
    ImageRequest {
        model: Some(key.into()),
        ..ImageRequest::new("a fox")
    }
}

pub fn starts(actions: &[Action]) -> Vec<Start> {
    let start = |action: &Action| match action {
        Action::Start(start) => Some(start.clone()),
        _ => None,
    };
    actions.iter().filter_map(start).collect()
}

pub fn runs(actions: &[Action]) -> Vec<Run> {
    let run = |action: &Action| match action {
        Action::Run(run) => Some(run.clone()),
        _ => None,
    };
    actions.iter().filter_map(run).collect()
}

pub fn refusals(actions: &[Action]) -> Vec<Failure> {
    let refusal = |action: &Action| match action {
        Action::Refuse { failure, .. } => Some(failure.clone()),
        _ => None,
    };
    actions.iter().filter_map(refusal).collect()
}

pub fn pictures(actions: &[Action]) -> Vec<(JobId, PictureFacts)> {
    let picture = |action: &Action| match action {
        Action::Answer {
            job,
            outcome: Outcome::Picture(facts),
        } => Some((*job, facts.clone())),
        _ => None,
    };
    actions.iter().filter_map(picture).collect()
}

pub fn failures(actions: &[Action]) -> Vec<(JobId, Failure)> {
    let failed = |action: &Action| match action {
        Action::Answer {
            job,
            outcome: Outcome::Failure(failure),
        } => Some((*job, failure.clone())),
        _ => None,
    };
    actions.iter().filter_map(failed).collect()
}

pub fn asked_to_leave(actions: &[Action]) -> Vec<Generation> {
    let asked = |action: &Action| match action {
        Action::AskToLeave { worker } => Some(*worker),
        _ => None,
    };
    actions.iter().filter_map(asked).collect()
}
