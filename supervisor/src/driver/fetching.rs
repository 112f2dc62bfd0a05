//! Inspects and fetches models that requests wait for, each once.
//!
//! Until then their requests wait outside of the pool, where no clock of theirs runs and no place in a queue
//! is taken. When the files are looked at, and what their faults mean, is in `looking`.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use ipc_protocol::failure::{Failure, FailureKind};
use ipc_protocol::ids::ModelKey;
use ipc_protocol::messages::client::Fetching;
use pool::{Event, Files, ModelSpec, Registry, Ticket};

use super::Driver;
use super::conversation::WaitingRequest;
use super::looking::{FilesTask, LoadFaults};
use crate::catalogue::library::FoundModel;
use crate::catalogue::offer::ReadDepth;
use crate::catalogue::served::Served;
use crate::telemetry;

/// Longest look at a model's files, a little more than the program that looks has for it; then they cannot be
/// used. A digest of all their bytes may take longer.
const LOOK_MAX: Duration = Duration::from_secs(150);

/// Every look and every fetch that goes on, and the requests that wait for it.
#[derive(Debug, Default)]
pub(super) struct Fetches {
    under_way: BTreeMap<ModelKey, Fetch>,
    begun: u64,
    /// Faults of files that only loading shows.
    pub faults: LoadFaults,
}

#[derive(Debug)]
struct Fetch {
    /// News of an earlier look or fetch of the model change nothing.
    number: u64,
    errand: FilesTask,
    waiting: Vec<Ticket>,
    /// Nothing while it is still looked for.
    far: Option<Fetching>,
    given_up: Arc<AtomicBool>,
}

/// How a look or a fetch goes.
#[derive(Debug)]
pub(super) struct FetchUpdate {
    model: ModelKey,
    number: u64,
    what: FetchStage,
}

#[derive(Debug)]
enum FetchStage {
    Far(Fetching),
    Ended(Result<FoundModel, Failure>),
    /// It has taken as long as a look may take.
    Late,
    /// All bytes were read for the digest.
    Digested(Result<FoundModel, Failure>),
}

impl Fetch {
    /// Has a fetch end that no request waits for; says whether this one, or its look, goes on.
    fn goes_on(&self) -> bool {
        let wanted = self.errand == FilesTask::Look || !self.waiting.is_empty();
        self.given_up.store(!wanted, Ordering::Release);
        wanted || self.far.is_none()
    }
}

impl Fetches {
    /// A request no longer waits, and says whether it did. A fetch that nobody waits for ends; what came
    /// is kept. A look goes on: it ends by itself, and jobs may wait for what it finds.
    pub(super) fn forget(&mut self, ticket: Ticket) -> bool {
        let mut waited = false;
        self.under_way.retain(|_, fetch| {
            let before = fetch.waiting.len();
            fetch.waiting.retain(|waiting| *waiting != ticket);
            waited |= fetch.waiting.len() < before;
            fetch.goes_on()
        });
        waited
    }

    /// The requests that wait, none of which does from now on.
    fn dismiss(&mut self) -> Vec<Ticket> {
        let mut dismissed = Vec::new();
        self.under_way.retain(|_, fetch| {
            dismissed.append(&mut fetch.waiting);
            fetch.goes_on()
        });
        dismissed
    }

    /// Whether a model's files are being looked at or fetched.
    pub(super) fn is_under_way(&self, model: &ModelKey) -> bool {
        self.under_way.contains_key(model)
    }
}

impl Driver {
    /// Answers a refused request, unless it waits for the files of its model.
    pub(super) fn refused(&mut self, ticket: Ticket, failure: Failure) {
        let waits = files_may_come(failure.kind) && self.wait_for_files(ticket).is_some();
        if !waits {
            self.refuse(ticket, failure);
        }
    }

    /// Keeps a request until the files of its model are here; `None` where it does not wait.
    fn wait_for_files(&mut self, ticket: Ticket) -> Option<()> {
        let conversation = self.conversations.get(&ticket)?;
        let asking = conversation.asked.as_ref()?;
        let settings = &self.library.config.pool;
        let name = asking
            .request
            .model
            .as_deref()
            .unwrap_or(&settings.default_model);
        let model = self.registry.find(name)?.key.clone();
        let most = settings.queue_per_model;
        if !self.fetches.is_under_way(&model) {
            self.begin(model.clone(), FilesTask::Bring)?;
        }
        let fetch = self.fetches.under_way.get_mut(&model)?;
        if fetch.waiting.len() >= most {
            let full = format!("queue full: {most} requests wait for the files of {model}");
            self.refuse(ticket, Failure::new(FailureKind::QueueFull, full));
            return Some(());
        }
        fetch.waiting.push(ticket);
        fetch.goes_on();
        if let Some(far) = &fetch.far {
            self.conversations.get(&ticket)?.asked.as_ref()?.tell(far);
        }
        Some(())
    }

    /// Begins a look or a fetch, in a thread of its own: the process that looks or fetches lives as long
    /// as that does.
    pub(super) fn begin(&mut self, model: ModelKey, errand: FilesTask) -> Option<()> {
        self.fetches.begun += 1;
        let number = self.fetches.begun;
        let given_up = Arc::new(AtomicBool::new(false));
        let fetch = Fetch {
            number,
            errand,
            waiting: Vec::new(),
            far: None,
            given_up: Arc::clone(&given_up),
        };
        let (library, key) = (self.library.clone(), model.clone());
        let tell = self.teller(model.clone(), number);
        let begun = thread::Builder::new().name("fetch".into()).spawn(move || {
            let found = match errand {
                FilesTask::Look => library.look(&key, ReadDepth::Quick),
                FilesTask::Bring => library.bring(&key, |far| {
                    match !given_up.load(Ordering::Acquire) && tell(FetchStage::Far(far)) {
                        true => ControlFlow::Continue(()),
                        false => ControlFlow::Break(()),
                    }
                }),
            };
            tell(FetchStage::Ended(found));
        });
        if let Err(error) = begun {
            telemetry::files::cannot_look(&model, &error);
            return None;
        }
        self.fetches.under_way.insert(model.clone(), fetch);
        let (clock, outbox) = (self.clock, self.handle.outbox.clone());
        let late = clock.now() + LOOK_MAX;
        tokio::spawn(async move {
            clock.wait_until(Some(late)).await;
            let what = FetchStage::Late;
            let news = FetchUpdate {
                model,
                number,
                what,
            };
            outbox.tell_late(news).await;
        });
        Some(())
    }

    /// Tells the loop from a thread how a look or fetch goes; says whether it listens.
    fn teller(&self, model: ModelKey, number: u64) -> impl Fn(FetchStage) -> bool + Send + use<> {
        let outbox = self.handle.outbox.clone();
        move |what| {
            let model = model.clone();
            let news = FetchUpdate {
                model,
                number,
                what,
            };
            outbox.tell_of_fetch(news)
        }
    }

    /// Reads all bytes of a model whose files were too large for a digest, beside serving.
    pub(super) fn digest(&mut self, model: ModelKey) {
        let (library, tell) = (self.library.clone(), self.teller(model.clone(), 0));
        let key = model.clone();
        let begun = thread::Builder::new()
            .name("digest".into())
            .spawn(move || tell(FetchStage::Digested(library.look(&key, ReadDepth::Whole))));
        if let Err(error) = begun {
            telemetry::files::not_digested(&model, &error);
            self.fetches.faults.digest_ended();
        }
    }

    pub(super) fn hear_of_fetch(&mut self, news: FetchUpdate) {
        let FetchUpdate {
            model,
            number,
            what,
        } = news;
        if let FetchStage::Digested(found) = what {
            return self.digested(model, found);
        }
        let Some(fetch) = self.fetches.under_way.get_mut(&model) else {
            return;
        };
        if fetch.number != number {
            return;
        }
        match what {
            FetchStage::Digested(_) => {}
            FetchStage::Far(far) => {
                fetch.far = Some(far.clone());
                let waiting = fetch.waiting.iter();
                let waiting = waiting.filter_map(|ticket| self.conversations.get(ticket));
                waiting
                    .filter_map(|conversation| conversation.asked.as_ref())
                    .for_each(|asking| asking.tell(&far));
            }
            FetchStage::Late if fetch.far.is_none() => {
                let seconds = LOOK_MAX.as_secs();
                let why = format!("looking at its files took longer than {seconds} s");
                self.looked(&model, Err(Failure::new(FailureKind::ModelUnusable, why)));
            }
            FetchStage::Late => {}
            FetchStage::Ended(found) => self.looked(&model, found),
        }
    }

    /// A look or a fetch has ended: the registry learns of it, and the requests are asked again.
    fn looked(&mut self, model: &ModelKey, found: Result<FoundModel, Failure>) {
        let Some(fetch) = self.fetches.under_way.remove(model) else {
            return;
        };
        let found = found.map(|found| self.judged(*found));
        let is_missing = |(spec, _): &(ModelSpec, Served)| matches!(spec.files, Files::Missing(_));
        let to_fetch = fetch.errand == FilesTask::Look
            && !fetch.waiting.is_empty()
            && found.as_ref().is_ok_and(is_missing);
        let entered = match found {
            Ok(found) => self.enter(found),
            Err(failure) => self.not_looked(model, failure),
        };
        if to_fetch && self.begin(model.clone(), FilesTask::Bring).is_some() {
            if let Some(next) = self.fetches.under_way.get_mut(model) {
                next.waiting = fetch.waiting;
            }
            return;
        }
        match entered {
            Ok(()) => fetch
                .waiting
                .into_iter()
                .for_each(|ticket| self.ask_again(ticket)),
            Err(failure) => {
                telemetry::files::not_fetched(model, &failure.message);
                for ticket in fetch.waiting {
                    self.refuse(ticket, failure.clone());
                }
            }
        }
        self.take_next_digest();
    }

    /// Puts a model as its files are into the place of what was known of it.
    pub(super) fn enter(&mut self, (spec, served): (ModelSpec, Served)) -> Result<(), Failure> {
        let key = spec.key.clone();
        self.catalogue.insert(key.clone(), served);
        if self.registry.find(key.as_str()) == Some(&spec) {
            return Ok(());
        }
        let models = self.registry.iter().map(|old| match old.key == key {
            true => spec.clone(),
            false => old.clone(),
        });
        let registry = Registry::new(models.collect())
            .map_err(|why| Failure::new(FailureKind::ModelUnusable, why))?;
        self.registry = registry.clone();
        if let Files::Broken(why) = &spec.files {
            telemetry::files::unusable(&key, why);
        }
        let registry = Box::new(registry);
        self.happen(Event::ModelsChanged { registry });
        Ok(())
    }

    /// A request that waited enters the pool as one that arrives now.
    fn ask_again(&mut self, ticket: Ticket) {
        let Some(mut conversation) = self.conversations.remove(&ticket) else {
            return;
        };
        // It waits for files once.
        let Some(WaitingRequest { request, .. }) = conversation.asked.take() else {
            return;
        };
        let user = conversation.user.clone();
        let ticket = self.next_ticket();
        self.conversations.insert(ticket, conversation);
        self.arrive(ticket, request, user);
    }

    /// Answers the requests that wait for files, because the pool accepts nothing new.
    pub(super) fn dismiss_fetches(&mut self) {
        for ticket in self.fetches.dismiss() {
            self.refuse(ticket, pool::draining());
        }
    }

    /// Returns the status line of a model that is being fetched.
    pub(super) fn fetch_line(&self, model: &ModelKey) -> Option<String> {
        let fetch = self.fetches.under_way.get(model)?;
        if fetch.far.is_none() && !fetch.waiting.is_empty() {
            return Some(format!(
                "Looking at its files, {} waiting",
                fetch.waiting.len()
            ));
        }
        let Fetching {
            here_bytes,
            all_bytes,
            ..
        } = fetch.far.as_ref()?;
        let waiting = fetch.waiting.len();
        Some(match all_bytes {
            0 => format!("Fetching its files, {waiting} waiting"),
            all => {
                let percent = here_bytes.saturating_mul(100) / *all;
                format!(
                    "Fetching its files, {percent} % of {} MB, {waiting} waiting",
                    all >> 20
                )
            }
        })
    }
}

/// Whether a refusal is about files that may be here, or whole again, when they are looked at.
fn files_may_come(kind: FailureKind) -> bool {
    matches!(
        kind,
        FailureKind::ModelMissing | FailureKind::ModelUnusable | FailureKind::ModelUnread
    )
}
