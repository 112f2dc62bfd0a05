//! The files of pictures and previews, encoded beside the loop.

use std::sync::Arc;

use axum::http::StatusCode;
use ipc_protocol::request::ImageRequest;
use ipc_protocol::units::PictureSize;
use pool::AcceptedJobs;

use super::error::ApiError;
use super::policy::SharedPolicy;
use crate::api::reply;
use crate::driver::handle::FinishedPicture;
use crate::picture::encode_pool::EncodePool;
use crate::picture::file::{EncodeError, Metadata, file};
use crate::picture::format::{PictureFormat, Quality};
use crate::picture::scale::scale;

/// The form of an ordered file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FileForm {
    /// The format.
    pub format: PictureFormat,
    /// The quality of JPEG and WebP.
    pub quality: Quality,
    /// The size of the file, if it is not the one that is drawn.
    pub scaled: Option<PictureSize>,
}

impl FileForm {
    /// PNG in the size that is drawn.
    pub const PNG: Self = Self {
        format: PictureFormat::Png,
        quality: Quality::BEST,
        scaled: None,
    };
}

/// Encodes files in a bounded number of threads.
#[derive(Debug)]
pub(super) struct FileEncoder {
    pool: EncodePool,
    policy: SharedPolicy,
}

impl FileEncoder {
    /// An encoder of files that say how they were made if the settings want that.
    pub fn new(policy: SharedPolicy) -> Self {
        Self {
            pool: EncodePool::start(),
            policy,
        }
    }

    /// Encodes a finished picture with its receipt.
    ///
    /// # Errors
    /// 500: the encoder failed.
    pub async fn finished(
        &self,
        form: FileForm,
        request: &ImageRequest,
        accepted: &AcceptedJobs,
        picture: Arc<FinishedPicture>,
    ) -> Result<Vec<u8>, ApiError> {
        let receipt = reply::receipt(request, accepted, &picture);
        let metadata = Metadata::of(receipt, picture.metadata);
        let size = picture.facts.size;
        self.encode(move || encode(form, (size, &picture.rgb8), form.scaled, &metadata))
            .await
    }

    /// Encodes a preview of a picture of the size `drawn`, in the size of its file. `rgb8` are rows of `size`.
    ///
    /// # Errors
    /// 500: the encoder failed.
    pub async fn preview(
        &self,
        form: FileForm,
        (size, rgb8): (PictureSize, impl AsRef<[u8]> + Send + 'static),
        drawn: PictureSize,
    ) -> Result<Vec<u8>, ApiError> {
        let metadata = match self.policy.now().metadata {
            true => Metadata::Mark,
            false => Metadata::None,
        };
        let to = form.scaled.unwrap_or(drawn);
        self.encode(move || encode(form, (size, rgb8.as_ref()), Some(to), &metadata))
            .await
    }

    async fn encode(
        &self,
        encoder: impl FnOnce() -> Result<Vec<u8>, EncodeError> + Send + 'static,
    ) -> Result<Vec<u8>, ApiError> {
        // An encoder that fails is our fault.
        let failed = |error: EncodeError| {
            ApiError::new(
                StatusCode::INTERNAL_SERVER_ERROR,
                "internal",
                error.to_string(),
            )
        };
        self.pool.encode(encoder).await.map_err(failed)
    }
}

/// Encodes pixels, in the size `to` if that is another.
fn encode(
    form: FileForm,
    (size, rgb8): (PictureSize, &[u8]),
    to: Option<PictureSize>,
    metadata: &Metadata,
) -> Result<Vec<u8>, EncodeError> {
    match to.filter(|to| *to != size) {
        None => file(size, rgb8, form.format, form.quality, metadata),
        Some(to) => file(
            to,
            &scale(size, rgb8, to),
            form.format,
            form.quality,
            metadata,
        ),
    }
}
