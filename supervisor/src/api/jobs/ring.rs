//! The newest updates of one job, in bounded memory.

use std::collections::VecDeque;
use std::sync::{Arc, Weak};

use ipc_protocol::failure::Failure;
use ipc_protocol::messages::client::Fetching;
use ipc_protocol::units::PictureSize;
use pool::{AcceptedJobs, Progress};

use crate::driver::handle::FinishedPicture;

/// Updates that are kept besides previews and the end; the oldest is dropped first.
const UPDATES_MAX: usize = 64;
/// Previews that are kept.
const PREVIEWS_MAX: usize = 4;

/// An update of a job. The last one is `End`.
#[derive(Debug, Clone)]
pub enum TrackedUpdate {
    /// The files of its model are being fetched.
    Fetching(Fetching),
    /// Its values were chosen. Comes once, before any progress.
    Accepted(Arc<AcceptedJobs>),
    /// Its progress.
    Progress(Progress),
    /// A preview of its picture.
    Preview(JobPreview),
    /// Its end.
    End(TrackedEnd),
}

/// A preview of a job's picture. Cheap to clone.
#[derive(Debug, Clone)]
pub struct JobPreview {
    /// The step after which it was made.
    pub step: u32,
    /// A pixel for each latent of the picture.
    pub size: PictureSize,
    /// Rows from the top, three bytes a pixel.
    pub rgb8: Arc<[u8]>,
}

/// The end of a job, as a reader gets it.
#[derive(Debug, Clone)]
pub enum TrackedEnd {
    /// With a picture; `None` if it is not kept any longer.
    Finished(Option<Arc<FinishedPicture>>),
    /// Without a picture.
    Failed(Failure),
}

/// The end as it is kept: the picture belongs to the table of kept pictures, not to readers.
#[derive(Debug, Clone)]
pub(super) enum RingEnd {
    Finished(Weak<FinishedPicture>),
    Failed(Failure),
}

/// The place of a reader.
#[derive(Debug, Default)]
pub(super) struct RingCursor {
    /// Number of the next update.
    next: u64,
    has_acceptance: bool,
    has_end: bool,
}

/// The newest updates, numbered in their order; acceptance and end are never dropped.
#[derive(Debug, Default)]
pub(super) struct UpdateRing {
    updates: VecDeque<(u64, TrackedUpdate)>,
    /// Number of the next update.
    next: u64,
    accepted: Option<Arc<AcceptedJobs>>,
    end: Option<RingEnd>,
}

impl UpdateRing {
    /// Adds an update of progress. One that only replaces the one before it takes its place.
    pub fn push(&mut self, update: TrackedUpdate) {
        let newest = self.updates.back().map(|(_, newest)| newest);
        if newest.is_some_and(|newest| replaces(&update, newest)) {
            self.updates.pop_back();
        }
        if is_preview(&update) {
            self.drop_previews(PREVIEWS_MAX - 1);
        } else if self.updates.len() >= UPDATES_MAX + PREVIEWS_MAX {
            self.updates.pop_front();
        }
        self.updates.push_back((self.next, update));
        self.next += 1;
    }

    /// Notes the values chosen for the job.
    pub fn accept(&mut self, accepted: Arc<AcceptedJobs>) {
        self.accepted = Some(accepted);
    }

    /// Notes the end. Previews are not needed any longer.
    pub fn end(&mut self, end: RingEnd) {
        self.drop_previews(0);
        self.end = Some(end);
    }

    /// The newest preview.
    pub fn preview(&self) -> Option<&JobPreview> {
        self.updates
            .iter()
            .rev()
            .find_map(|(_, update)| match update {
                TrackedUpdate::Preview(preview) => Some(preview),
                TrackedUpdate::Fetching(_)
                | TrackedUpdate::Accepted(_)
                | TrackedUpdate::Progress(_)
                | TrackedUpdate::End(_) => None,
            })
    }

    /// Returns the next update for a reader, and moves its place. `None` if there is nothing new.
    pub fn read(&self, cursor: &mut RingCursor) -> Option<TrackedUpdate> {
        let fetching = |update: &TrackedUpdate| matches!(update, TrackedUpdate::Fetching(_));
        let at = self
            .updates
            .partition_point(|(number, _)| *number < cursor.next);
        let next = self.updates.get(at);
        // A fetch comes before the acceptance, everything else after it.
        let is_due = next.is_none_or(|(_, update)| !fetching(update));
        if let Some(accepted) = self
            .accepted
            .as_ref()
            .filter(|_| is_due && !cursor.has_acceptance)
        {
            cursor.has_acceptance = true;
            return Some(TrackedUpdate::Accepted(Arc::clone(accepted)));
        }
        if let Some((number, update)) = next {
            cursor.next = number + 1;
            return Some(update.clone());
        }
        let end = self.end.as_ref().filter(|_| !cursor.has_end)?;
        cursor.has_end = true;
        Some(TrackedUpdate::End(match end {
            RingEnd::Finished(picture) => TrackedEnd::Finished(picture.upgrade()),
            RingEnd::Failed(failure) => TrackedEnd::Failed(failure.clone()),
        }))
    }

    /// Drops the oldest previews, so that at most `left` are left.
    fn drop_previews(&mut self, left: usize) {
        let previews = self.updates.iter().filter(|(_, update)| is_preview(update));
        let mut surplus = previews.count().saturating_sub(left);
        self.updates.retain(|(_, update)| {
            let is_dropped = surplus > 0 && is_preview(update);
            surplus -= usize::from(is_dropped);
            !is_dropped
        });
    }
}

impl RingCursor {
    /// Whether the reader has read the end.
    pub fn is_at_end(&self) -> bool {
        self.has_end
    }
}

fn is_preview(update: &TrackedUpdate) -> bool {
    matches!(update, TrackedUpdate::Preview(_))
}

/// Whether a late reader has no use for `old` because of `new`.
fn replaces(new: &TrackedUpdate, old: &TrackedUpdate) -> bool {
    use Progress::{Loading, Waiting};
    use TrackedUpdate::{Fetching, Progress as Of};
    matches!(
        (new, old),
        (Fetching(_), Fetching(_))
            | (Of(Loading { .. }), Of(Loading { .. } | Waiting { .. }))
            | (Of(Waiting { .. }), Of(Waiting { .. }))
    )
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::samples::accepted;
    use super::*;

    fn step(index: u32) -> TrackedUpdate {
        TrackedUpdate::Progress(Progress::Step {
            index,
            total: 1000,
            elapsed: Duration::from_millis(u64::from(index)),
        })
    }

    fn preview(step: u32) -> TrackedUpdate {
        TrackedUpdate::Preview(JobPreview {
            step,
            size: PictureSize {
                width: 1,
                height: 1,
            },
            rgb8: Arc::from([0, 0, 0]),
        })
    }

    /// Everything that a reader gets: steps as numbers, previews as negative ones, the end as 0.
    fn read(ring: &UpdateRing, cursor: &mut RingCursor) -> Vec<i64> {
        let mut all = Vec::new();
        while let Some(update) = ring.read(cursor) {
            all.push(match update {
                TrackedUpdate::Progress(Progress::Step { index, .. }) => i64::from(index),
                TrackedUpdate::Preview(preview) => -i64::from(preview.step),
                TrackedUpdate::End(_) => 0,
                other => panic!("{other:?}"),
            });
        }
        all
    }

    #[test]
    fn a_slow_reader_loses_the_oldest_updates_and_gets_the_end_once() {
        let mut ring = UpdateRing::default();
        let mut slow = RingCursor::default();
        ring.push(step(1));
        assert_eq!(read(&ring, &mut slow), [1]);
        for index in 2..=1000 {
            ring.push(preview(index));
            ring.push(step(index));
        }
        assert!(ring.updates.len() <= UPDATES_MAX + PREVIEWS_MAX);
        assert_eq!(ring.preview().map(|preview| preview.step), Some(1000));
        let seen = read(&ring, &mut slow);
        let previews = seen.iter().filter(|number| **number < 0).count();
        assert_eq!(previews, PREVIEWS_MAX);
        assert_eq!(seen.last(), Some(&1000));
        ring.end(RingEnd::Finished(Weak::new()));
        assert_eq!(read(&ring, &mut slow), [0]);
        assert!(slow.is_at_end() && read(&ring, &mut slow).is_empty());
        let late = read(&ring, &mut RingCursor::default());
        assert!(
            late.iter().all(|number| *number >= 0),
            "no pixels after the end"
        );
        assert_eq!(late.last(), Some(&0));
    }

    #[test]
    fn a_late_reader_gets_the_newest_wait_only_and_the_acceptance_after_the_fetch() {
        let mut ring = UpdateRing::default();
        let fetching = |here_bytes| {
            TrackedUpdate::Fetching(Fetching {
                model: ipc_protocol::ids::ModelKey::new("m").expect("a plain key"),
                here_bytes,
                all_bytes: 9,
            })
        };
        let loading = |permille| TrackedUpdate::Progress(Progress::Loading { permille });
        let mut early = RingCursor::default();
        ring.push(fetching(1));
        assert!(matches!(
            ring.read(&mut early),
            Some(TrackedUpdate::Fetching(_))
        ));
        assert!(ring.read(&mut early).is_none());
        ring.push(fetching(9));
        ring.accept(Arc::new(accepted(1, 1)));
        ring.push(loading(1));
        ring.push(loading(700));
        for mut cursor in [early, RingCursor::default()] {
            let mut all = std::iter::from_fn(|| ring.read(&mut cursor));
            assert!(
                matches!(all.next(), Some(TrackedUpdate::Fetching(far)) if far.here_bytes == 9)
            );
            assert!(matches!(all.next(), Some(TrackedUpdate::Accepted(_))));
            let newest = all.next();
            assert!(matches!(
                newest,
                Some(TrackedUpdate::Progress(Progress::Loading { permille: 700 }))
            ));
            assert!(all.next().is_none());
        }
    }
}
