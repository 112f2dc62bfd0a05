//! Prints an event with its actions as a line, and counts it as a change or not.

use pool::{Action, Event, Moment};

/// The event changed the pool: heartbeats and echoes do not.
pub(crate) fn changes(event: &Event, actions: &[Action]) -> bool {
    match event {
        Event::WorkerHeard { .. } | Event::WorkerWorked { .. } => false,
        Event::WorkerSaidHello { .. }
        | Event::LoadProgressed { .. }
        | Event::WorkerReady { .. }
        | Event::MemoryReturned { .. } => true,
        _ => actions
            .iter()
            .any(|action| !matches!(action, Action::Refuse { .. } | Action::Acknowledge { .. })),
    }
}

/// Time, number, event, actions, in columns.
pub(crate) fn line(now: Moment, number: u64, event: &Event, actions: &[Action]) -> String {
    let event = shortened(&format!("{event:?}"), 110);
    let said: Vec<String> = actions
        .iter()
        .filter(|action| !matches!(action, Action::Report { .. }))
        .map(|action| shortened(&format!("{action:?}"), 150))
        .collect();
    format!(
        "{:>14} {number:>6}  {event:<110} | {}",
        now.to_string(),
        said.join(" · ")
    )
}

fn shortened(text: &str, most: usize) -> String {
    match text.char_indices().nth(most) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}
