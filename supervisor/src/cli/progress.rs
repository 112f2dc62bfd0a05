//! What a terminal sees while pictures are drawn.

use std::io::IsTerminal;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use ipc_protocol::messages::client::Accepted;
use ipc_protocol::untrusted::Untrusted;

use super::say;

/// A bar on stderr over all steps of a request; nothing where stderr is no terminal.
#[derive(Debug)]
pub struct Progress {
    bar: ProgressBar,
}

impl Progress {
    /// A bar for the request, or none.
    pub fn start(accepted: &Accepted, quiet: bool) -> Self {
        if quiet || !std::io::stderr().is_terminal() {
            return Self {
                bar: ProgressBar::hidden(),
            };
        }
        let steps = u64::from(accepted.steps) * u64::from(accepted.count);
        let bar = ProgressBar::with_draw_target(Some(steps), ProgressDrawTarget::stderr());
        let style = ProgressStyle::with_template(
            "{spinner} {wide_bar:.cyan/blue} step {pos}/{len}  {per_sec}  {eta} left  {msg}",
        )
        .expect("the template is a constant that a test renders");
        bar.set_style(style);
        bar.enable_steady_tick(Duration::from_millis(100));
        Self { bar }
    }

    /// A bar over the files of a model that are being fetched, or none; plain words where stderr is no
    /// terminal.
    pub fn of_fetch(model: &str, quiet: bool) -> Self {
        let hidden = quiet || !std::io::stderr().is_terminal();
        if hidden && !quiet {
            say::aside(format_args!(
                "The files of {model} are not on this machine; fetching them first."
            ));
        }
        let target = match hidden {
            true => ProgressDrawTarget::hidden(),
            false => ProgressDrawTarget::stderr(),
        };
        let bar = ProgressBar::with_draw_target(None, target);
        let style = ProgressStyle::with_template(
            "{spinner} fetching {prefix} {wide_bar:.cyan/blue} {bytes}/{total_bytes}  {bytes_per_sec}  {eta} left",
        )
        .expect("the template is a constant that a test renders");
        bar.set_style(style);
        bar.set_prefix(Untrusted::new(model).to_string());
        Self { bar }
    }

    /// So many bytes of a fetch are here, of so many in all; 0 while that is not known.
    pub fn fetched(&self, here_bytes: u64, all_bytes: u64) {
        if all_bytes > 0 {
            self.bar.set_length(all_bytes);
            self.bar.set_position(here_bytes);
        }
    }

    /// A job waits.
    pub fn waiting(&self, position: u32, reason: &str) {
        self.bar
            .set_message(format!("place {position}: {}", Untrusted::new(reason)));
    }

    /// A model loads.
    pub fn loading(&self, fraction: f32) {
        self.bar
            .set_message(format!("loading {:.0} %", fraction * 100.0));
    }

    /// A step is done.
    pub fn stepped(&self) {
        self.bar.set_message("");
        self.bar.inc(1);
    }

    /// Says something without breaking the bar.
    pub fn say(&self, line: &str) {
        self.bar.suspend(|| say::aside(line));
    }

    /// Takes the bar away.
    pub fn finish(&self) {
        self.bar.finish_and_clear();
    }
}
