//! Inspects and fetches the files of models, each in a thread of its own.
//!
//! The pool says when requests wait for files and when none does any more. When files are looked at for other
//! reasons, and what their faults mean, is in `looking`.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use ipc_protocol::failure::{Failure, FailureKind};
use ipc_protocol::ids::ModelKey;
use ipc_protocol::messages::client::Fetching;
use pool::{Event, Files, ModelSpec, Registry};

use super::Driver;
use super::looking::{FilesTask, LoadFaults};
use crate::catalogue::library::FoundModel;
use crate::catalogue::offer::ReadDepth;
use crate::catalogue::served::Served;
use crate::telemetry;

/// Longest look at a model's files, a little more than the program that looks has for it; then they cannot be
/// used. A digest of all their bytes may take longer.
const LOOK_MAX: Duration = Duration::from_secs(150);

/// The looks and fetches in progress.
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
    /// Requests wait for it.
    wanted: bool,
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

impl Fetches {
    /// Returns how far the files of a model are that is being fetched.
    pub(super) fn far(&self, model: &ModelKey) -> Option<&Fetching> {
        self.under_way.get(model)?.far.as_ref()
    }

    /// Forgets a look or a fetch; its news change nothing. Returns whether requests wait for it.
    pub(super) fn forget(&mut self, model: &ModelKey) -> bool {
        let Some(fetch) = self.under_way.remove(model) else {
            return false;
        };
        fetch.given_up.store(true, Ordering::Release);
        fetch.wanted
    }

    /// Whether a model's files are being looked at or fetched.
    pub(super) fn is_under_way(&self, model: &ModelKey) -> bool {
        self.under_way.contains_key(model)
    }
}

impl Driver {
    /// Fetches the files of a model for the waiting requests. If a look is already in progress, a fetch follows it if
    /// files are missing.
    pub(super) fn fetch(&mut self, model: ModelKey) {
        if !self.fetches.is_under_way(&model)
            && self.begin(model.clone(), FilesTask::Bring).is_none()
        {
            let why = "no thread is left to look at its files";
            let failure = Failure::new(FailureKind::Internal, why);
            return self.happen(Event::FilesFailed { model, failure });
        }
        if let Some(fetch) = self.fetches.under_way.get_mut(&model) {
            fetch.wanted = true;
            fetch.given_up.store(false, Ordering::Release);
        }
    }

    /// Stops the fetch of a model that no request waits for. A fetch ends, and what came is kept; a look ends by itself.
    pub(super) fn stop_fetch(&mut self, model: &ModelKey) {
        let Some(fetch) = self.fetches.under_way.get_mut(model) else {
            return;
        };
        fetch.wanted = false;
        if fetch.errand == FilesTask::Bring {
            fetch.given_up.store(true, Ordering::Release);
        }
        if fetch.far.is_some() {
            // What its thread says until it ends is of no interest.
            self.fetches.under_way.remove(model);
        }
    }

    /// Tells the clients whose requests wait for a model how far its files are.
    fn tell_far(&mut self, model: &ModelKey, far: &Fetching) {
        for conversation in self.conversations.values_mut() {
            conversation.tell_far(model, far);
        }
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
            wanted: false,
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
                self.tell_far(&model, &far);
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

    /// A look or a fetch has ended: the registry learns of it, and the requests that wait for it.
    fn looked(&mut self, model: &ModelKey, found: Result<FoundModel, Failure>) {
        let Some(fetch) = self.fetches.under_way.remove(model) else {
            return;
        };
        let found = found.map(|found| self.judged(*found));
        let is_missing = |(spec, _): &(ModelSpec, Served)| matches!(spec.files, Files::Missing(_));
        let to_fetch =
            fetch.errand == FilesTask::Look && fetch.wanted && found.as_ref().is_ok_and(is_missing);
        let entered = match found {
            Ok(found) => self.enter(found),
            Err(failure) => self.not_looked(model, failure),
        };
        if to_fetch {
            return self.fetch(model.clone());
        }
        let model = model.clone();
        if let Err(failure) = &entered {
            telemetry::files::not_fetched(&model, &failure.message);
        }
        match entered {
            _ if !fetch.wanted => {}
            Ok(()) => self.happen(Event::FilesArrived { model }),
            Err(failure) => self.happen(Event::FilesFailed { model, failure }),
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

    /// Returns the status line of a model whose files `waiting` jobs wait for.
    pub(super) fn fetch_line(&self, model: &ModelKey, waiting: usize) -> Option<String> {
        let fetch = self.fetches.under_way.get(model)?;
        match &fetch.far {
            None if waiting == 0 => None,
            None => Some(format!("Looking at its files, {waiting} waiting")),
            Some(far) => {
                let here = share_here(far).map_or(String::new(), |here| format!("{here}, "));
                Some(format!("Fetching its files, {here}{waiting} waiting"))
            }
        }
    }

    /// Returns what is added to the reason of a job that waits for the files of a model: how far they are.
    pub(super) fn how_far(&self, model: &ModelKey) -> String {
        match self.fetches.far(model) {
            None => ", which are being looked at".into(),
            Some(far) => match share_here(far) {
                None => ", which are being fetched".into(),
                Some(here) => format!(", which are being fetched: {here}"),
            },
        }
    }
}

/// The part of a model's files that is here: `12 % of 300 MB`; `None` while their size is unknown.
fn share_here(far: &Fetching) -> Option<String> {
    let percent = far
        .here_bytes
        .saturating_mul(100)
        .checked_div(far.all_bytes)?;
    Some(format!("{percent} % of {} MB", far.all_bytes >> 20))
}
