//! The registry of a world, and looks and fetches of its models' files.

use std::collections::BTreeMap;

use ipc_protocol::failure::{Failure, FailureKind};
use ipc_protocol::ids::ModelKey;
use ipc_protocol::units::Mebibytes;
use pool::{Event, Files, ModelSpec, Registry};

use crate::faults::{FaultKind, FaultSet};
use crate::random::SeededRandom;

/// Rarely a fetch takes this many seconds.
const LONG: u64 = 200;

/// The models as the world planned them and as the pool knows them, with the fetches that go on.
#[derive(Debug)]
pub(crate) struct ScriptedFiles {
    planned: Registry,
    known: Registry,
    /// Each with its number.
    fetches: BTreeMap<ModelKey, u64>,
    last_fetch: u64,
    faults: FaultSet,
}

/// The end of a look or a fetch.
#[derive(Debug, Clone)]
pub(crate) enum FilesStep {
    Looked(ModelKey),
    /// The fetch with this number ends.
    Fetched(ModelKey, u64),
}

/// Events to feed now, and a step with the microseconds until it.
#[derive(Debug, Default)]
pub(crate) struct FilesNews {
    pub(crate) events: Vec<Event>,
    pub(crate) next: Option<(u64, FilesStep)>,
}

impl ScriptedFiles {
    pub(crate) fn new(planned: Registry, faults: FaultSet, random: &mut SeededRandom) -> Self {
        let known = match faults.has(FaultKind::Fetches) {
            true => without_files(&planned, random),
            false => planned.clone(),
        };
        Self {
            planned,
            known,
            fetches: BTreeMap::new(),
            last_fetch: 0,
            faults,
        }
    }

    /// The models as the pool knows them.
    pub(crate) fn known(&self) -> &Registry {
        &self.known
    }

    /// Restores the planned models. From now on every fetch finds what was planned.
    pub(crate) fn mend(&mut self) -> Event {
        self.faults = FaultSet(0);
        self.tell(self.planned.clone())
    }

    /// Changes a model, and mostly changes it back. The other models are as planned, or as the pool knows them.
    pub(crate) fn change(&mut self, random: &mut SeededRandom) -> Vec<Event> {
        let before = match random.permille(500) {
            true => self.planned.clone(),
            false => self.known.clone(),
        };
        let mut events = vec![self.tell(changed(&before, random))];
        if random.permille(700) {
            events.push(self.tell(before));
        }
        events
    }

    /// The driver looks at the files of a model, which are unknown until the look ends.
    pub(crate) fn look(&mut self, random: &mut SeededRandom) -> FilesNews {
        let Some(key) = self.any(random) else {
            return FilesNews::default();
        };
        let unread = with(&self.known, &key, &|spec| spec.files = Files::Unread);
        FilesNews {
            events: vec![self.tell(unread)],
            next: Some((random.from(10_000, 5_000_000), FilesStep::Looked(key))),
        }
    }

    /// Removes the files of a model, or ends a look or fetch that was not asked for.
    pub(crate) fn disturb(&mut self, random: &mut SeededRandom) -> Vec<Event> {
        let Some(model) = self.any(random) else {
            return Vec::new();
        };
        vec![match random.from(0, 9) {
            0 => Event::FilesArrived { model },
            1 => Event::FilesFailed {
                model,
                failure: no_fetch(random),
            },
            _ => {
                let files = Files::Missing("its folder was removed".into());
                let lost = with(&self.known, &model, &|spec| spec.files = files.clone());
                self.tell(lost)
            }
        }]
    }

    /// Begins a fetch that the pool asks for.
    pub(crate) fn fetch(&mut self, key: &ModelKey, random: &mut SeededRandom) -> (u64, FilesStep) {
        self.last_fetch += 1;
        self.fetches.insert(key.clone(), self.last_fetch);
        let most = if random.permille(100) { LONG } else { 20 };
        let lasts = random.from(10_000, most * 1_000_000);
        (lasts, FilesStep::Fetched(key.clone(), self.last_fetch))
    }

    /// Stops a fetch, which may end by itself all the same.
    pub(crate) fn stop_fetch(&mut self, key: &ModelKey, random: &mut SeededRandom) {
        if !random.permille(200) {
            self.fetches.remove(key);
        }
    }

    pub(crate) fn act(&mut self, step: FilesStep, random: &mut SeededRandom) -> FilesNews {
        match step {
            FilesStep::Looked(key) => self.looked(key, random),
            FilesStep::Fetched(key, number) => FilesNews {
                events: self.fetched(key, number, random),
                next: None,
            },
        }
    }

    /// Tells the pool what a look found. Files that cannot be used are looked at again.
    fn looked(&mut self, key: ModelKey, random: &mut SeededRandom) -> FilesNews {
        if !self.faults.has(FaultKind::Looks) {
            return FilesNews::default();
        }
        let found = self.found(&key, random);
        let unusable = |spec: &ModelSpec| spec.key == key && !spec.files.are_here();
        let again = found.iter().any(unusable);
        let again = again.then(|| (random.from(1_000_000, 20_000_000), FilesStep::Looked(key)));
        FilesNews {
            events: vec![self.tell(found)],
            next: again,
        }
    }

    /// Tells the pool how a fetch ended: mostly the files are what was planned.
    fn fetched(&mut self, model: ModelKey, number: u64, random: &mut SeededRandom) -> Vec<Event> {
        if self.fetches.get(&model) != Some(&number) {
            return Vec::new();
        }
        self.fetches.remove(&model);
        let fails = self.faults.has(FaultKind::Looks) || self.faults.has(FaultKind::Fetches);
        if fails && random.permille(120) {
            let failure = no_fetch(random);
            return vec![Event::FilesFailed { model, failure }];
        }
        let found = match fails {
            true => self.found(&model, random),
            false => mended(&self.known, &self.planned, &model),
        };
        let mut events = Vec::new();
        // What was known before is not told again.
        if found != self.known {
            events.push(self.tell(found));
        }
        events.push(Event::FilesArrived { model });
        events
    }

    fn tell(&mut self, models: Registry) -> Event {
        self.known = models.clone();
        Event::ModelsChanged {
            registry: Box::new(models),
        }
    }

    fn any(&self, random: &mut SeededRandom) -> Option<ModelKey> {
        let nth = random.below(self.known.iter().count());
        Some(self.known.iter().nth(nth)?.key.clone())
    }

    /// The same models, with what a look found of the files of one: mostly what was planned.
    fn found(&self, key: &ModelKey, random: &mut SeededRandom) -> Registry {
        let other = random.next();
        let digest = format!("digest-{other}");
        let known = &self.known;
        match random.from(0, 9) {
            0 => with(known, key, &|spec| {
                spec.files = Files::Broken("a tensor is missing".into());
            }),
            1 => with(known, key, &|spec| {
                spec.files = Files::Missing("its folder is empty".into());
            }),
            2 => with(known, key, &|spec| {
                let stamp = format!("stamp-{other}");
                (spec.files, spec.digest) = (Files::Here { stamp }, digest.clone());
            }),
            // The digest of the same files was taken only now.
            3 => {
                let mended = mended(known, &self.planned, key);
                with(&mended, key, &|spec| spec.digest.clone_from(&digest))
            }
            _ => mended(known, &self.planned, key),
        }
    }
}

/// The planned models as the pool first knows them: the files of many are missing, or were not looked at.
fn without_files(planned: &Registry, random: &mut SeededRandom) -> Registry {
    let specs = planned.iter().cloned().map(|mut spec| {
        match random.from(0, 9) {
            0..=3 => spec.files = Files::Missing("it was never fetched".into()),
            4 => spec.files = Files::Unread,
            _ => {}
        }
        spec
    });
    Registry::new(specs.collect()).expect("it was sound before")
}

/// The registry read again: with a model less, with one that is another now, or just the same.
fn changed(registry: &Registry, random: &mut SeededRandom) -> Registry {
    let mut specs: Vec<ModelSpec> = registry.iter().cloned().collect();
    let nth = random.below(specs.len());
    let many = specs.len() > 1;
    let spec = &mut specs[nth];
    match random.from(0, 9) {
        0 | 1 if many => {
            specs.remove(nth);
        }
        2 => {}
        3 => spec.max_workers = Some(random.from(1, 4) as u32),
        4 => spec.pinned = !spec.pinned,
        5 => spec.sizes.max = 16 * random.from(40, 110) as u32,
        6 => spec.params = "dtype=f16".into(),
        7 => spec.need.activation.base = Mebibytes(random.from(0, 30)),
        _ => {
            let other = random.next();
            spec.digest = format!("digest-{other}");
            spec.files = Files::Here {
                stamp: format!("stamp-{other}"),
            };
        }
    }
    Registry::new(specs).expect("it was sound before")
}

/// The same models, with the files of one as planned.
fn mended(known: &Registry, planned: &Registry, key: &ModelKey) -> Registry {
    let planned = planned.iter().find(|spec| spec.key == *key);
    with(known, key, &|spec| {
        if let Some(planned) = planned {
            (spec.files, spec.digest) = (planned.files.clone(), planned.digest.clone());
        }
    })
}

fn with(known: &Registry, key: &ModelKey, change: &dyn Fn(&mut ModelSpec)) -> Registry {
    let specs = known.iter().cloned().map(|mut spec| {
        if spec.key == *key {
            change(&mut spec);
        }
        spec
    });
    Registry::new(specs.collect()).expect("it was sound before")
}

/// Why a look or a fetch was not possible.
fn no_fetch(random: &mut SeededRandom) -> Failure {
    let (kind, message) = match random.from(0, 2) {
        0 => (FailureKind::ModelMissing, "the hub does not answer"),
        1 => (FailureKind::ModelUnusable, "its folder cannot be opened"),
        _ => (
            FailureKind::Internal,
            "no thread is left to look at its files",
        ),
    };
    Failure::new(kind, message)
}
