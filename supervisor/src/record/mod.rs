//! The record: the pool's events as JSON lines, written by a daemon and replayed by the simulator.
//!
//! - [`mod@write`] turns an event into a line; [`read`] turns a line into an event
//! - `earlier` does both for the memory of an earlier daemon; `fields` and `values` are their tools
//! - [`beginning`] is the first line: the initial state of the pool, from which a replay starts
//! - [`recorder`] writes the file
//!
//! `t_ms` is the time since the daemon started, in milliseconds with three decimals, so that the microseconds of
//! a moment are kept.

pub mod beginning;
mod earlier;
mod fields;
mod model;
pub mod read;
pub mod recorder;
mod values;
pub mod write;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use ipc_protocol::failure::{Failure, FailureKind, Field};
    use ipc_protocol::ids::{Device, DeviceConstraint, Generation, JobId, ModelKey, WorkerName};
    use ipc_protocol::request::{ImageRequest, Priority};
    use ipc_protocol::units::{Mebibytes, PictureSize};
    use pool::{
        CpuTime, Drain, Event, Exit, Footprint, JobFault, JobPast, KilledBy, MeasuredNeed, Moment,
        PastLoss, Phases, QuarantinedRequest, RestoredJob, StartFault, Target, Ticket,
    };

    use super::{read, write};

    fn request() -> ImageRequest {
        ImageRequest {
            model: Some("m".into()),
            size: Some(PictureSize {
                width: 64,
                height: 96,
            }),
            steps: Some(3),
            guidance: Some(0.5),
            negative: Some("n".into()),
            seed: Some(u64::MAX),
            count: 2,
            device: DeviceConstraint::On(Device::Cuda(1)),
            priority: Priority::Low,
            timeout_ms: Some(5),
            user: Some("u".into()),
            detached: true,
            previews: true,
            ..ImageRequest::new("a \"quoted\" prompt")
        }
    }

    fn key() -> ModelKey {
        ModelKey::new("m").expect("a key")
    }

    fn of_workers() -> Vec<Event> {
        let (worker, job) = (Generation(7), JobId(9));
        let text = || "why".to_owned();
        let footprint = Footprint {
            host: Mebibytes(3),
            device: Mebibytes(4),
        };
        let failed = |fault| Event::JobFailed { worker, job, fault };
        let exited = |exit, resume_step| Event::WorkerExited {
            worker,
            exit,
            resume_step,
        };
        let signal = |by| Exit::Signal { signal: 9, by };
        vec![
            Event::WorkerStarted { worker, pid: 1 },
            Event::WorkerStartFailed {
                worker,
                message: text(),
                fault: StartFault::Own,
            },
            Event::WorkerStartFailed {
                worker,
                message: text(),
                fault: StartFault::Descriptors,
            },
            Event::WorkerStartFailed {
                worker,
                message: text(),
                fault: StartFault::Program,
            },
            Event::CpuMeasured {
                worker,
                cpu: Some(CpuTime {
                    ran: Duration::from_micros(1),
                    waited: Duration::from_secs(2),
                    blocked: true,
                }),
            },
            Event::CpuMeasured { worker, cpu: None },
            Event::WorkerSaidHello { worker },
            Event::ModelsChanged {
                registry: Box::default(),
            },
            Event::LoadProgressed {
                worker,
                permille: 999,
            },
            Event::LoadFailed {
                worker,
                message: text(),
            },
            Event::WorkerReady {
                worker,
                footprint: Some(footprint),
            },
            Event::WorkerReady {
                worker,
                footprint: None,
            },
            Event::WorkerHeard { worker },
            Event::WorkerWorked { worker, work: 4711 },
            Event::StepFinished {
                worker,
                job,
                step: 2,
            },
            Event::JobFinished {
                worker,
                job,
                phases: Phases {
                    encode: Duration::from_micros(1),
                    denoise: Duration::from_millis(2),
                    decode: Duration::ZERO,
                },
            },
            failed(JobFault::BadRequest {
                field: Field::Size,
                message: text(),
            }),
            failed(JobFault::OutOfMemory { message: text() }),
            failed(JobFault::NotFinite { stage: text() }),
            failed(JobFault::Cancelled),
            failed(JobFault::Other { message: text() }),
            Event::WorkerBrokeProtocol {
                worker,
                what: text(),
            },
            exited(Exit::Code(66), None),
            exited(signal(KilledBy::Us), Some(3)),
            exited(signal(KilledBy::Operator), Some(3)),
            exited(signal(KilledBy::KernelOom), Some(3)),
            exited(signal(KilledBy::OwnLimit), Some(3)),
            exited(signal(KilledBy::AllocationFailed), Some(3)),
            exited(signal(KilledBy::CutFile), Some(3)),
            exited(signal(KilledBy::Other), Some(3)),
            Event::MemoryReturned {
                worker,
                left: Mebibytes(3),
            },
            Event::MemoryMeasured {
                device: Device::Cuda(2),
                total: Some(Mebibytes(9)),
                measured: Mebibytes(1),
                foreign: Mebibytes(2),
            },
            Event::MeasurementAged {
                device: Device::Cuda(2),
            },
            Event::TruceAnswered {
                device: Device::Cuda(2),
            },
            Event::DeviceLost {
                device: Device::Cuda(2),
                reason: text(),
            },
            Event::FootprintMeasured { worker, footprint },
        ]
    }

    fn of_people() -> Vec<Event> {
        let ticket = Ticket(5);
        let name = WorkerName {
            model: key(),
            slot: 3,
        };
        vec![
            Event::RequestArrived {
                ticket,
                request: request(),
                user: "uid:0".into(),
                entropy: u64::MAX - 1,
            },
            Event::RequestArrived {
                ticket,
                request: ImageRequest::new("plain"),
                user: "uid:0".into(),
                entropy: 0,
            },
            Event::JobIdsUsed { last: JobId(9) },
            Event::JobRestored {
                ticket,
                job: Box::new(RestoredJob {
                    job: JobId(7),
                    request: request(),
                    user: "uid:0".into(),
                    digest: "d".into(),
                    past: JobPast {
                        attempts: 3,
                        losses: vec![PastLoss {
                            how: "died".into(),
                            step: 2,
                            suspect: true,
                        }],
                        fruitless: 1,
                        out_of_memory: 2,
                        resume_step: 4,
                    },
                }),
            },
            Event::QuarantineRestored {
                request: Box::new(QuarantinedRequest {
                    name: "n".into(),
                    user: "uid:1".into(),
                    digest: "d".into(),
                    prompt: "p".into(),
                    negative: None,
                    size: PictureSize {
                        width: 64,
                        height: 96,
                    },
                    steps: 3,
                    guidance: 0.5,
                    deaths: vec!["died".into()],
                    age: Duration::from_micros(5),
                }),
            },
            Event::NeedRestored {
                need: MeasuredNeed {
                    model: key(),
                    digest: "d".into(),
                    host: Mebibytes(5),
                    device: Mebibytes(6),
                },
            },
            Event::RequestCancelled {
                job: JobId(1),
                by: "x".into(),
            },
            Event::ClientGone { ticket },
            Event::FilesArrived { model: key() },
            Event::FilesFailed {
                model: key(),
                failure: Failure::new(FailureKind::ModelMissing, "not \u{1b} there"),
            },
            Event::StartRequested {
                ticket,
                target: Target::All,
            },
            Event::StopRequested {
                ticket,
                target: Target::Model(key()),
            },
            Event::RestartRequested {
                ticket,
                target: Target::Worker(name),
            },
            Event::PinChanged {
                ticket,
                model: "m".into(),
                pinned: true,
            },
            Event::EvictRequested {
                ticket,
                model: "m".into(),
            },
            Event::YieldRequested {
                ticket,
                lasts: Duration::from_secs(600),
            },
            Event::Scaled {
                ticket,
                model: "m".into(),
                workers: 2,
            },
            Event::DrainRequested {
                ticket: None,
                drain: Drain::ExitNow,
            },
            Event::DrainRequested {
                ticket: Some(ticket),
                drain: Drain::Stay,
            },
            Event::DrainRequested {
                ticket: None,
                drain: Drain::Undo,
            },
            Event::QuarantineListed {
                ticket,
                reader: None,
            },
            Event::QuarantineListed {
                ticket,
                reader: Some("uid:1".into()),
            },
            Event::QuarantineReleased {
                ticket,
                digest: Some("d".into()),
            },
            Event::DeadlineReached,
            Event::LoopStalled {
                lasted: Duration::from_micros(1_500_001),
            },
        ]
    }

    #[test]
    fn every_recorded_event_is_read_back() {
        for (number, event) in of_workers().into_iter().chain(of_people()).enumerate() {
            let moment = Moment(1_234_567 + number as u64);
            let line = write::line(moment, &event).expect("every one of these is recorded");
            let back = read::event(&line).unwrap_or_else(|why| panic!("{why}: {line}"));
            assert_eq!(back, (moment, event), "{line}");
        }
    }

    #[test]
    fn changed_settings_are_read_back_from_the_text_of_their_file() {
        let line = write::settings_line(Moment(5), "[pool]\nidle_seconds = 7");
        let (at, event) = read::event(&line).expect("valid settings");
        let Event::SettingsChanged { settings } = event else {
            panic!("{event:?}");
        };
        assert_eq!((at, settings.idle), (Moment(5), Duration::from_secs(7)));
    }

    #[test]
    fn an_invalid_line_is_an_error() {
        for line in [
            "",
            "{}",
            r#"{"t_ms":1,"event":"nonsense"}"#,
            r#"{"t_ms":1,"event":"worker_heard"}"#,
        ] {
            assert!(read::event(line).is_err(), "{line}");
        }
    }
}
