//! Runs the program that sends spans to a collector: the daemon has no HTTP client.
//!
//! A thread of its own writes spans to the program's stdin, so a slow collector blocks nothing else; what finds no
//! place in the queue before it is counted. A program that ends is started again, ever less often. It ends with its stdin.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::{programs, spawn};
use crate::telemetry;
use crate::telemetry::daemon::{SpanLoss, SpansDropped, SpansSent};
use crate::telemetry::traces::sink::{self, SpanSink};

/// Time until a program that ended is started again; it doubles with each, up to the longest.
const PAUSE: Duration = Duration::from_millis(500);
const PAUSE_MAX: Duration = Duration::from_secs(60);
/// How long the last spans may take when the daemon ends.
const GOODBYE: Duration = Duration::from_secs(2);
/// Longest line of the program.
const LINE_BYTES_MAX: u64 = 1 << 12;

/// The thread that feeds the program.
#[derive(Debug)]
pub struct SpanExporter {
    /// Dropped to end a pause.
    stop: Sender<()>,
    ended: Receiver<()>,
}

/// Starts the thread that sends spans to the collector at `endpoint`. The program is started with the first span.
///
/// # Errors
/// The program is missing, or no thread can be started.
pub fn start(endpoint: &str) -> io::Result<(SpanSink, SpanExporter)> {
    let (sink, lines) = sink::open();
    let (stop, stopped) = mpsc::channel();
    let (end, ended) = mpsc::channel();
    let mut feeder = SpanFeeder {
        program: programs::find("fetch")?,
        endpoint: endpoint.to_owned(),
        stopped,
        running: None,
        pause: PAUSE,
    };
    thread::Builder::new().name("spans".into()).spawn(move || {
        let all_fed = lines.iter().all(|line| feeder.feed(&line));
        feeder.close(all_fed);
        let _ = end.send(()); // The daemon may not have waited for it.
    })?;
    Ok((sink, SpanExporter { stop, ended }))
}

impl SpanExporter {
    /// Waits until the last spans are sent, for a short time only. Every sink must have been dropped.
    pub fn finish(self) {
        drop(self.stop);
        // Either it has ended, or its program ends with this process.
        let _ = self.ended.recv_timeout(GOODBYE);
    }
}

/// Feeds one program after the other.
struct SpanFeeder {
    program: PathBuf,
    endpoint: String,
    stopped: Receiver<()>,
    running: Option<RunningExporter>,
    pause: Duration,
}

/// A running program.
struct RunningExporter {
    child: Child,
    stdin: ChildStdin,
    reports: JoinHandle<()>,
    tally: Arc<SpanTally>,
}

/// The spans of one program.
#[derive(Debug, Default)]
struct SpanTally {
    /// Spans that it has not reported on.
    open: AtomicU64,
    /// It has sent some.
    has_sent: AtomicBool,
}

impl SpanFeeder {
    /// Gives a span to the program, which is started if it is not there. Returns false if the daemon ends first.
    fn feed(&mut self, line: &str) -> bool {
        loop {
            let running = match self.running.take() {
                Some(running) => Ok(running),
                None => RunningExporter::start(&self.program, &self.endpoint),
            };
            let error = match running {
                Ok(mut running) => match running.write(line) {
                    Ok(()) => {
                        self.running = Some(running);
                        return true;
                    }
                    Err(error) => {
                        if running.tally.has_sent.load(Ordering::Relaxed) {
                            self.pause = PAUSE;
                        }
                        running.bury();
                        error
                    }
                },
                Err(error) => error,
            };
            telemetry::daemon::no_exporter(&error);
            if self.stopped.recv_timeout(self.pause) != Err(mpsc::RecvTimeoutError::Timeout) {
                return false;
            }
            self.pause = (self.pause * 2).min(PAUSE_MAX);
        }
    }

    /// Lets the program send what it has, and waits for its end.
    fn close(self, all_fed: bool) {
        if !all_fed {
            let reason = SpanLoss::ExporterEnded;
            SpansDropped { count: 1, reason }.tell(None);
        }
        if let Some(running) = self.running {
            running.end();
        }
    }
}

impl RunningExporter {
    fn start(program: &std::path::Path, endpoint: &str) -> io::Result<Self> {
        let mut child = spawn::spawn_exporter(program, endpoint)?;
        let missing = || io::Error::other("it has no pipes");
        let stdin = child.stdin.take().ok_or_else(missing)?;
        let stdout = child.stdout.take().ok_or_else(missing)?;
        let tally = Arc::new(SpanTally::default());
        let told = Arc::clone(&tally);
        let reports = thread::Builder::new()
            .name("span-reports".into())
            .spawn(move || follow(BufReader::new(stdout), &told))?;
        Ok(Self {
            child,
            stdin,
            reports,
            tally,
        })
    }

    fn write(&mut self, line: &str) -> io::Result<()> {
        self.tally.open.fetch_add(1, Ordering::Relaxed);
        let written = self.stdin.write_all(format!("{line}\n").as_bytes());
        if written.is_err() {
            self.tally.open.fetch_sub(1, Ordering::Relaxed);
        }
        written
    }

    /// Takes leave of a program that does not read any more.
    fn bury(mut self) {
        let _ = self.child.kill(); // It has ended, or ends now.
        self.end();
    }

    fn end(self) {
        let Self {
            mut child,
            stdin,
            reports,
            tally,
        } = self;
        drop(stdin);
        let _ = child.wait(); // Only an own child that was not waited for is waited for here.
        let _ = reports.join(); // Nothing in it panics.
        let count = tally.open.load(Ordering::Relaxed);
        if count > 0 {
            let reason = SpanLoss::ExporterEnded;
            SpansDropped { count, reason }.tell(None);
        }
    }
}

/// Reads the program's reports to their end.
fn follow(mut stdout: BufReader<ChildStdout>, tally: &SpanTally) {
    let mut line = String::new();
    while (&mut stdout)
        .take(LINE_BYTES_MAX)
        .read_line(&mut line)
        .is_ok_and(|count| count > 0)
    {
        if let Some(report) = SpanReport::read(line.trim_end()) {
            report.note(tally);
        }
        line.clear();
    }
}

/// A line of the program: `sent COUNT`, or `dropped COUNT WHY`.
#[derive(Debug, PartialEq, Eq)]
enum SpanReport<'a> {
    Sent(u64),
    Dropped(u64, &'a str),
}

impl<'a> SpanReport<'a> {
    fn read(line: &'a str) -> Option<Self> {
        let (word, rest) = line.split_once(' ')?;
        let (count, why) = rest.split_once(' ').unwrap_or((rest, ""));
        let count = count.parse().ok()?;
        match word {
            "sent" => Some(Self::Sent(count)),
            "dropped" => Some(Self::Dropped(count, why)),
            _ => None,
        }
    }

    fn note(&self, tally: &SpanTally) {
        let (Self::Sent(count) | Self::Dropped(count, _)) = *self;
        let open = tally.open.load(Ordering::Relaxed);
        tally.open.fetch_sub(count.min(open), Ordering::Relaxed);
        match *self {
            Self::Sent(count) => {
                tally.has_sent.store(true, Ordering::Relaxed);
                SpansSent { count }.tell();
            }
            Self::Dropped(count, why) => {
                let reason = SpanLoss::NotTaken;
                SpansDropped { count, reason }.tell(Some(why));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_has_a_word_and_a_number() {
        assert_eq!(SpanReport::read("sent 12"), Some(SpanReport::Sent(12)));
        let dropped = SpanReport::read("dropped 3 the collector answers 500");
        assert_eq!(
            dropped,
            Some(SpanReport::Dropped(3, "the collector answers 500"))
        );
        for wrong in ["", "sent", "sent x", "sent -1", "lost 3"] {
            assert_eq!(SpanReport::read(wrong), None, "{wrong:?}");
        }
    }
}
