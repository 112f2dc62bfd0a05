//! The conversation with the supervisor, from the greeting to the goodbye.
//!
//! ```text
//!  main thread      Welcome ▸ load ▸ Ready ▸ (Run ▸ job)* ▸ exit     computes
//!  reader thread    hear ▸ Run to the main thread, Cancel to the mark, Leave and end-of-file exit
//!  heartbeat        every half second, so that a long step does not look like death
//! ```

use std::process::{self, ExitCode};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use ipc_protocol::messages::worker::{FromWorker, ModelSource as Source, Order, ToWorker, Welcome};
use ipc_protocol::segment::Segment;
use ipc_protocol::version::{PROTOCOL, mismatch};

use crate::cancel::CancelMark;
use crate::fault::Fault;
use crate::footprint;
use crate::job::Desk;
use crate::leash::{self, Voice};
use crate::pipelines::pocket::Pocket;
use crate::pipelines::{self, Family, ModelSource, Pipeline, Settings, precision};

/// Between two signs of life.
const HEARTBEAT: Duration = Duration::from_millis(500);
/// Exit code of a worker that panicked, and of one that could not take up its descriptors.
const PANICKED: u8 = 85;
/// Exit code of a worker that was started with descriptors that are not what the design says.
const MISCONFIGURED: u8 = 78;

/// Serves the supervisor on descriptor 0 until it is told to leave, or alone.
pub fn serve() -> ExitCode {
    leash::arm();
    exit_on_panic();
    let handle = match leash::take_segment_handle() {
        Ok(handle) => handle,
        Err(error) => {
            eprintln!("worker: descriptor 1 is not a segment: {error}");
            return ExitCode::from(MISCONFIGURED);
        }
    };
    let ToWorker::Welcome(welcome) = leash::hear() else {
        eprintln!("worker: the first message was not a welcome");
        process::exit(leash::PROTOCOL_MISMATCH);
    };
    if welcome.protocol != PROTOCOL {
        eprintln!("worker: {}", mismatch(welcome.protocol));
        process::exit(leash::PROTOCOL_MISMATCH);
    }
    leash::check_parent(welcome.supervisor_pid);
    let segment = match Segment::from_handle(handle, welcome.geometry) {
        Ok(segment) => segment,
        Err(error) => {
            eprintln!("worker: {error}");
            return ExitCode::from(MISCONFIGURED);
        }
    };
    work(&welcome, segment)
}

/// Any panic, on any thread, ends the process after its message: a half-broken worker helps nobody.
fn exit_on_panic() {
    let print = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        print(panic);
        process::exit(i32::from(PANICKED));
    }));
}

fn work(welcome: &Welcome, segment: Segment) -> ExitCode {
    let voice = Arc::new(Voice::default());
    voice.say(&FromWorker::Hello {
        protocol: PROTOCOL,
        pid: process::id(),
        generation: welcome.generation,
    });
    let cancel = CancelMark::default();
    let orders = listen(cancel.clone());
    let _heartbeat = beat(Arc::clone(&voice));
    let mut pipeline = match load(welcome, &voice) {
        Ok(pipeline) => pipeline,
        Err(fault) => return give_up(&voice, &fault),
    };
    voice.say(&ready(welcome));
    let desk = Desk {
        segment,
        voice: Arc::clone(&voice),
        cancel,
    };
    for order in orders {
        if let Some(fault) = desk.carry_out(&order, pipeline.as_mut()) {
            return give_up(&voice, &fault);
        }
    }
    ExitCode::SUCCESS
}

/// That the weights are in place, in which dtype, and why where that is not the wished one.
fn ready(welcome: &Welcome) -> FromWorker {
    let choice = precision::chosen(welcome.arithmetic.dtype, welcome.device);
    FromWorker::Ready {
        peak_bytes: footprint::measure().peak_bytes,
        dtype: choice.dtype,
        because: choice.because.map(str::to_owned),
    }
}

/// Says why, and ends with the code that says it again.
fn give_up(voice: &Voice, fault: &Fault) -> ExitCode {
    let message = fault.sentence();
    eprintln!("worker: {message}");
    voice.say(&FromWorker::GivingUp { message });
    let code = fault.exit_code().unwrap_or(i32::from(MISCONFIGURED));
    ExitCode::from(u8::try_from(code).unwrap_or(MISCONFIGURED))
}

fn load(welcome: &Welcome, voice: &Voice) -> Result<Box<dyn Pipeline>, Fault> {
    // The pool of threads can be set once per process, and this is the once.
    rayon::ThreadPoolBuilder::new()
        .num_threads(welcome.threads.max(1) as usize)
        .build_global()
        .map_err(|error| Fault::Compute(error.to_string()))?;
    let source = source(&welcome.source)?;
    let mut said = 0;
    let settings = Settings::on(welcome.device, welcome.arithmetic);
    pipelines::load_with(&source, welcome.device, settings, &mut |fraction| {
        let permille = (fraction.clamp(0.0, 1.0) * 1000.0) as u16;
        if permille > said {
            said = permille;
            voice.say(&FromWorker::Loading { permille });
        }
    })
    .map_err(Fault::while_loading)
}

/// The wire's word for a model, as the pipelines know it.
fn source(source: &Source) -> Result<ModelSource, Fault> {
    Ok(match source {
        Source::Embedded { key } => {
            let what = "no such model is embedded";
            let model = Pocket::named(key).ok_or_else(|| Fault::configuration(key, "key", what))?;
            ModelSource::Embedded(model)
        }
        Source::Folder { path, family } => ModelSource::Folder {
            path: path.into(),
            family: family.as_deref().map(Family::named).transpose()?,
        },
        Source::Synthetic {
            step_ms,
            load_ms,
            weights_mb,
        } => ModelSource::Synthetic {
            step_ms: *step_ms,
            load_ms: *load_ms,
            weights_mb: *weights_mb,
        },
    })
}

/// Starts the reader; orders arrive on the channel, everything else is carried out at once.
fn listen(cancel: CancelMark) -> Receiver<Box<Order>> {
    let (sender, orders) = mpsc::channel();
    thread::spawn(move || {
        loop {
            match leash::hear() {
                ToWorker::Run(order) => {
                    if sender.send(Box::new(order)).is_err() {
                        return;
                    }
                }
                ToWorker::Cancel { job } => cancel.set(job),
                ToWorker::Leave => process::exit(0),
                ToWorker::Welcome(_) => process::exit(leash::PROTOCOL_MISMATCH),
            }
        }
    });
    orders
}

/// Starts the signs of life; they end with the returned sender.
fn beat(voice: Arc<Voice>) -> mpsc::Sender<()> {
    let (sender, stopped) = mpsc::channel::<()>();
    thread::spawn(move || {
        while stopped.recv_timeout(HEARTBEAT) == Err(RecvTimeoutError::Timeout) {
            voice.say(&FromWorker::Heartbeat {
                resident_bytes: footprint::measure().resident_bytes,
            });
        }
    });
    sender
}
