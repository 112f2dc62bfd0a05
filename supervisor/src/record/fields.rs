//! The fields of a recorded event.

use std::time::Duration;

use ipc_protocol::ids::{Generation, JobId};
use ipc_protocol::units::Mebibytes;
use pool::Ticket;
use serde_json::Value;

/// The fields of a JSON object.
#[derive(Debug)]
pub(super) struct EventFields<'a>(pub &'a Value);

impl<'a> EventFields<'a> {
    pub fn get(&self, key: &str) -> Result<&'a Value, String> {
        self.0.get(key).ok_or_else(|| format!("{key} is missing"))
    }

    pub fn within(&self, key: &str) -> Result<EventFields<'a>, String> {
        self.get(key).map(EventFields)
    }

    pub fn text(&self, key: &str) -> Result<String, String> {
        let text = self.get(key)?.as_str();
        text.map(str::to_owned)
            .ok_or_else(|| format!("{key} is not a text"))
    }

    pub fn number<T: TryFrom<u64>>(&self, key: &str) -> Result<T, String> {
        let number = self.get(key)?.as_u64();
        number
            .and_then(|number| T::try_from(number).ok())
            .ok_or_else(|| format!("{key} is not a valid number"))
    }

    pub fn flag(&self, key: &str) -> Result<bool, String> {
        let flag = self.get(key)?.as_bool();
        flag.ok_or_else(|| format!("{key} is neither true nor false"))
    }

    /// Parses a field with `read`; `None` if it is null.
    pub fn optional<T>(
        &self,
        key: &str,
        read: impl Fn(&Self, &str) -> Result<T, String>,
    ) -> Result<Option<T>, String> {
        match self.get(key)? {
            Value::Null => Ok(None),
            _ => read(self, key).map(Some),
        }
    }

    pub fn worker(&self) -> Result<Generation, String> {
        self.number("worker").map(Generation)
    }

    pub fn job(&self) -> Result<JobId, String> {
        self.number("job").map(JobId)
    }

    pub fn ticket(&self) -> Result<Ticket, String> {
        self.number("ticket").map(Ticket)
    }

    /// A number that may have a fraction.
    pub fn float(&self, key: &str) -> Result<f32, String> {
        let number = self.get(key)?.as_f64();
        number
            .map(|number| number as f32)
            .ok_or_else(|| format!("{key} is not a number"))
    }

    /// Parses each entry of a list with `read`.
    pub fn list<T>(
        &self,
        key: &str,
        read: impl Fn(&Value) -> Result<T, String>,
    ) -> Result<Vec<T>, String> {
        let list = self.get(key)?.as_array();
        let list = list.ok_or_else(|| format!("{key} is not a list"))?;
        list.iter().map(read).collect()
    }

    pub fn micros(&self, key: &str) -> Result<Duration, String> {
        self.number(key).map(Duration::from_micros)
    }

    pub fn mebibytes(&self, key: &str) -> Result<Mebibytes, String> {
        self.number(key).map(Mebibytes)
    }
}
