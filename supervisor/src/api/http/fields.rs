//! The values of a JSON body, read one by one; an error names the field.

use axum::body::Bytes;
use axum::http::StatusCode;
use serde_json::{Map, Value};

use super::error::ApiError;

/// The fields of a JSON object. A field that is `null` counts as not given.
#[derive(Debug, Clone, Default)]
pub(super) struct Fields(Map<String, Value>);

impl Fields {
    /// Parses a body. An empty body has no fields.
    ///
    /// # Errors
    /// 400: it is not a JSON object.
    pub fn parse(body: &Bytes) -> Result<Self, ApiError> {
        if body.iter().all(u8::is_ascii_whitespace) {
            return Ok(Self::default());
        }
        let invalid = |why: String| {
            let message = format!("the body is not a JSON object: {why}");
            ApiError::new(StatusCode::BAD_REQUEST, "invalid_json", message)
        };
        match serde_json::from_slice(body) {
            Ok(Value::Object(fields)) => Ok(Self(fields)),
            Ok(_) => Err(invalid("send { … }".into())),
            Err(error) => Err(invalid(error.to_string())),
        }
    }

    fn given(&self, name: &str) -> Option<&Value> {
        self.0.get(name).filter(|value| !value.is_null())
    }

    /// An object.
    pub fn object(&self, name: &str) -> Result<Option<Self>, ApiError> {
        match self.given(name) {
            None => Ok(None),
            Some(Value::Object(fields)) => Ok(Some(Self(fields.clone()))),
            Some(other) => Err(wrong(name, other, "an object")),
        }
    }

    /// The whole body, for an answer that repeats it.
    pub fn echo(&self) -> Value {
        Value::Object(self.0.clone())
    }

    /// A text.
    pub fn text(&self, name: &str) -> Result<Option<&str>, ApiError> {
        match self.given(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(other) => Err(wrong(name, other, "a text")),
        }
    }

    /// `true` or `false`.
    pub fn flag(&self, name: &str) -> Result<Option<bool>, ApiError> {
        match self.given(name) {
            None => Ok(None),
            Some(Value::Bool(flag)) => Ok(Some(*flag)),
            Some(other) => Err(wrong(name, other, "true or false")),
        }
    }

    /// A whole number from `least` to `most`. A fraction of zero is allowed: some clients send 4.0.
    pub fn whole(&self, name: &str, least: i64, most: i64) -> Result<Option<i64>, ApiError> {
        let Some(value) = self.given(name) else {
            return Ok(None);
        };
        let allowed = format!("a whole number from {least} to {most}");
        match value.as_i64().or_else(|| without_fraction(value)) {
            Some(number) if (least..=most).contains(&number) => Ok(Some(number)),
            _ => Err(wrong(name, value, &allowed)),
        }
    }

    /// A finite number.
    pub fn number(&self, name: &str) -> Result<Option<f64>, ApiError> {
        let Some(value) = self.given(name) else {
            return Ok(None);
        };
        match value.as_f64().filter(|number| number.is_finite()) {
            Some(number) => Ok(Some(number)),
            None => Err(wrong(name, value, "a number")),
        }
    }

    /// A seed: 0 to 2⁶⁴ − 1. A negative number asks for a random one, as clients of A1111's API do.
    pub fn seed(&self, name: &str) -> Result<Option<u64>, ApiError> {
        let Some(value) = self.given(name) else {
            return Ok(None);
        };
        let whole = value.as_i64().or_else(|| without_fraction(value));
        match (value.as_u64(), whole) {
            (Some(seed), _) => Ok(Some(seed)),
            (None, Some(negative)) if negative < 0 => Ok(None),
            (None, Some(seed)) => Ok(u64::try_from(seed).ok()),
            (None, None) => Err(wrong(name, value, "a whole number")),
        }
    }

    /// One of `words`, or an empty text, which counts as not given.
    pub fn word(
        &self,
        name: &str,
        words: &[&'static str],
    ) -> Result<Option<&'static str>, ApiError> {
        let Some(text) = self.text(name)?.filter(|text| !text.is_empty()) else {
            return Ok(None);
        };
        match words.iter().find(|word| **word == text) {
            Some(word) => Ok(Some(word)),
            None => Err(wrong(
                name,
                &Value::from(text),
                &format!("one of {}", words.join(", ")),
            )),
        }
    }
}

/// A random seed that a JSON number can hold exactly in every language: 53 bits. `None` leaves it to the daemon.
pub(super) fn random_seed() -> Option<u64> {
    getrandom::u64().ok().map(|bits| bits >> 11)
}

/// A number such as 4.0 as a whole number.
fn without_fraction(value: &Value) -> Option<i64> {
    let number = value.as_f64().filter(|number| number.fract() == 0.0)?;
    (number.abs() < 9e15).then_some(number as i64)
}

fn wrong(name: &str, value: &Value, wanted: &str) -> ApiError {
    /// Characters of an invalid value that an error repeats.
    const SHOWN_MAX: usize = 80;
    let text = value.to_string();
    let shown = match text.char_indices().nth(SHOWN_MAX) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    };
    ApiError::bad_value(name, format!("{name} = {shown} is invalid: send {wanted}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(text: &str) -> Fields {
        Fields::parse(&Bytes::copy_from_slice(text.as_bytes())).expect(text)
    }

    #[test]
    fn numbers_may_have_a_fraction_of_zero_and_no_other() {
        assert_eq!(fields(r#"{"n":4.0}"#).whole("n", 1, 10), Ok(Some(4)));
        assert_eq!(fields(r#"{"n":null}"#).whole("n", 1, 10), Ok(None));
        for bad in [
            r#"{"n":4.5}"#,
            r#"{"n":11}"#,
            r#"{"n":"4"}"#,
            r#"{"n":[4]}"#,
            r#"{"n":1e300}"#,
        ] {
            let error = fields(bad).whole("n", 1, 10).expect_err(bad).object();
            assert_eq!(error["error"]["param"], "n", "{bad}");
        }
    }

    #[test]
    fn a_seed_has_64_bits_and_a_negative_one_is_random() {
        let seed = |text: &str| fields(text).seed("seed");
        assert_eq!(seed(r#"{"seed":18446744073709551615}"#), Ok(Some(u64::MAX)));
        assert_eq!(seed(r#"{"seed":-1}"#), Ok(None));
        assert_eq!(seed(r#"{"seed":7.0}"#), Ok(Some(7)));
        assert!(seed(r#"{"seed":18446744073709551616}"#).is_err());
        assert!(seed(r#"{"seed":"7"}"#).is_err());
    }

    #[test]
    fn only_an_object_is_a_body() {
        assert!(fields("  ").0.is_empty());
        for bad in ["[]", "3", "{", "{\"a\":1}x"] {
            let body = Bytes::from_static(bad.as_bytes());
            let error = Fields::parse(&body).expect_err(bad);
            assert_eq!(error.status(), StatusCode::BAD_REQUEST);
        }
    }

    #[test]
    fn an_invalid_value_is_repeated_up_to_a_length() {
        let long = format!("{{\"quality\":\"{}\"}}", "ü".repeat(5000));
        let error = fields(&long)
            .word("quality", &["low"])
            .expect_err("unknown");
        assert!(error.object().to_string().len() < 500);
    }
}
