//! The answer of a request that failed: the error object of OpenAI's API.

use axum::http::StatusCode;
use axum::http::header::{CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER};
use axum::response::{IntoResponse, Response};
use ipc_protocol::failure::{Failure, FailureKind, Field};
use ipc_protocol::untrusted::Untrusted;
use serde_json::{Value, json};

/// Tells OpenAI's clients whether to send a request again, whatever its status says.
const SHOULD_RETRY: HeaderName = HeaderName::from_static("x-should-retry");
/// Milliseconds until a request is worth sending again; OpenAI's clients prefer it to `retry-after`.
const RETRY_AFTER_MS: HeaderName = HeaderName::from_static("retry-after-ms");
/// Milliseconds until a refused request is worth sending again, if the pool names no time.
const RETRY_MS: u64 = 1000;

/// The answer of a request that failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiError {
    status: StatusCode,
    code: &'static str,
    /// The field of the request at fault.
    param: Option<String>,
    message: String,
    retry: Retry,
}

/// Whether the same request may succeed later.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Retry {
    /// Never: its status says so.
    No,
    /// Never, although its status is one that clients retry.
    Never,
    /// After these milliseconds.
    After(u64),
}

impl ApiError {
    /// A failure that no time mends, with a code for programs and a sentence.
    pub fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self {
            status,
            code,
            param: None,
            // It may repeat a value of the request.
            message: Untrusted::new(message.into()).to_string(),
            retry: Retry::No,
        }
    }

    /// A value of the request that is invalid: 400 with the field's name.
    pub fn bad_value(param: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            param: Some(param.into()),
            ..Self::new(StatusCode::BAD_REQUEST, "bad_value", message)
        }
    }

    /// The loop ended without an answer.
    pub fn ended() -> Self {
        Self::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "draining",
            "the pool has shut down",
        )
    }

    /// The error object, as in an event of a stream.
    pub fn object(&self) -> Value {
        json!({"error": {
            "message": self.message,
            "type": kind(self.status),
            "param": self.param,
            "code": self.code,
        }})
    }

    /// The same error about another name of the field: that of the client's API.
    pub fn about(self, param: Option<&str>) -> Self {
        Self {
            param: param.map(str::to_owned).or(self.param),
            ..self
        }
    }

    /// The same with status 503, whatever its cause: the service cannot do its work now.
    pub fn as_unavailable(self) -> Self {
        Self {
            status: StatusCode::SERVICE_UNAVAILABLE,
            retry: match self.retry {
                Retry::No | Retry::Never => Retry::Never,
                Retry::After(ms) => Retry::After(ms),
            },
            ..self
        }
    }

    /// Its HTTP status.
    pub fn status(&self) -> StatusCode {
        self.status
    }
}

impl From<Failure> for ApiError {
    fn from(failure: Failure) -> Self {
        let status = status(&failure);
        let retried = status.is_server_error()
            || matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::CONFLICT);
        let retry = match passes(&failure) {
            true => Retry::After(failure.retry_after_ms.unwrap_or(RETRY_MS)),
            false if retried => Retry::Never,
            false => Retry::No,
        };
        Self {
            status,
            code: failure.kind.word(),
            param: failure.field.map(|field| param(field).to_owned()),
            // The message may contain text of a worker or a file.
            message: Untrusted::new(&failure.message).to_string(),
            retry,
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut response = (self.status, self.object().to_string()).into_response();
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        match self.retry {
            Retry::No => {}
            Retry::Never => {
                headers.insert(SHOULD_RETRY, HeaderValue::from_static("false"));
            }
            Retry::After(ms) => {
                headers.insert(RETRY_AFTER_MS, HeaderValue::from(ms));
                headers.insert(RETRY_AFTER, HeaderValue::from(ms.div_ceil(1000)));
            }
        }
        if self.status == StatusCode::UNAUTHORIZED {
            let scheme = HeaderValue::from_static("Bearer realm=\"imagepool\"");
            headers.insert(axum::http::header::WWW_AUTHENTICATE, scheme);
        }
        // Routes for clients of another API write the same error in another form.
        response.extensions_mut().insert(self);
        response
    }
}

/// The `type` of the error object.
fn kind(status: StatusCode) -> &'static str {
    match status {
        StatusCode::UNAUTHORIZED => "authentication_error",
        StatusCode::FORBIDDEN => "permission_error",
        StatusCode::TOO_MANY_REQUESTS => "rate_limit_error",
        status if status.is_server_error() => "server_error",
        _ => "invalid_request_error",
    }
}

fn status(failure: &Failure) -> StatusCode {
    match failure.kind {
        FailureKind::MemoryExhausted if !passes(failure) => StatusCode::UNPROCESSABLE_ENTITY,
        FailureKind::BadValue => StatusCode::BAD_REQUEST,
        FailureKind::UnknownModel | FailureKind::NoSuchName => StatusCode::NOT_FOUND,
        FailureKind::NotPermitted => StatusCode::FORBIDDEN,
        FailureKind::NeverFits | FailureKind::Quarantined => StatusCode::UNPROCESSABLE_ENTITY,
        FailureKind::QueueFull | FailureKind::QuotaExceeded => StatusCode::TOO_MANY_REQUESTS,
        FailureKind::Cancelled => StatusCode::CONFLICT,
        FailureKind::PictureGone => StatusCode::GONE,
        FailureKind::DeadlineExceeded => StatusCode::GATEWAY_TIMEOUT,
        FailureKind::ModelFailed | FailureKind::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        FailureKind::MemoryExhausted
        | FailureKind::Draining
        | FailureKind::Stopped
        | FailureKind::LoadRefused
        | FailureKind::ModelBroken
        | FailureKind::WorkerLost
        | FailureKind::NotKept
        | FailureKind::ModelMissing
        | FailureKind::ModelUnusable
        | FailureKind::ModelUnread => StatusCode::SERVICE_UNAVAILABLE,
    }
}

/// Whether the cause of a failure passes, so that the same request may succeed later.
fn passes(failure: &Failure) -> bool {
    match failure.kind {
        // Without a time to retry the limits themselves are too small.
        FailureKind::MemoryExhausted => failure.retry_after_ms.is_some(),
        FailureKind::QueueFull
        | FailureKind::QuotaExceeded
        | FailureKind::Draining
        | FailureKind::Stopped
        | FailureKind::LoadRefused
        | FailureKind::ModelBroken
        | FailureKind::WorkerLost
        | FailureKind::NotKept
        | FailureKind::ModelMissing
        | FailureKind::ModelUnread => true,
        FailureKind::BadValue
        | FailureKind::UnknownModel
        | FailureKind::NoSuchName
        | FailureKind::PictureGone
        | FailureKind::NotPermitted
        | FailureKind::NeverFits
        | FailureKind::Quarantined
        | FailureKind::Cancelled
        | FailureKind::DeadlineExceeded
        | FailureKind::ModelFailed
        | FailureKind::ModelUnusable
        | FailureKind::Internal => false,
    }
}

/// A field's name in OpenAI's API and its usual extensions.
fn param(field: Field) -> &'static str {
    match field {
        Field::Prompt => "prompt",
        Field::Size => "size",
        Field::Steps => "num_inference_steps",
        Field::Model => "model",
        Field::Seed => "seed",
        Field::Guidance => "guidance_scale",
        Field::Negative => "negative_prompt",
        Field::Output => "output_format",
        Field::Count => "n",
        Field::Device => "device",
        Field::User => "user",
        Field::Timeout => "timeout",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_failure_has_a_status_and_only_those_that_pass_are_retried() {
        for kind in FailureKind::ALL {
            let failure = Failure::new(kind, "a sentence");
            let passes = passes(&failure);
            let response = ApiError::from(failure).into_response();
            let status = response.status();
            assert!(
                status.is_client_error() || status.is_server_error(),
                "{kind:?}"
            );
            let clients_retry =
                status.is_server_error() || matches!(status.as_u16(), 408 | 409 | 429);
            let told = response.headers().get(SHOULD_RETRY).is_some();
            assert_eq!(clients_retry && !passes, told, "{kind:?}");
            assert_eq!(
                response.headers().contains_key(RETRY_AFTER),
                passes,
                "{kind:?}"
            );
        }
    }

    #[test]
    fn memory_that_no_time_brings_is_the_clients_error() {
        let lacking = Failure::new(FailureKind::MemoryExhausted, "Need 9 MB");
        let never = ApiError::from(lacking.clone()).into_response();
        assert_eq!(never.status(), StatusCode::UNPROCESSABLE_ENTITY);
        let later = ApiError::from(lacking.retry_after_ms(1)).into_response();
        assert_eq!(later.status(), StatusCode::SERVICE_UNAVAILABLE);
    }

    #[test]
    fn a_time_to_retry_is_given_in_milliseconds_and_in_whole_seconds() {
        let failure = Failure::new(FailureKind::QueueFull, "full").retry_after_ms(1200);
        let response = ApiError::from(failure).into_response();
        assert_eq!(response.status(), StatusCode::TOO_MANY_REQUESTS);
        assert_eq!(response.headers()[RETRY_AFTER_MS], "1200");
        assert_eq!(response.headers()[RETRY_AFTER], "2");
    }

    #[test]
    fn a_sentence_that_repeats_a_value_has_no_control_characters() {
        let error = ApiError::bad_value("n", "n = \u{9b}2J\u{1b} is invalid");
        let object = error.object();
        let message = object["error"]["message"].as_str().expect("a sentence");
        assert!(message.contains("is invalid") && !message.contains(char::is_control));
    }

    #[test]
    fn the_object_names_field_type_and_code_and_no_control_characters() {
        let failure = Failure::bad_value(Field::Count, "too\x1b[2Jmany");
        let object = ApiError::from(failure).object();
        assert_eq!(object["error"]["param"], "n");
        assert_eq!(object["error"]["type"], "invalid_request_error");
        assert_eq!(object["error"]["code"], "bad_value");
        let message = object["error"]["message"].as_str().expect("a sentence");
        assert!(!message.contains('\x1b'), "{message}");
    }
}
