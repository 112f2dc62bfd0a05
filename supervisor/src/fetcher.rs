//! The process that fetches a model: short-lived, the only one with network and token.

use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

use clap::Args;
use nix::sys::signal::Signal;

use crate::catalogue::offer;
use crate::config;
use crate::hub::event::Event;
use crate::hub::fetch::{self, Order};
use crate::process::parent;

/// What is to be fetched, as arguments.
#[derive(Debug, Clone, Args)]
pub struct Wish {
    /// The model.
    key: String,
    /// The choice of files, instead of the settings'.
    #[arg(long)]
    variant: Option<String>,
    /// A branch, a tag or a commit, instead of the settings'.
    #[arg(long)]
    revision: Option<String>,
    /// The process that wants it, with which this one ends.
    #[arg(long)]
    parent: Option<u32>,
}

/// Fetches, with an event a line on stdout; the last one says how it ended.
pub fn run(settings: Option<&Path>, wish: &Wish) -> ExitCode {
    // Whoever asked may be killed: nobody would see the rest of the bytes come.
    parent::end_with(wish.parent, Signal::SIGTERM);
    match fetched(settings, wish) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err((kind, message)) => {
            let kind = kind.to_owned();
            tell(&Event::Failed { kind, message });
            ExitCode::FAILURE
        }
    }
}

fn fetched(settings: Option<&Path>, wish: &Wish) -> Result<bool, (&'static str, String)> {
    let config = config::load(settings).map_err(|error| ("usage", error.to_string()))?;
    let section = config.models.get(&wish.key).cloned().unwrap_or_default();
    let order = Order::new(
        &wish.key,
        wish.variant.as_deref().or(section.variant.as_deref()),
        wish.revision.as_deref().or(section.revision.as_deref()),
    )
    .map_err(|error| (error.kind(), error.to_string()))?;
    Ok(fetch::run(&order, &offer::hub_settings(&config), |event| {
        tell(&event);
    }))
}

fn tell(event: &Event) {
    let mut stdout = io::stdout().lock();
    let told = writeln!(stdout, "{}", event.line()).and_then(|()| stdout.flush());
    if told.is_err() {
        // Nobody listens any more; what has come is on the disk.
        std::process::exit(1);
    }
}
