//! Models that are asked for and whose files are not here: looked for again, fetched once however many
//! ask, and put into the registry. Until then their requests wait outside of the pool, where no clock of
//! theirs runs and no place in a queue is taken.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use ipc_protocol::failure::{Failure, FailureKind};
use ipc_protocol::ids::ModelKey;
use ipc_protocol::messages::client::Fetching;
use pool::{Event, ModelSpec, Registry, Ticket};

use super::hands::Asking;
use super::setup;
use super::{Driver, Input};
use crate::config::Config;
use crate::config::served::Served;
use crate::hub;
use crate::hub::event::PlannedFile;
use crate::hub::source::Release;
use crate::process::{programs, spawn};

/// What it takes to look for a model's files again, and to fetch them.
#[derive(Debug, Clone)]
pub struct Library {
    /// The settings that the registry was built from.
    pub config: Arc<Config>,
    /// The worker program, which looks at weights.
    pub worker_program: PathBuf,
}

/// A model as it is once its files are here.
pub(super) type Found = Box<(ModelSpec, Served)>;

/// Every fetch that somebody waits for, and who does.
#[derive(Debug, Default)]
pub(super) struct Fetches {
    under_way: BTreeMap<ModelKey, Fetch>,
    begun: u64,
}

#[derive(Debug)]
struct Fetch {
    /// News of an earlier fetch of the model is none of this one.
    number: u64,
    waiting: Vec<Ticket>,
    /// Nothing while it is still looked for.
    far: Option<Fetching>,
    given_up: Arc<AtomicBool>,
}

/// How a fetch goes.
#[derive(Debug)]
pub(super) struct FetchNews {
    model: ModelKey,
    number: u64,
    what: What,
}

#[derive(Debug)]
enum What {
    Far(Fetching),
    Ended(Result<Found, Failure>),
}

impl Fetches {
    /// A request no longer waits, and says whether it did. A fetch that nobody waits for ends; what came
    /// is kept.
    pub(super) fn forget(&mut self, ticket: Ticket) -> bool {
        let mut waited = false;
        self.under_way.retain(|_, fetch| {
            let before = fetch.waiting.len();
            fetch.waiting.retain(|waiting| *waiting != ticket);
            waited |= fetch.waiting.len() < before;
            let wanted = !fetch.waiting.is_empty();
            fetch.given_up.store(!wanted, Ordering::Release);
            wanted
        });
        waited
    }
}

impl Driver {
    /// Keeps a request until the files of its model are here; `None` where it does not wait.
    pub(super) fn wait_for_files(&mut self, ticket: Ticket) -> Option<()> {
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
        if !self.fetches.under_way.contains_key(&model) {
            self.fetch(model.clone())?;
        }
        let fetch = self.fetches.under_way.get_mut(&model)?;
        if fetch.waiting.len() >= most {
            let full = format!("queue full: {most} requests wait for the files of {model}");
            self.refuse(ticket, Failure::new(FailureKind::QueueFull, full));
            return Some(());
        }
        fetch.waiting.push(ticket);
        if let Some(far) = &fetch.far {
            self.conversations.get(&ticket)?.asked.as_ref()?.tell(far);
        }
        Some(())
    }

    /// Begins a fetch, in a thread of its own: the process that fetches lives as long as that does.
    fn fetch(&mut self, model: ModelKey) -> Option<()> {
        self.fetches.begun += 1;
        let number = self.fetches.begun;
        let given_up = Arc::new(AtomicBool::new(false));
        let fetch = Fetch {
            number,
            waiting: Vec::new(),
            far: None,
            given_up: Arc::clone(&given_up),
        };
        let (library, inbox) = (self.library.clone(), self.handle.inbox.clone());
        let key = model.clone();
        let begun = thread::Builder::new().name("fetch".into()).spawn(move || {
            let send = |what| {
                let model = key.clone();
                let news = FetchNews {
                    model,
                    number,
                    what,
                };
                inbox.blocking_send(Input::Fetch(news)).is_ok()
            };
            let found = library.bring(&key, |far| {
                match !given_up.load(Ordering::Acquire) && send(What::Far(far)) {
                    true => ControlFlow::Continue(()),
                    false => ControlFlow::Break(()),
                }
            });
            send(What::Ended(found));
        });
        if let Err(error) = begun {
            tracing::error!(%error, %model, "Cannot start to fetch.");
            return None;
        }
        self.fetches.under_way.insert(model, fetch);
        Some(())
    }

    pub(super) fn hear_of_fetch(&mut self, news: FetchNews) {
        let FetchNews {
            model,
            number,
            what,
        } = news;
        let Some(fetch) = self.fetches.under_way.get_mut(&model) else {
            return;
        };
        if fetch.number != number {
            return;
        }
        match what {
            What::Far(far) => {
                fetch.far = Some(far.clone());
                let waiting = fetch.waiting.iter();
                let waiting = waiting.filter_map(|ticket| self.conversations.get(ticket));
                waiting
                    .filter_map(|conversation| conversation.asked.as_ref())
                    .for_each(|asking| asking.tell(&far));
            }
            What::Ended(found) => {
                let waiting = std::mem::take(&mut fetch.waiting);
                self.fetches.under_way.remove(&model);
                match found.and_then(|found| self.enter(*found)) {
                    Ok(()) => waiting
                        .into_iter()
                        .for_each(|ticket| self.ask_again(ticket)),
                    Err(failure) => {
                        tracing::warn!(%model, why = failure.message, "Not fetched.");
                        for ticket in waiting {
                            self.refuse(ticket, failure.clone());
                        }
                    }
                }
            }
        }
    }

    /// Puts a model that is here now in the place of the one whose files were missing.
    fn enter(&mut self, (spec, served): (ModelSpec, Served)) -> Result<(), Failure> {
        let key = spec.key.clone();
        let models = self.registry.iter().map(|old| match old.key == key {
            true => spec.clone(),
            false => old.clone(),
        });
        let registry = Registry::new(models.collect())
            .map_err(|why| Failure::new(FailureKind::ModelMissing, why))?;
        self.catalogue.insert(key, served);
        self.registry = registry.clone();
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
        let Some(Asking { request, user, .. }) = conversation.asked.take() else {
            return;
        };
        let ticket = self.next_ticket();
        self.conversations.insert(ticket, conversation);
        self.arrive(ticket, request, user);
    }

    /// Nothing new is taken any more: who waits for files is told now.
    pub(super) fn dismiss_fetches(&mut self) {
        let under_way = std::mem::take(&mut self.fetches.under_way);
        for fetch in under_way.into_values() {
            fetch.given_up.store(true, Ordering::Release);
            for ticket in fetch.waiting {
                let message = "the pool is draining and takes nothing new";
                let failure = Failure::new(FailureKind::Draining, message);
                self.refuse(ticket, failure.retry_after_ms(5000));
            }
        }
    }

    /// What an operator reads of a model that is being fetched.
    pub(super) fn fetch_line(&self, model: &ModelKey) -> Option<String> {
        let fetch = self.fetches.under_way.get(model)?;
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

impl Library {
    /// The model as its files are on this machine now.
    fn look(&self, key: &str) -> Result<(ModelSpec, Served), Failure> {
        let missing = |why: String| Failure::new(FailureKind::ModelMissing, why);
        let (spec, served) =
            setup::model(&self.config, &self.worker_program, key).map_err(missing)?;
        match &spec.missing {
            None => Ok((spec, served)),
            Some(why) => Err(missing(format!("{key} cannot be loaded: {why}"))),
        }
    }

    /// Looks for a model's files, fetches them where they are not here, and looks again.
    fn bring(
        &self,
        key: &ModelKey,
        mut tell: impl FnMut(Fetching) -> ControlFlow<()>,
    ) -> Result<Found, Failure> {
        // Somebody may have fetched it by hand since.
        let not_here = match self.look(key.as_str()) {
            Ok(found) => return Ok(Box::new(found)),
            Err(failure) => failure,
        };
        let Some(release) = Release::find(key.as_str()) else {
            return Err(not_here);
        };
        if self.config.hub.offline {
            let why = format!(
                "{}; hub.offline is set, so nothing is fetched",
                not_here.message
            );
            return Err(Failure::new(FailureKind::ModelMissing, why));
        }
        tracing::info!(model = %key, licence = release.licence.name, "Fetching what somebody asks for.");
        let begun = Fetching {
            model: key.clone(),
            here_bytes: 0,
            all_bytes: 0,
        };
        if tell(begun).is_break() {
            return Err(not_here);
        }
        let (mut count, mut failed) = (Count::default(), None);
        let wish = Wish {
            key: key.as_str(),
            variant: None,
            revision: None,
        };
        let watched = watch(self.config.file.as_deref(), &wish, |event| {
            if let hub::event::Event::Failed { message, .. } = &event {
                failed = Some(message.clone());
            }
            match count.hear(&event) {
                Some((here_bytes, all_bytes)) => tell(Fetching {
                    model: key.clone(),
                    here_bytes,
                    all_bytes,
                }),
                None => ControlFlow::Continue(()),
            }
        });
        match watched.err().or(failed) {
            None => self.look(key.as_str()).map(Box::new),
            Some(why) => Err(Failure::new(
                FailureKind::ModelMissing,
                format!("{key} could not be fetched: {why}"),
            )),
        }
    }
}

/// Bytes that are here, from the events of a fetch.
#[derive(Debug, Default)]
struct Count {
    /// Size and bytes here of each planned file.
    files: Vec<(u64, u64)>,
    /// The last that was told, in thousandths.
    told: Option<u64>,
}

impl Count {
    /// Bytes here and in all, where that is worth telling.
    fn hear(&mut self, event: &hub::event::Event) -> Option<(u64, u64)> {
        use hub::event::Event;
        match event {
            Event::Planned { files, .. } => {
                self.files = files
                    .iter()
                    .map(|PlannedFile { bytes, .. }| (*bytes, 0))
                    .collect();
            }
            Event::Progress { file, bytes } => self.files.get_mut(*file)?.1 = *bytes,
            Event::Checked { file } => {
                let file = self.files.get_mut(*file)?;
                file.1 = file.0;
            }
            Event::Waiting | Event::Retried { .. } | Event::Done { .. } | Event::Failed { .. } => {
                return None;
            }
        }
        let all: u64 = self.files.iter().map(|(size, _)| size).sum();
        let here: u64 = self.files.iter().map(|(size, here)| here.min(size)).sum();
        let permille = here.saturating_mul(1000).checked_div(all);
        let news = permille != self.told;
        self.told = permille;
        news.then_some((here, all))
    }
}

/// What is to be fetched; what is not said is as the settings say.
#[derive(Debug)]
pub struct Wish<'a> {
    /// Model.
    pub key: &'a str,
    /// Choice of files.
    pub variant: Option<&'a str>,
    /// Branch, tag or commit.
    pub revision: Option<&'a str>,
}

/// Runs the process that fetches to its end and hands over what it tells. Where `tell` breaks off, the
/// process ends with the next line that nobody reads.
///
/// # Errors
/// A sentence: it could not be run, or said what is no event.
pub fn watch(
    settings: Option<&Path>,
    wish: &Wish<'_>,
    mut tell: impl FnMut(hub::event::Event) -> ControlFlow<()>,
) -> Result<(), String> {
    let failed =
        |error: &dyn std::fmt::Display| format!("cannot run the process that fetches: {error}");
    let mut arguments = vec![wish.key];
    for (option, value) in [("--variant", wish.variant), ("--revision", wish.revision)] {
        arguments.extend(value.into_iter().flat_map(|value| [option, value]));
    }
    let program = programs::find("supervisor").map_err(|error| failed(&error))?;
    let mut child =
        spawn::spawn_fetcher(&program, settings, &arguments).map_err(|error| failed(&error))?;
    let stdout = child.stdout.take().expect("it is piped");
    let (mut heard, mut ended) = (Ok(()), false);
    for line in BufReader::new(stdout).lines() {
        let event = line
            .map_err(|error| failed(&error))
            .and_then(|line| hub::event::Event::read(&line));
        match event {
            Ok(event) => {
                ended |= event.is_last();
                if tell(event).is_break() {
                    break;
                }
            }
            Err(why) => {
                heard = Err(why);
                break;
            }
        }
    }
    child.wait().map_err(|error| failed(&error))?;
    match (heard, ended) {
        (Ok(()), false) => Err(
            "the process that fetches ended without a word; what came is kept, so fetch again"
                .into(),
        ),
        (heard, _) => heard,
    }
}
