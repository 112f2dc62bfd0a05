//! The forms of detached jobs' files, which the pool does not know.

use std::collections::BTreeMap;
use std::sync::Mutex;

use ipc_protocol::ids::JobId;

use super::encoder::FileForm;

/// Forms that are remembered; of older jobs no picture is kept.
const FORMS_MAX: usize = 4096;

/// The forms of detached jobs' files, the newest ones.
#[derive(Debug, Default)]
pub(super) struct JobForms(Mutex<BTreeMap<JobId, FileForm>>);

impl JobForms {
    /// Remembers the form that a request ordered for its jobs.
    pub fn remember(&self, jobs: &[JobId], form: FileForm) {
        let mut forms = self.0.lock().expect("no holder of this lock can panic");
        forms.extend(jobs.iter().map(|job| (*job, form)));
        while forms.len() > FORMS_MAX {
            forms.pop_first();
        }
    }

    /// The form of a job's file: PNG if its request came through another door.
    pub fn get(&self, job: JobId) -> FileForm {
        let forms = self.0.lock().expect("no holder of this lock can panic");
        forms.get(&job).copied().unwrap_or(FileForm::PNG)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::picture::format::PictureFormat;

    #[test]
    fn the_newest_forms_are_remembered() {
        let forms = JobForms::default();
        let jpeg = FileForm {
            format: PictureFormat::Jpeg,
            ..FileForm::PNG
        };
        for job in 1..=FORMS_MAX as u64 + 1 {
            forms.remember(&[JobId(job)], jpeg);
        }
        assert_eq!(forms.get(JobId(1)), FileForm::PNG);
        assert_eq!(forms.get(JobId(2)), jpeg);
        assert_eq!(forms.get(JobId(FORMS_MAX as u64 + 1)), jpeg);
    }
}
