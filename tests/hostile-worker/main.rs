//! A worker that does what no worker should, for tests that the supervisor survives it.
//!
//! The supervisor starts it like any worker. The greeting says what it is to do: a synthetic model with
//! steps of [`STEP_MS`] misbehaves as its `load_ms` says, one with steps of [`END_STEP_MS`] ends so, in every life or, with
//! `weights_mb` of [`ONCE_MB`], only in its first. One with steps of [`SPEECH_STEP_MS`] says words that a
//! terminal would obey, and one with steps of [`ESCAPE_STEP_MS`] tries to escape from its sandbox. Models of the storm
//! draw honestly and end as their letters say (`between`). For everything else it becomes the
//! honest worker beside it; where its GPU is a pretended one, it takes the model's memory there first.

mod between;
mod end;
mod escape;
mod gpu;
mod linger;
mod misbehaviour;
mod socket;
mod speech;

use std::os::unix::process::CommandExt;
use std::process::ExitCode;

use ipc_protocol::messages::worker::{ModelSource, Welcome};
use nix::sys::{prctl, signal::Signal};
use tests::misbehaviours::{
    END_STEP_MS, ENDS, ESCAPE_STEP_MS, GATE, MISBEHAVIOURS, ONCE_MB, SPEECH_STEP_MS, SPEECHES,
    STEP_MS,
};

use tests::storm::{self, LetterBox};

use crate::between::Doom;
use crate::socket::WorkerSocket;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [option, scope] = arguments.as_slice()
        && option == linger::LINGER
    {
        linger::linger(scope);
    }
    // Misbehaving is one thing, outliving a test another.
    let _ = prctl::set_pdeathsig(Signal::SIGKILL);
    if let [option, folder, ..] = arguments.as_slice()
        && option == "--inspect"
    {
        // Looks as slowly as a test wants: until it has opened and closed the gate.
        let _ = std::fs::read(std::path::Path::new(folder).join(GATE));
        become_honest();
    }
    let socket = WorkerSocket::take();
    let welcome = socket.peek_welcome();
    if escapes(&welcome) {
        escape::serve(&socket, &welcome);
    }
    if let Some(place) = speech(&welcome) {
        speech::say(place, &socket, &welcome);
    }
    if let Some(name) = chosen(&welcome, END_STEP_MS, &ENDS) {
        end::come_to(name, &socket, &welcome);
    }
    if let Some(doom) = doom(&welcome) {
        between::stand(socket, welcome, doom);
    }
    match chosen(&welcome, STEP_MS, &MISBEHAVIOURS) {
        Some(name) => misbehaviour::act(name, socket, &welcome),
        None => {
            gpu::take_memory(&welcome);
            become_honest();
        }
    }
    ExitCode::SUCCESS
}

/// Returns the one of `names` that the greeting selects by steps of `of_step_ms`.
fn chosen(welcome: &Welcome, of_step_ms: u32, names: &[&'static str]) -> Option<&'static str> {
    let ModelSource::Synthetic {
        step_ms,
        load_ms,
        weights_mb,
        ..
    } = welcome.source
    else {
        return None;
    };
    let name = *names
        .get(load_ms as usize)
        .filter(|_| step_ms == of_step_ms)?;
    (weights_mb != ONCE_MB || first_life(name)).then_some(name)
}

/// The end that a letter asks for, or a model of poisoned requests.
fn doom(welcome: &Welcome) -> Option<Doom> {
    match welcome.source {
        ModelSource::Synthetic {
            step_ms: storm::STEP_MS,
            load_ms,
            ..
        } => {
            let home = std::env::var_os("TMPDIR").expect("workers inherit it");
            LetterBox::of(home.as_ref(), load_ms).take().map(Doom::At)
        }
        ModelSource::Synthetic {
            step_ms: storm::POISONED_STEP_MS,
            ..
        } => Some(Doom::OfPoison),
        _ => None,
    }
}

/// Whether the greeting asks for attempts to escape.
fn escapes(welcome: &Welcome) -> bool {
    matches!(
        welcome.source,
        ModelSource::Synthetic {
            step_ms: ESCAPE_STEP_MS,
            ..
        }
    )
}

/// Where the greeting asks for words that a terminal would obey, if anywhere.
fn speech(welcome: &Welcome) -> Option<&'static str> {
    match welcome.source {
        ModelSource::Synthetic {
            step_ms: SPEECH_STEP_MS,
            load_ms,
            ..
        } => SPEECHES.get(load_ms as usize).copied(),
        _ => None,
    }
}

/// Whether no life before this one has misbehaved so. A file in the sandbox's home remembers, which `TMPDIR` names too.
fn first_life(name: &str) -> bool {
    let home = std::env::var_os("TMPDIR").expect("workers inherit it");
    std::fs::File::create_new(std::path::Path::new(&home).join(name)).is_ok()
}

/// Goes on as the honest worker, with the same pid, name and descriptors, the greeting still unread.
#[expect(
    clippy::disallowed_methods,
    reason = "this process becomes another program, it starts none"
)]
fn become_honest() {
    let own = std::env::current_exe().expect("a running program has a path");
    let error = std::process::Command::new(own.with_file_name("honest-worker"))
        .arg0(&own)
        .args(std::env::args_os().skip(1))
        .exec();
    panic!("the honest worker cannot be started: {error}");
}
