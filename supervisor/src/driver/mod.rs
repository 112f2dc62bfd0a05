//! The one loop: next event, ask the pool, carry out its actions. It owns all state; nothing else
//! has a lock around any.
//!
//! - [`setup`] is what it is made of
//! - [`handle`] is how doors get in and how answers get out, `ask` their questions, [`report`] the one about everything
//! - `turn` is one turn of it: a little from each lane of the `inbox` and each worker
//! - `hear` turns what workers do into events
//! - `memory` is what workers hold of the host, measured; `gpus` what they hold of GPUs, which
//!   `measuring` asks the driver for; `energy` is what pictures took there
//! - `perform` carries out actions, one arm each; what they cause is queued behind the event
//! - `looking` decides when files are looked at, `fetching` keeps requests until those of their model are
//!   here; the catalogue's library looks and fetches
//! - `lasting` writes down what outlives the daemon, and takes over what an earlier one left
//! - `obituary` writes down how each worker ended, and what followed
//! - [`settings`] reads the settings again, `reload` takes them over, `leaving` waits for the workers that they outdate
//! - `truce` runs the hooks that ask other programs for the memory of GPUs
//! - `operate` turns operators' verbs into events, and answers what needs none
//! - `worker_logs` keeps what workers wrote, and sends operators' signals
//! - `pool_event` is what clients that watch the pool are told: `event_report` describes each, [`event_log`] keeps the
//!   newest
//! - `worker`, `job` and `conversation` are what is held of each; `process_event` is what workers' processes do

mod ask;
mod conversation;
mod energy;
pub mod event_log;
mod event_report;
mod fetching;
pub mod gpus;
pub mod handle;
mod hear;
mod inbox;
mod job;
mod lasting;
mod leaving;
mod looking;
mod measuring;
mod memory;
mod obituary;
mod operate;
mod perform;
mod pool_event;
mod process_event;
pub mod pulse;
mod reload;
pub mod report;
pub mod settings;
pub mod setup;
#[cfg(test)]
pub mod stand_in;
mod truce;
mod turn;
mod worker;
mod worker_logs;

use std::collections::{BTreeMap, VecDeque};
use std::path::Path;
use std::sync::Arc;

use ipc_protocol::failure::{Failure, FailureKind};
use ipc_protocol::ids::{Generation, JobId, ModelKey};
use ipc_protocol::request::ImageRequest;
use ipc_protocol::sandbox::SandboxReached;
use ipc_protocol::status::{StatusReport, SupervisorStatus};
use ipc_protocol::untrusted::Untrusted;
use ipc_protocol::version::BUILD;
use pool::{Event, Moment, Pool, Registry, Ticket};
use tokio::sync::oneshot;

use self::worker::WorkerHandle;
use crate::catalogue::library::Library;
use crate::catalogue::served::Catalogue;
use crate::clock::Clock;
use crate::obituaries::store::ObituaryStore;
use crate::process::identity::Identity;
use crate::process::reserve::DescriptorReserve;
use crate::process::spawn::{Spawner, WorkerOrigin};
use crate::record::recorder::Recorder;
use crate::telemetry;
use crate::telemetry::traces::sink::SpanSink;
use ask::{Ask, Caller};
use conversation::{Conversation, RequestStage};
use energy::EnergyMeter;
use event_log::EventLog;
use fetching::Fetches;
use gpus::GpuWatch;
use handle::Handle;
use inbox::Inbox;
use job::{JobEntry, SavedLatents};
use lasting::LastingFacts;
use memory::Gauge;
use obituary::EndedWorker;
use pool_event::PoolEvent;
use pulse::{LoopActivity, LoopPulse};
use report::StatusAnswer;
use settings::{SettingsChanges, SettingsTask};
use setup::Setup;
use truce::EndedTruces;
use worker_logs::WorkerLogs;

/// The loop's state.
#[derive(Debug)]
pub struct Driver {
    pool: Pool,
    /// The pool's next events, oldest first. Carrying out actions may add to it.
    events: VecDeque<Event>,
    catalogue: Catalogue,
    registry: Registry,
    library: Library,
    fetches: Fetches,
    clock: Clock,
    spawner: Spawner,
    identity: Identity,
    /// How far the last worker to greet had confined itself.
    sandbox: Option<SandboxReached>,
    inbox: Inbox,
    handle: Handle,
    event_log: EventLog,
    logs: WorkerLogs,
    settings: SettingsChanges,
    /// When the present turn began.
    turned: Moment,
    pulse: Arc<LoopPulse>,
    gauge: Gauge,
    gpus: GpuWatch,
    energy: EnergyMeter,
    ended_truces: EndedTruces,
    /// The callers that wait for the report of this turn.
    reports: Vec<oneshot::Sender<Arc<StatusAnswer>>>,
    workers: BTreeMap<Generation, WorkerHandle>,
    /// Workers that ended, until the pool has decided about their ends.
    ended: BTreeMap<Generation, EndedWorker>,
    obituaries: ObituaryStore,
    /// Whether workers have control groups of their own, in a word, and where or why not.
    groups: (&'static str, String),
    jobs: BTreeMap<JobId, JobEntry>,
    conversations: BTreeMap<Ticket, Conversation>,
    operators: BTreeMap<Ticket, operate::Answer>,
    tickets: u64,
    recorder: Option<Recorder>,
    /// The journal, if one is kept.
    lasting: Option<LastingFacts>,
    /// The pool's first events: what an earlier daemon left.
    restored: Vec<Event>,
    /// The latents of jobs that an earlier daemon left, until they are accepted.
    restored_latents: BTreeMap<JobId, SavedLatents>,
    /// Where the spans of jobs go, if anywhere.
    traces: Option<SpanSink>,
    /// Whether picture files have the receipt and the mark.
    metadata: bool,
    /// The pool said `Exit`.
    exited: bool,
}

impl Driver {
    /// Prepares the loop and the thread that starts workers.
    ///
    /// # Errors
    /// The kernel gives no thread.
    pub fn new(setup: Setup) -> std::io::Result<Self> {
        let (outbox, inbox) = inbox::open();
        let event_log = EventLog::default();
        let runtime = tokio::runtime::Handle::current();
        let reserve = DescriptorReserve::default();
        Ok(Self {
            pool: setup.pool,
            events: VecDeque::new(),
            catalogue: setup.catalogue,
            registry: setup.beginning.registry,
            groups: (setup.groups.word(), setup.groups.detail()),
            spawner: Spawner::start(
                WorkerOrigin {
                    program: setup.library.worker_program.clone(),
                    backing: setup.backing,
                    groups: setup.groups,
                    sandbox: setup.sandbox,
                },
                reserve.clone(),
                runtime,
            )?,
            library: setup.library,
            fetches: Fetches::default(),
            turned: setup.clock.now(),
            pulse: Arc::default(),
            gauge: Gauge::default(),
            gpus: GpuWatch::new(setup.gpus, setup.clock.now()),
            energy: EnergyMeter::default(),
            ended_truces: EndedTruces::default(),
            clock: setup.clock,
            identity: Identity::own(),
            sandbox: None,
            inbox,
            handle: Handle {
                outbox,
                events: event_log.live(),
                reserve,
            },
            event_log,
            logs: WorkerLogs::default(),
            settings: SettingsChanges::of(setup.offered),
            reports: Vec::new(),
            workers: BTreeMap::new(),
            ended: BTreeMap::new(),
            obituaries: setup.obituaries,
            jobs: BTreeMap::new(),
            conversations: BTreeMap::new(),
            operators: BTreeMap::new(),
            tickets: 0,
            recorder: setup.recorder,
            lasting: None,
            restored: Vec::new(),
            restored_latents: BTreeMap::new(),
            traces: None,
            metadata: setup.metadata,
            exited: false,
        })
    }

    /// The way in.
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// Traces every job that is accepted from now on.
    pub fn trace_to(&mut self, sink: SpanSink) {
        self.traces = Some(sink);
    }

    /// The beats of this loop.
    pub fn pulse(&self) -> Arc<LoopPulse> {
        Arc::clone(&self.pulse)
    }

    /// Serves until the pool says that everything is done.
    pub async fn run(mut self) {
        for measured in self.gpus.first_measurement(self.clock.now()) {
            self.happen(measured);
        }
        for restored in std::mem::take(&mut self.restored) {
            self.happen(restored);
        }
        self.measure_energy();
        // Pinned models and minimum numbers of workers are due before anybody asks.
        self.happen(Event::DeadlineReached);
        self.look_at_unread();
        self.decide();
        while !self.exited {
            let more = self.turn();
            if self.exited {
                break;
            }
            match more {
                true => tokio::task::yield_now().await,
                false => self.rest().await,
            }
        }
        // Everything is decided; the rest has deadlines of its own.
        self.pulse.begin(LoopActivity::Resting);
        self.ended_truces.finish().await;
        if let Some(recorder) = &self.recorder {
            recorder.finish();
        }
        self.obituaries.finish();
        if let Some(lasting) = &self.lasting {
            lasting.settle();
        }
    }

    /// Queues an event for the pool.
    fn happen(&mut self, event: Event) {
        self.events.push_back(event);
    }

    /// Lets the pool decide about each queued event, and carries out its actions before the next one.
    fn decide(&mut self) {
        while let Some(event) = self.events.pop_front() {
            self.decide_one(event);
        }
    }

    fn decide_one(&mut self, event: Event) {
        self.pulse.begin(LoopActivity::Deciding);
        let now = self.clock.now();
        telemetry::events::event(now, &event);
        if let Some(recorder) = &self.recorder
            && let Err(error) = recorder.record(now, &event, &self.library.config.text)
        {
            telemetry::daemon::record_ended(&error);
            self.recorder = None;
        }
        self.gpus.note_event(&event);
        let mut actions = Vec::new();
        self.pool.handle(now, event, &mut actions);
        self.keep_obituaries(&actions);
        for action in actions {
            self.gpus.note_action(&action);
            self.perform(action);
        }
    }

    fn asked(&mut self, ask: Ask) {
        match ask {
            Ask::Generate {
                request,
                user,
                trace,
                accepted,
                waiting,
                updates,
            } => {
                let ticket = self.next_ticket();
                let conversation = Conversation {
                    user: user.clone(),
                    detached: request.detached,
                    trace,
                    stage: RequestStage::Asked {
                        answer: accepted,
                        waiting,
                        awaited: None,
                    },
                    updates,
                };
                self.conversations.insert(ticket, conversation);
                self.arrive(ticket, request, user);
            }
            Ask::Cancel { job, by, done } => {
                self.cancel(job, by);
                let _ = done.send(()); // A door that left needs no answer.
            }
            Ask::GoneBefore => self.tidy(),
            Ask::Gone(ticket) => {
                if self.conversations.contains_key(&ticket) {
                    self.happen(Event::ClientGone { ticket });
                }
            }
            Ask::Status(report) => self.reports.push(report),
            // A door that no longer waits for an answer needs none.
            Ask::Obituaries { of, most, answer } => {
                let _ = answer.send(self.obituaries.newest(&of, most));
            }
            Ask::Models(models) => {
                let _ = models.send(self.registry.clone());
            }
            Ask::Pulse(answer) => {
                let _ = answer.send(self.clock.now());
            }
            Ask::CanServe { model, answer } => {
                let now = self.clock.now();
                let _ = answer.send(self.pool.can_serve(now, model.as_deref()));
            }
            Ask::HasWorkers { model, answer } => {
                let _ =
                    answer.send(ModelKey::new(&model).is_ok_and(|key| self.pool.has_workers(&key)));
            }
            Ask::Log { of, answer } => {
                let _ = answer.send(self.log_of(&of));
            }
            Ask::Available(answer) => self.with_settings(SettingsTask::List(answer)),
            Ask::Events(answer) => {
                let _ = answer.send(self.event_log.feed());
            }
            Ask::Operate { verb, by, answer } => self.operate(verb, &by, answer),
        }
    }

    /// Tells the clients that watch the pool.
    fn publish(&mut self, event: PoolEvent) {
        let report = event_report::report(self.clock.now(), &event);
        self.event_log.publish(report);
    }

    fn cancel(&mut self, job: JobId, by: Caller) {
        if self.owns(&by, job) {
            let by = by.user;
            return self.happen(Event::RequestCancelled { job, by });
        }
        // The answer goes to whoever waits for the job, and that is somebody else.
        telemetry::jobs::not_cancelled(job, &by.user);
    }

    /// Tells the pool of doors that left before they had an answer.
    fn tidy(&mut self) {
        let left = |conversation: &Conversation| conversation.updates.is_closed();
        let left = self.conversations.iter().filter(|(_, c)| left(c));
        for ticket in left.map(|(ticket, _)| *ticket).collect::<Vec<_>>() {
            self.happen(Event::ClientGone { ticket });
        }
    }

    /// Lets the pool decide about a request.
    fn arrive(&mut self, ticket: Ticket, request: ImageRequest, user: String) {
        match entropy() {
            Ok(entropy) => self.happen(Event::RequestArrived {
                ticket,
                request,
                user,
                entropy,
            }),
            Err(failure) => self.refuse(ticket, failure),
        }
    }

    /// The conversation whose request waits for files, and will be this job too.
    fn awaited_by(&self, job: JobId) -> Option<&Conversation> {
        let mut all = self.conversations.values();
        all.find(|conversation| {
            let awaited = conversation.awaited();
            awaited.is_some_and(|files| files.jobs.contains(&job))
        })
    }

    /// Every job that will be made of a request once the files of its model are here, with the model.
    fn awaited(&self) -> BTreeMap<JobId, &ModelKey> {
        let conversations = self.conversations.values();
        let awaited = conversations.filter_map(Conversation::awaited);
        let jobs = awaited.flat_map(|files| files.jobs.iter().map(|job| (*job, &files.model)));
        jobs.collect()
    }

    fn next_ticket(&mut self) -> Ticket {
        self.tickets += 1;
        Ticket(self.tickets)
    }

    fn report(&self) -> StatusReport {
        let now = self.clock.now();
        let mut snapshot = self.pool.snapshot(now);
        let awaited = self.awaited();
        for model in &mut snapshot.models {
            let waiting = awaited.values().filter(|key| ***key == model.key).count();
            if let (Some(line), Some((_, why))) =
                (self.fetch_line(&model.key, waiting), &mut model.at_rest)
            {
                *why = line;
            }
        }
        for worker in &mut snapshot.workers {
            let handle = self.workers.get(&worker.generation);
            worker.sandbox = handle.and_then(|handle| handle.sandbox);
        }
        for job in &mut snapshot.queue {
            if awaited.contains_key(&job.job) {
                job.reason += &self.how_far(&job.model);
            }
        }
        let (journal, journal_detail) = match &self.lasting {
            Some(lasting) => lasting.report(),
            None => ("none", String::new()),
        };
        StatusReport {
            supervisor: SupervisorStatus {
                pid: std::process::id(),
                version: BUILD.to_owned(),
                state: match snapshot.draining {
                    Some(_) => "draining",
                    None => "serving",
                }
                .to_owned(),
                uptime_s: now.since(pool::Moment::START).as_secs_f64(),
                draining_s: snapshot.draining.map(|so_far| so_far.as_secs_f64()),
                control_groups: self.groups.0.to_owned(),
                control_groups_detail: Untrusted::new(&self.groups.1).to_string(),
                state_dir: self.obituaries.state_dir().map(shown),
                yielding_s: snapshot.yields.map(|left| left.as_secs_f64()),
                journal: journal.to_owned(),
                journal_detail: Untrusted::new(&journal_detail).to_string(),
            },
            memory: snapshot.memory,
            workers: snapshot.workers,
            models: snapshot.models,
            queue: snapshot.queue,
            counters: snapshot.counters,
            devices: self.gpus.status(&snapshot.obstacles, now),
        }
    }
}

fn shown(path: &Path) -> String {
    Untrusted::new(path.to_string_lossy()).to_string()
}

/// Random bits for a seed.
fn entropy() -> Result<u64, Failure> {
    getrandom::u64().map_err(|error| {
        Failure::new(
            FailureKind::Internal,
            format!("the kernel gives no random bits: {error}"),
        )
    })
}
