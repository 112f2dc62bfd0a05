//! A job that has ended, in a sentence: when and how, and where its picture is.

use std::time::Duration;

use ipc_protocol::failure::Failure;
use ipc_protocol::job::{JobState, JobStatus};

use crate::clock;

/// Describes the end of a job; `None` before it. `gone` is the reason why its picture cannot be had, if it has none.
pub fn sentence(job: &JobStatus, gone: Option<&Failure>) -> Option<String> {
    let how = match job.state {
        JobState::Queued | JobState::Running => return None,
        JobState::Finished => "finished",
        JobState::Failed => "failed",
        JobState::Cancelled => "was cancelled",
    };
    let ended = Duration::from_secs(job.created) + Duration::from_secs_f64(job.waiting_s.max(0.0));
    let when = clock::date_of(ended.as_secs());
    let rest = match (&job.failure, job.kept(), gone) {
        (Some(failure), ..) => format!(": {failure}"),
        (None, Some(kept), _) => format!("; {kept}: `imagepool wait {}` writes it", job.job),
        (None, None, Some(gone)) => format!("; {}", gone.message),
        (None, None, None) => String::new(),
    };
    Some(format!("{how} at {when}{rest}"))
}

#[cfg(test)]
mod tests {
    use ipc_protocol::failure::FailureKind;
    use ipc_protocol::ids::{JobId, ModelKey};
    use ipc_protocol::job::PictureState;

    use super::*;

    fn job(state: JobState, picture: PictureState) -> JobStatus {
        JobStatus {
            job: JobId(7),
            user: "uid:0".into(),
            model: ModelKey::new("syn").expect("a plain key"),
            prompt: "a star".into(),
            index: 0,
            width: None,
            height: None,
            seed: None,
            steps: None,
            created: 951_782_399,
            detached: true,
            state,
            step: 0,
            position: 0,
            waiting_s: 1.5,
            reason: String::new(),
            eta_s: None,
            worker: None,
            attempts: 1,
            times: None,
            failure: None,
            picture,
            kept_s: None,
        }
    }

    #[test]
    fn the_sentence_has_the_time_of_the_end_and_the_place_of_the_picture() {
        let kept = JobStatus {
            kept_s: Some(590.2),
            ..job(JobState::Finished, PictureState::Kept)
        };
        assert_eq!(
            sentence(&kept, None).as_deref(),
            Some(
                "finished at 2000-02-29T00:00:00Z; its picture is kept for 590 s: `imagepool wait 7` writes it"
            )
        );
        let gone = Failure::new(FailureKind::PictureGone, "the picture of job 7 is gone");
        assert_eq!(
            sentence(&job(JobState::Finished, PictureState::Gone), Some(&gone)).as_deref(),
            Some("finished at 2000-02-29T00:00:00Z; the picture of job 7 is gone")
        );
        let failed = JobStatus {
            failure: Some(Failure::new(FailureKind::Cancelled, "cancelled by uid:0")),
            ..job(JobState::Cancelled, PictureState::None)
        };
        assert_eq!(
            sentence(&failed, None).as_deref(),
            Some("was cancelled at 2000-02-29T00:00:00Z: cancelled by uid:0")
        );
        for state in [JobState::Queued, JobState::Running] {
            assert_eq!(sentence(&job(state, PictureState::None), None), None);
        }
    }
}
