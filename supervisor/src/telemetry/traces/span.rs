//! One span, and its JSON in the protocol OTLP 1.
//!
//! Ids are hexadecimal digits, numbers of 64 bits are texts.

use serde_json::{Value, json};

use super::context::{SpanId, TraceId};

/// The kind of every span: work inside this program.
const INTERNAL: u8 = 1;
/// The status code of a span that failed.
const ERROR: u8 = 2;

/// A finished span.
#[derive(Debug, Clone, PartialEq)]
pub struct Span {
    pub trace: TraceId,
    pub id: SpanId,
    pub parent: Option<SpanId>,
    pub name: &'static str,
    pub times: SpanTimes,
    pub attributes: Vec<Attribute>,
    pub events: Vec<SpanEvent>,
    /// The error message, if it failed.
    pub error: Option<String>,
}

/// When a span began and ended, in nanoseconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SpanTimes {
    pub begin_ns: u64,
    pub end_ns: u64,
}

/// Something that happened during a span.
#[derive(Debug, Clone, PartialEq)]
pub struct SpanEvent {
    pub name: &'static str,
    /// In nanoseconds since 1970.
    pub at_ns: u64,
    pub attributes: Vec<Attribute>,
}

/// A fact about a span.
#[derive(Debug, Clone, PartialEq)]
pub struct Attribute(pub &'static str, pub AttributeValue);

/// The value of an attribute.
#[derive(Debug, Clone, PartialEq)]
pub enum AttributeValue {
    Text(String),
    Number(u64),
}

impl Attribute {
    pub fn text(name: &'static str, value: impl ToString) -> Self {
        Self(name, AttributeValue::Text(value.to_string()))
    }

    pub fn number(name: &'static str, value: impl Into<u64>) -> Self {
        Self(name, AttributeValue::Number(value.into()))
    }

    fn json(&self) -> Value {
        let Self(key, value) = self;
        let value = match value {
            AttributeValue::Text(text) => json!({ "stringValue": text }),
            AttributeValue::Number(number) => json!({ "intValue": number.to_string() }),
        };
        json!({ "key": key, "value": value })
    }
}

fn all(attributes: &[Attribute]) -> Vec<Value> {
    attributes.iter().map(Attribute::json).collect()
}

impl SpanEvent {
    fn json(&self) -> Value {
        json!({
            "name": self.name,
            "timeUnixNano": self.at_ns.to_string(),
            "attributes": all(&self.attributes),
        })
    }
}

impl Span {
    /// Its JSON on one line, without a line feed.
    pub fn line(&self) -> String {
        let events: Vec<Value> = self.events.iter().map(SpanEvent::json).collect();
        let mut span = json!({
            "traceId": self.trace.to_string(),
            "spanId": self.id.to_string(),
            "name": self.name,
            "kind": INTERNAL,
            "startTimeUnixNano": self.times.begin_ns.to_string(),
            "endTimeUnixNano": self.times.end_ns.to_string(),
            "attributes": all(&self.attributes),
            "events": events,
        });
        if let Some(parent) = self.parent {
            span["parentSpanId"] = json!(parent.to_string());
        }
        if let Some(error) = &self.error {
            span["status"] = json!({ "code": ERROR, "message": error });
        }
        span.to_string()
    }
}
