//! Progress bars in the terminal, for drawing and for fetching.

use std::cell::RefCell;
use std::fmt::Write;
use std::io::IsTerminal;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};
use ipc_protocol::client::{Prelude, Update};
use ipc_protocol::messages::client::Accepted;
use ipc_protocol::untrusted::Untrusted;

use super::forecast::{Forecast, spoken};
use crate::cli::say;

/// Shortest remaining time that is shown; times are rounded to a tenth of a second.
const LEAST_SPOKEN: Duration = Duration::from_millis(100);

/// The line that tells once that the daemon ended and the command goes on.
pub const DAEMON_LOST: &str = "imagepool: the daemon ended; waiting for the next one";

/// A progress bar on stderr; hidden if stderr is not a terminal.
#[derive(Debug)]
pub struct ProgressDisplay {
    bar: ProgressBar,
    forecast: RefCell<Forecast>,
    shown: Arc<Mutex<ShownProgress>>,
}

/// The progress bar of fetching a model's files, which appears with the first progress.
#[derive(Debug)]
pub struct FetchDisplay {
    display: Option<ProgressDisplay>,
    quiet: bool,
}

impl FetchDisplay {
    /// A display that has nothing to show yet.
    pub fn new(quiet: bool) -> Self {
        let display = None;
        Self { display, quiet }
    }

    /// Shows news of a request that has no jobs yet: the progress of a fetch, or that the daemon is lost.
    pub fn show(&mut self, news: &Prelude<'_>) {
        let far = match news {
            Prelude::Fetching(far) => far,
            Prelude::DaemonLost if self.quiet => return,
            Prelude::DaemonLost => return say::aside(DAEMON_LOST),
        };
        self.display
            .get_or_insert_with(|| ProgressDisplay::of_fetch(far.model.as_str(), self.quiet))
            .fetched(far.here_bytes, far.all_bytes);
    }

    /// Removes the bar.
    pub fn finish(self) {
        if let Some(display) = self.display {
            display.finish();
        }
    }
}

/// The texts that the bar's own thread draws between two updates.
#[derive(Debug, Default)]
struct ShownProgress {
    rate: String,
    /// Expected end of the request, since the start of the bar.
    due: Option<Duration>,
    /// Whether `due` leaves out decoding, whose duration is unknown.
    lacks_decoding: bool,
}

impl ProgressDisplay {
    /// A bar over all steps of a request.
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

    /// A bar over the bytes of a model's files. Prints a line instead if stderr is not a terminal.
    pub fn of_fetch(model: &str, quiet: bool) -> Self {
        let hidden = quiet || !std::io::stderr().is_terminal();
        if hidden && !quiet {
            say::aside(format_args!(
                "imagepool: fetching the files of {model} first"
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

    /// Shows `here_bytes` of `all_bytes`, which is 0 until the size is known.
    pub fn fetched(&self, here_bytes: u64, all_bytes: u64) {
        if all_bytes > 0 {
            self.bar.set_length(all_bytes);
            self.bar.set_position(here_bytes);
        }
    }

    /// Shows an update about a job.
    pub fn take(&self, update: &Update) {
        let mut forecast = self.forecast.borrow_mut();
        match update {
            Update::Waiting {
                position, reason, ..
            } => {
                let reason = Untrusted::new(reason);
                return self
                    .bar
                    .set_message(format!("position {position}: {reason}"));
            }
            Update::Loading { fraction, .. } => {
                let loading = format!("loading {:.0} %", fraction * 100.0);
                return self.bar.set_message(loading);
            }
            Update::Preview { .. } => return, // no command requests previews
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
            Update::DaemonLost => return self.bar.set_message("waiting for the daemon"),
            Update::AcceptedAgain(accepted) => {
                *forecast = Forecast::of(accepted);
                self.bar.set_length(forecast.all_steps());
            }
        }
        self.show(&forecast);
    }

    fn show(&self, forecast: &Forecast) {
        let shown = ShownProgress {
            rate: forecast.rate(),
            due: forecast.rest().map(|rest| self.bar.elapsed() + rest),
            lacks_decoding: forecast.lacks_decoding(),
        };
        // Fails only if the thread that draws has panicked.
        let _ = self.shown.lock().map(|mut before| *before = shown);
        self.bar.set_position(forecast.finished_steps());
        match forecast.is_decoding() {
            true => {
                self.bar.set_message("decoding");
                // Decoding may be over before the next tick.
                self.bar.force_draw();
            }
            false => self.bar.set_message(""),
        }
    }

    /// Prints a line on stderr, above the bar.
    pub fn say(&self, line: &str) {
        self.above(|| say::aside(line));
    }

    /// Removes the bar while `print` prints, on stdout or stderr: both may be the same terminal.
    pub fn above<T>(&self, print: impl FnOnce() -> T) -> T {
        self.bar.suspend(print)
    }

    /// Removes the bar.
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
    // Errors are ignored: the next tick draws again. The line ends two columns before the terminal's end, where `^C` is
    // echoed: in the next line it would be cleared instead of the bar.
    ProgressStyle::with_template(
        "{spinner} {wide_bar:.cyan/blue} step {pos}/{len}  {rate}  {left}  {msg}  \u{1b}[2D",
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
    /// The remaining time at `now`; empty if it would be shown as 0.
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
    fn the_remaining_time_counts_down_and_never_shows_zero() {
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
