//! The daemon: takes the lock, opens the door, runs the loop until it is drained.
//!
//! - [`arguments`]: those of its program
//! - [`leash`] ends a private daemon when its caller exits
//! - [`passed_sockets`] are those of a service manager; [`notifier`] sends it messages, `life_signs` most of them
//! - `signals` drain the daemon or make it inspect model files again
//! - `sweep` removes files left by killed daemons

pub mod arguments;
pub mod leash;
mod life_signs;
pub mod notifier;
pub mod passed_sockets;
mod signals;
mod sweep;
mod watchdog;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;

use crate::api::http::server::{HttpDoor, HttpSettings};
use crate::api::jobs::store::{JobStore, ResultLimits};
use crate::api::native::lock::DaemonLock;
use crate::api::native::socket::Door;
use crate::api::places::{ClientPlaces, PlaceLimits};
use crate::api::rights::{KnownUsers, Operators};
use crate::api::settings::DoorsReader;
use crate::config::paths;
use crate::config::source::SettingsSource;
use crate::driver::Driver;
use crate::driver::setup::Setup;
use crate::journal::contents::JournalContents;
use crate::journal::folder::JournalFolder;
use crate::journal::handle::Journal;
use crate::journal::lease::IdLease;
use crate::process::exporter;
use crate::telemetry;
use leash::Leash;
use life_signs::LifeSigns;
use notifier::NotifySocket;
use passed_sockets::PassedSockets;
use watchdog::Watchdog;

/// How long clients may take to read their last answers after the loop has ended.
const GOODBYE: Duration = Duration::from_secs(5);
/// Time that the service manager is asked for then: for the clients, the last spans and the last log lines.
const GOODBYE_MAX: Duration = Duration::from_secs(15);

/// The configuration of a daemon.
#[derive(Debug)]
pub struct Daemon {
    /// Setup of the loop.
    pub setup: Setup,
    /// Where the settings come from.
    pub source: SettingsSource,
    /// Folder of the sockets.
    pub runtime_dir: PathBuf,
    /// Permissions of the native door's socket.
    pub socket_mode: u32,
    /// The users that the settings name.
    pub users: KnownUsers,
    /// Settings of the HTTP door; a private daemon has none.
    pub http: Option<HttpSettings>,
    /// The folder of the journal; without one, detached jobs end with the daemon.
    pub journal: Option<JournalFolder>,
    /// The folder was chosen by the operator, so that the daemon does not serve without it.
    pub journal_is_chosen: bool,
    /// Bounds of the pictures that are kept for detached jobs.
    pub results: ResultLimits,
    /// The collector of traces, if there is one.
    pub otlp: Option<String>,
    /// The leash of a private daemon; `None` for other daemons.
    pub leash: Option<Leash>,
    /// Sockets that the service manager has passed.
    pub sockets: PassedSockets,
    /// The socket for messages to the service manager.
    pub notify: NotifySocket,
}

impl Daemon {
    /// Serves until the daemon is drained.
    ///
    /// # Errors
    /// The runtime folder, the lock or the socket is unavailable, with the reason.
    pub async fn serve(self) -> Result<(), Box<dyn std::error::Error>> {
        paths::prepare(&self.runtime_dir, self.socket_mode)?;
        let socket_path = paths::socket(&self.runtime_dir)?;
        let lock =
            DaemonLock::take(&self.runtime_dir).map_err(|error| at(&self.runtime_dir, &error))?;
        sweep::sweep(&self.runtime_dir);
        let clock = self.setup.clock;
        let notifier = Arc::new(self.notify.open()?);
        let mut driver = Driver::new(self.setup)?;
        let http = match self.http {
            Some(settings) => {
                let (folder, mode, passed) =
                    (&self.runtime_dir, self.socket_mode, self.sockets.http);
                Some(HttpDoor::open(folder, mode, passed, settings).await?)
            }
            None => None,
        };
        let exporter = self.otlp.as_deref().map(exporter::start).transpose()?;
        let exporter = exporter.map(|(sink, exporter)| {
            driver.trace_to(sink);
            exporter
        });
        let door = Door::open(&socket_path, self.socket_mode, self.sockets.pool, lock)
            .map_err(|error| at(&socket_path, &error))?;
        let handle = driver.handle();
        let journal = match self.journal.map(|folder| Journal::open(folder, clock)) {
            Some(Err(error)) if !self.journal_is_chosen => {
                telemetry::job_journal::none_kept(&error);
                None
            }
            journal => journal.transpose()?,
        };
        let (journal, left) = journal.unzip();
        let jobs = JobStore::open(handle.clone(), clock, self.results, journal.clone());
        if let Some(journal) = &journal {
            let left = left
                .flatten()
                .unwrap_or_else(|| JournalContents::lost(clock));
            let ids = IdLease::begin(journal.clone(), left.last_id).await;
            driver.remember_in(journal, &left, ids);
            jobs.restore(left.requests, |job, trace| driver.restore(job, trace));
        }
        let operators = Operators::new(self.users);
        let places = ClientPlaces::new(PlaceLimits::own(), handle.reserve().clone());
        driver.read_settings_with(Arc::new(DoorsReader {
            source: self.source,
            folder: self.runtime_dir.clone(),
            operators: operators.clone(),
            jobs: jobs.clone(),
            http: http.as_ref().map(HttpDoor::policy),
        }));
        let http = http.map(|http| {
            let (handle, jobs, places) = (handle.clone(), jobs.clone(), places.clone());
            tokio::spawn(http.serve(handle, jobs, operators.clone(), places, clock))
        });
        let door = tokio::spawn(door.serve(handle.clone(), jobs, operators, places));
        let signals = signals::heed_signals(handle.clone(), Arc::clone(&notifier), clock);
        tokio::spawn(signals);
        tokio::spawn(LifeSigns::new(Arc::clone(&notifier), handle.clone(), clock).send());
        let leashed = self.leash.is_some();
        if let Some(leash) = self.leash {
            let caller_gone = leash.serves()?;
            tokio::spawn(async move {
                caller_gone.await;
                let _ = handle.abandon().await; // Fails only if the loop has ended.
            });
        } else {
            telemetry::daemon::serving(&socket_path);
        }
        let watchdog = Watchdog::start(driver.pulse())?;
        driver.run().await;
        drop(watchdog);
        notifier.stopping().await;
        notifier.extend(GOODBYE_MAX).await;
        // A client that has not read its last answer by then is disconnected.
        let _ = timeout(GOODBYE, async {
            let _ = door.await;
            if let Some(http) = http {
                let _ = http.await;
            }
        })
        .await;
        if let Some(journal) = journal {
            journal.finish().await;
        }
        if let Some(exporter) = exporter {
            exporter.finish();
        }
        // The door has removed its socket; the folder of a private daemon is removed here.
        let cleared = match leashed {
            true => std::fs::remove_dir_all(&self.runtime_dir),
            false => Ok(()),
        };
        if let (true, Some(private)) = (leashed, self.runtime_dir.parent()) {
            // Fails if other private pools still use the folder; the last one removes it.
            let _ = std::fs::remove_dir(private);
        }
        if let Err(error) = cleared
            && error.kind() != io::ErrorKind::NotFound
        {
            telemetry::daemon::folder_stays(&error);
        }
        Ok(())
    }
}

/// Adds the path to an error, unless its message has it already.
fn at(path: &Path, error: &io::Error) -> io::Error {
    let said = error.to_string();
    match said.contains(&path.display().to_string()) {
        true => io::Error::new(error.kind(), said),
        false => io::Error::new(
            error.kind(),
            format!("cannot use {}: {said}", path.display()),
        ),
    }
}
