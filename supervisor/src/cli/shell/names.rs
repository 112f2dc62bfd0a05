//! The names of models, workers and jobs, for completions.

use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use super::completion::KnownNames;
use crate::cli::args::ConnectOptions;
use crate::cli::daemon::connect;
use crate::config::{self, paths};

/// How long a daemon may take to list its names for a completion.
const NAMES_WITHIN: Duration = Duration::from_millis(500);

/// The names that the daemon lists; `None` if none runs or it takes too long.
pub fn of_daemon(reach: &ConnectOptions) -> Option<KnownNames> {
    let (sender, answer) = mpsc::channel();
    let reach = reach.clone();
    thread::spawn(move || {
        let report = connect::daemon(&reach).and_then(|mut client| client.status());
        // The caller may have stopped waiting.
        let _ = report.map(|report| sender.send(KnownNames::of(&report)));
    });
    answer.recv_timeout(NAMES_WITHIN).ok()
}

/// The models of the settings file; none if it is invalid.
pub fn of_settings() -> KnownNames {
    let config = config::load(paths::default_config().as_deref());
    KnownNames {
        models: config.map_or_else(|_| Vec::new(), |config| config::names::keys(&config.models)),
        ..KnownNames::default()
    }
}
