//! The fetch program: brings one model from a hub to this machine, prints one event a line and exits.
//!
//! ```text
//!  main       arguments → order; events → stdout
//!    │ fetch  one model at a time (lock), with the token
//!    ├─ lookup    revision → commit, and each file's size and digest, from the listing
//!    ├─ transfer  bytes into NAME.part, from where they stopped; digest checked, or deleted
//!    └─ store     (a package of its own) published in one rename, with a record of every file
//! ```
//!
//! It is the only program with an HTTP client, TLS and a token. The daemon and `imagepool` start it and read its
//! events. [`http`] sends the token to the endpoint alone and bounds every answer; [`listing`] reads a
//! repository's files; [`parent`] ends this process with the one that started it. With `--export-spans` it fetches nothing:
//! [`spans`] sends the daemon's traces to a collector; with `--call`, [`call`] sends one request.

mod call;
mod fetch;
mod file_head;
mod http;
mod listing;
mod listing_page;
mod lookup;
mod parent;
mod spans;
mod token;
mod transfer;

use std::io::{self, Write};
use std::num::ParseFloatError;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use nix::sys::signal::Signal;
use store::Store;
use store::event::FetchEvent;
use store::order::{ENDPOINT_VARIABLE, FetchOrder, HubSettings};
use store::trouble::FetchError;

/// Fetches one model and prints one JSON event a line; the last one is `done` or `failed`.
#[derive(Debug, Parser)]
#[command(version, name = "fetch")]
struct FetchArguments {
    /// Model key.
    #[arg(required_unless_present_any = ["export_spans", "call"])]
    key: Option<String>,
    /// Choice of files; the model's first if omitted.
    #[arg(long)]
    variant: Option<String>,
    /// Branch, tag or commit; the newest if omitted.
    #[arg(long)]
    revision: Option<String>,
    /// Folder of fetched models.
    #[arg(long, value_name = "DIR", default_value_os_t = Store::default_root())]
    folder: PathBuf,
    /// Address of the hub or mirror; the default hub if omitted.
    // Callers set the variable: other users can read arguments, and an address may hold a password.
    #[arg(long, value_name = "URL", env = ENDPOINT_VARIABLE, hide_env_values = true)]
    endpoint: Option<String>,
    /// Longest wait for data from the hub.
    #[arg(long, value_name = "SECONDS", default_value = "60", value_parser = seconds)]
    patience: Duration,
    /// Refuse to fetch.
    #[arg(long)]
    offline: bool,
    /// Exit together with this process.
    #[arg(long, value_name = "PID")]
    parent: Option<u32>,
    /// Send the spans on stdin to this collector, and fetch nothing.
    #[arg(
        long,
        hide = true,
        value_name = "URL",
        conflicts_with = "key",
        requires = "parent"
    )]
    export_spans: Option<String>,
    /// Send one POST request, and fetch nothing.
    #[arg(long, hide = true, value_name = "URL", conflicts_with = "key")]
    call: Option<String>,
}

fn main() -> ExitCode {
    let arguments = FetchArguments::parse();
    // If the caller dies, nobody reads the rest of the events.
    parent::end_with(arguments.parent, Signal::SIGTERM);
    if let Some(collector) = &arguments.export_spans {
        return spans::run(collector, arguments.parent.unwrap_or_default());
    }
    if let Some(address) = &arguments.call {
        return call::run(address);
    }
    let (variant, revision) = (&arguments.variant, &arguments.revision);
    let key = arguments.key.as_deref().unwrap_or_default();
    let fetched = match FetchOrder::new(key, variant.as_deref(), revision.as_deref()) {
        Ok(order) => fetch::run(&order, &arguments.hub(), |event| print(&event)),
        Err(error) => {
            refuse(&error);
            false
        }
    };
    match fetched {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    }
}

impl FetchArguments {
    fn hub(&self) -> HubSettings {
        HubSettings {
            offline: self.offline,
            endpoint: self.endpoint.clone(),
            folder: self.folder.clone(),
            patience: self.patience,
        }
    }
}

/// Parses a positive number of seconds.
fn seconds(text: &str) -> Result<Duration, String> {
    let number = text
        .parse()
        .map_err(|error: ParseFloatError| error.to_string())?;
    let duration = Duration::try_from_secs_f64(number).map_err(|error| error.to_string())?;
    match duration.is_zero() {
        true => Err("it must be more than 0".into()),
        false => Ok(duration),
    }
}

fn refuse(error: &FetchError) {
    print(&FetchEvent::Failed {
        kind: error.kind().to_owned(),
        message: error.to_string(),
    });
}

/// Prints an event; exits if no process reads them any more, since what came is on the disk.
fn print(event: &FetchEvent) {
    let mut stdout = io::stdout().lock();
    let printed = writeln!(stdout, "{}", event.line()).and_then(|()| stdout.flush());
    if printed.is_err() {
        std::process::exit(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patience_is_a_positive_number_of_seconds() {
        assert_eq!(seconds("0.3"), Ok(Duration::from_millis(300)));
        for wrong in ["0", "-1", "nan", "inf", "1e99", "soon", ""] {
            assert!(seconds(wrong).is_err(), "{wrong}");
        }
    }
}
