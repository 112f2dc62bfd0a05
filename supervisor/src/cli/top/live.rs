//! The live view: one loop that waits for keys, signals, reports and the next second.

use std::io;
use std::os::fd::AsFd;
use std::time::Duration;

use ipc_protocol::client::ClientError;
use ipc_protocol::status::StatusReport;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal, raise};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use pool::Moment;

use super::PERIOD_MS;
use super::reports::Reports;
use super::screen::{Key, Screen};
use super::view::{self, WorkerOrder};
use crate::cli::CommandError;
use crate::cli::args::ConnectOptions;
use crate::cli::colour::Tone;
use crate::cli::text::{OutputFormat, TonedLine};
use crate::clock::Clock;

const PERIOD: Duration = Duration::from_millis(PERIOD_MS as u64);

/// The signals that the loop reads: a new size of the terminal, and those that end the view.
const SIGNALS: [Signal; 4] = [
    Signal::SIGWINCH,
    Signal::SIGINT,
    Signal::SIGTERM,
    Signal::SIGHUP,
];

/// Shows the view until it is closed, or `count` reports were shown; returns the exit code.
pub fn run(
    reach: &ConnectOptions,
    count: Option<u64>,
    format: OutputFormat,
) -> Result<u8, CommandError> {
    let failed = |error: io::Error| CommandError::Output(format!("the terminal: {error}"));
    let signals = signals().map_err(failed)?;
    let reports = Reports::start(reach).map_err(failed)?;
    let mut view = LiveView {
        screen: None,
        reports,
        signals,
        clock: Clock::start(),
        is_coloured: format.is_coloured,
        order: WorkerOrder::Name,
        shown: None,
        trouble: None,
        next: Moment::START,
        is_asked: false,
        left: count,
    };
    let ended = view.run();
    let trouble = view.trouble.take();
    drop(view);
    match (ended.map_err(failed)?, trouble) {
        // The first report failed, so that there was nothing to look at.
        (ViewEnd::NoDaemon, Some(error)) => Err(error.into()),
        (ViewEnd::NoDaemon | ViewEnd::Closed, _) => Ok(0),
        (ViewEnd::Signal(signal), _) => Ok(u8::try_from(128 + signal).unwrap_or(u8::MAX)),
    }
}

fn signals() -> io::Result<SignalFd> {
    let mut set = SigSet::empty();
    SIGNALS.into_iter().for_each(|signal| set.add(signal));
    set.thread_block()?;
    Ok(SignalFd::with_flags(
        &set,
        SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK,
    )?)
}

struct LiveView {
    /// Opened with the first report, so that an error before it is printed on the usual screen.
    screen: Option<Screen>,
    reports: Reports,
    signals: SignalFd,
    clock: Clock,
    is_coloured: bool,
    order: WorkerOrder,
    /// The newest report.
    shown: Option<StatusReport>,
    /// Why there is none newer.
    trouble: Option<ClientError>,
    /// When the next report is requested.
    next: Moment,
    /// Whether an answer is awaited.
    is_asked: bool,
    /// Number of reports that are still to be shown.
    left: Option<u64>,
}

/// The reason why the view ended.
enum ViewEnd {
    Closed,
    NoDaemon,
    Signal(i32),
}

/// The sources that have something.
struct Ready {
    key: bool,
    signal: bool,
    report: bool,
}

impl LiveView {
    fn run(&mut self) -> io::Result<ViewEnd> {
        loop {
            self.ask_if_due();
            let ready = self.wait()?;
            if ready.signal
                && let Some(ended) = self.take_signal()?
            {
                return Ok(ended);
            }
            if ready.report
                && let Some(ended) = self.take_report()?
            {
                return Ok(ended);
            }
            if ready.key && self.take_keys()? {
                return Ok(ViewEnd::Closed);
            }
        }
    }

    fn ask_if_due(&mut self) {
        let now = self.clock.now();
        if !self.is_asked && self.next <= now {
            self.reports.request();
            self.is_asked = true;
            self.next = now + PERIOD;
        }
    }

    /// Waits for a key, a signal or a report; until the next request, unless one is under way.
    fn wait(&self) -> io::Result<Ready> {
        let timeout = match self.is_asked {
            true => PollTimeout::NONE,
            false => {
                let left = self.next.since(self.clock.now());
                // A millisecond more, so that it is due afterwards.
                PollTimeout::try_from(left + Duration::from_millis(1)).unwrap_or(PollTimeout::ZERO)
            }
        };
        let readable = |source| PollFd::new(source, PollFlags::POLLIN);
        let mut sources = vec![
            readable(self.signals.as_fd()),
            readable(self.reports.as_fd()),
        ];
        sources.extend(self.screen.as_ref().map(|screen| readable(screen.as_fd())));
        match poll(&mut sources, timeout) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
        let is_ready = |nth: usize| {
            let source = sources.get(nth).and_then(PollFd::any);
            source.unwrap_or(false)
        };
        Ok(Ready {
            signal: is_ready(0),
            report: is_ready(1),
            key: is_ready(2),
        })
    }

    fn take_signal(&mut self) -> io::Result<Option<ViewEnd>> {
        while let Some(signal) = self.signals.read_signal()? {
            let number = i32::try_from(signal.ssi_signo).unwrap_or_default();
            if number != Signal::SIGWINCH as i32 {
                return Ok(Some(ViewEnd::Signal(number)));
            }
        }
        self.draw()?;
        Ok(None)
    }

    fn take_report(&mut self) -> io::Result<Option<ViewEnd>> {
        let Some(answer) = self.reports.take() else {
            return Ok(None);
        };
        self.is_asked = false;
        match answer {
            Ok(report) => {
                if self.screen.is_none() {
                    self.screen = Some(Screen::open()?);
                }
                (self.shown, self.trouble) = (Some(report), None);
                if let Some(left) = &mut self.left {
                    *left = left.saturating_sub(1);
                }
            }
            Err(error) => {
                self.trouble = Some(error);
                if self.shown.is_none() {
                    return Ok(Some(ViewEnd::NoDaemon));
                }
            }
        }
        self.draw()?;
        Ok((self.left == Some(0)).then_some(ViewEnd::Closed))
    }

    /// Obeys the keys; returns whether the view ends.
    fn take_keys(&mut self) -> io::Result<bool> {
        let Some(screen) = &mut self.screen else {
            return Ok(false);
        };
        for key in screen.keys()? {
            match key {
                Key::Quit => return Ok(true),
                Key::Order => self.order = self.order.next(),
                Key::Redraw => {}
                Key::Suspend => screen.leave_for(|| {
                    // It cannot fail: the signal exists.
                    let _ = raise(Signal::SIGTSTP);
                })?,
            }
        }
        self.draw()?;
        Ok(false)
    }

    fn draw(&mut self) -> io::Result<()> {
        let (Some(screen), Some(report)) = (&mut self.screen, &self.shown) else {
            return Ok(());
        };
        let (_, columns) = screen.size();
        let mut lines = view::lines(report, self.order, Some(columns));
        if let Some(error) = &self.trouble {
            lines.insert(0, TonedLine::of(Tone::Bad, error).cut(columns));
        }
        let footer = TonedLine::of(
            Tone::Faint,
            format!("q quit   s order: {}", self.order.word()),
        );
        screen.draw(lines, footer, self.is_coloured)
    }
}
