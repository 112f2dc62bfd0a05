//! All records: jobs without an answer, those whose picture is kept, and the newest others.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Weak};
use std::time::Duration;

use ipc_protocol::failure::{Failure, FailureKind};
use ipc_protocol::ids::{JobId, ModelKey};
use ipc_protocol::job::JobStatus;
use ipc_protocol::status::QueuedStatus;
use pool::{AcceptedJobs, Moment};

use super::facts::{JobEnd, JobFacts};
use super::kept::{DropReason, KeptPictures, ResultLimits};
use super::pace::ModelPace;
use super::record::{Keeping, Surroundings, TrackedJob};
use super::ring::{JobPreview, RingEnd, TrackedUpdate};
use crate::driver::handle::{AwaitedFiles, Caller, FinishedPicture, JobUpdate};
use crate::journal::handle::Journal;
use crate::journal::orders::{JournalOrder, PixelsKept};
use crate::telemetry::traces::context::TraceParent;

/// Ended jobs without a picture that are still known.
const BRIEF_MAX: usize = 1000;
/// How long they are known.
const BRIEF_LIFE: Duration = Duration::from_secs(3600);

/// All records.
#[derive(Debug)]
pub(super) struct JobTable {
    records: BTreeMap<JobId, TrackedJob>,
    kept: KeptPictures,
    /// Ended jobs without a picture, and when they are forgotten: the oldest first.
    brief: VecDeque<(Moment, JobId)>,
    paces: BTreeMap<ModelKey, ModelPace>,
    /// The journal of detached jobs, if one is kept.
    journal: Option<Journal>,
}

/// A job that ended under an earlier daemon.
#[derive(Debug)]
pub(super) struct EndedJob {
    pub facts: JobFacts,
    /// Time from its request to its end.
    pub waited: Duration,
    pub end: JobEnd,
    /// Time since its end.
    pub age: Duration,
    /// Its picture, if that is kept.
    pub picture: Option<Arc<FinishedPicture>>,
    pub keeping: Keeping,
}

/// The facts that all jobs of a request share.
#[derive(Debug, Clone)]
pub(super) struct RequestFacts {
    pub user: String,
    pub request: Arc<ipc_protocol::request::ImageRequest>,
    /// Seconds since 1970.
    pub created: u64,
    pub since: Moment,
    /// The caller's span, if it sent one.
    pub trace: Option<TraceParent>,
}

impl JobTable {
    /// Changes the bounds of pictures that are kept from now on.
    pub fn set_limits(&mut self, limits: ResultLimits) {
        self.kept.set_limits(limits);
    }

    pub fn limits(&self) -> ResultLimits {
        self.kept.limits()
    }

    pub fn new(limits: ResultLimits, journal: Option<Journal>) -> Self {
        Self {
            journal,
            records: BTreeMap::new(),
            kept: KeptPictures::new(limits),
            brief: VecDeque::new(),
            paces: BTreeMap::new(),
        }
    }

    /// Notes that a request waits for files.
    pub fn await_files(&mut self, request: &RequestFacts, files: &AwaitedFiles) {
        for (index, job) in (0..).zip(&files.jobs) {
            let record = self.enter(request, *job, &files.model, index);
            if let Some(far) = &files.far {
                record.log.push(TrackedUpdate::Fetching(far.clone()));
            }
        }
    }

    /// Notes that a request became jobs.
    pub fn accept(&mut self, request: &RequestFacts, accepted: &Arc<AcceptedJobs>) {
        for (index, job) in (0..).zip(&accepted.jobs) {
            let record = self.enter(request, *job, &accepted.model, index);
            record.facts.accepted = Some(Arc::clone(accepted));
            record.log.accept(Arc::clone(accepted));
        }
    }

    fn enter(
        &mut self,
        request: &RequestFacts,
        job: JobId,
        model: &ModelKey,
        index: u32,
    ) -> &mut TrackedJob {
        self.records.entry(job).or_insert_with(|| {
            let facts = JobFacts {
                job,
                user: request.user.clone(),
                model: model.clone(),
                request: Arc::clone(&request.request),
                index,
                created: request.created,
                accepted: None,
                end: None,
            };
            TrackedJob::new(facts, request.since)
        })
    }

    /// Takes over a job of an earlier daemon that has no answer yet.
    pub fn restore_unanswered(&mut self, facts: JobFacts, waited: Duration, now: Moment) {
        let job = facts.job;
        let accepted = facts.accepted.clone();
        let record = TrackedJob::restored(facts, now, waited);
        if let Some(accepted) = accepted {
            record.log.accept(accepted);
        }
        self.records.insert(job, record);
    }

    /// Takes over a job that ended under an earlier daemon. They come in the order of their ends.
    pub fn restore_ended(&mut self, ended: EndedJob, now: Moment) {
        let EndedJob {
            facts,
            waited,
            end,
            age,
            picture,
            keeping,
        } = ended;
        let job = facts.job;
        let text_bytes = facts.text_bytes();
        self.restore_unanswered(facts, waited, now);
        let Some(record) = self.records.get_mut(&job) else {
            return;
        };
        let log = Arc::clone(&record.log);
        let ring_end = match (&end, &picture) {
            (JobEnd::Failed(failure), _) => RingEnd::Failed(failure.clone()),
            (JobEnd::Finished(_), Some(picture)) => RingEnd::Finished(Arc::downgrade(picture)),
            (JobEnd::Finished(_), None) => RingEnd::Finished(Weak::new()),
        };
        record.end(end, keeping, now);
        match picture {
            Some(picture) => {
                let left = self.kept.limits().keep.saturating_sub(age);
                let bytes = picture.rgb8.len() as u64 + text_bytes;
                let dropped = self.kept.keep_until(now + left, picture, bytes);
                self.drop_pictures(&dropped, DropReason::Memory, now);
            }
            None => self.become_brief(job, now + BRIEF_LIFE.saturating_sub(age)),
        }
        log.end(ring_end);
    }

    /// Tells the journal, if there is one and the job is in it.
    fn tell_journal(&self, job: JobId, order: impl FnOnce(JobId) -> JournalOrder) {
        let record = self.records.get(&job);
        let is_detached = record.is_some_and(|record| record.facts.request.detached);
        if let Some(journal) = &self.journal
            && is_detached
        {
            // If it is dropped, the next daemon finds the record too old.
            let _ = journal.tell(order(job));
        }
    }

    /// Takes an update of a job.
    pub fn publish(&mut self, update: &JobUpdate, now: Moment) {
        match update {
            JobUpdate::Progress { job, progress } => {
                if let Some(record) = self.records.get_mut(job) {
                    record.advance(progress, now);
                    record.log.push(TrackedUpdate::Progress(progress.clone()));
                }
            }
            JobUpdate::Preview {
                job,
                step,
                size,
                rgb8,
            } => {
                if let Some(record) = self.records.get(job) {
                    record.log.push(TrackedUpdate::Preview(JobPreview {
                        step: *step,
                        size: *size,
                        rgb8: Arc::clone(rgb8),
                    }));
                }
            }
            JobUpdate::Picture(picture) => self.finish(picture, now),
            JobUpdate::Failed { job, failure } => self.fail(*job, failure.clone(), now),
        }
    }

    fn finish(&mut self, picture: &Arc<FinishedPicture>, now: Moment) {
        let job = picture.job;
        let Some(record) = self.records.get_mut(&job) else {
            return;
        };
        let model = record.facts.model.clone();
        let earlier = self.paces.get(&model).copied();
        let pace = ModelPace::mixed(earlier, &picture.facts);
        self.paces.insert(model, pace);
        let end = JobEnd::Finished(picture.facts.clone());
        let log = Arc::clone(&record.log);
        if !record.facts.request.detached {
            record.end(end, Keeping::Never, now);
            self.become_brief(job, now + BRIEF_LIFE);
            return log.end(RingEnd::Finished(Weak::new()));
        }
        record.end(end, Keeping::Kept, now);
        let bytes = picture.rgb8.len() as u64 + record.facts.text_bytes();
        let dropped = self.kept.keep(now, Arc::clone(picture), bytes);
        self.drop_pictures(&dropped, DropReason::Memory, now);
        log.end(RingEnd::Finished(Arc::downgrade(picture)));
    }

    /// Ends a job without a picture, unless it has ended.
    pub fn fail(&mut self, job: JobId, failure: Failure, now: Moment) {
        let record = self.records.get_mut(&job);
        let Some(record) = record.filter(|record| record.facts.end.is_none()) else {
            return;
        };
        let log = Arc::clone(&record.log);
        record.end(JobEnd::Failed(failure.clone()), Keeping::Never, now);
        self.become_brief(job, now + BRIEF_LIFE);
        log.end(RingEnd::Failed(failure));
    }

    fn drop_pictures(&mut self, jobs: &[JobId], reason: DropReason, now: Moment) {
        for job in jobs {
            if let Some(record) = self.records.get_mut(job) {
                record.drop_picture(reason);
            }
            self.tell_journal(*job, |job| JournalOrder::DropPixels {
                job,
                why: match reason {
                    DropReason::Time => PixelsKept::Expired,
                    DropReason::Memory => PixelsKept::Displaced,
                },
            });
            self.become_brief(*job, now + BRIEF_LIFE);
        }
    }

    /// Notes that a job has ended and has no picture (any longer). It is forgotten at `until`.
    fn become_brief(&mut self, job: JobId, until: Moment) {
        self.brief.push_back((until, job));
        if self.brief.len() > BRIEF_MAX {
            self.forget_oldest();
        }
    }

    fn forget_oldest(&mut self) {
        if let Some((_, oldest)) = self.brief.pop_front() {
            self.tell_journal(oldest, |job| JournalOrder::Forget { jobs: vec![job] });
            self.records.remove(&oldest);
        }
    }

    /// Drops the pictures and records whose time is over. Returns when the next one is due.
    pub fn expire(&mut self, now: Moment) -> Option<Moment> {
        let expired = self.kept.expire(now);
        self.drop_pictures(&expired, DropReason::Time, now);
        while self.brief.front().is_some_and(|(until, _)| *until <= now) {
            self.forget_oldest();
        }
        let brief = self.brief.front().map(|(until, _)| *until);
        self.kept.due().into_iter().chain(brief).min()
    }

    /// A job of the caller's.
    ///
    /// # Errors
    /// `NoSuchName` if there is none, or if it is another user's.
    pub fn find(&self, job: JobId, caller: &Caller) -> Result<&TrackedJob, Failure> {
        let record = self.records.get(&job);
        record
            .filter(|record| owns(caller, record))
            .ok_or_else(|| unknown(job))
    }

    /// Every record that the caller may see, the oldest first.
    pub fn of<'a>(&'a self, caller: &'a Caller) -> impl DoubleEndedIterator<Item = &'a TrackedJob> {
        let records = self.records.values();
        records.filter(|record| owns(caller, record))
    }

    /// The status of every job that the caller may see: those without an answer, and detached ones that ended.
    pub fn list(&self, caller: &Caller, queue: &[QueuedStatus], now: Moment) -> Vec<JobStatus> {
        let running = self.running();
        let queue: BTreeMap<JobId, &QueuedStatus> =
            queue.iter().map(|queued| (queued.job, queued)).collect();
        let listed =
            |record: &&TrackedJob| record.facts.end.is_none() || record.facts.request.detached;
        let records = self.of(caller).filter(listed);
        records
            .map(|record| {
                let queued = queue.get(&record.facts.job).copied();
                record.status(&self.surroundings(record, queued, &running), now)
            })
            .collect()
    }

    /// The status of one job.
    pub fn status(&self, record: &TrackedJob, queue: &[QueuedStatus], now: Moment) -> JobStatus {
        let mut queue = queue.iter();
        let queued = queue.find(|queued| queued.job == record.facts.job);
        record.status(&self.surroundings(record, queued, &self.running()), now)
    }

    fn surroundings<'a>(
        &self,
        record: &TrackedJob,
        queued: Option<&'a QueuedStatus>,
        running: &BTreeMap<&ModelKey, usize>,
    ) -> Surroundings<'a> {
        let model = &record.facts.model;
        Surroundings {
            queued,
            pace: self.paces.get(model).copied(),
            running: running.get(model).copied().unwrap_or_default(),
            kept_until: self.kept.get(record.facts.job).map(|(_, until)| until),
        }
    }

    /// The number of running jobs of each model.
    fn running(&self) -> BTreeMap<&ModelKey, usize> {
        let mut running = BTreeMap::new();
        for record in self.records.values().filter(|record| record.is_running()) {
            *running.entry(&record.facts.model).or_default() += 1;
        }
        running
    }

    /// The picture of a job.
    ///
    /// # Errors
    /// The job's own failure; `NoSuchName` before its end; `PictureGone` if the picture is not kept.
    pub fn picture(&self, record: &TrackedJob) -> Result<Arc<FinishedPicture>, Failure> {
        let job = record.facts.job;
        if let Some(JobEnd::Failed(failure)) = &record.facts.end {
            return Err(failure.clone());
        }
        if let Some((picture, _)) = self.kept.get(job) {
            return Ok(Arc::clone(picture));
        }
        let limits = self.kept.limits();
        let (seconds, most) = (limits.keep.as_secs_f64(), limits.memory_mb);
        let gone = |why: String| Err(Failure::new(FailureKind::PictureGone, why));
        match record.keeping() {
            None => Err(Failure::new(
                FailureKind::NoSuchName,
                format!(
                    "job {job} has no picture yet: it is {}",
                    record.state().word()
                ),
            )),
            Some(Keeping::Never) => gone(format!(
                "the picture of job {job} went to the client that asked for it and is not kept: only the pictures of detached jobs are"
            )),
            Some(Keeping::Dropped(DropReason::Memory)) => gone(format!(
                "the picture of job {job} is gone: the pictures of later jobs needed its memory (limits.result_mb = {most}); ask for it again"
            )),
            Some(Keeping::Kept | Keeping::Dropped(DropReason::Time)) => gone(format!(
                "the picture of job {job} was kept for {seconds} seconds (pool.result_seconds) and is gone: ask for it again"
            )),
        }
    }
}

fn owns(caller: &Caller, record: &TrackedJob) -> bool {
    caller.owns(&record.facts.user)
}

/// The failure about a job that the caller may not know of.
pub(super) fn unknown(job: JobId) -> Failure {
    Failure::new(
        FailureKind::NoSuchName,
        format!("job {job} is unknown: it never was, or it ended long ago"),
    )
}

#[cfg(test)]
mod tests {
    use ipc_protocol::job::{JobState, PictureState};

    use super::super::samples::{accepted, caller, operator, picture, request, step};
    use super::*;

    const KEEP: Duration = Duration::from_secs(600);
    const MB: usize = 1 << 20;

    fn table(memory_mb: u64) -> JobTable {
        let keep = KEEP;
        JobTable::new(ResultLimits { keep, memory_mb }, None)
    }

    /// Takes a request of `user` with one job.
    fn enter(table: &mut JobTable, user: &str, job: u64, detached: bool) {
        let facts = request(user, detached, Moment::START);
        table.accept(&facts, &Arc::new(accepted(job, 1)));
    }

    /// The failure of the picture of a job, as its user gets it.
    fn gone(table: &JobTable, job: u64) -> Failure {
        let caller = operator();
        let record = table.find(JobId(job), &caller).expect("known");
        table.picture(record).expect_err("it is not kept")
    }

    fn states(table: &JobTable) -> Vec<(u64, PictureState)> {
        let listed = table.list(&operator(), &[], Moment::START);
        let of = |job: JobStatus| (job.job.0, job.picture);
        listed.into_iter().map(of).collect()
    }

    #[test]
    fn a_picture_is_kept_for_its_time_and_then_its_end_is_known_for_an_hour() {
        let mut table = table(1);
        enter(&mut table, "a", 1, true);
        let end = Moment::START + Duration::from_secs(5);
        table.publish(&picture(1, 192), end);
        assert_eq!(table.expire(end), Some(end + KEEP));
        let record = table.find(JobId(1), &caller("a")).expect("its own");
        assert!(table.picture(record).is_ok());
        let status = table.status(record, &[], end);
        assert_eq!(
            (status.picture, status.kept_s),
            (PictureState::Kept, Some(600.0))
        );
        let late = end + KEEP;
        assert_eq!(table.expire(late), Some(late + BRIEF_LIFE));
        let failure = gone(&table, 1);
        assert_eq!(failure.kind, FailureKind::PictureGone);
        assert!(
            failure.message.contains("kept for 600 seconds"),
            "{failure}"
        );
        assert_eq!(states(&table), [(1, PictureState::Gone)]);
        assert_eq!(table.expire(late + BRIEF_LIFE), None);
        assert!(table.find(JobId(1), &caller("a")).is_err());
    }

    #[test]
    fn the_oldest_pictures_make_room_for_newer_ones() {
        let mut table = table(2);
        for job in 1..=3 {
            enter(&mut table, "a", job, true);
        }
        // In the order of their ends, not of their ids.
        for (job, bytes) in [(2, MB), (1, MB / 2), (3, MB)] {
            table.publish(&picture(job, bytes), Moment::START);
        }
        use PictureState::{Gone, Kept};
        assert_eq!(states(&table), [(1, Kept), (2, Gone), (3, Kept)]);
        let failure = gone(&table, 2);
        assert!(
            failure.message.contains("limits.result_mb = 2"),
            "{failure}"
        );
        enter(&mut table, "a", 4, true);
        table.publish(&picture(4, 3 * MB), Moment::START);
        assert!(
            states(&table).iter().all(|(_, picture)| *picture == Gone),
            "one alone is too large"
        );
        enter(&mut table, "a", 5, true);
        table.publish(&picture(5, MB), Moment::START);
        assert_eq!(states(&table).last(), Some(&(5, Kept)));
    }

    #[test]
    fn an_attached_job_leaves_a_short_record_without_its_picture() {
        let mut table = table(1);
        enter(&mut table, "a", 1, false);
        table.publish(&step(1, 1), Moment::START);
        assert_eq!(
            table.list(&caller("a"), &[], Moment::START)[0].state,
            JobState::Running
        );
        let JobUpdate::Picture(drawn) = picture(1, 192) else {
            panic!("it is a picture");
        };
        let kept = Arc::downgrade(&drawn);
        table.publish(&JobUpdate::Picture(drawn), Moment::START);
        assert!(kept.upgrade().is_none());
        assert!(table.list(&caller("a"), &[], Moment::START).is_empty());
        let record = table.find(JobId(1), &caller("a")).expect("it is known");
        let status = table.status(record, &[], Moment::START);
        assert_eq!(
            (status.state, status.picture),
            (JobState::Finished, PictureState::None)
        );
        assert!(gone(&table, 1).message.contains("is not kept"));
    }

    #[test]
    fn the_oldest_short_records_are_forgotten_beyond_their_number() {
        let mut table = table(1);
        for job in 1..=BRIEF_MAX as u64 + 5 {
            enter(&mut table, "a", job, false);
            table.publish(&picture(job, 192), Moment::START);
        }
        assert_eq!(table.records.len(), BRIEF_MAX);
        assert!(table.find(JobId(5), &operator()).is_err());
        assert!(table.find(JobId(6), &operator()).is_ok());
    }

    #[test]
    fn a_job_of_another_user_is_as_unknown_as_one_that_never_was() {
        let mut table = table(1);
        enter(&mut table, "a", 1, true);
        enter(&mut table, "b", 2, true);
        let failure = |job| table.find(JobId(job), &caller("a")).map(|_| ()).err();
        assert_eq!(failure(1), None);
        let other = failure(2).expect("it is another user's");
        let never = failure(3).expect("it never was");
        assert_eq!(other.kind, never.kind);
        assert_eq!(
            other.message.replace('2', "N"),
            never.message.replace('3', "N")
        );
        let ids = |caller: &Caller| -> Vec<u64> {
            let listed = table.list(caller, &[], Moment::START);
            listed.into_iter().map(|job| job.job.0).collect()
        };
        assert_eq!(ids(&caller("a")), [1]);
        assert_eq!(ids(&operator()), [1, 2]);
    }

    #[test]
    fn a_long_prompt_is_cut_once_no_file_can_come_of_the_job() {
        let mut table = table(1);
        let mut facts = request("a", true, Moment::START);
        let mut long = (*facts.request).clone();
        long.prompt = "ü".repeat(2000);
        facts.request = Arc::new(long);
        table.accept(&facts, &Arc::new(accepted(1, 2)));
        let prompt = |table: &JobTable, job| {
            let record = table.find(JobId(job), &caller("a")).expect("known");
            record.facts.request.prompt.len()
        };
        table.publish(&picture(1, 192), Moment::START);
        assert_eq!(prompt(&table, 1), 4000);
        table.expire(Moment::START + KEEP);
        assert_eq!(prompt(&table, 1), 1024);
        let failure = Failure::new(FailureKind::Internal, "lost");
        table.fail(JobId(2), failure.clone(), Moment::START);
        assert_eq!(prompt(&table, 2), 1024);
        assert_eq!(gone(&table, 2), failure);
    }

    #[test]
    fn waiting_and_running_jobs_are_estimated_from_finished_ones_and_their_own_steps() {
        let mut table = table(1);
        for job in 1..=3 {
            enter(&mut table, "a", job, true);
        }
        table.publish(&picture(1, 192), Moment::START);
        table.publish(&step(2, 1), Moment::START);
        let queued = QueuedStatus {
            job: JobId(3),
            model: super::super::samples::model(),
            state: "waiting".into(),
            position: 1,
            waiting_s: 0.0,
            reason: "1 of 1 workers is busy".into(),
        };
        let listed = table.list(&caller("a"), &[queued], Moment::START);
        let eta = |at: usize| listed[at].eta_s.map(f64::round);
        assert_eq!((eta(0), eta(1)), (None, Some(3.0)));
        assert_eq!(
            eta(2),
            Some(8.0),
            "half a picture of five seconds, and its own"
        );
        assert_eq!(listed[2].reason, "1 of 1 workers is busy");
    }
}
