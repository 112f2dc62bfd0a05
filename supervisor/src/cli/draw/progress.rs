//! What a terminal sees while pictures are drawn.

use std::cell::RefCell;
use std::fmt::Write;
use std::io::IsTerminal;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};
use ipc_protocol::client::Update;
use ipc_protocol::messages::client::Accepted;
use ipc_protocol::untrusted::Untrusted;

use super::forecast::{Forecast, spoken};
use crate::cli::say;

/// Times are spoken to a tenth of a second.
const LEAST_SPOKEN: Duration = Duration::from_millis(100);

/// A bar on stderr over all steps of a request; nothing where stderr is no terminal.
#[derive(Debug)]
pub struct ProgressDisplay {
    bar: ProgressBar,
    forecast: RefCell<Forecast>,
    shown: Arc<Mutex<ShownProgress>>,
}

/// What the bar's own thread draws between two updates.
#[derive(Debug, Default)]
struct ShownProgress {
    rate: String,
    /// When everything is finished, counted from the bar's start.
    due: Option<Duration>,
    /// Decoding comes on top of it.
    lacks_decoding: bool,
}

impl ProgressDisplay {
    /// A bar for the request, or none.
    pub fn start(accepted: &Accepted, quiet: bool) -> Self {
        let forecast = Forecast::of(accepted);
        let shown = Arc::new(Mutex::new(ShownProgress::default()));
        let bar = match quiet || !std::io::stderr().is_terminal() {
            true => ProgressBar::hidden(),
            false => bar(forecast.all_steps(), &shown),
        };
        Self {
            bar,
            forecast: forecast.into(),
            shown,
        }
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
        Self {
            bar,
            forecast: RefCell::default(),
            shown: Arc::default(),
        }
    }

    /// So many bytes of a fetch are here, of so many in all; 0 while that is not known.
    pub fn fetched(&self, here_bytes: u64, all_bytes: u64) {
        if all_bytes > 0 {
            self.bar.set_length(all_bytes);
            self.bar.set_position(here_bytes);
        }
    }

    /// Takes in what became of a job.
    pub fn take(&self, update: &Update) {
        let mut forecast = self.forecast.borrow_mut();
        match update {
            Update::Waiting {
                position, reason, ..
            } => {
                let reason = Untrusted::new(reason);
                return self.bar.set_message(format!("place {position}: {reason}"));
            }
            Update::Loading { fraction, .. } => {
                let loading = format!("loading {:.0} %", fraction * 100.0);
                return self.bar.set_message(loading);
            }
            Update::Preview { .. } => return, // no command asks for one
            Update::Step {
                job,
                step,
                elapsed_ms,
                ..
            } => {
                let elapsed = Duration::from_millis((*elapsed_ms).into());
                forecast.stepped(*job, *step, elapsed);
            }
            Update::Picture(picture) => {
                let decode = Duration::from_millis(picture.report.decode_ms);
                forecast.answered(picture.job, Some(decode));
            }
            Update::Failed { job, .. } => forecast.answered(*job, None),
        }
        self.show(&forecast);
    }

    fn show(&self, forecast: &Forecast) {
        let shown = ShownProgress {
            rate: forecast.rate(),
            due: forecast.rest().map(|rest| self.bar.elapsed() + rest),
            lacks_decoding: forecast.lacks_decoding(),
        };
        // A drawing thread that panicked draws no more.
        let _ = self.shown.lock().map(|mut before| *before = shown);
        self.bar.set_position(forecast.finished_steps());
        match forecast.is_decoding() {
            true => {
                self.bar.set_message("decoding");
                // It may be over before the next tick.
                self.bar.force_draw();
            }
            false => self.bar.set_message(""),
        }
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

fn bar(steps: u64, shown: &Arc<Mutex<ShownProgress>>) -> ProgressBar {
    let bar = ProgressBar::with_draw_target(Some(steps), ProgressDrawTarget::stderr());
    bar.set_style(style(shown));
    bar.enable_steady_tick(Duration::from_millis(100));
    bar
}

fn style(shown: &Arc<Mutex<ShownProgress>>) -> ProgressStyle {
    let (rate, left) = (Arc::clone(shown), Arc::clone(shown));
    // What cannot be written or read here is drawn at the next tick.
    ProgressStyle::with_template(
        "{spinner} {wide_bar:.cyan/blue} step {pos}/{len}  {rate}  {left}  {msg}",
    )
    .expect("the template is a constant that a test renders")
    .with_key("rate", move |_: &ProgressState, out: &mut dyn Write| {
        let _ = rate.lock().map(|shown| out.write_str(&shown.rate));
    })
    .with_key("left", move |state: &ProgressState, out: &mut dyn Write| {
        let _ = left
            .lock()
            .map(|shown| out.write_str(&shown.left(state.elapsed())));
    })
}

impl ShownProgress {
    /// The time that is left at a moment; nothing where it would be spoken as 0 and more is to come.
    fn left(&self, now: Duration) -> String {
        let left = self.due.and_then(|due| due.checked_sub(now));
        match left.filter(|left| *left >= LEAST_SPOKEN) {
            Some(left) if self.lacks_decoding => format!("{} and decoding left", spoken(left)),
            Some(left) => format!("{} left", spoken(left)),
            None => String::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_counts_down_and_never_says_zero() {
        let shown = ShownProgress {
            due: Some(Duration::from_secs(5)),
            ..ShownProgress::default()
        };
        assert_eq!(shown.left(Duration::from_secs(3)), "2.0 s left");
        assert_eq!(shown.left(Duration::from_millis(4900)), "0.1 s left");
        assert_eq!(shown.left(Duration::from_millis(4960)), "");
        assert_eq!(shown.left(Duration::from_secs(5)), "");
        assert_eq!(shown.left(Duration::from_secs(9)), "");
        let shown = ShownProgress {
            lacks_decoding: true,
            ..shown
        };
        assert_eq!(shown.left(Duration::ZERO), "5.0 s and decoding left");
        style(&Arc::default());
    }
}
