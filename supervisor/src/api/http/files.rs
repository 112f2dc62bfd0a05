//! `GET /files/NAME`: the picture of an answer with `url`.

use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use axum::response::{IntoResponse, Response};

use super::context::Shared;
use super::error::ApiError;
use crate::picture::format::{self, PictureFormat};

/// The picture; its name is the right to read it.
pub(super) async fn file(
    State(context): State<Shared>,
    Path(name): Path<String>,
) -> Result<Response, ApiError> {
    let (format, bytes) = context.files.find(&name).ok_or_else(|| {
        let message = "there is no such picture, or it was kept for its time and is gone";
        ApiError::new(StatusCode::NOT_FOUND, "no_such_file", message)
    })?;
    Ok(picture(format, bytes))
}

/// The answer that is a picture's file.
pub(super) fn picture(format: PictureFormat, bytes: impl Into<Body>) -> Response {
    let mut response = bytes.into().into_response();
    let headers = response.headers_mut();
    headers.insert(
        CONTENT_TYPE,
        HeaderValue::from_static(format::media_type(format)),
    );
    headers.insert(
        CACHE_CONTROL,
        HeaderValue::from_static("private, max-age=600, immutable"),
    );
    headers.insert(
        "x-content-type-options",
        HeaderValue::from_static("nosniff"),
    );
    response
}
