//! The settings file: read beside the loop whenever an operator asks for that.
//!
//! All of it is checked before anything changes: invalid settings change nothing.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt::Debug;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use ipc_protocol::failure::{Failure, FailureKind};
use ipc_protocol::ids::{Generation, ModelKey};
use ipc_protocol::messages::client::{AvailableModel, Told};
use tokio::sync::oneshot;

use super::Driver;
use crate::catalogue::difference::{self, ModelChange, OfferedModels};
use crate::catalogue::placement::CudaDevices;
use crate::config::Config;
use crate::telemetry;

/// Where an operator waits for lines.
pub(super) type ToldSender = oneshot::Sender<Result<Told, Failure>>;

/// Longest time for reading a settings file; it may be on a disk that does not answer.
const READ_MAX: Duration = Duration::from_secs(30);

/// Reads the settings file for the loop. The doors implement it, because they check their part.
pub trait SettingsReader: Debug + Send + Sync {
    /// Reads and checks the settings. Blocks.
    ///
    /// # Errors
    /// The message; it names the file and the fault.
    fn read(&self) -> Result<ReadSettings, String>;
}

/// Settings that were read and checked.
pub struct ReadSettings {
    /// All settings.
    pub config: Config,
    /// The file, or words for the defaults.
    pub place: String,
    /// Hands the doors their part.
    pub apply: Box<dyn FnOnce() + Send>,
}

impl Debug for ReadSettings {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_tuple("ReadSettings")
            .field(&self.place)
            .finish()
    }
}

/// The task for which settings are read.
#[derive(Debug)]
pub(super) enum SettingsTask {
    /// List their models.
    List(oneshot::Sender<Result<Vec<AvailableModel>, Failure>>),
    /// Say which models differ.
    Compare(ToldSender),
    /// Take over the models that differ: of these keys, or all without any.
    Update {
        models: Vec<String>,
        answer: ToldSender,
    },
    /// Take over everything.
    Reload(ToldSender),
}

/// The end of reading.
#[derive(Debug)]
pub(super) struct SettingsNews {
    /// News of an earlier reading, which took too long, change nothing.
    number: u64,
    found: Result<(ReadSettings, OfferedModels), String>,
}

/// Reads and changes of the settings in progress.
#[derive(Debug, Default)]
pub(super) struct SettingsChanges {
    reader: Option<Arc<dyn SettingsReader>>,
    /// The models as the settings in use offer them.
    pub offered: OfferedModels,
    /// Tasks that wait for the one whose settings are being read.
    queue: VecDeque<SettingsTask>,
    /// The task whose settings are being read, with the number of the reading.
    reading: Option<(u64, SettingsTask)>,
    begun: u64,
    /// Changed models whose workers from before have not all left.
    pub leaving: BTreeMap<ModelKey, LeavingModel>,
    /// Updates that wait for such models.
    pub unfinished: Vec<UnfinishedUpdate>,
}

/// A changed model whose workers from before have not all left.
#[derive(Debug)]
pub(super) struct LeavingModel {
    pub change: ModelChange,
    /// Those workers. A model that was removed may start further ones for its jobs.
    pub workers: BTreeSet<Generation>,
}

/// An update that is answered once the workers that its changes outdate have left.
#[derive(Debug)]
pub(super) struct UnfinishedUpdate {
    /// Its changes, with those of earlier updates that it waits for.
    pub changes: BTreeMap<ModelKey, ModelChange>,
    /// Its errors; the lines about the changes are added at its end.
    pub told: Told,
    pub answer: ToldSender,
}

impl SettingsChanges {
    /// No changes of these models yet.
    pub fn of(offered: OfferedModels) -> Self {
        Self {
            offered,
            ..Self::default()
        }
    }
}

impl Driver {
    /// Reads the settings with `reader` whenever an operator asks for that.
    pub fn read_settings_with(&mut self, reader: Arc<dyn SettingsReader>) {
        self.settings.reader = Some(reader);
    }

    /// Reads the settings, and then carries out a task.
    pub(super) fn with_settings(&mut self, task: SettingsTask) {
        self.settings.queue.push_back(task);
        self.read_next();
    }

    /// Begins to read the settings for the oldest task, unless that is being done for another one.
    fn read_next(&mut self) {
        if self.settings.reading.is_some() {
            return;
        }
        let Some(task) = self.settings.queue.pop_front() else {
            return;
        };
        let Some(reader) = self.settings.reader.clone() else {
            let why = "this pool has no settings file";
            return refuse(task, Failure::new(FailureKind::NotPermitted, why));
        };
        self.settings.begun += 1;
        let number = self.settings.begun;
        let whole = matches!(task, SettingsTask::Reload(_));
        self.settings.reading = Some((number, task));
        let (current, cuda) = (Arc::clone(&self.library.config), self.library.cuda);
        let outbox = self.handle.outbox.clone();
        // A thread of its own, because the end of the daemon must not wait for a disk that does not answer.
        let begun = thread::Builder::new().name("settings".into()).spawn({
            let outbox = outbox.clone();
            move || {
                let found = read(&*reader, &current, cuda, whole);
                outbox.tell_of_settings(SettingsNews { number, found });
            }
        });
        if let Err(error) = begun {
            let found = Err(format!("no thread is left to read them: {error}"));
            return outbox.tell_of_settings(SettingsNews { number, found });
        }
        let (clock, late) = (self.clock, self.clock.now() + READ_MAX);
        tokio::spawn(async move {
            clock.wait_until(Some(late)).await;
            let seconds = READ_MAX.as_secs();
            let found = Err(format!("reading the settings took longer than {seconds} s"));
            outbox.tell_of_settings(SettingsNews { number, found });
        });
    }

    pub(super) fn hear_of_settings(&mut self, SettingsNews { number, found }: SettingsNews) {
        let is_awaited = |reading: &mut (u64, SettingsTask)| reading.0 == number;
        let Some((_, task)) = self.settings.reading.take_if(is_awaited) else {
            return;
        };
        let (read, offered) = match found {
            Ok(found) => found,
            Err(why) => {
                invalid(task, &why);
                return self.read_next();
            }
        };
        match task {
            SettingsTask::List(answer) => {
                // A door that left needs no answer, here and below.
                let _ = answer.send(Ok(self.available(&read.config, &offered)));
            }
            SettingsTask::Compare(answer) => {
                let changes = difference::changes(&self.settings.offered, &offered);
                let lines = changes
                    .iter()
                    .map(|(key, change)| format!("{key}: {}", change.word()));
                let mut lines: Vec<String> = lines.collect();
                if lines.is_empty() {
                    lines.push("No config updates to processes".into());
                }
                let _ = answer.send(Ok(told(lines)));
            }
            SettingsTask::Update { models, answer } => {
                self.update(&read.config, &offered, &models, answer);
            }
            SettingsTask::Reload(answer) => {
                let told = self.reload(read, &offered);
                let _ = answer.send(told);
            }
        }
        self.read_next();
    }

    /// The models in use and those of the file, by key.
    fn available(&self, config: &Config, offered: &OfferedModels) -> Vec<AvailableModel> {
        let mut models: BTreeMap<&ModelKey, AvailableModel> = BTreeMap::new();
        for (key, model) in offered.iter().chain(&self.settings.offered) {
            let least = model.spec.min_workers.unwrap_or(config.pool.min_workers);
            models.entry(key).or_insert_with(|| AvailableModel {
                key: key.clone(),
                in_use: self.settings.offered.contains_key(key),
                auto: model.spec.pinned || least > 0,
            });
        }
        models.into_values().collect()
    }
}

/// Reads the settings and their models. Without `whole`, only the models are new.
fn read(
    reader: &dyn SettingsReader,
    current: &Config,
    cuda: CudaDevices,
    whole: bool,
) -> Result<(ReadSettings, OfferedModels), String> {
    let read = reader.read()?;
    let offered = match whole {
        true => difference::offered(&read.config, cuda),
        false => {
            let models = read.config.models.clone();
            let mixed = Config {
                models,
                ..current.clone()
            };
            difference::offered(&mixed, cuda)
        }
    };
    let offered = offered.map_err(|why| format!("{}: {why}", read.place))?;
    Ok((read, offered))
}

/// An answer without an error.
pub(super) fn told(lines: Vec<String>) -> Told {
    Told {
        lines,
        success: true,
        more: false,
    }
}

/// supervisorctl's answer for an invalid settings file.
pub(super) fn cannot_reread(why: &str) -> Told {
    Told {
        success: false,
        ..told(vec![format!("ERROR: CANT_REREAD: {why}")])
    }
}

/// Tells a task's door that the settings are invalid.
fn invalid(task: SettingsTask, why: &str) {
    match task {
        SettingsTask::List(answer) => {
            let failure = Failure::new(FailureKind::BadValue, format!("CANT_REREAD: {why}"));
            let _ = answer.send(Err(failure));
        }
        SettingsTask::Reload(answer) => {
            telemetry::daemon::not_reloaded(&why);
            let _ = answer.send(Ok(cannot_reread(why)));
        }
        SettingsTask::Compare(answer) | SettingsTask::Update { answer, .. } => {
            let _ = answer.send(Ok(cannot_reread(why)));
        }
    }
}

fn refuse(task: SettingsTask, failure: Failure) {
    match task {
        SettingsTask::List(answer) => drop(answer.send(Err(failure))),
        SettingsTask::Compare(answer)
        | SettingsTask::Update { answer, .. }
        | SettingsTask::Reload(answer) => drop(answer.send(Err(failure))),
    }
}
