//! The receipt: everything a picture depends on, written into its file and read back.

use ipc_protocol::client::Picture;
use ipc_protocol::failure::Failure;
use ipc_protocol::ids::ModelKey;
use ipc_protocol::messages::client::Accepted;
use ipc_protocol::request::{ImageRequest, TEXT_BYTES_MAX};
use ipc_protocol::untrusted::Untrusted;
use ipc_protocol::version::BUILD;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

/// The text chunk a receipt is in.
pub const KEYWORD: &str = "imagepool";
/// Longest receipt that is read: the longest texts that can be sent with every byte escaped, and the rest.
pub const BYTES_MAX: usize = 6 * TEXT_BYTES_MAX + 8 * 1024;
/// Longest value of a field that is one word or a few.
const WORD_BYTES_MAX: usize = 200;

/// Everything a picture depends on, and nothing else: no time, job, worker, count or index, so the same
/// receipt always has the same bytes.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Receipt {
    /// What to draw.
    pub prompt: String,
    /// What not to draw.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub negative: Option<String>,
    /// The model's key.
    pub model: String,
    /// SHA-256 of its weights; empty where it is not known.
    pub weights: String,
    /// Seed of this picture.
    pub seed: u64,
    /// Denoising steps.
    pub steps: u32,
    /// Guidance scale.
    pub guidance: f32,
    /// `WxH`.
    pub size: String,
    /// How the sigmas were chosen.
    pub sampler: String,
    /// The arithmetic.
    pub dtype: String,
    /// The prompt was longer than the model's tokens and was cut.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub prompt_cut: bool,
    /// Version of this program.
    pub version: String,
}

/// Why a receipt, or the file it should be in, is not one to draw from.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}{message}", field.as_deref().map(|field| format!("{field}: ")).unwrap_or_default())]
pub struct Refusal {
    /// The field of the receipt to blame, where it is one.
    pub field: Option<String>,
    /// One sentence for a person.
    pub message: String,
}

impl Refusal {
    /// Of the whole.
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
    /// Of a picture that was just drawn.
    pub fn of(request: &ImageRequest, accepted: &Accepted, picture: &Picture) -> Self {
        let facts = &picture.report.receipt;
        Self {
            prompt: request.prompt.clone(),
            negative: request.negative.clone(),
            model: accepted.model.to_string(),
            weights: facts.digest.clone(),
            seed: picture.report.seed,
            steps: accepted.steps,
            guidance: facts.guidance,
            size: accepted.size.to_string(),
            sampler: facts.sampler.clone(),
            dtype: facts.dtype.clone(),
            prompt_cut: picture.report.reading.was_cut,
            version: BUILD.to_owned(),
        }
    }

    /// Reads one; its length is bounded before anything else is looked at.
    ///
    /// # Errors
    /// A sentence; for a field that is missing, unknown or no possible value, with its name.
    pub fn parse(text: &str) -> Result<Self, Refusal> {
        if text.len() > BYTES_MAX {
            let bytes = text.len();
            return Err(Refusal::new(format!(
                "its receipt has {bytes} bytes, more than the {BYTES_MAX} that any has"
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
            let message =
                "no receipt of this version has such a field; a later one may have written it";
            return Err(Refusal::of(&short(unknown), message));
        }
        receipt.request()?;
        Ok(receipt)
    }

    /// The request that draws the same picture again.
    ///
    /// # Errors
    /// A value that no model could take; what one model takes, the pool says.
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

/// Takes a field out; what is left in the end is unknown.
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
        .map_err(|_| Refusal::of(name, format!("{shown} in the receipt is no {what}")))
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
            "{} bytes in the receipt, {WORD_BYTES_MAX} are possible",
            word.len()
        );
        return Err(Refusal::of(name, message));
    }
    Ok(word)
}

/// The beginning of a foreign text.
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

    /// A good receipt with one field that says something else.
    fn with(field: &str, value: Value) -> String {
        let mut fields = serde_json::to_value(good()).expect("a receipt is JSON");
        fields[field] = value;
        fields.to_string()
    }

    #[test]
    fn what_was_written_is_read_and_asks_for_the_same_again() {
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
    fn a_value_that_cannot_be_is_refused_with_its_field() {
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
    fn a_field_that_is_missing_is_named() {
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
    fn a_text_that_is_none_or_endless_is_refused_as_a_whole() {
        let deep = "[".repeat(BYTES_MAX);
        let endless = " ".repeat(BYTES_MAX + 1);
        for text in ["", "null", "[]", "{", deep.as_str(), endless.as_str()] {
            let refusal = Receipt::parse(text).expect_err("no receipt");
            assert_eq!(refusal.field, None, "{refusal}");
        }
        let refusal = Receipt::parse(&endless).expect_err("too long");
        assert!(refusal.message.contains(&(BYTES_MAX + 1).to_string()));
        // As long as any can be: each byte of the longest prompt escaped.
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
    fn nothing_of_a_foreign_name_reaches_a_terminal_as_an_order() {
        let refusal = Receipt::parse(&with("\u{1b}[2Jx\u{9b}y", Value::Null)).expect_err("unknown");
        assert!(
            !refusal.to_string().chars().any(char::is_control),
            "{refusal}"
        );
    }
}
