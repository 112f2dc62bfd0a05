//! How long a worker may go without progress, from measurements of its model.

use std::time::Duration;

use ipc_protocol::ids::Device;

use crate::observed::{DurationRange, ObservedPool, ProcessRecord, ProcessState, span};

/// This many usual steps without a finished one are a hang.
const STEPS_OF_PATIENCE: u32 = 10;

/// Of one worker, as a bound from below or from above.
#[derive(Debug, Clone, Copy)]
pub(super) struct ProgressBounds {
    /// It does not want the processor.
    pub(super) still: Duration,
    /// It has the processor.
    pub(super) busy: Duration,
    /// While it counts work.
    pub(super) believed: Duration,
    /// The same if it wanted more than it got.
    pub(super) longest: Duration,
}

/// The kernel's figures of a worker since its last sign of work.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct CpuEvidence {
    /// It had the processor for so long.
    pub(super) had: Duration,
    /// At the last look it had not wanted it, and so for so long without a sign of work.
    pub(super) still: Option<Duration>,
    /// At the last look it wanted more than it got.
    pub(super) wants: bool,
    /// The last look could be compared with another, or will never come.
    pub(super) judged: bool,
}

/// Returns the time before which no worker counts as hung.
pub(super) fn shortest(observed: &ObservedPool, process: &ProcessRecord) -> ProgressBounds {
    let slack = Duration::from_millis(50);
    limits(observed, process, |range| range.least, slack)
}

/// Returns the time after which every worker counts as hung.
pub(super) fn longest(observed: &ObservedPool, process: &ProcessRecord) -> ProgressBounds {
    limits(observed, process, |range| range.most, Duration::ZERO)
}

fn limits(
    observed: &ObservedPool,
    process: &ProcessRecord,
    of: fn(DurationRange) -> Duration,
    slack: Duration,
) -> ProgressBounds {
    let patience = &observed.settings.patience;
    let model = &observed.models[&process.name.model];
    let record = process.job().and_then(|job| observed.jobs.get(&job));
    let pace = &model.pace;
    let believed = |size| (patience.believed + Duration::from_secs(size)).min(patience.longest);
    let need = &model.spec.need;
    let (host, size) = match process.device {
        Device::Host => (true, need.on_cpu.map_or(0, |part| part.0)),
        Device::Cuda(_) => (
            false,
            need.on_cuda.map_or(0, |part| part.host.0 + part.device.0),
        ),
    };
    if process.state == ProcessState::Starting {
        return ProgressBounds {
            still: patience.still,
            busy: patience.busy_hello,
            believed: patience.hello,
            longest: patience.hello,
        };
    }
    let Some(record) = record.filter(|_| !process.was_loading) else {
        let usual = pace.load.map(|load| (of(load) * 2).max(patience.step));
        let busy = (patience.cold + Duration::from_millis(50 * size)).min(patience.load);
        let still = if host {
            patience.still
        } else {
            patience.still_load
        };
        return ProgressBounds {
            still,
            busy: usual.map_or(busy, |usual| busy.min(usual)).max(still),
            believed: believed(size),
            longest: patience.longest,
        };
    };
    let steps = match slack.is_zero() {
        true => pace.most_step(record.parameters.size.pixels()),
        false => pace.least_step(record.parameters.size.pixels()),
    };
    let usual = match (
        steps,
        record.step >= record.parameters.steps,
        record.step == record.resume_step,
    ) {
        (None, _, _) => None,
        (Some(_), true, _) => pace.decode.map(of),
        (Some(step), false, true) => pace.encode.map(|encode| of(encode) + step),
        (Some(step), false, false) => Some(step),
    };
    if let Some(usual) = usual {
        let most = (usual * STEPS_OF_PATIENCE).saturating_sub(slack);
        let most = most.max(patience.step);
        let longest = (usual * 10 * STEPS_OF_PATIENCE).saturating_sub(10 * slack);
        return ProgressBounds {
            still: most,
            busy: most,
            believed: longest.max(patience.believed_known),
            longest: longest.max(patience.longest_known),
        };
    }
    let usual = model.spec.default_size.pixels();
    let size = size * record.parameters.size.pixels().div_ceil(usual);
    let busy = patience.cold + Duration::from_millis(50 * size);
    let busy = busy.min(patience.first_step);
    ProgressBounds {
        still: if host {
            patience.still
        } else {
            patience.first_step
        },
        busy: if host { busy } else { patience.first_step },
        believed: believed(size),
        longest: patience.longest,
    }
}

/// Returns the time after which every worker ignores a cancel: ten times the slowest step that may be of its cancelled
/// job, whose size is no longer known.
pub(super) fn longest_unwinding(observed: &ObservedPool, process: &ProcessRecord) -> Duration {
    let pace = &observed.models[&process.name.model].pace;
    let step = pace.most_step(observed.settings.max_pixels);
    let first = pace.encode.unwrap_or_default().most + step.unwrap_or_default();
    let last = pace.decode.unwrap_or_default().most;
    (first.max(last) * STEPS_OF_PATIENCE).max(observed.settings.patience.first_step)
}

/// Returns the evidence of the samples, in order.
pub(super) fn evidence(process: &ProcessRecord) -> CpuEvidence {
    let mut evidence = CpuEvidence::default();
    let (mut counted, mut before) = (process.worked, None);
    for &(at, cpu) in &process.samples {
        (evidence.still, evidence.judged) = (None, true);
        let Some(cpu) = cpu else {
            if at >= process.worked {
                evidence.had += span(at, counted);
                counted = at;
            }
            before = None;
            continue;
        };
        let Some((since, old)) = before.replace((at, cpu)) else {
            evidence.judged = false;
            continue;
        };
        let (ran, waited) = (cpu.ran - old.ran, cpu.waited - old.waited);
        let wanted = (ran + waited).as_secs_f64();
        let idle = wanted < span(at, since).as_secs_f64() * 0.05;
        if at < process.worked {
            // It shows what it got, and nothing about the time since.
            evidence.judged = false;
            if cpu.blocked || !idle {
                evidence.wants = cpu.blocked || waited > ran;
            }
        } else if cpu.blocked {
            (counted, evidence.wants, evidence.judged) = (at, true, false);
        } else if idle {
            evidence.still = Some(span(at, process.worked));
        } else {
            evidence.had += span(at, counted).mul_f64(ran.as_secs_f64() / wanted);
            (counted, evidence.wants) = (at, waited > ran);
        }
    }
    evidence
}

/// Nothing was asked of the kernel although it is time to.
pub(super) fn is_unasked(
    process: &ProcessRecord,
    limits: &ProgressBounds,
    now: pool::Moment,
) -> bool {
    let last = process
        .samples
        .last()
        .map_or(process.watched, |(at, _)| *at);
    let half = (limits.still / 2).max(Duration::from_secs(1));
    process.asked.is_none() && last + half + Duration::from_millis(1) < now
}
