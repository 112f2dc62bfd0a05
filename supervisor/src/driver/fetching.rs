//! Models that are asked for and whose files are not here: looked for again, fetched once however many
//! ask, and put into the registry. Until then their requests wait outside of the pool, where no clock of
//! theirs runs and no place in a queue is taken.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use ipc_protocol::failure::{Failure, FailureKind};
use ipc_protocol::ids::ModelKey;
use ipc_protocol::messages::client::Fetching;
use pool::{Event, ModelSpec, Registry, Ticket};

use super::conversation::Asking;
use super::library::Found;
use super::{Driver, Input};
use crate::config::served::Served;

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
        let Some(Asking { request, .. }) = conversation.asked.take() else {
            return;
        };
        let user = conversation.user.clone();
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
                self.refuse(ticket, pool::draining());
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
