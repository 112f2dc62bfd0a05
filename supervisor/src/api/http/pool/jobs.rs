//! The caller's jobs: `GET /v1/pool/jobs`, one of them, its picture, and its end by `DELETE`.

use axum::extract::{FromRequestParts, Path, State};
use axum::http::StatusCode;
use axum::http::request::Parts;
use axum::response::{IntoResponse, Response};
use ipc_protocol::ids::JobId;
use ipc_protocol::job::JobStatus;
use serde_json::{Value, json};

use crate::api::http::caller::HttpCaller;
use crate::api::http::context::Shared;
use crate::api::http::error::ApiError;
use crate::api::http::files::picture;
use crate::api::http::json::json_response;
use crate::config::http::HttpRight;
use crate::driver::handle::Caller;

/// All jobs of the caller: those without an answer, and the detached ones that ended, oldest first.
pub async fn list(State(context): State<Shared>, caller: HttpCaller) -> Result<Response, ApiError> {
    caller.may(HttpRight::Generate)?;
    let jobs = context.jobs.list(&caller.caller()).await;
    let jobs: Vec<Value> = jobs.iter().map(described).collect();
    Ok(json_response(&json!({"jobs": jobs})))
}

/// One job.
pub async fn one(
    State(context): State<Shared>,
    NamedJob { job, caller }: NamedJob,
) -> Result<Response, ApiError> {
    let job = context.jobs.find(job, &caller).await?;
    Ok(json_response(&described(&job)))
}

/// Cancels a job; answers with what became of it.
pub async fn cancel(
    State(context): State<Shared>,
    NamedJob { job, caller }: NamedJob,
) -> Result<Response, ApiError> {
    context.jobs.cancel(job, &caller).await?;
    let job = context.jobs.find(job, &caller).await?;
    Ok(json_response(&described(&job)))
}

/// The picture of a finished detached job, in the format and size that its request ordered.
pub async fn image(
    State(context): State<Shared>,
    NamedJob { job, caller }: NamedJob,
) -> Result<Response, ApiError> {
    let stored = match context.jobs.picture(job, &caller) {
        Ok(stored) => stored,
        Err(failure) => {
            let status = context.jobs.find(job, &caller).await?;
            return match status.state.is_end() {
                true => Err(failure.into()),
                false => {
                    Ok((StatusCode::ACCEPTED, json_response(&described(&status))).into_response())
                }
            };
        }
    };
    let form = context.forms.get(job);
    let request = &stored.facts.request;
    let file = context
        .encoder
        .finished(form, request, &stored.accepted, stored.picture);
    let bytes = file.await?;
    Ok(picture(form.format, bytes))
}

/// The job that a route names, and its caller, who may draw and so may have jobs.
#[derive(Debug)]
pub struct NamedJob {
    pub job: JobId,
    pub caller: Caller,
}

impl<S: Sync + Send> FromRequestParts<S> for NamedJob {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Response> {
        let caller = HttpCaller::from_request_parts(parts, state).await;
        let id = Path::<String>::from_request_parts(parts, state).await;
        let caller = caller.map_err(ApiError::into_response)?;
        let Path(id) = id.map_err(IntoResponse::into_response)?;
        let may = caller.may(HttpRight::Generate);
        let job = may.and_then(|()| job_id(&id));
        Ok(Self {
            job: job.map_err(ApiError::into_response)?,
            caller: caller.caller(),
        })
    }
}

/// The number of a job in a route.
///
/// # Errors
/// 404: it is not a number, so no job has it.
fn job_id(text: &str) -> Result<JobId, ApiError> {
    text.parse().map(JobId).map_err(|_| {
        let message = format!("there is no job {text:?}: jobs have numbers");
        ApiError::new(StatusCode::NOT_FOUND, "no_such_name", message)
    })
}

/// A job as `imagepool jobs --json` prints it, with the names that an asynchronous answer has.
pub fn described(job: &JobStatus) -> Value {
    let mut value = serde_json::to_value(job).expect("a job is numbers and words");
    value["id"] = job.job.0.into();
    value["status"] = job.state.word().into();
    value["eta_seconds"] = job.eta_s.into();
    value
}
