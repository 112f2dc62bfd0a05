//! Estimates of a job's end: from its own steps, or from finished jobs of its model.

use std::time::Duration;

use ipc_protocol::units::PictureSize;
use pool::{Moment, PictureFacts};

/// How fast a model has drawn, scaled to a pixel.
#[derive(Debug, Clone, Copy)]
pub(super) struct ModelPace {
    /// Seconds of a step.
    step: f64,
    /// Seconds from the last step to the picture.
    decode: f64,
}

impl ModelPace {
    /// The pace of a finished job, mixed with that of earlier ones.
    pub fn mixed(earlier: Option<Self>, facts: &PictureFacts) -> Self {
        let pixels = facts.size.pixels().max(1) as f64;
        let steps = facts.steps.saturating_sub(facts.resume_step).max(1);
        let now = Self {
            step: facts.denoise.as_secs_f64() / f64::from(steps) / pixels,
            decode: facts.decode.as_secs_f64() / pixels,
        };
        let mean = |a: f64, b: f64| (a + b) / 2.0;
        earlier.map_or(now, |earlier| Self {
            step: mean(earlier.step, now.step),
            decode: mean(earlier.decode, now.decode),
        })
    }

    /// Time of a whole picture.
    pub fn picture(self, size: PictureSize, steps: u32) -> Duration {
        let seconds = self.step * f64::from(steps) + self.decode;
        Duration::from_secs_f64(seconds * size.pixels() as f64)
    }
}

/// The finished steps of an attempt.
#[derive(Debug, Clone, Copy)]
pub(super) struct StepPace {
    /// The finished step that the attempt resumed after.
    resume_step: u32,
    first: (u32, Duration),
    last: (u32, Duration),
    /// When the last step was finished.
    at: Moment,
}

impl StepPace {
    /// The pace after the first reported step of an attempt, `elapsed` after its beginning.
    pub fn begin(resume_step: u32, step: u32, elapsed: Duration, now: Moment) -> Self {
        let first = (step, elapsed);
        Self {
            resume_step,
            first,
            last: first,
            at: now,
        }
    }

    /// Takes a further step.
    pub fn step(&mut self, step: u32, elapsed: Duration, now: Moment) {
        self.last = (step, elapsed);
        self.at = now;
    }

    /// Time until `steps` are finished and decoded. The first step contains the encoding of the prompt, so it is
    /// used only while it is the only one.
    pub fn rest(&self, steps: u32, decode: Duration, now: Moment) -> Duration {
        let ((first, earlier), (last, later)) = (self.first, self.last);
        let one = match last.checked_sub(first) {
            Some(count) if count > 0 => later.saturating_sub(earlier) / count,
            Some(_) | None => later / last.saturating_sub(self.resume_step).max(1),
        };
        let rest = one.saturating_mul(steps.saturating_sub(last)) + decode;
        rest.saturating_sub(now.since(self.at))
    }
}

/// Time until a waiting job ends: a picture's time for each job before it, shared by `workers`, and for itself.
/// Of the running ones, half a picture is left on average.
pub(super) fn of_waiting(position: u32, workers: usize, picture: Duration) -> Duration {
    let turns = (f64::from(position) - 0.5).max(0.0) / workers.max(1) as f64;
    picture + picture.mul_f64(turns)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_running_job_is_estimated_from_its_steps_after_the_first() {
        let now = Moment::START + 4 * SECOND;
        let mut pace = StepPace::begin(0, 1, 4 * SECOND, now);
        assert_eq!(pace.rest(4, SECOND, now), 13 * SECOND);
        let later = now + SECOND;
        pace.step(2, 5 * SECOND, later);
        assert_eq!(pace.rest(4, SECOND, later), 3 * SECOND);
        assert_eq!(pace.rest(4, SECOND, later + SECOND), 2 * SECOND);
        assert_eq!(pace.rest(4, SECOND, later + 9 * SECOND), Duration::ZERO);
        let resumed = StepPace::begin(7, 8, 2 * SECOND, now);
        assert_eq!(resumed.rest(10, Duration::ZERO, now), 4 * SECOND);
    }

    #[test]
    fn a_waiting_job_is_estimated_from_its_position() {
        assert_eq!(of_waiting(1, 1, 2 * SECOND), 3 * SECOND);
        assert_eq!(of_waiting(2, 1, 2 * SECOND), 5 * SECOND);
        assert_eq!(of_waiting(3, 5, 2 * SECOND), 3 * SECOND);
        assert_eq!(of_waiting(0, 0, 2 * SECOND), 2 * SECOND);
    }
}
