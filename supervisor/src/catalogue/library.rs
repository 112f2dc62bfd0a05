//! The files of models: inspected again after changes, and fetched by a child process.

use std::io::{BufRead, BufReader, Read};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ipc_protocol::failure::{Failure, FailureKind};
use ipc_protocol::ids::ModelKey;
use ipc_protocol::messages::client::Fetching;
use ipc_protocol::untrusted::Untrusted;
use pool::{Files, ModelSpec, Registry};

use super::looks::Looks;
use super::offer::{self, Depth};
use super::served::Served;
use crate::config::{Config, paths};
use crate::hub;
use crate::hub::event::PlannedFile;
use crate::hub::source::Release;
use crate::process::{programs, spawn};
use crate::telemetry;

/// Longest line of the process that fetches. The longest is the plan of the longest listing that is taken.
const LINE_BYTES_MAX: u64 = 8 << 20;

/// What it takes to look for a model's files again, and to fetch them.
#[derive(Debug, Clone)]
pub struct Library {
    /// The settings that the registry was built from.
    pub config: Arc<Config>,
    /// The worker program, which looks at weights.
    pub worker_program: PathBuf,
    /// What it found before.
    pub looks: Arc<Looks>,
}

/// A model as its files are.
pub type Found = Box<(ModelSpec, Served)>;

impl Library {
    /// What it takes for these settings.
    pub fn new(config: Config, worker_program: PathBuf) -> Self {
        Self {
            config: Arc::new(config),
            worker_program,
            looks: Arc::new(Looks::in_folder(paths::default_cache_dir().as_deref())),
        }
    }

    /// The model as its files are on this machine now, usable or not.
    pub fn look(&self, key: &ModelKey, depth: Depth) -> Result<Found, Failure> {
        let Self {
            config,
            worker_program,
            looks,
        } = self;
        offer::model(config, worker_program, looks, key.as_str(), depth)
            .map(Box::new)
            .map_err(|why| Failure::new(FailureKind::ModelUnusable, why))
    }

    /// What cannot be used of these models, a line each; waits for every look.
    pub fn unusable(&self, registry: &Registry) -> Vec<String> {
        let unread = |spec: &&ModelSpec| spec.files == Files::Unread;
        let why = |spec: &ModelSpec| match self.look(&spec.key, Depth::Quick) {
            Ok(found) => match found.0.files {
                Files::Broken(why) => Some(why),
                Files::Here { .. } | Files::Unread | Files::Missing(_) => None,
            },
            Err(failure) => Some(failure.message),
        };
        let models = registry.iter().filter(unread);
        models
            .filter_map(|spec| Some(format!("{} cannot be loaded: {}", spec.key, why(spec)?)))
            .collect()
    }

    /// Looks for a model's files, fetches them where they are not here, and looks again.
    pub fn bring(
        &self,
        key: &ModelKey,
        mut tell: impl FnMut(Fetching) -> ControlFlow<()>,
    ) -> Result<Found, Failure> {
        // Somebody may have fetched it by hand since.
        let found = self.look(key, Depth::Quick)?;
        let Files::Missing(why) = &found.0.files else {
            return Ok(found);
        };
        let not_here = || {
            let why = format!("{key} cannot be loaded: {why}");
            Failure::new(FailureKind::ModelMissing, why)
        };
        let Some(release) = Release::find(key.as_str()) else {
            return Err(not_here());
        };
        if self.config.hub.offline {
            let why = format!(
                "{}; hub.offline is set, so nothing is fetched",
                not_here().message
            );
            return Err(Failure::new(FailureKind::ModelMissing, why));
        }
        telemetry::files::fetching(key, release.licence.name);
        let begun = Fetching {
            model: key.clone(),
            here_bytes: 0,
            all_bytes: 0,
        };
        if tell(begun).is_break() {
            return Err(not_here());
        }
        let (mut count, mut failed) = (Count::default(), None);
        let wish = Wish {
            key: key.as_str(),
            variant: None,
            revision: None,
        };
        let watched = watch(self.config.file.as_deref(), &wish, |event| {
            if let hub::event::Event::Failed { message, .. } = &event {
                failed = Some(Untrusted::new(message).to_string());
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
            None => self.look(key, Depth::Quick),
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
    let mut stdout = BufReader::new(stdout);
    loop {
        let mut line = String::new();
        let event = match (&mut stdout).take(LINE_BYTES_MAX).read_line(&mut line) {
            Ok(0) => break,
            Ok(_) if line.ends_with('\n') => hub::event::Event::read(line.trim_end()),
            Ok(_) => Err(format!(
                "the fetcher's line after {} bytes has no end",
                line.len()
            )),
            Err(error) => Err(failed(&error)),
        };
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
