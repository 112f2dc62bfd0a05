//! The receipt: everything a picture depends on, written into its file and read back.

use ipc_protocol::failure::Failure;
use ipc_protocol::ids::ModelKey;
use ipc_protocol::messages::client::{Accepted, JobReport};
use ipc_protocol::request::{ImageRequest, TEXT_BYTES_MAX};
use ipc_protocol::untrusted::Untrusted;
use ipc_protocol::version::BUILD;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

/// Keyword of the PNG text chunk that contains the receipt.
pub const KEYWORD: &str = "imagepool";
/// Longest receipt, in bytes: the longest prompts with every byte escaped as `\u00XX`, and the other fields.
pub const BYTES_MAX: usize = 6 * TEXT_BYTES_MAX + 8 * 1024;
/// Longest value of a field other than prompts, in bytes.
const WORD_BYTES_MAX: usize = 200;

/// The inputs of a picture. It has no time, job, worker, count or index, so equal inputs give the same bytes.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Receipt {
    pub prompt: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub negative: Option<String>,
    /// Key of the model.
    pub model: String,
    /// SHA-256 of the weights; empty if unknown.
    pub weights: String,
    /// Seed of this picture.
    pub seed: u64,
    /// Number of denoising steps.
    pub steps: u32,
    pub guidance: f32,
    /// Size in pixels, `WxH`.
    pub size: String,
    /// Name of the sampler and its sigmas.
    pub sampler: String,
    /// Data type of the computation.
    pub dtype: String,
    /// Whether the prompt had more tokens than the model takes and was cut.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub prompt_cut: bool,
    /// Version of imagepool.
    pub version: String,
}

/// Why a file or its receipt cannot be drawn again.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}{message}", field.as_deref().map(|field| format!("{field}: ")).unwrap_or_default())]
pub struct Refusal {
    /// The invalid field of the receipt, if there is one.
    pub field: Option<String>,
    /// Message for the user.
    pub message: String,
}

impl Refusal {
    /// Creates a refusal of the whole file.
    pub fn new(message: impl Into<String>) -> Self {
        Self {
            field: None,
            message: message.into(),
        }
    }

    fn of(field: &str, message: impl Into<String>) -> Self {
        Self {
            field: Some(field.to_owned()),
            message: message.into(),
        }
    }
}

impl From<Failure> for Refusal {
    fn from(failure: Failure) -> Self {
        Self {
            field: failure.field.map(|field| field.to_string()),
            message: format!("in the receipt: {}", failure.message),
        }
    }
}

impl Receipt {
    /// Creates the receipt of a picture that was just drawn.
    pub fn of(request: &ImageRequest, accepted: &Accepted, report: &JobReport) -> Self {
        let facts = &report.receipt;
        Self {
            prompt: request.prompt.clone(),
            negative: request.negative.clone(),
            model: accepted.model.to_string(),
            weights: facts.digest.clone(),
            seed: report.seed,
            steps: accepted.steps,
            guidance: facts.guidance,
            size: accepted.size.to_string(),
            sampler: facts.sampler.clone(),
            dtype: facts.dtype.clone(),
            prompt_cut: report.reading.was_cut,
            version: BUILD.to_owned(),
        }
    }

    /// The receipt as JSON on one line.
    pub fn json(&self) -> serde_json::Result<String> {
        serde_json::to_string(self)
    }

    /// Parses a receipt of at most [`BYTES_MAX`] bytes.
    ///
    /// # Errors
    /// The refusal; it names the field that is missing, unknown or invalid.
    pub fn parse(text: &str) -> Result<Self, Refusal> {
        if text.len() > BYTES_MAX {
            let bytes = text.len();
            return Err(Refusal::new(format!(
                "its receipt has {bytes} bytes, more than the limit of {BYTES_MAX}"
            )));
        }
        let mut fields: Map<String, Value> = serde_json::from_str(text)
            .map_err(|error| Refusal::new(format!("its receipt cannot be read: {error}")))?;
        let fields = &mut fields;
        let receipt = Self {
            prompt: needed(fields, "prompt", "text")?,
            negative: take(fields, "negative", "text")?,
            model: word(fields, "model")?,
            weights: word(fields, "weights")?,
            seed: needed(fields, "seed", "whole number from 0 to 2^64 - 1")?,
            steps: needed(fields, "steps", "whole number from 0 to 2^32 - 1")?,
            guidance: needed(fields, "guidance", "number")?,
            size: word(fields, "size")?,
            sampler: word(fields, "sampler")?,
            dtype: word(fields, "dtype")?,
            prompt_cut: take(fields, "prompt_cut", "truth value")?.unwrap_or(false),
            version: word(fields, "version")?,
        };
        if let Some(unknown) = fields.keys().next() {
            let message = "unknown field in the receipt: a later version may have written it";
            return Err(Refusal::of(&short(unknown), message));
        }
        receipt.request()?;
        Ok(receipt)
    }

    /// Returns the request that draws the same picture again.
    ///
    /// # Errors
    /// A value is invalid for every model. The pool checks the limits of the model itself.
    pub fn request(&self) -> Result<ImageRequest, Refusal> {
        let impossible = |field: &'static str| move |why: String| Refusal::of(field, why);
        let model = ModelKey::new(&self.model).map_err(impossible("model"))?;
        let request = ImageRequest {
            model: Some(model.to_string()),
            size: Some(self.size.parse().map_err(impossible("size"))?),
            steps: Some(self.steps),
            guidance: Some(self.guidance),
            negative: self.negative.clone(),
            seed: Some(self.seed),
            ..ImageRequest::new(self.prompt.clone())
        };
        request.check()?;
        Ok(request)
    }
}

/// Removes a field from `fields` and parses it; the fields left at the end are unknown.
fn take<T: DeserializeOwned>(
    fields: &mut Map<String, Value>,
    name: &str,
    what: &str,
) -> Result<Option<T>, Refusal> {
    let Some(value) = fields.remove(name) else {
        return Ok(None);
    };
    let shown = short(&value.to_string());
    serde_json::from_value(value)
        .map(Some)
        .map_err(|_| Refusal::of(name, format!("{shown} in the receipt is not a {what}")))
}

fn needed<T: DeserializeOwned>(
    fields: &mut Map<String, Value>,
    name: &str,
    what: &str,
) -> Result<T, Refusal> {
    take(fields, name, what)?.ok_or_else(|| Refusal::of(name, "is missing in the receipt"))
}

fn word(fields: &mut Map<String, Value>, name: &str) -> Result<String, Refusal> {
    let word: String = needed(fields, name, "text")?;
    if word.len() > WORD_BYTES_MAX {
        let message = format!(
            "{} bytes in the receipt, more than the limit of {WORD_BYTES_MAX}",
            word.len()
        );
        return Err(Refusal::of(name, message));
    }
    Ok(word)
}

/// The first 60 characters of a text from the file, escaped.
fn short(text: &str) -> String {
    let beginning: String = text.chars().take(60).collect();
    Untrusted::new(beginning).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn good() -> Receipt {
        Receipt {
            prompt: "a \"fox\"\n🦊".into(),
            negative: Some("fog".into()),
            model: "pocket-flux".into(),
            weights: "d".repeat(64),
            seed: u64::MAX,
            steps: 4,
            guidance: 0.1,
            size: "128x64".into(),
            sampler: "euler".into(),
            dtype: "f32".into(),
            prompt_cut: true,
            version: "0.1.0".into(),
        }
    }

    /// A valid receipt with one field changed.
    fn with(field: &str, value: Value) -> String {
        let mut fields = serde_json::to_value(good()).expect("a receipt is JSON");
        fields[field] = value;
        fields.to_string()
    }

    #[test]
    fn a_receipt_is_read_back_and_requests_the_same_picture() {
        let text = serde_json::to_string(&good()).expect("a receipt is JSON");
        assert_eq!(Receipt::parse(&text), Ok(good()));
        let request = good().request().expect("it was possible once");
        assert_eq!(request.prompt, good().prompt);
        assert_eq!(request.negative.as_deref(), Some("fog"));
        assert_eq!(
            (request.seed, request.steps, request.guidance),
            (Some(u64::MAX), Some(4), Some(0.1))
        );
        assert_eq!(
            request.size.map(|size| size.to_string()),
            Some("128x64".into())
        );
        let plain = Receipt {
            negative: None,
            prompt_cut: false,
            ..good()
        };
        let text = serde_json::to_string(&plain).expect("a receipt is JSON");
        assert_eq!(Receipt::parse(&text), Ok(plain));
    }

    #[test]
    fn an_invalid_value_is_refused_with_its_field() {
        let long = Value::from("x".repeat(TEXT_BYTES_MAX + 1));
        let cases = [
            ("prompt", Value::from(7)),
            ("prompt", long.clone()),
            ("negative", Value::from(vec![1])),
            ("model", Value::from("../../etc")),
            ("model", Value::from("")),
            ("weights", long),
            ("seed", Value::from(-1)),
            ("seed", Value::from("1")),
            ("steps", Value::from(1u64 << 32)),
            ("steps", Value::from(2.5)),
            ("guidance", Value::from(1e300)),
            ("guidance", Value::Null),
            ("size", Value::from("big")),
            ("sampler", Value::Null),
            ("dtype", Value::from(32)),
            ("prompt_cut", Value::from("no")),
            ("version", Value::from(1)),
            ("job", Value::from(1)),
        ];
        for (field, value) in cases {
            let refusal = Receipt::parse(&with(field, value.clone())).expect_err(field);
            assert_eq!(refusal.field.as_deref(), Some(field), "{refusal}");
            let said = refusal.to_string();
            assert!(said.starts_with(&format!("{field}: ")), "{said}");
            assert!(said.len() < 400, "{said}");
        }
    }

    #[test]
    fn a_missing_field_is_named() {
        let whole = serde_json::to_value(good()).expect("a receipt is JSON");
        let names: Vec<String> = whole
            .as_object()
            .into_iter()
            .flatten()
            .map(|(name, _)| name.clone())
            .collect();
        for name in names {
            let mut fields = whole.clone();
            fields.as_object_mut().expect("an object").remove(&name);
            let read = Receipt::parse(&fields.to_string());
            if ["negative", "prompt_cut"].contains(&name.as_str()) {
                assert!(read.is_ok(), "{name}: {read:?}");
                continue;
            }
            assert_eq!(read.expect_err(&name).field, Some(name));
        }
    }

    #[test]
    fn a_text_that_is_not_a_receipt_or_too_long_is_refused() {
        let deep = "[".repeat(BYTES_MAX);
        let endless = " ".repeat(BYTES_MAX + 1);
        for text in ["", "null", "[]", "{", deep.as_str(), endless.as_str()] {
            let refusal = Receipt::parse(text).expect_err("no receipt");
            assert_eq!(refusal.field, None, "{refusal}");
        }
        let refusal = Receipt::parse(&endless).expect_err("too long");
        assert!(refusal.message.contains(&(BYTES_MAX + 1).to_string()));
        // The longest valid receipt: every byte of the longest prompt is escaped.
        let prompt = "\u{1}".repeat(TEXT_BYTES_MAX);
        let longest = Receipt {
            prompt,
            negative: None,
            ..good()
        };
        let text = serde_json::to_string(&longest).expect("a receipt is JSON");
        assert_eq!(Receipt::parse(&text), Ok(longest));
    }

    #[test]
    fn control_characters_in_a_field_name_are_escaped() {
        let refusal = Receipt::parse(&with("\u{1b}[2Jx\u{9b}y", Value::Null)).expect_err("unknown");
        assert!(
            !refusal.to_string().chars().any(char::is_control),
            "{refusal}"
        );
    }
}
