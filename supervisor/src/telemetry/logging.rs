//! Log lines: plain sentences with `key=value` behind them, or JSON.

use std::fmt::{self, Write};

use ipc_protocol::untrusted::Escaping;
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::{JsonFields, Writer};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

/// How lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// For people and journald.
    Text,
    /// For machines, one object a line.
    Json,
}

/// Sends every event to stderr. `$IMAGEPOOL_LOG` filters, else `level` does.
///
/// # Errors
/// A filter that is none, or a second call.
pub fn start(format: Format, level: &str) -> Result<(), String> {
    let text = std::env::var("IMAGEPOOL_LOG").unwrap_or_else(|_| level.to_owned());
    let filter =
        EnvFilter::try_new(&text).map_err(|error| format!("{text:?} is no log filter: {error}"))?;
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr);
    match format {
        Format::Text => builder.event_format(Escaped(Sentence)).try_init(),
        Format::Json => builder
            .fmt_fields(JsonFields::new())
            .event_format(Escaped(
                tracing_subscriber::fmt::format().json().flatten_event(true),
            ))
            .try_init(),
    }
    .map_err(|error| error.to_string())
}

/// The lines of another format with everything escaped that a terminal or a reader of lines would obey,
/// whatever was put into them; so there are no colours.
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

/// A line that begins with what happened. Who reads it adds the time: journald does, and so does a
/// terminal's user with `ts`.
struct Sentence;

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
