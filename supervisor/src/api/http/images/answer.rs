//! The answers of OpenAI's image API, and the files in them.

use std::sync::Arc;

use axum::http::StatusCode;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ipc_protocol::ids::JobId;
use ipc_protocol::units::PictureSize;
use pool::AcceptedJobs;
use serde_json::{Value, json};

use super::order::ImageOrder;
use crate::api::http::context::HttpContext;
use crate::api::http::error::ApiError;
use crate::api::reply;
use crate::driver::handle::FinishedPicture;
use crate::picture::file::{EncodeError, Metadata, file};
use crate::picture::format::{self, PictureFormat, Quality};
use crate::picture::scale::scale;

/// Pixels of the side of a square that counts as one output token.
const TOKEN_SIDE: u64 = 16;

/// A request that became jobs, with what it asked for.
#[derive(Debug)]
pub(super) struct DrawnOrder {
    pub order: ImageOrder,
    pub accepted: AcceptedJobs,
    /// Seconds since 1970 when it was accepted.
    pub created: u64,
}

impl DrawnOrder {
    /// The size of the files.
    pub fn size(&self) -> PictureSize {
        self.order.scaled.unwrap_or(self.accepted.size)
    }

    /// Encodes a finished picture in the requested format and size, beside the loop.
    pub async fn encode(
        &self,
        context: &HttpContext,
        picture: Arc<FinishedPicture>,
    ) -> Result<Vec<u8>, ApiError> {
        let receipt = reply::receipt(&self.order.request, &self.accepted, &picture);
        let metadata = Metadata::of(receipt, context.metadata);
        let file = self.file(metadata);
        let encoded = context
            .encoders
            .encode(move || file.encode(picture.facts.size, &picture.rgb8));
        encoded.await.map_err(|error| failed(&error))
    }

    /// Encodes a preview in the requested format and size, beside the loop.
    pub async fn encode_preview(
        &self,
        context: &HttpContext,
        size: PictureSize,
        rgb8: Vec<u8>,
    ) -> Result<Vec<u8>, ApiError> {
        let metadata = match context.metadata {
            true => Metadata::Mark,
            false => Metadata::None,
        };
        let file = self.file(metadata);
        let encoded = context.encoders.encode(move || file.encode(size, &rgb8));
        encoded.await.map_err(|error| failed(&error))
    }

    fn file(&self, metadata: Metadata) -> OrderedFile {
        OrderedFile {
            size: self.size(),
            format: self.order.format,
            quality: self.order.compression,
            metadata,
        }
    }

    /// The fields that every answer and event of the request has.
    pub fn common(&self) -> Value {
        json!({
            "background": "opaque",
            "output_format": format::extension(self.order.format),
            "quality": self.order.quality,
            "size": self.size().to_string(),
        })
    }

    /// Numbers of tokens: of the prompt as the model's own tokenizer counts them, once for the request, and of the
    /// pictures, one for each square of 16 pixels.
    pub fn usage(&self, pictures: &[Arc<FinishedPicture>]) -> Value {
        let of_text = 0;
        let of_one = |picture: &Arc<FinishedPicture>| {
            let PictureSize { width, height } = picture.facts.size;
            u64::from(width).div_ceil(TOKEN_SIDE) * u64::from(height).div_ceil(TOKEN_SIDE)
        };
        let of_images: u64 = pictures.iter().map(of_one).sum();
        json!({
            "input_tokens": of_text,
            "input_tokens_details": {"image_tokens": 0, "text_tokens": of_text},
            "output_tokens": of_images,
            "output_tokens_details": {"image_tokens": of_images, "text_tokens": 0},
            "total_tokens": of_text + of_images,
        })
    }

    /// One sentence for each thing that was asked for and is not done.
    pub fn warnings(&self, picture: &FinishedPicture) -> Vec<String> {
        let remarks = picture.reading.remarks(self.accepted.model.as_str());
        self.order.warnings.iter().cloned().chain(remarks).collect()
    }
}

/// The form of a file that was ordered.
struct OrderedFile {
    size: PictureSize,
    format: PictureFormat,
    quality: Quality,
    metadata: Metadata,
}

impl OrderedFile {
    fn encode(&self, drawn: PictureSize, rgb8: &[u8]) -> Result<Vec<u8>, EncodeError> {
        let scaled = (drawn != self.size).then(|| scale(drawn, rgb8, self.size));
        let rgb8 = scaled.as_deref().unwrap_or(rgb8);
        file(self.size, rgb8, self.format, self.quality, &self.metadata)
    }
}

/// An encoder that fails is our fault.
fn failed(error: &EncodeError) -> ApiError {
    ApiError::new(
        StatusCode::INTERNAL_SERVER_ERROR,
        "internal",
        error.to_string(),
    )
}

/// The base64 text of a file, beside the loop if it is long.
pub(super) fn base64(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}

/// The place of a job in its request.
pub(super) fn index(jobs: &[JobId], job: JobId) -> usize {
    jobs.iter().position(|one| *one == job).unwrap_or_default()
}

/// The loop ended without an answer.
pub(super) fn ended() -> ApiError {
    ApiError::new(
        StatusCode::SERVICE_UNAVAILABLE,
        "draining",
        "the pool has shut down",
    )
}
