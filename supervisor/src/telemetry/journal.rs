//! Log lines with fields for journald, in its native protocol (systemd.io/JOURNAL_NATIVE_PROTOCOL).
//!
//! The crate tracing-journald is not used: it sends from the thread that logs, which then waits for journald.

use std::fmt::{self, Debug};
use std::fs::{File, Metadata};
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixDatagram;

use ipc_protocol::untrusted::escaped;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

/// The socket of journald.
const SOCKET: &str = "/run/systemd/journal/socket";
/// Longest entry: the kernel bounds datagrams, at 200 KiB by default.
const ENTRY_BYTES_MAX: usize = 128 << 10;
/// The program in every entry, as the unit has it for plain lines.
const IDENTIFIER: &str = "imagepool";

/// Whether stderr is connected to journald, which names its socket in `$JOURNAL_STREAM`.
pub(super) fn is_stderr() -> bool {
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

/// Sends each write as one entry.
#[derive(Debug)]
pub(super) struct JournalSocket(UnixDatagram);

impl JournalSocket {
    /// Opens a socket to journald.
    ///
    /// # Errors
    /// The kernel gives none, or journald has none.
    pub(super) fn open() -> io::Result<Self> {
        let socket = UnixDatagram::unbound()?;
        // Not connected for good: journald may be started again, with another socket at the same path.
        socket.send_to(&[], SOCKET)?;
        Ok(Self(socket))
    }
}

impl Write for JournalSocket {
    fn write(&mut self, entry: &[u8]) -> io::Result<usize> {
        self.0.send_to(bounded(entry), SOCKET)?;
        Ok(entry.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The beginning of an entry, without half a character. The message is its last field, so the rest stays whole.
fn bounded(entry: &[u8]) -> &[u8] {
    let is_continued = |at: &usize| entry.get(*at).is_some_and(|byte| byte & 0xc0 == 0x80);
    let mut end = entry.len().min(ENTRY_BYTES_MAX);
    while is_continued(&end) {
        end -= 1;
    }
    &entry[..end]
}

/// The entry that reports lost entries.
pub(super) fn loss(lost: u64) -> String {
    format!(
        "PRIORITY=4\nSYSLOG_IDENTIFIER={IDENTIFIER}\nMESSAGE=warning: {lost} log lines dropped\n"
    )
}

/// Formats an entry: the fields of the event, in capitals, and the line of `F`, which is escaped, as its message.
pub(super) struct JournalEntry<F>(pub F);

impl<S, N, F> FormatEvent<S, N> for JournalEntry<F>
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
        let priority = match *event.metadata().level() {
            Level::ERROR => 3,
            Level::WARN => 4,
            Level::INFO => 6,
            Level::DEBUG | Level::TRACE => 7,
        };
        let mut entry = format!("PRIORITY={priority}\nSYSLOG_IDENTIFIER={IDENTIFIER}\n");
        event.record(&mut EntryFields(&mut entry));
        entry.push_str("MESSAGE=");
        self.0
            .format_event(context, Writer::new(&mut entry), event)?;
        writer.write_str(&entry)
    }
}

/// Appends `NAME=value` lines. Values are escaped, so none has a line feed.
struct EntryFields<'a>(&'a mut String);

impl EntryFields<'_> {
    fn append(&mut self, field: &Field, value: &str) {
        if field.name() != "message" {
            let name = field.name().to_ascii_uppercase();
            self.0.push_str(&format!("{name}={}\n", escaped(value)));
        }
    }
}

impl Visit for EntryFields<'_> {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.append(field, value);
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.append(field, &format!("{value:?}"));
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

    #[test]
    fn a_long_entry_is_cut_between_characters() {
        assert_eq!(bounded(b"MESSAGE=a\n"), b"MESSAGE=a\n");
        let long = "ü".repeat(ENTRY_BYTES_MAX);
        for entry in [long.clone(), format!("x{long}")] {
            let cut = bounded(entry.as_bytes());
            assert!(std::str::from_utf8(cut).is_ok());
            assert!((ENTRY_BYTES_MAX - 1..=ENTRY_BYTES_MAX).contains(&cut.len()));
        }
    }
}
