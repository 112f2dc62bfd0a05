//! Log lines: a sentence with fields `key=value`, or JSON.

use std::fmt::{self, Write};
use std::io;
use std::sync::OnceLock;
use std::time::Duration;

use ipc_protocol::untrusted::Escaping;
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::{JsonFields, Writer};
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields, MakeWriter};
use tracing_subscriber::registry::LookupSpan;

use super::journal::{self, JournalEntry, JournalSocket};
use super::outlet::{LossLine, Outlet};
use super::{recent, stderr};

/// Most bytes of entries that wait for journald.
const JOURNAL_BYTES_MAX: usize = 1 << 20;

/// The queue of entries for journald, if stderr is the journal.
static JOURNAL: OnceLock<Outlet> = OnceLock::new();

/// The format of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// Text, for people; with fields, if stderr is the journal.
    Text,
    /// JSON, one object per line.
    Json,
}

/// Starts the log: events go to stderr, or with their fields to the journal if stderr is that, through a queue that neither
/// blocks nor fails. `$IMAGEPOOL_LOG` is the filter, else `level`. Text lines begin with the time if `timed` is set and
/// stderr is not the journal.
///
/// # Errors
/// The filter is invalid, no thread can be started, or the log was already started.
pub fn start(format: LogFormat, level: &str, timed: bool) -> Result<(), String> {
    let text = std::env::var("IMAGEPOOL_LOG").unwrap_or_else(|_| level.to_owned());
    let filter = EnvFilter::try_new(&text)
        .map_err(|error| format!("{text:?} is not a log filter: {error}"))?;
    let outlet = stderr::queued(format.loss_line())
        .map_err(|error| format!("cannot start the log thread: {error}"))?;
    let is_journal = format == LogFormat::Text && journal::is_stderr();
    let journal = is_journal.then(open_journal).flatten();
    let has_entries = journal.is_some();
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(LineWriter(journal.unwrap_or(outlet)));
    match format {
        LogFormat::Text if has_entries => builder
            .event_format(JournalEntry(Escaped(Sentence { timed: false })))
            .try_init(),
        LogFormat::Text => builder
            .event_format(Escaped(Sentence {
                timed: timed && !is_journal,
            }))
            .try_init(),
        LogFormat::Json => builder
            .fmt_fields(JsonFields::new())
            .event_format(Escaped(
                tracing_subscriber::fmt::format().json().flatten_event(true),
            ))
            .try_init(),
    }
    .map_err(|error| error.to_string())
}

/// The queue of entries; `None` if journald has no socket for them: then its stream takes plain lines.
fn open_journal() -> Option<Outlet> {
    let socket = JournalSocket::open().ok()?;
    let outlet = Outlet::open("journal", socket, JOURNAL_BYTES_MAX, journal::loss).ok()?;
    Some(JOURNAL.get_or_init(|| outlet).clone())
}

/// Waits until the queued lines are written, for at most `patience` for each of the two queues.
pub fn flush(patience: Duration) {
    if let Some(journal) = JOURNAL.get() {
        journal.flush(patience);
    }
    stderr::flush(patience);
}

/// Wraps another format and escapes control characters in every field, so there are no colours.
struct Escaped<F>(F);

impl<S, N, F> FormatEvent<S, N> for Escaped<F>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
    F: FormatEvent<S, N>,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut line = String::new();
        self.0
            .format_event(context, Writer::new(&mut line), event)?;
        Escaping(&mut writer).write_str(line.trim_end_matches('\n'))?;
        writeln!(writer)
    }
}

impl LogFormat {
    /// The line that reports lost log lines.
    fn loss_line(self) -> LossLine {
        match self {
            Self::Text => |lost| format!("warning: {lost} log lines dropped\n"),
            Self::Json => |lost| {
                let message = format!("{lost} log lines dropped");
                let line = serde_json::json!({"level": "WARN", "message": message, "lost": lost});
                format!("{line}\n")
            },
        }
    }
}

/// Writes each event as one line of the queue.
struct LineWriter(Outlet);

impl<'a> MakeWriter<'a> for LineWriter {
    type Writer = QueuedLine<'a>;

    fn make_writer(&'a self) -> QueuedLine<'a> {
        QueuedLine {
            outlet: &self.0,
            bytes: Vec::new(),
        }
    }
}

/// A line, queued when it is dropped.
struct QueuedLine<'a> {
    outlet: &'a Outlet,
    bytes: Vec<u8>,
}

impl io::Write for QueuedLine<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for QueuedLine<'_> {
    fn drop(&mut self) {
        recent::keep(&self.bytes);
        self.outlet.push(std::mem::take(&mut self.bytes));
    }
}

/// Formats a line as the message and then the fields. The time (UTC, RFC 3339) comes first if `timed` is set.
struct Sentence {
    timed: bool,
}

impl<S, N> FormatEvent<S, N> for Sentence
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        if self.timed {
            SystemTime.format_time(&mut writer)?;
            write!(writer, " ")?;
        }
        match *event.metadata().level() {
            Level::ERROR => write!(writer, "error: ")?,
            Level::WARN => write!(writer, "warning: ")?,
            Level::INFO => {}
            Level::DEBUG | Level::TRACE => write!(writer, "debug: ")?,
        }
        context.format_fields(writer.by_ref(), event)?;
        writeln!(writer)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{self, Sender};
    use std::time::Duration;

    use super::*;

    /// A file that passes each write on.
    struct Passing(Sender<String>);

    impl io::Write for Passing {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            // The test may have seen enough.
            let _ = self.0.send(String::from_utf8_lossy(bytes).into_owned());
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn an_entry_of_the_journal_has_fields_and_the_whole_line() {
        let (sender, entries) = mpsc::channel();
        let outlet = Outlet::open("test", Passing(sender), 1 << 20, journal::loss);
        let subscriber = tracing_subscriber::fmt()
            .with_writer(LineWriter(outlet.expect("a thread")))
            .event_format(JournalEntry(Sentence { timed: false }))
            .finish();
        tracing::subscriber::with_default(subscriber, || {
            let (model, error) = ("syn", "two\nlines \u{1b}[2J");
            tracing::warn!(job = 17, %model, error, "Job {}", "failed");
        });
        let entry = entries.recv_timeout(Duration::from_secs(60));
        let entry = entry.expect("an entry");
        let lines: Vec<&str> = entry.lines().collect();
        let expected = [
            "PRIORITY=4",
            "SYSLOG_IDENTIFIER=imagepool",
            "JOB=17",
            "MODEL=syn",
        ];
        assert_eq!(lines[..4], expected);
        assert!(lines[4].starts_with("ERROR=two\\n"), "{entry:?}");
        assert!(lines[5].starts_with("MESSAGE=warning: Job failed job=17 model=syn error="));
        assert_eq!(lines.len(), 6, "{entry:?}");
        assert!(!entry.contains('\u{1b}'), "{entry:?}");
    }
}
