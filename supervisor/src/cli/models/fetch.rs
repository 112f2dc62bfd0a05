//! `models fetch`: starts the process that fetches, and shows what it tells.

use std::io::IsTerminal;
use std::ops::ControlFlow;

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use ipc_protocol::untrusted::Untrusted;

use super::place::{licence, megabytes, trouble};
use crate::catalogue::library::{Wish, watch};
use crate::cli::{CommandError, say};
use crate::config::Config;
use crate::hub::event::{Event, PlannedFile};
use crate::hub::fetch::Order;
use crate::hub::trouble::FetchError;

/// Fetches a model; ends when its files are here and checked, or it is clear why not.
pub fn run(config: &Config, wish: &Wish<'_>, quiet: bool, json: bool) -> Result<u8, CommandError> {
    let refused = |error: &FetchError| trouble(error.kind(), error.to_string());
    let section = config.models.get(wish.key).cloned().unwrap_or_default();
    let variant = wish.variant.or(section.variant.as_deref());
    let order = Order::new(wish.key, variant, wish.revision).map_err(|error| refused(&error))?;
    // Before any process is started: nothing that could open a socket even exists then.
    if config.hub.offline {
        return Err(refused(&FetchError::Offline(wish.key.to_owned())));
    }
    if !quiet {
        say::aside(licence(order.release));
        say::aside(format_args!(
            "variant {}: {}",
            order.variant.name, order.variant.about
        ));
    }
    let mut shown = Shown::new(quiet || json);
    let mut last = None;
    let watched = watch(None, wish, |event| {
        if json {
            say::line(event.line());
        }
        shown.tell(&event);
        last = Some(event);
        ControlFlow::Continue(())
    });
    shown.clear();
    watched.map_err(|why| trouble("fetcher", why))?;
    match last {
        Some(Event::Done {
            folder,
            transferred_bytes,
            ..
        }) => {
            if !json {
                let came = megabytes(transferred_bytes);
                say::line(format!("{}: {folder} ({came} transferred)", wish.key));
            }
            Ok(0)
        }
        Some(Event::Failed { kind, message }) => Err(trouble(&kind, message)),
        _ => Err(trouble(
            "fetcher",
            "the process that fetches did not say how it ended",
        )),
    }
}

/// Bars on stderr: one per file and one for all; plain lines where stderr is no terminal.
struct Shown {
    bars: MultiProgress,
    total: Option<ProgressBar>,
    files: Vec<(PlannedFile, ProgressBar)>,
    silent: bool,
}

impl Shown {
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

    fn tell(&mut self, event: &Event) {
        match event {
            Event::Waiting => self.say("Another process fetches this model; waiting for it."),
            Event::Planned { files, .. } => self.plan(files),
            Event::Progress { file, bytes } => self.reach(*file, *bytes),
            Event::Retried { file, why } => {
                let name = self.files.get(*file).map(|(file, _)| file.name.clone());
                self.say(&format!("{}: {why}; going on", name.unwrap_or_default()));
            }
            Event::Checked { file } => {
                if let Some((file, bar)) = self.files.get(*file) {
                    bar.finish();
                    if self.bars.is_hidden() {
                        self.say(&format!(
                            "{}: {}, checked",
                            file.name,
                            megabytes(file.bytes)
                        ));
                    }
                }
            }
            Event::Done { .. } | Event::Failed { .. } => {}
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
        // The bars are for whoever looks now; a terminal that is gone needs none cleared.
        let _ = self.bars.clear();
    }
}
