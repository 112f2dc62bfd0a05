//! The time of one event: eight models, thirty-two workers, a thousand queued jobs.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use criterion::{Criterion, criterion_main};
use ipc_protocol::family::Family;
use ipc_protocol::ids::{Device, DeviceConstraint, Generation, JobId, ModelKey};
use ipc_protocol::request::ImageRequest;
use ipc_protocol::units::{Mebibytes, PictureSize};
use pool::{
    Action, Activation, DeviceLimit, Event, GuidanceRule, ModelSpec, Moment, Need, Phases, Pool,
    Registry, Settings, SizeRule, Ticket,
};

const MODELS: u64 = 8;
const WORKERS: usize = 32;
const QUEUED: usize = 1000;

/// A pool at work: each call of `turn` feeds it the next event of an endless day.
struct Day {
    pool: Pool,
    now: Moment,
    todo: VecDeque<Event>,
    tickets: u64,
    actions: Vec<Action>,
}

fn spec(nth: u64) -> ModelSpec {
    let size = PictureSize {
        width: 512,
        height: 512,
    };
    ModelSpec {
        key: ModelKey::new(&format!("m{nth}")).expect("a plain key"),
        aliases: Vec::new(),
        family: Family::SYNTHETIC,
        need: Need {
            on_cpu: Some(Mebibytes(100)),
            on_cuda: None,
            activation: Activation::default(),
        },
        default_size: size,
        sizes: SizeRule {
            multiple: 16,
            min: 64,
            max: 1024,
        },
        default_steps: 4,
        max_steps: 50,
        guidance: GuidanceRule::None,
        empty_prompt: true,
        digest: String::new(),
        pinned: false,
        min_workers: None,
        max_workers: None,
        device: DeviceConstraint::Auto,
        params: String::new(),
        files: pool::Files::default(),
    }
}

impl Day {
    fn new() -> Self {
        let settings = Settings {
            default_model: "m0".into(),
            queue_per_model: 200,
            queue_total: 2000,
            ..Settings::default()
        };
        let registry = Registry::new((0..MODELS).map(spec).collect()).expect("sound");
        let host = DeviceLimit {
            device: Device::Host,
            limit: Mebibytes(1_000_000),
            confirms: false,
        };
        let mut day = Self {
            pool: Pool::new(settings, registry, vec![host]),
            now: Moment::START,
            todo: VecDeque::new(),
            tickets: 0,
            actions: Vec::new(),
        };
        // As many as there will ever be: each answer brings the next request.
        for _ in 0..QUEUED + WORKERS {
            let next = day.request();
            day.todo.push_back(next);
        }
        for _ in 0..100_000 {
            day.turn();
        }
        let snapshot = day.pool.snapshot(day.now);
        assert_eq!(snapshot.workers.len(), WORKERS, "the day is in full swing");
        day
    }

    fn request(&mut self) -> Event {
        self.tickets += 1;
        let mut request = ImageRequest::new("a fox");
        request.model = Some(format!("m{}", self.tickets % MODELS));
        Event::RequestArrived {
            ticket: Ticket(self.tickets),
            request,
            user: format!("uid:{}", self.tickets % 7),
            entropy: self.tickets,
        }
    }

    /// One event; how long it took.
    #[expect(clippy::disallowed_methods, reason = "a bench is a clock")]
    fn turn(&mut self) -> Duration {
        self.now = self.now + Duration::from_millis(1);
        let event = match self.pool.next_deadline().filter(|&at| at <= self.now) {
            Some(_) => Event::DeadlineReached,
            None => self.todo.pop_front().unwrap_or_else(|| self.request()),
        };
        let began = Instant::now();
        self.pool.handle(self.now, event, &mut self.actions);
        std::hint::black_box(self.pool.next_deadline());
        let took = began.elapsed();
        for action in std::mem::take(&mut self.actions) {
            self.react(&action);
        }
        took
    }

    fn react(&mut self, action: &Action) {
        match action {
            Action::Start(start) => self.come_up(start.worker),
            Action::Run(run) => self.draw(run.worker, run.job),
            Action::Answer { .. } => {
                let next = self.request();
                self.todo.push_back(next);
            }
            _ => {}
        }
    }

    fn come_up(&mut self, worker: Generation) {
        self.todo.push_back(Event::WorkerStarted { worker, pid: 1 });
        self.todo.push_back(Event::WorkerSaidHello { worker });
        self.todo.push_back(Event::WorkerReady {
            worker,
            footprint: None,
        });
    }

    fn draw(&mut self, worker: Generation, job: JobId) {
        for step in 1..=4 {
            self.todo
                .push_back(Event::StepFinished { worker, job, step });
            self.todo.push_back(Event::WorkerHeard { worker });
        }
        let phases = Phases::default();
        self.todo.push_back(Event::JobFinished {
            worker,
            job,
            phases,
        });
    }
}

fn handle(criterion: &mut Criterion) {
    let mut day = Day::new();
    let mut times: Vec<Duration> = (0..200_000).map(|_| day.turn()).collect();
    times.sort();
    let at = |permille: usize| times[times.len() * permille / 1000];
    let queued = day.pool.snapshot(day.now).queue.len();
    println!(
        "{queued} jobs: p50 {:?}, p99 {:?}, p99.9 {:?}, worst {:?}",
        at(500),
        at(990),
        at(999),
        times[times.len() - 1]
    );
    criterion.bench_function("handle one event", |bencher| {
        bencher.iter_custom(|rounds| (0..rounds).map(|_| day.turn()).sum());
    });
}

mod group {
    criterion::criterion_group!(benches, super::handle);
}

criterion_main!(group::benches);
