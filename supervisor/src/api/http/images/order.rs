//! A body of OpenAI's image API, read and checked.

use ipc_protocol::request::{ImageRequest, Priority};
use ipc_protocol::units::PictureSize;
use pool::{ModelSpec, Registry};

use super::quality;
use crate::api::http::encoder::FileForm;
use crate::api::http::error::ApiError;
use crate::api::http::fields::{Fields, random_seed};
use crate::api::http::policy::HttpPolicy;
use crate::api::http::size;
use crate::picture::format::{PictureFormat, Quality};

/// Most pictures of a request.
const COUNT_MAX: i64 = 10;
/// Most previews of a picture in a stream.
const PARTIAL_MAX: i64 = 3;
/// Longest time limit, in seconds.
const TIMEOUT_MAX: f64 = 86_400.0;

/// The order in a body.
#[derive(Debug)]
pub(in crate::api::http) struct ImageOrder {
    /// The request for the pool; its user is set by the caller.
    pub request: ImageRequest,
    /// The form of the files.
    pub form: FileForm,
    /// The quality that is echoed.
    pub quality: &'static str,
    /// Whether the answer has addresses in place of pictures.
    pub as_url: bool,
    /// The number of previews, if the answer is a stream.
    pub stream: Option<usize>,
    /// A name for fair shares among the caller's own users.
    pub user: Option<String>,
    /// Parts of the order that have no effect, a sentence each.
    pub warnings: Vec<String>,
}

impl ImageOrder {
    /// Reads a body.
    ///
    /// # Errors
    /// The first field that is invalid or not possible.
    pub fn read(fields: &Fields, policy: &HttpPolicy, models: &Registry) -> Result<Self, ApiError> {
        let prompt = fields.text("prompt")?;
        let prompt =
            prompt.ok_or_else(|| ApiError::bad_value("prompt", "the prompt is missing"))?;
        let asked_model = fields.text("model")?.filter(|name| !name.is_empty());
        let name = policy.model_name(asked_model);
        // The pool refuses a name that no model has, with the nearest one.
        let model = models.find(&name);
        let mut request = ImageRequest::new(prompt);
        request.model = Some(name.clone());
        request.count = fields.whole("n", 1, COUNT_MAX)?.unwrap_or(1) as u32;
        let quality = fields.word("quality", &quality::WORDS)?.unwrap_or("auto");
        request.steps = steps(fields, quality, model)?;
        let (drawn, scaled) = sizes(fields, model, policy.max_pixels)?;
        request.size = drawn;
        request.seed = fields.seed("seed")?.or_else(random_seed);
        let (scale, alias) = (
            fields.number("guidance_scale")?,
            fields.number("cfg_scale")?,
        );
        request.guidance = scale.or(alias).map(|scale| scale as f32);
        request.negative = fields
            .text("negative_prompt")?
            .filter(|text| !text.is_empty())
            .map(str::to_owned);
        request.timeout_ms = timeout_ms(fields)?;
        request.priority = match fields.word("priority", &["high", "normal", "low"])? {
            Some("high") => Priority::High,
            Some("low") => Priority::Low,
            Some(_) | None => Priority::Normal,
        };
        let stream = stream(fields)?;
        request.previews = stream.is_some_and(|partials| partials > 0);
        let detached = fields.flag("async")?.unwrap_or(false);
        if detached && stream.is_some() {
            return Err(ApiError::bad_value(
                "async",
                "async and stream exclude each other: send one of them",
            ));
        }
        request.detached = detached;
        // A detached picture may be watched later.
        request.previews |= detached;
        let mut warnings = Vec::new();
        let as_url = delivery(fields, asked_model)?;
        check_background(fields)?;
        if let Some(style) = fields.text("style")?.filter(|style| !style.is_empty()) {
            warnings.push(format!(
                "style {style:?} has no effect: the prompt alone decides"
            ));
        }
        if let (Some(asked), Some(drawn)) = (scaled, drawn) {
            warnings.push(size::scaled(&name, asked, drawn));
        }
        Ok(Self {
            request,
            form: FileForm {
                format: format(fields)?,
                quality: compression(fields)?,
                scaled,
            },
            quality,
            as_url: as_url && stream.is_none(),
            stream,
            user: sub_user(fields)?.map(str::to_owned),
            warnings,
        })
    }
}

/// The name of the user behind a client. OpenAI's newer name of the field precedes the older one.
fn sub_user(fields: &Fields) -> Result<Option<&str>, ApiError> {
    let given = |name| {
        let text = fields.text(name);
        text.map(|text| text.filter(|name| !name.is_empty()))
    };
    let (newer, older) = (given("safety_identifier")?, given("user")?);
    Ok(newer.or(older))
}

fn steps(
    fields: &Fields,
    quality: &str,
    model: Option<&ModelSpec>,
) -> Result<Option<u32>, ApiError> {
    let given = |name| fields.whole(name, 0, i64::from(u32::MAX));
    let (steps, alias) = (given("num_inference_steps")?, given("steps")?);
    Ok(match steps.or(alias) {
        Some(steps) => Some(steps as u32),
        None => model.and_then(|model| quality::steps(quality, model)),
    })
}

/// The size to draw, and the size to scale it to if that is another.
fn sizes(
    fields: &Fields,
    model: Option<&ModelSpec>,
    max_pixels: u64,
) -> Result<(Option<PictureSize>, Option<PictureSize>), ApiError> {
    let asked = size::asked(fields, max_pixels)?;
    let (Some(asked), Some(model)) = (asked, model) else {
        return Ok((asked, None));
    };
    let drawn = size::drawn(asked, model.sizes);
    Ok((Some(drawn), (drawn != asked).then_some(asked)))
}

fn timeout_ms(fields: &Fields) -> Result<Option<u64>, ApiError> {
    match fields.number("timeout")? {
        None => Ok(None),
        Some(seconds) if seconds > 0.0 && seconds <= TIMEOUT_MAX => {
            Ok(Some(((seconds * 1000.0) as u64).max(1)))
        }
        Some(seconds) => {
            let message = format!(
                "{seconds} is not a time limit: send seconds above 0, {TIMEOUT_MAX} at most"
            );
            Err(ApiError::bad_value("timeout", message))
        }
    }
}

/// The number of previews of a stream; `None` without a stream.
fn stream(fields: &Fields) -> Result<Option<usize>, ApiError> {
    let partials = fields.whole("partial_images", 0, PARTIAL_MAX)?.unwrap_or(0);
    let streams = fields.flag("stream")?.unwrap_or(false);
    Ok(streams.then_some(partials as usize))
}

/// Whether the answer has addresses: as OpenAI does, by default for the DALL·E models only.
fn delivery(fields: &Fields, model: Option<&str>) -> Result<bool, ApiError> {
    let word = fields.word("response_format", &["url", "b64_json"])?;
    let of_dall_e = model.is_some_and(|model| model.starts_with("dall-e-"));
    Ok(word.map_or(of_dall_e, |word| word == "url"))
}

fn format(fields: &Fields) -> Result<PictureFormat, ApiError> {
    Ok(
        match fields.word("output_format", &["png", "jpeg", "webp"])? {
            Some("jpeg") => PictureFormat::Jpeg,
            Some("webp") => PictureFormat::Webp,
            Some(_) | None => PictureFormat::Png,
        },
    )
}

/// The quality of JPEG and WebP files, best by default as OpenAI's. Their quality 0 is our 1.
fn compression(fields: &Fields) -> Result<Quality, ApiError> {
    let percent = fields.whole("output_compression", 0, 100)?.unwrap_or(100);
    Ok(Quality::new(percent.max(1) as u8).unwrap_or(Quality::BEST))
}

fn check_background(fields: &Fields) -> Result<(), ApiError> {
    match fields.word("background", &["auto", "opaque", "transparent"])? {
        Some("transparent") => {
            let message = "the models draw opaque pictures: send opaque or auto";
            Err(ApiError::bad_value("background", message))
        }
        Some(_) | None => Ok(()),
    }
}
