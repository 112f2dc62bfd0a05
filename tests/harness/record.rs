//! A daemon's record (`--record`), and the decisions of a pool of this build about it.

use std::fs;
use std::path::Path;

use pool::{Action, Event, Moment, Pool, Settings};
use supervisor::config;
use supervisor::record::beginning::Beginning;
use supervisor::record::read;

/// A record, read.
#[derive(Debug, Clone)]
pub struct EventRecord {
    /// The settings, models and limits of the daemon's pool.
    pub beginning: Beginning,
    /// Its settings, checked.
    pub settings: Settings,
    /// The events, in order.
    pub events: Vec<RecordedEvent>,
}

/// One event of a record.
#[derive(Debug, Clone)]
pub struct RecordedEvent {
    /// Its line in the file, from 1.
    pub line: usize,
    /// When.
    pub at: Moment,
    /// The event.
    pub event: Event,
}

/// One event and what a pool decided about it.
#[derive(Debug, Clone)]
pub struct Decision {
    /// The event and its time.
    pub happened: RecordedEvent,
    /// The pool's actions.
    pub actions: Vec<Action>,
}

impl EventRecord {
    /// Reads a file.
    ///
    /// # Errors
    /// A sentence that names the file, and the line that is no event.
    pub fn read(path: &Path) -> Result<Self, String> {
        let name = path.display();
        let text =
            fs::read_to_string(path).map_err(|error| format!("cannot read {name}: {error}"))?;
        Self::parse(&text).map_err(|why| format!("{name}, {why}"))
    }

    fn parse(text: &str) -> Result<Self, String> {
        let mut lines = (1..).zip(text.lines());
        let (_, first) = lines.next().ok_or("line 1: the record is empty")?;
        let beginning = Beginning::read(first).map_err(|why| format!("line 1: {why}"))?;
        let settings = config::parse(&beginning.settings)
            .map_err(|why| format!("line 1: the settings cannot be used: {why}"))?
            .pool;
        let mut events: Vec<RecordedEvent> = Vec::new();
        for (line, text) in lines {
            let (at, event) = read::event(text).map_err(|why| format!("line {line}: {why}"))?;
            if events.last().is_some_and(|before| before.at > at) {
                return Err(format!("line {line}: it happened before the line above"));
            }
            events.push(RecordedEvent { line, at, event });
        }
        Ok(Self {
            beginning,
            settings,
            events,
        })
    }

    /// A pool like the daemon's before its first event.
    pub fn pool(&self) -> Pool {
        let Beginning {
            devices, registry, ..
        } = &self.beginning;
        Pool::new(self.settings.clone(), registry.clone(), devices.clone())
    }

    /// Everything that happened, with what the pool decided: the daemon's own decisions again, for the pool
    /// is nothing but its events.
    pub fn decisions(&self) -> Vec<Decision> {
        let mut pool = self.pool();
        let decide = |happened: &RecordedEvent| {
            let mut actions = Vec::new();
            pool.handle(happened.at, happened.event.clone(), &mut actions);
            Decision {
                happened: happened.clone(),
                actions,
            }
        };
        self.events.iter().map(decide).collect()
    }
}
