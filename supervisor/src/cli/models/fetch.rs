//! `models fetch`: runs the fetch program and shows its events.

use std::io::IsTerminal;
use std::ops::ControlFlow;

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use ipc_protocol::untrusted::Untrusted;
use store::event::{FetchEvent, PlannedFile};
use store::order::FetchOrder;
use store::trouble::FetchError;

use super::place::{licence, megabytes, trouble};
use crate::catalogue::offer;
use crate::cli::{CommandError, say};
use crate::config::Config;
use crate::process::fetch;

/// Fetches a model and returns when its files are here and checked.
///
/// # Errors
/// The fetch failed, or the fetch program cannot be run.
pub fn run(
    config: &Config,
    order: &FetchOrder,
    quiet: bool,
    json: bool,
) -> Result<u8, CommandError> {
    let key = order.release.key;
    // Checked before a process starts that could open a network connection.
    if config.hub.offline {
        let error = FetchError::Offline(key.to_owned());
        return Err(trouble(error.kind(), error.to_string()));
    }
    if !quiet {
        say::aside(licence(order.release));
        say::aside(format_args!(
            "variant {}: {}",
            order.variant.name, order.variant.about
        ));
    }
    let mut bars = FetchBars::new(quiet || json);
    let mut last = None;
    let ran = fetch::run(order, &offer::hub_settings(config), |event| {
        if json {
            say::line(event.line());
        }
        bars.report(&event);
        last = Some(event);
        ControlFlow::Continue(())
    });
    bars.clear();
    ran.map_err(|why| trouble("fetcher", why))?;
    match last {
        Some(FetchEvent::Done {
            folder,
            transferred_bytes,
            ..
        }) => {
            if !json {
                let came = megabytes(transferred_bytes);
                say::line(format!("{}: {folder} ({came} transferred)", key));
            }
            Ok(0)
        }
        Some(FetchEvent::Failed { kind, message }) => Err(trouble(&kind, message)),
        _ => Err(trouble(
            "fetcher",
            "the fetch program exited without a result",
        )),
    }
}

/// Progress on stderr: one bar per file and one for all; plain lines if stderr is not a terminal.
struct FetchBars {
    bars: MultiProgress,
    total: Option<ProgressBar>,
    files: Vec<(PlannedFile, ProgressBar)>,
    silent: bool,
}

impl FetchBars {
    fn new(silent: bool) -> Self {
        let target = match !silent && std::io::stderr().is_terminal() {
            true => ProgressDrawTarget::stderr(),
            false => ProgressDrawTarget::hidden(),
        };
        Self {
            bars: MultiProgress::with_draw_target(target),
            total: None,
            files: Vec::new(),
            silent,
        }
    }

    fn report(&mut self, event: &FetchEvent) {
        match event {
            FetchEvent::Waiting => {
                self.say("imagepool: waiting for another process that is fetching this model")
            }
            FetchEvent::Planned { files, .. } => self.plan(files),
            FetchEvent::Progress { file, bytes } => self.reach(*file, *bytes),
            FetchEvent::Retried { file, why } => {
                let name = self.files.get(*file).map(|(file, _)| file.name.clone());
                self.say(&format!("{}: {why}; resuming", name.unwrap_or_default()));
            }
            FetchEvent::Checked { file } => {
                if let Some((file, bar)) = self.files.get(*file) {
                    bar.finish();
                    if self.bars.is_hidden() {
                        self.say(&format!(
                            "{}: {}, verified",
                            file.name,
                            megabytes(file.bytes)
                        ));
                    }
                }
            }
            FetchEvent::Done { .. } | FetchEvent::Failed { .. } => {}
        }
    }

    fn plan(&mut self, files: &[PlannedFile]) {
        let style = ProgressStyle::with_template(
            "{prefix:32!} {wide_bar:.cyan/blue} {bytes}/{total_bytes}  {bytes_per_sec}  {eta} left",
        )
        .expect("the template is a constant");
        let bar = |name: &str, bytes: u64| {
            let bar = self.bars.add(ProgressBar::new(bytes));
            bar.set_style(style.clone());
            bar.set_prefix(Untrusted::new(name).to_string());
            bar
        };
        let bars = files
            .iter()
            .map(|file| (file.clone(), bar(&file.name, file.bytes)))
            .collect();
        self.total = Some(bar("total", files.iter().map(|file| file.bytes).sum()));
        self.files = bars;
    }

    fn reach(&self, file: usize, bytes: u64) {
        let Some((_, bar)) = self.files.get(file) else {
            return;
        };
        bar.set_position(bytes);
        if let Some(total) = &self.total {
            total.set_position(self.files.iter().map(|(_, bar)| bar.position()).sum());
        }
    }

    fn say(&self, line: &str) {
        if !self.silent {
            self.bars.suspend(|| say::aside(line));
        }
    }

    fn clear(&self) {
        // Fails only if the terminal is closed.
        let _ = self.bars.clear();
    }
}
