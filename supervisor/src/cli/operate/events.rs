//! `events [-f]`: one line per event of the pool.

use std::fmt::Write;

use ipc_protocol::event::{EventReport, FactValue};

use super::logs;
use crate::cli::args::ConnectOptions;
use crate::cli::daemon::connect;
use crate::cli::draw::interrupt;
use crate::cli::{CommandError, say};

/// Prints the newest events, and with `follow` further ones; returns the exit code.
pub fn run(reach: &ConnectOptions, follow: bool, json: bool) -> Result<u8, CommandError> {
    let mut client = connect::daemon(reach)?;
    let interrupted = follow.then(|| interrupt::leaves(client.canceller()));
    let end = |error| logs::end(error, interrupted.as_deref());
    let listing = match client.events(follow) {
        Ok(listing) => listing,
        Err(error) => return end(error),
    };
    for event in listing {
        match event {
            Ok(event) if json => {
                let text = serde_json::to_string(&event).expect("facts are numbers and words");
                say::line(text);
            }
            Ok(event) => say::line(line(&event)),
            Err(error) => return end(error),
        }
        if say::is_lost() {
            break;
        }
    }
    Ok(0)
}

/// Formats an event as its time in seconds, its name and its facts; those that are absent are left out.
fn line(event: &EventReport) -> String {
    let mut line = format!("{:>10.3}  {:<14}", event.t_ms() / 1000.0, event.event);
    for (name, value) in &event.facts {
        let written = match value {
            FactValue::Absent => Ok(()),
            FactValue::Number(number) => write!(line, " {name}={number}"),
            FactValue::Text(text) if is_plain(text) => write!(line, " {name}={text}"),
            FactValue::Text(text) => write!(line, " {name}={text:?}"),
        };
        written.expect("a string takes everything");
    }
    line
}

/// Whether a text needs no quotes.
fn is_plain(text: &str) -> bool {
    !text.is_empty() && !text.contains([' ', '"', '='])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_the_time_in_seconds_and_the_facts_in_their_order() {
        let event = EventReport {
            t_us: 1_234_567,
            event: "died".into(),
            facts: vec![
                ("worker".into(), FactValue::Text("syn:0".into())),
                ("exit".into(), FactValue::Text("signal 9".into())),
                ("job".into(), FactValue::Absent),
                ("backoff_ms".into(), FactValue::Number(250)),
            ],
        };
        assert_eq!(
            line(&event),
            "     1.235  died           worker=syn:0 exit=\"signal 9\" backoff_ms=250"
        );
        let json = serde_json::to_string(&event).expect("plain values");
        assert_eq!(
            json,
            r#"{"t_ms":1234.567,"event":"died","worker":"syn:0","exit":"signal 9","job":null,"backoff_ms":250}"#
        );
    }
}
