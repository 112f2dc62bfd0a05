//! One event of the pool, as `imagepool events` and `GET /v1/pool/events` print it.

use bincode::{Decode, Encode};
use serde::ser::{Serialize, SerializeMap, Serializer};

/// An event of the pool: its name, and its facts in a fixed order. Serializes as one flat object
/// `{"t_ms","event",…}`.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct EventReport {
    /// Microseconds since the daemon started.
    pub t_us: u64,
    /// Name of the event, such as `spawned`.
    pub event: String,
    /// Names and values of its facts.
    pub facts: Vec<(String, FactValue)>,
}

/// The value of one fact.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum FactValue {
    /// There is none, such as the job of a worker that died while it was idle.
    Absent,
    /// A number; the name of the fact ends with its unit.
    Number(u64),
    /// A text; its control characters are escaped.
    Text(String),
}

impl EventReport {
    /// The event that stands for `count` events which a slow client missed.
    pub fn missed(t_us: u64, count: u64) -> Self {
        Self {
            t_us,
            event: "missed".into(),
            facts: vec![("events".into(), FactValue::Number(count))],
        }
    }

    /// Milliseconds since the daemon started.
    pub fn t_ms(&self) -> f64 {
        self.t_us as f64 / 1000.0
    }
}

impl Serialize for EventReport {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(2 + self.facts.len()))?;
        map.serialize_entry("t_ms", &self.t_ms())?;
        map.serialize_entry("event", &self.event)?;
        for (name, value) in &self.facts {
            map.serialize_entry(name, value)?;
        }
        map.end()
    }
}

impl Serialize for FactValue {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Absent => serializer.serialize_none(),
            Self::Number(number) => serializer.serialize_u64(*number),
            Self::Text(text) => serializer.serialize_str(text),
        }
    }
}
