//! `imagepool jobs`: one line per job.

use ipc_protocol::job::{JobState, JobStatus, PictureState};

use crate::cli::args::ConnectOptions;
use crate::cli::daemon::connect;
use crate::cli::{CommandError, json_output, say};

/// Prints the jobs; returns the exit code.
pub fn run(reach: &ConnectOptions, is_json: bool) -> Result<u8, CommandError> {
    let jobs = connect::daemon(reach)?.jobs()?;
    if is_json {
        let values = jobs.iter().map(serde_json::to_value);
        json_output::list(values.map(|job| job.expect("a job is numbers and words")));
        return Ok(0);
    }
    for job in &jobs {
        say::line(format_args!(
            "{:<8} {:<24} {:<9} {:>6.1} s  {}",
            job.job.0,
            job.model.as_str(),
            job.state.word(),
            job.waiting_s,
            detail(job)
        ));
    }
    Ok(0)
}

/// The rest of a job's line: why it waits, how far it is, or what is left of it.
fn detail(job: &JobStatus) -> String {
    let left = match job.eta_s {
        Some(seconds) if !job.state.is_end() => format!("about {seconds:.1} s left"),
        Some(_) | None => String::new(),
    };
    let parts = match job.state {
        JobState::Queued => [job.reason.clone(), left],
        JobState::Running => {
            let steps = job.steps.unwrap_or_default();
            [format!("step {}/{steps}", job.step), left]
        }
        JobState::Finished => [picture(job), String::new()],
        JobState::Failed | JobState::Cancelled => {
            let why = job.failure.as_ref().map(|failure| failure.to_string());
            [why.unwrap_or_default(), String::new()]
        }
    };
    let said: Vec<&str> = parts
        .iter()
        .map(String::as_str)
        .filter(|part| !part.is_empty())
        .collect();
    said.join(", ")
}

fn picture(job: &JobStatus) -> String {
    match job.picture {
        PictureState::Gone => "its picture is gone".into(),
        PictureState::Kept | PictureState::None => job.kept().unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use ipc_protocol::failure::{Failure, FailureKind};
    use ipc_protocol::ids::{JobId, ModelKey};

    use super::*;

    fn job(state: JobState) -> JobStatus {
        JobStatus {
            job: JobId(7),
            user: "uid:0".into(),
            model: ModelKey::new("syn").expect("a plain key"),
            prompt: "a star".into(),
            index: 0,
            width: Some(64),
            height: Some(64),
            seed: Some(1),
            steps: Some(4),
            created: 0,
            detached: true,
            state,
            step: 3,
            position: 0,
            waiting_s: 1.0,
            reason: String::new(),
            eta_s: None,
            worker: None,
            attempts: 1,
            times: None,
            failure: None,
            picture: PictureState::None,
            kept_s: None,
        }
    }

    #[test]
    fn a_line_ends_with_what_matters_in_its_state() {
        let queued = JobStatus {
            reason: "1 of 1 workers is busy".into(),
            eta_s: Some(2.0),
            ..job(JobState::Queued)
        };
        assert_eq!(detail(&queued), "1 of 1 workers is busy, about 2.0 s left");
        assert_eq!(detail(&job(JobState::Running)), "step 3/4");
        let kept = JobStatus {
            picture: PictureState::Kept,
            kept_s: Some(599.6),
            ..job(JobState::Finished)
        };
        assert_eq!(detail(&kept), "its picture is kept for 600 s");
        let failed = JobStatus {
            failure: Some(Failure::new(FailureKind::Cancelled, "cancelled by uid:0")),
            ..job(JobState::Cancelled)
        };
        assert_eq!(detail(&failed), "cancelled by uid:0");
        assert_eq!(detail(&job(JobState::Finished)), "");
    }
}
