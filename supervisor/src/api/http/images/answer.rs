//! The answers of OpenAI's image API, and the files in them.

use std::sync::Arc;

use ipc_protocol::ids::JobId;
use ipc_protocol::units::PictureSize;
use pool::AcceptedJobs;
use serde_json::{Value, json};

use super::order::ImageOrder;
use crate::api::http::encoder::FileEncoder;
use crate::api::http::error::ApiError;
use crate::driver::handle::FinishedPicture;
use crate::picture::format;

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
        self.order.form.scaled.unwrap_or(self.accepted.size)
    }

    /// Encodes a finished picture in the requested format and size.
    pub async fn encode(
        &self,
        encoder: &FileEncoder,
        picture: Arc<FinishedPicture>,
    ) -> Result<Vec<u8>, ApiError> {
        let request = &self.order.request;
        encoder
            .finished(self.order.form, request, &self.accepted, picture)
            .await
    }

    /// The fields that every answer and event of the request has.
    pub fn common(&self) -> Value {
        json!({
            "background": "opaque",
            "output_format": format::extension(self.order.form.format),
            "quality": self.order.quality,
            "size": self.size().to_string(),
        })
    }

    /// Numbers of tokens: of the prompt as the model's own tokenizer counts them, once for the request, and of the
    /// pictures, one for each square of 16 pixels.
    pub fn usage(&self, pictures: &[Arc<FinishedPicture>]) -> Value {
        let of_text = pictures
            .first()
            .map_or(0, |picture| u64::from(picture.reading.tokens));
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

/// The place of a job in its request.
pub(super) fn index(jobs: &[JobId], job: JobId) -> usize {
    jobs.iter().position(|one| *one == job).unwrap_or_default()
}
