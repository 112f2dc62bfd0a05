//! Runs the fetch program and reads its events.

use std::fmt::Display;
use std::io::{BufRead, BufReader, Read};
use std::ops::ControlFlow;

use store::event::FetchEvent;
use store::order::{FetchOrder, HubSettings};

use super::{programs, spawn};

/// Longest line of the fetch program: the plan of the longest listing that it accepts.
const LINE_BYTES_MAX: u64 = 8 << 20;

/// Runs the fetch program to its end and reports each event. If `report` breaks, stops reading; the program then
/// exits when it prints the next event.
///
/// # Errors
/// The message: the program is missing or cannot be run, or printed a line that is not an event.
pub fn run(
    order: &FetchOrder,
    hub: &HubSettings,
    mut report: impl FnMut(FetchEvent) -> ControlFlow<()>,
) -> Result<(), String> {
    let failed = |error: &dyn Display| format!("cannot run the fetch program: {error}");
    let program = programs::find("fetch").map_err(|error| {
        format!("{error}; install it there, or build it with `cargo build --release --workspace`")
    })?;
    let mut child = spawn::spawn_fetch(&program, order, hub).map_err(|error| failed(&error))?;
    let stdout = child.stdout.take().expect("it is piped");
    let read = read(BufReader::new(stdout), &mut report);
    child.wait().map_err(|error| failed(&error))?;
    read
}

/// Reads events to the end of the output, until `report` breaks, or until a line is not an event.
fn read(
    mut stdout: impl BufRead,
    report: &mut impl FnMut(FetchEvent) -> ControlFlow<()>,
) -> Result<(), String> {
    let mut ended = false;
    loop {
        let mut line = String::new();
        let count = (&mut stdout).take(LINE_BYTES_MAX).read_line(&mut line);
        let count =
            count.map_err(|error| format!("cannot read from the fetch program: {error}"))?;
        if count == 0 && ended {
            return Ok(());
        }
        if count == 0 {
            let why = "the fetch program exited without a result; the bytes so far are kept, so fetch again";
            return Err(why.into());
        }
        if !line.ends_with('\n') {
            return Err(format!(
                "a line of the fetch program has no end after {count} bytes"
            ));
        }
        let event = FetchEvent::read(line.trim_end())?;
        ended |= event.is_last();
        if report(event).is_break() {
            return Err("the fetch was abandoned; the bytes so far are kept".into());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_all(text: &str) -> Result<usize, String> {
        let mut events = 0;
        let mut count = |_| {
            events += 1;
            ControlFlow::Continue(())
        };
        read(text.as_bytes(), &mut count).map(|()| events)
    }

    #[test]
    fn output_without_a_last_event_is_an_error() {
        let waiting = FetchEvent::Waiting.line();
        let failed = FetchEvent::Failed {
            kind: "hub".into(),
            message: "gone".into(),
        };
        assert_eq!(read_all(&format!("{waiting}\n{}\n", failed.line())), Ok(2));
        for wrong in ["", &format!("{waiting}\n"), &waiting, "[]\n"] {
            assert!(read_all(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn reading_ends_where_the_caller_breaks() {
        let waiting = FetchEvent::Waiting.line();
        let mut events = 0;
        let ended = read(format!("{waiting}\n{waiting}\n").as_bytes(), &mut |_| {
            events += 1;
            ControlFlow::Break(())
        });
        assert!(ended.is_err());
        assert_eq!(events, 1);
    }
}
