//! The moments of one job, and the spans that they become.
//!
//! ```text
//!  (the caller's span, if it sent one)
//!  └─ job                    accepted ▸ answered
//!     ├─ queue               until it starts, and again after a lost attempt
//!     ├─ load                the end of the first wait, in which its model was loading
//!     └─ attempt             one for each placement: worker, outcome
//!        ├─ encode           as the worker measured it
//!        ├─ denoise          with an event for each step
//!        └─ decode           as the worker measured it
//! ```
//!
//! An attempt that was lost has no phases; its steps are events of the attempt itself.

use std::time::Duration;

use ipc_protocol::failure::Failure;
use ipc_protocol::ids::{Device, WorkerName};
use pool::{Moment, PictureFacts};

use super::super::jobs::{JobFields, StartedAttempt};
use super::context::{SpanId, TraceId, TraceParent};
use super::span::{Attribute, Span, SpanEvent, SpanTimes};

/// Most steps of one attempt that become events; a collector refuses larger spans.
const STEPS_MAX: usize = 1000;

/// The moments of one job.
#[derive(Debug)]
pub struct JobTrace {
    trace: TraceId,
    parent: Option<SpanId>,
    accepted: Moment,
    attempts: Vec<AttemptMoments>,
}

/// The moments of one attempt.
#[derive(Debug)]
struct AttemptMoments {
    worker: WorkerName,
    attempt: u32,
    device: Device,
    resume_step: u32,
    began: Moment,
    steps: Vec<(u32, Moment)>,
    ended: Option<(Moment, AttemptEnd)>,
}

/// How an attempt ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AttemptEnd {
    /// With a picture.
    Finished,
    /// The worker gave the job up.
    GivenUp,
    /// The worker died.
    Lost,
    /// The job ended before: it was cancelled, or took too long.
    Abandoned,
}

impl AttemptEnd {
    fn word(self) -> &'static str {
        match self {
            Self::Finished => "finished",
            Self::GivenUp => "given_up",
            Self::Lost => "worker_lost",
            Self::Abandoned => "abandoned",
        }
    }
}

/// How a job ended.
#[derive(Debug)]
pub enum TracedEnd<'a> {
    /// With a picture, whose prompt took `encode`.
    Picture {
        facts: &'a PictureFacts,
        encode: Duration,
    },
    Failure(&'a Failure),
}

impl JobTrace {
    /// Begins with the acceptance of a job. `None` if its caller records no trace, or no ids can be had.
    pub fn begin(parent: Option<TraceParent>, accepted: Moment) -> Option<Self> {
        let (trace, parent) = match parent {
            Some(parent) if !parent.sampled => return None,
            Some(parent) => (parent.trace, Some(parent.span)),
            None => (TraceId::random()?, None),
        };
        Some(Self {
            trace,
            parent,
            accepted,
            attempts: Vec::new(),
        })
    }

    /// A worker got the job.
    pub fn started(
        &mut self,
        started: &StartedAttempt,
        device: Device,
        resume_step: u32,
        now: Moment,
    ) {
        self.attempts.push(AttemptMoments {
            worker: started.worker.clone(),
            attempt: started.attempt,
            device,
            resume_step,
            began: now,
            steps: Vec::new(),
            ended: None,
        });
    }

    /// A step is finished.
    pub fn stepped(&mut self, step: u32, now: Moment) {
        if let Some(attempt) = self.attempts.last_mut()
            && attempt.steps.len() < STEPS_MAX
        {
            attempt.steps.push((step, now));
        }
    }

    /// The present attempt ended.
    pub fn attempt_ended(&mut self, end: AttemptEnd, now: Moment) {
        if let Some(attempt) = self.attempts.last_mut() {
            attempt.ended.get_or_insert((now, end));
        }
    }

    /// Turns everything into spans when the job is answered. `wall_ns` converts moments to nanoseconds since 1970.
    pub fn spans(
        mut self,
        fields: &JobFields,
        end: &TracedEnd<'_>,
        now: Moment,
        wall_ns: impl Fn(Moment) -> u64,
    ) -> Vec<Span> {
        self.attempt_ended(AttemptEnd::Abandoned, now);
        let Some(id) = SpanId::random() else {
            return Vec::new();
        };
        let writer = SpanWriter {
            trace: self.trace,
            wall_ns,
        };
        let mut spans = Vec::new();
        let root = writer.span(self.parent, "job", (self.accepted, now));
        spans.extend(root.map(|root| Span {
            id,
            attributes: attributes_of(fields, end),
            error: match end {
                TracedEnd::Picture { .. } => None,
                TracedEnd::Failure(failure) => Some(failure.message.clone()),
            },
            ..root
        }));
        let load = match end {
            TracedEnd::Picture { facts, .. } => facts.load,
            TracedEnd::Failure(_) => Duration::ZERO,
        };
        spans.extend(self.waits(&writer, id, load, now));
        for attempt in &self.attempts {
            let phases = match end {
                TracedEnd::Picture { facts, encode } => Some((*facts, *encode)),
                TracedEnd::Failure(_) => None,
            };
            spans.extend(attempt.spans(&writer, id, phases, now));
        }
        spans
    }

    /// The waits before each attempt, and after the last one if the job ended while it waited.
    fn waits<F: Fn(Moment) -> u64>(
        &self,
        writer: &SpanWriter<F>,
        id: SpanId,
        load: Duration,
        now: Moment,
    ) -> Vec<Span> {
        let mut spans = Vec::new();
        let mut since = self.accepted;
        for (nth, attempt) in self.attempts.iter().enumerate() {
            let loading = match nth {
                0 => back(attempt.began, load).max(since),
                _ => attempt.began,
            };
            spans.extend(writer.span(Some(id), "queue", (since, loading)));
            if loading < attempt.began {
                spans.extend(writer.span(Some(id), "load", (loading, attempt.began)));
            }
            since = attempt.ended.map_or(now, |(ended, _)| ended);
        }
        if self.attempts.is_empty() || self.was_waiting() {
            spans.extend(writer.span(Some(id), "queue", (since, now)));
        }
        spans
    }

    /// The job's last attempt was lost, and no other began.
    fn was_waiting(&self) -> bool {
        let last = self.attempts.last().and_then(|attempt| attempt.ended);
        last.is_some_and(|(_, end)| end == AttemptEnd::Lost)
    }
}

impl AttemptMoments {
    fn spans<F: Fn(Moment) -> u64>(
        &self,
        writer: &SpanWriter<F>,
        job: SpanId,
        phases: Option<(&PictureFacts, Duration)>,
        now: Moment,
    ) -> Vec<Span> {
        let (ended, end) = self.ended.unwrap_or((now, AttemptEnd::Abandoned));
        let Some(attempt) = writer.span(Some(job), "attempt", (self.began, ended)) else {
            return Vec::new();
        };
        let id = attempt.id;
        let events = self.steps.iter().map(|(step, at)| SpanEvent {
            name: "step",
            at_ns: (writer.wall_ns)(*at),
            attributes: vec![Attribute::number("imagepool.step", *step)],
        });
        let mut events: Vec<SpanEvent> = events.collect();
        let mut spans = Vec::new();
        if let (AttemptEnd::Finished, Some((facts, encode))) = (end, phases) {
            let decoding = back(ended, facts.decode).max(self.began);
            let denoising = back(decoding, facts.denoise).max(self.began);
            let encoded = (self.began + encode).min(denoising);
            spans.extend(writer.span(Some(id), "encode", (self.began, encoded)));
            let denoise = writer.span(Some(id), "denoise", (denoising, decoding));
            spans.extend(denoise.map(|denoise| Span {
                events: std::mem::take(&mut events),
                ..denoise
            }));
            spans.extend(writer.span(Some(id), "decode", (decoding, ended)));
        }
        let attempt = Span {
            attributes: vec![
                Attribute::text("imagepool.worker", &self.worker),
                Attribute::number("imagepool.attempt", self.attempt),
                Attribute::text("imagepool.device", self.device.placement()),
                Attribute::number("imagepool.resume_step", self.resume_step),
                Attribute::text("imagepool.outcome", end.word()),
            ],
            events,
            error: (end != AttemptEnd::Finished).then(|| end.word().to_owned()),
            ..attempt
        };
        spans.insert(0, attempt);
        spans
    }
}

/// Makes the spans of one trace.
struct SpanWriter<F> {
    trace: TraceId,
    wall_ns: F,
}

impl<F: Fn(Moment) -> u64> SpanWriter<F> {
    /// A span without facts; `None` if no id can be had.
    fn span(
        &self,
        parent: Option<SpanId>,
        name: &'static str,
        (begin, end): (Moment, Moment),
    ) -> Option<Span> {
        Some(Span {
            trace: self.trace,
            id: SpanId::random()?,
            parent,
            name,
            times: SpanTimes {
                begin_ns: (self.wall_ns)(begin),
                end_ns: (self.wall_ns)(end),
            },
            attributes: Vec::new(),
            events: Vec::new(),
            error: None,
        })
    }
}

/// The moment `earlier` before another, not before the daemon's start.
fn back(moment: Moment, earlier: Duration) -> Moment {
    let micros = u64::try_from(earlier.as_micros()).unwrap_or(u64::MAX);
    Moment(moment.0.saturating_sub(micros))
}

fn attributes_of(fields: &JobFields, end: &TracedEnd<'_>) -> Vec<Attribute> {
    let (outcome, attempts) = match end {
        TracedEnd::Picture { facts, .. } => ("finished", Some(facts.attempts)),
        TracedEnd::Failure(failure) => (failure.kind.word(), None),
    };
    let mut attributes = vec![
        Attribute::number("imagepool.job", fields.job.0),
        Attribute::text("imagepool.model", &fields.model),
        Attribute::text("imagepool.size", fields.size),
        Attribute::number("imagepool.steps", fields.steps),
        // A seed may be larger than the numbers of OTLP.
        Attribute::text("imagepool.seed", fields.seed),
        Attribute::text("imagepool.outcome", outcome),
    ];
    attributes.extend(attempts.map(|count| Attribute::number("imagepool.attempts", count)));
    attributes
}

#[cfg(test)]
mod tests {
    use ipc_protocol::failure::FailureKind;
    use ipc_protocol::ids::{JobId, ModelKey};
    use ipc_protocol::units::PictureSize;

    use super::*;

    const SIZE: PictureSize = PictureSize {
        width: 64,
        height: 64,
    };

    fn at(seconds: u64) -> Moment {
        Moment(seconds * 1_000_000)
    }

    fn name(slot: u32) -> WorkerName {
        let model = ModelKey::new("syn").expect("a key");
        WorkerName { model, slot }
    }

    fn fields() -> JobFields {
        JobFields {
            job: JobId(7),
            user: "uid:1".into(),
            model: ModelKey::new("syn").expect("a key"),
            size: SIZE,
            steps: 4,
            seed: 1,
        }
    }

    fn started(slot: u32) -> StartedAttempt {
        StartedAttempt {
            worker: name(slot),
            attempt: slot + 1,
        }
    }

    fn facts() -> PictureFacts {
        PictureFacts {
            worker: name(1),
            attempts: 2,
            resume_step: 2,
            queue: Duration::from_secs(1),
            load: Duration::from_secs(3),
            denoise: Duration::from_secs(4),
            decode: Duration::from_secs(1),
            seed: 1,
            size: SIZE,
            steps: 4,
        }
    }

    /// Name, begin and end in seconds, and the name of the parent.
    fn tree(spans: &[Span]) -> Vec<(&str, u64, u64, &str)> {
        let line = |span: &Span| {
            let mut others = spans.iter();
            let parent = others.find(|other| Some(other.id) == span.parent);
            let seconds = |ns: u64| ns / 1_000_000_000;
            let (begin, end) = (span.times.begin_ns, span.times.end_ns);
            let parent = parent.map_or("", |parent| parent.name);
            (span.name, seconds(begin), seconds(end), parent)
        };
        spans.iter().map(line).collect()
    }

    fn spans(trace: JobTrace, end: &TracedEnd<'_>, now: Moment) -> Vec<Span> {
        trace.spans(&fields(), end, now, |moment| moment.0 * 1000)
    }

    #[test]
    fn a_resumed_job_has_a_span_for_each_wait_attempt_and_phase() {
        let mut trace = JobTrace::begin(None, at(0)).expect("random ids");
        trace.started(&started(0), Device::Host, 0, at(4));
        trace.stepped(1, at(6));
        trace.stepped(2, at(8));
        trace.attempt_ended(AttemptEnd::Lost, at(9));
        trace.started(&started(1), Device::Host, 2, at(10));
        trace.stepped(3, at(13));
        trace.stepped(4, at(15));
        trace.attempt_ended(AttemptEnd::Finished, at(16));
        let facts = facts();
        let end = TracedEnd::Picture {
            facts: &facts,
            encode: Duration::from_secs(1),
        };
        let spans = spans(trace, &end, at(16));
        let expected = [
            ("job", 0, 16, ""),
            ("queue", 0, 1, "job"),
            ("load", 1, 4, "job"),
            ("queue", 9, 10, "job"),
            ("attempt", 4, 9, "job"),
            ("attempt", 10, 16, "job"),
            ("encode", 10, 11, "attempt"),
            ("denoise", 11, 15, "attempt"),
            ("decode", 15, 16, "attempt"),
        ];
        assert_eq!(tree(&spans), expected);
        let steps: Vec<usize> = spans.iter().map(|span| span.events.len()).collect();
        assert_eq!(steps, [0, 0, 0, 0, 2, 0, 0, 2, 0]);
        assert!(spans[4].error.is_some() && spans[5].error.is_none());
        assert!(spans.iter().all(|span| span.trace == spans[0].trace));
    }

    #[test]
    fn a_job_that_ends_in_the_queue_has_that_wait_and_its_error() {
        let parent = TraceParent::read("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01");
        let parent = parent.expect("a header");
        let trace = JobTrace::begin(Some(parent), at(1)).expect("it is recorded");
        let failure = Failure::new(FailureKind::Cancelled, "cancelled by uid:1");
        let spans = spans(trace, &TracedEnd::Failure(&failure), at(3));
        assert_eq!(tree(&spans), [("job", 1, 3, ""), ("queue", 1, 3, "job")]);
        assert_eq!(
            (spans[0].trace, spans[0].parent),
            (parent.trace, Some(parent.span))
        );
        assert_eq!(spans[0].error.as_deref(), Some("cancelled by uid:1"));
    }

    #[test]
    fn a_caller_that_records_nothing_gets_no_spans() {
        let header = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00";
        assert!(JobTrace::begin(TraceParent::read(header), at(0)).is_none());
    }
}
