//! The session with the supervisor, from `Welcome` to the exit.
//!
//! ```text
//!  main thread      Welcome ▸ load ▸ Ready ▸ (Run ▸ job)* ▸ exit     computes
//!  reader thread    passes Run to the main thread, sets the mark on Cancel, exits on Leave and end-of-file
//!  heartbeat        sends Heartbeat every half second, so that a long step does not look like a hang
//! ```

use std::io;
use std::path::Path;
use std::process;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use ipc_protocol::exit_code::ExitCode;
use ipc_protocol::messages::worker::{FromWorker, JobOrder, ModelSource, ToWorker, Welcome};
use ipc_protocol::sandbox::SandboxReached;
use ipc_protocol::segment::Segment;
use ipc_protocol::version::{PROTOCOL, mismatch};
use sandbox::SandboxProfile;

use crate::cancel::CancelMark;
use crate::fault::{WorkerFault, complain, lacks_memory};
use crate::footprint;
use crate::job::JobRunner;
use crate::leash::{self, SupervisorSender};
use crate::panics;
use crate::pipelines::folder::search::folder_of;
use crate::pipelines::{self, ComputeSettings, ModelOrigin, Pipeline, families, precision};
use crate::work;

/// Interval of heartbeats.
const HEARTBEAT: Duration = Duration::from_millis(500);
/// True after the model was loaded.
static IS_LOADED: AtomicBool = AtomicBool::new(false);

/// Serves the supervisor on descriptor 0 until `Leave` or end-of-file. The process has confined itself as far as `reached`
/// says.
pub fn serve(profile: SandboxProfile, reached: SandboxReached) -> ExitCode {
    exit_on_panic();
    let handle = match leash::take_segment_handle() {
        Ok(handle) => handle,
        Err(error) => {
            complain(format_args!(
                "worker: descriptor 1 is not a segment: {error}"
            ));
            return ExitCode::BadConfiguration;
        }
    };
    let ToWorker::Welcome(welcome) = leash::hear() else {
        complain(format_args!("worker: the first message was not `Welcome`"));
        ExitCode::ProtocolMismatch.exit();
    };
    if welcome.protocol != PROTOCOL {
        complain(format_args!("worker: {}", mismatch(welcome.protocol)));
        ExitCode::ProtocolMismatch.exit();
    }
    leash::check_parent(welcome.supervisor_pid);
    let segment = match Segment::from_handle(handle, welcome.geometry) {
        Ok(segment) => segment,
        Err(error) => {
            complain(format_args!("worker: {error}"));
            return ExitCode::BadConfiguration;
        }
    };
    let confined = Confined { profile, reached };
    if let Err(why) = confined.narrow(&welcome) {
        complain(format_args!(
            "worker: {why}; `--no-sandbox` starts workers without a sandbox"
        ));
        return ExitCode::BadConfiguration;
    }
    work(&welcome, segment, confined)
}

/// The confinement of this process.
#[derive(Debug, Clone, Copy)]
struct Confined {
    profile: SandboxProfile,
    reached: SandboxReached,
}

impl Confined {
    /// Makes everything unreadable except the model's files.
    fn narrow(self, welcome: &Welcome) -> Result<(), String> {
        if self.reached == SandboxReached::Off {
            return Ok(());
        }
        // Files in /proc cannot be opened any more.
        footprint::measure();
        work::count();
        sandbox::limit_files(welcome.geometry.total_bytes());
        let folder = match &welcome.source {
            ModelSource::Folder { path, .. } => Some(folder_of(Path::new(path))),
            ModelSource::Embedded { .. } | ModelSource::Synthetic { .. } => None,
        };
        sandbox::narrow(self.profile, folder.as_deref())
    }

    /// Gives up everything that is not needed any more, now that the weights are loaded.
    fn seal(self) {
        if self.reached != SandboxReached::Off {
            sandbox::seal(self.profile);
        }
    }
}

/// Makes any panic that is not caught, on any thread, end the process after its message. One for lack of memory or
/// threads has the exit code of that.
fn exit_on_panic() {
    std::panic::set_hook(Box::new(move |panic| {
        if panics::is_caught() {
            return;
        }
        complain(format_args!("{}", panics::message(panic)));
        let message = panic.payload_as_str().unwrap_or_default();
        code_of_panic(message, IS_LOADED.load(Ordering::Relaxed)).exit();
    }));
}

fn code_of_panic(message: &str, is_loaded: bool) -> ExitCode {
    match (lacks_memory(message), is_loaded) {
        (false, _) => ExitCode::Panicked,
        (true, false) => ExitCode::OutOfMemoryLoading,
        (true, true) => ExitCode::OutOfMemoryRunning,
    }
}

fn work(welcome: &Welcome, segment: Segment, confined: Confined) -> ExitCode {
    let voice = Arc::new(SupervisorSender::default());
    voice.say(&FromWorker::Hello {
        protocol: PROTOCOL,
        pid: process::id(),
        generation: welcome.generation,
        sandbox: confined.reached,
    });
    let cancel = CancelMark::default();
    let threads = listen(cancel.clone()).and_then(|orders| {
        let heartbeat = beat(Arc::clone(&voice))?;
        Ok((orders, heartbeat))
    });
    let (orders, _heartbeat) = match threads {
        Ok(threads) => threads,
        Err(error) => return give_up(&voice, &no_thread(&error)),
    };
    let mut pipeline = match load(welcome, &voice) {
        Ok(pipeline) => pipeline,
        Err(fault) => return give_up(&voice, &fault),
    };
    IS_LOADED.store(true, Ordering::Relaxed);
    confined.seal();
    voice.say(&ready(welcome));
    let runner = JobRunner {
        segment,
        voice: Arc::clone(&voice),
        cancel,
    };
    for order in orders {
        if let Some(fault) = runner.carry_out(&order, pipeline.as_mut()) {
            return give_up(&voice, &fault);
        }
    }
    ExitCode::Left
}

/// Makes the message that the weights are loaded, with their dtype, and the reason if it is not the requested
/// one.
fn ready(welcome: &Welcome) -> FromWorker {
    let choice = precision::chosen(welcome.arithmetic.dtype, welcome.device);
    FromWorker::Ready {
        peak_bytes: footprint::measure().peak_bytes,
        dtype: choice.dtype,
        because: choice.because.map(str::to_owned),
    }
}

/// Sends and prints the fault. Returns its exit code.
fn give_up(voice: &SupervisorSender, fault: &WorkerFault) -> ExitCode {
    let message = fault.sentence();
    complain(format_args!("worker: {message}"));
    voice.say(&FromWorker::GivingUp { message });
    fault.exit_code().unwrap_or(ExitCode::BadConfiguration)
}

/// The fault for a thread that could not be started: memory or the limit of processes is exhausted.
fn no_thread(error: &dyn std::error::Error) -> WorkerFault {
    WorkerFault::OutOfMemoryLoading(format!("cannot start a thread: {error}"))
}

fn load(welcome: &Welcome, voice: &SupervisorSender) -> Result<Box<dyn Pipeline>, WorkerFault> {
    // The thread pool can be configured only once per process.
    rayon::ThreadPoolBuilder::new()
        .num_threads(welcome.threads.max(1) as usize)
        .build_global()
        .map_err(|error| no_thread(&error))?;
    let source = source(&welcome.source)?;
    let mut said = 0;
    let settings = ComputeSettings {
        decoding: welcome.decoding,
        ..ComputeSettings::on(welcome.device, welcome.arithmetic)
    };
    let mut tell = |fraction: f32| {
        let permille = (fraction.clamp(0.0, 1.0) * 1000.0) as u16;
        if permille > said {
            said = permille;
            voice.say(&FromWorker::Loading { permille });
        }
    };
    let (device, known) = (welcome.device, &welcome.stamp);
    pipelines::load_known(&source, known, device, settings, &mut tell)
        .map_err(WorkerFault::while_loading)
}

/// Converts the source of a model from the wire's type to that of the pipelines.
fn source(source: &ModelSource) -> Result<ModelOrigin, WorkerFault> {
    Ok(match source {
        ModelSource::Embedded { key } => {
            let what = "no such model is embedded";
            let model = families::embedded_with_key(key)
                .ok_or_else(|| WorkerFault::configuration(key, "key", what))?;
            ModelOrigin::Embedded(model)
        }
        ModelSource::Folder { path, family } => ModelOrigin::Folder {
            path: path.into(),
            family: family.as_deref().map(families::named).transpose()?,
        },
        ModelSource::Synthetic {
            step_ms,
            load_ms,
            weights_mb,
            device_mb: _,
        } => ModelOrigin::Synthetic {
            step_ms: *step_ms,
            load_ms: *load_ms,
            weights_mb: *weights_mb,
        },
    })
}

/// Starts the reader thread. Jobs arrive on the returned channel; other messages are handled by the thread.
fn listen(cancel: CancelMark) -> io::Result<Receiver<Box<JobOrder>>> {
    let (sender, orders) = mpsc::channel();
    let hear = move || {
        loop {
            match leash::hear() {
                ToWorker::Run(order) => {
                    if sender.send(Box::new(order)).is_err() {
                        return;
                    }
                }
                ToWorker::Cancel { job } => cancel.set(job),
                ToWorker::Leave => ExitCode::Left.exit(),
                ToWorker::Welcome(_) => ExitCode::ProtocolMismatch.exit(),
            }
        }
    };
    thread::Builder::new().name("reader".into()).spawn(hear)?;
    Ok(orders)
}

/// Starts the heartbeat. It stops when the returned sender is dropped.
fn beat(voice: Arc<SupervisorSender>) -> io::Result<mpsc::Sender<()>> {
    let (sender, stopped) = mpsc::channel::<()>();
    let say = move || {
        while stopped.recv_timeout(HEARTBEAT) == Err(RecvTimeoutError::Timeout) {
            voice.say(&FromWorker::Heartbeat {
                resident_bytes: footprint::measure().resident_bytes,
                work: work::count(),
            });
        }
    };
    thread::Builder::new().name("heartbeat".into()).spawn(say)?;
    Ok(sender)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_for_lack_of_memory_or_threads_exits_with_the_code_for_exhausted_memory() {
        let no_thread = "failed to spawn thread: Os { code: 11, kind: WouldBlock }";
        for lack in [no_thread, "capacity overflow"] {
            assert_eq!(
                code_of_panic(lack, false),
                ExitCode::OutOfMemoryLoading,
                "{lack}"
            );
            assert_eq!(
                code_of_panic(lack, true),
                ExitCode::OutOfMemoryRunning,
                "{lack}"
            );
        }
        assert_eq!(
            code_of_panic("index out of bounds", true),
            ExitCode::Panicked
        );
    }
}
