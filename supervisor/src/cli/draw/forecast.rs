//! Estimates the step rate and the remaining time of a request from its finished steps.

use std::collections::BTreeMap;
use std::time::Duration;

use ipc_protocol::ids::JobId;
use ipc_protocol::messages::client::Accepted;

/// The progress of a request, and the estimates from it.
#[derive(Debug, Default)]
pub struct Forecast {
    pictures: u32,
    /// Steps of each picture.
    steps: u32,
    /// Mean duration of a step.
    step: Option<Duration>,
    /// Mean time from the last step to the picture.
    decode: Option<Duration>,
    /// The jobs that a worker is running.
    running: BTreeMap<JobId, StartedJob>,
    answered: u32,
}

/// A job that a worker is running.
#[derive(Debug, Clone, Copy)]
struct StartedJob {
    step: u32,
    /// Time from the start of the attempt to the end of that step.
    elapsed: Duration,
}

impl Forecast {
    /// The forecast of an accepted request before its first step.
    pub fn of(accepted: &Accepted) -> Self {
        Self {
            pictures: accepted.count,
            steps: accepted.steps,
            decode: accepted.decode_ms.map(Duration::from_millis),
            ..Self::default()
        }
    }

    /// Records that a job finished step number `step`, `elapsed` after its attempt began.
    pub fn stepped(&mut self, job: JobId, step: u32, elapsed: Duration) {
        let now = StartedJob { step, elapsed };
        match self.running.insert(job, now) {
            Some(before) if before.step < step && before.elapsed < elapsed => {
                let took = (elapsed - before.elapsed) / (step - before.step);
                self.step = Some(mixed(self.step, took));
            }
            // The first step includes the encoding of the prompt; the others do not.
            Some(_) | None => self.step = self.step.or(Some(elapsed / step.max(1))),
        }
    }

    /// Records the end of a job. `decode` is the time from its last step to the picture; `None` if it failed.
    pub fn answered(&mut self, job: JobId, decode: Option<Duration>) {
        self.running.remove(&job);
        self.answered += 1;
        if let Some(decode) = decode {
            self.decode = Some(mixed(self.decode, decode));
        }
    }

    /// The number of steps of all pictures.
    pub fn all_steps(&self) -> u64 {
        u64::from(self.pictures) * u64::from(self.steps)
    }

    /// The number of finished steps of all pictures.
    pub fn finished_steps(&self) -> u64 {
        let running = self.running.values();
        let running: u64 = running.map(|job| u64::from(job.step.min(self.steps))).sum();
        u64::from(self.answered) * u64::from(self.steps) + running
    }

    /// Whether all running jobs have finished their last step.
    pub fn is_decoding(&self) -> bool {
        let mut running = self.running.values();
        !self.running.is_empty() && running.all(|job| job.step >= self.steps)
    }

    /// The remaining time of the request, with decoding if its duration is known.
    pub fn rest(&self) -> Option<Duration> {
        let steps = self.all_steps().saturating_sub(self.finished_steps());
        let steps = u32::try_from(steps).unwrap_or(u32::MAX);
        let pictures = self.pictures.saturating_sub(self.answered);
        let decoding = self.decode.unwrap_or_default().saturating_mul(pictures);
        let rest = self.step?.saturating_mul(steps) + decoding;
        Some(rest / self.side_by_side())
    }

    /// Whether the duration of decoding is unknown.
    pub fn lacks_decoding(&self) -> bool {
        self.decode.is_none()
    }

    /// Steps per second or seconds per step, whichever is above 1.
    pub fn rate(&self) -> String {
        let Some(step) = self.step.filter(|step| !step.is_zero()) else {
            return String::new();
        };
        let seconds = step.as_secs_f64() / f64::from(self.side_by_side());
        match 1.0 / seconds {
            rate if rate >= 100.0 => format!("{rate:.0} steps/s"),
            rate if rate >= 1.0 => format!("{rate:.1} steps/s"),
            _ => format!("{seconds:.1} s/step"),
        }
    }

    fn side_by_side(&self) -> u32 {
        u32::try_from(self.running.len()).unwrap_or(1).max(1)
    }
}

/// Formats a duration: `1.2 s`, `42 s`, `3 min 5 s`, `1 h 4 min`.
pub fn spoken(time: Duration) -> String {
    let seconds = time.as_secs();
    match seconds {
        0..10 => format!("{:.1} s", time.as_secs_f64()),
        10..60 => format!("{seconds} s"),
        60..3600 => format!("{} min {} s", seconds / 60, seconds % 60),
        _ => format!("{} h {} min", seconds / 3600, seconds / 60 % 60),
    }
}

/// Exponential moving average: the newest value has the weight 1/4.
fn mixed(before: Option<Duration>, new: Duration) -> Duration {
    before.map_or(new, |before| (before * 3 + new) / 4)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: fn(u64) -> Duration = Duration::from_millis;

    fn forecast(pictures: u32, steps: u32, decode: Option<Duration>) -> Forecast {
        Forecast {
            pictures,
            steps,
            decode,
            ..Forecast::default()
        }
    }

    #[test]
    fn the_rest_is_steps_and_decoding_of_every_picture() {
        let mut one = forecast(2, 4, Some(MS(500)));
        assert_eq!(one.rest(), None);
        one.stepped(JobId(1), 1, MS(300));
        one.stepped(JobId(1), 2, MS(500));
        // The first step counts with its encoding until a second one is finished.
        assert_eq!(one.step, Some(MS(275)));
        assert_eq!(one.rest(), Some(MS(275) * 6 + MS(500) * 2));
        one.stepped(JobId(1), 4, MS(900));
        assert!(one.is_decoding());
        one.answered(JobId(1), Some(MS(100)));
        assert!(!one.is_decoding());
        assert_eq!(one.finished_steps(), 4);
        assert_eq!(one.decode, Some(MS(400)));
    }

    #[test]
    fn two_workers_halve_the_rest_and_double_the_rate() {
        let mut two = forecast(2, 10, Some(MS(0)));
        two.stepped(JobId(1), 1, MS(500));
        two.stepped(JobId(2), 1, MS(500));
        assert_eq!(two.rate(), "4.0 steps/s");
        assert_eq!(two.rest(), Some(MS(500) * 18 / 2));
        assert_eq!(two.finished_steps(), 2);
    }

    #[test]
    fn a_new_attempt_does_not_count_as_a_step() {
        let mut again = forecast(1, 10, None);
        again.stepped(JobId(1), 8, MS(800));
        again.stepped(JobId(1), 6, MS(100));
        assert_eq!((again.finished_steps(), again.step), (6, Some(MS(100))));
        assert!(again.lacks_decoding());
    }

    #[test]
    fn rates_and_times_have_readable_units() {
        let rate = |step| {
            let mut forecast = forecast(1, 10, None);
            forecast.stepped(JobId(1), 1, step);
            forecast.rate()
        };
        assert_eq!(rate(MS(182)), "5.5 steps/s");
        assert_eq!(rate(MS(1800)), "1.8 s/step");
        assert_eq!(rate(MS(2)), "500 steps/s");
        assert_eq!(rate(MS(0)), "");
        let times = [MS(1240), MS(42_900), MS(185_000), MS(3_840_000)];
        let spoken = times.map(spoken);
        assert_eq!(spoken, ["1.2 s", "42 s", "3 min 5 s", "1 h 4 min"]);
    }
}
