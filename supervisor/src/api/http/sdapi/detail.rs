//! Errors for A1111's clients: they read the field `detail`.

use axum::body::Body;
use axum::extract::Request;
use axum::http::header::CONTENT_LENGTH;
use axum::middleware::Next;
use axum::response::Response;

use crate::api::http::error::ApiError;

/// Adds `detail` to the errors of the routes under `/sdapi/`, those of the guard included.
pub async fn detail(request: Request, next: Next) -> Response {
    let is_ours = request.uri().path().starts_with("/sdapi/");
    let mut response = next.run(request).await;
    let error = response.extensions_mut().remove::<ApiError>();
    if let Some(error) = error.filter(|_| is_ours) {
        let mut object = error.object();
        object["detail"] = object["error"]["message"].clone();
        *response.body_mut() = Body::from(object.to_string());
        // The body is longer than it was; hyper counts it.
        response.headers_mut().remove(CONTENT_LENGTH);
    }
    response
}
