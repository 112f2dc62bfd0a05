//! Log lines: a sentence with fields `key=value`, or JSON.

use std::fmt::{self, Write};
use std::fs::{File, Metadata};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;

use ipc_protocol::untrusted::Escaping;
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::{JsonFields, Writer};
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields, MakeWriter};
use tracing_subscriber::registry::LookupSpan;

use super::outlet::{LossLine, Outlet};
use super::stderr;

/// The format of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// Text, for people and journald.
    Text,
    /// JSON, one object per line.
    Json,
}

/// Starts the log: events go to stderr through a queue that neither blocks nor fails. `$IMAGEPOOL_LOG` is the filter,
/// else `level`. Text lines begin with the time if `timed` is set and stderr is not the journal.
///
/// # Errors
/// The filter is invalid, no thread can be started, or the log was already started.
pub fn start(format: LogFormat, level: &str, timed: bool) -> Result<(), String> {
    let text = std::env::var("IMAGEPOOL_LOG").unwrap_or_else(|_| level.to_owned());
    let filter = EnvFilter::try_new(&text)
        .map_err(|error| format!("{text:?} is not a log filter: {error}"))?;
    let outlet = stderr::queued(format.loss_line())
        .map_err(|error| format!("cannot start the log thread: {error}"))?;
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(LineWriter(outlet));
    match format {
        LogFormat::Text => builder
            .event_format(Escaped(Sentence {
                timed: timed && !stderr_is_the_journal(),
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
        self.outlet.push(std::mem::take(&mut self.bytes));
    }
}

/// Whether stderr is connected to journald, which adds the time itself. It names its socket in `$JOURNAL_STREAM`.
fn stderr_is_the_journal() -> bool {
    let stream = std::env::var("JOURNAL_STREAM").ok();
    let stderr = io::stderr().as_fd().try_clone_to_owned();
    let stderr = stderr.and_then(|stderr| File::from(stderr).metadata());
    stream
        .zip(stderr.ok())
        .is_some_and(|(stream, stderr)| names(&stream, &stderr))
}

/// Whether `stream`, in the form DEVICE:INODE, names this file.
fn names(stream: &str, file: &Metadata) -> bool {
    stream == format!("{}:{}", file.dev(), file.ino())
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
    use super::*;

    #[test]
    fn a_stream_is_the_journal_only_if_its_device_and_inode_are_named() {
        let file = tempfile::tempfile().expect("a temporary file");
        let found = file.metadata().expect("it is open");
        let (device, inode) = (found.dev(), found.ino());
        assert!(names(&format!("{device}:{inode}"), &found));
        for other in [
            String::new(),
            format!("{device}:{}", inode + 1),
            format!("{inode}"),
        ] {
            assert!(!names(&other, &found), "{other}");
        }
    }
}
