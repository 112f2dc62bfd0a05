//! Ends of a worker, for the table of ends: by an exit code, by a signal, by its silence, by its memory.

use std::io::Write;
use std::sync::mpsc;
use std::time::Duration;

use ipc_protocol::messages::worker::{FromWorker, Welcome};
use ipc_protocol::sandbox::SandboxReached;
use ipc_protocol::version::PROTOCOL;
use nix::sys::signal::Signal;

use crate::misbehaviour::{beat_for_ever, die_of, wait_for_the_end};
use crate::socket::WorkerSocket;

/// Most memory that a leaking worker takes: it must meet a limit before.
const LEAK_MB: usize = 3 * 1024;
/// It leaks this much at a time.
const CHUNK_MB: usize = 16;
/// The exit code of a leak that met no limit.
const NO_LIMIT: i32 = 9;

/// Ends as `name` says, after a line on stderr; that of a working worker does not end.
pub fn come_to(name: &str, socket: &WorkerSocket, welcome: &Welcome) -> ! {
    // A supervisor that does not read is none of this one's business.
    let _ = writeln!(std::io::stderr(), "the \x1b[31mlast words\x1b[0m of {name}");
    if name == "no-greeting" {
        wait_for_the_end();
    }
    match name.rsplit_once('-') {
        Some((end, "loading")) => {
            socket.say(&FromWorker::Hello {
                protocol: PROTOCOL,
                pid: std::process::id(),
                generation: welcome.generation,
                sandbox: SandboxReached::Off,
            });
            end_by(end, socket)
        }
        Some((end, "busy")) => {
            socket.behave(welcome);
            end_by(end, socket)
        }
        Some(_) | None => panic!("{name} is no end"),
    }
}

fn end_by(end: &str, socket: &WorkerSocket) -> ! {
    match end.split_once('-') {
        Some(("exit", code)) => std::process::exit(code.parse().expect("a code")),
        Some(("signal", number)) => {
            let number: i32 = number.parse().expect("a number");
            die_of(Signal::try_from(number).expect("a signal"));
        }
        Some(_) | None => {}
    }
    match end {
        "allocation" => {
            let more_than_there_is: Vec<u8> = Vec::with_capacity(1 << 60);
            drop(std::hint::black_box(more_than_there_is));
        }
        "garbage" => socket.say_bytes(&[0xa5; 64]),
        "silent" => socket.ignore(),
        "beating" | "deaf" => beat_for_ever(socket),
        "work" => work_for_ever(socket),
        "leak" => leak(),
        other => panic!("{other} is no end"),
    }
    socket.ignore()
}

/// Shows signs of work, and finishes no step.
fn work_for_ever(socket: &WorkerSocket) -> ! {
    let (_sender, never) = mpsc::channel::<()>();
    for work in 0.. {
        socket.say(&FromWorker::Heartbeat {
            resident_bytes: 1 << 20,
            work,
        });
        let _ = never.recv_timeout(Duration::from_millis(500)); // Nobody sends: it is a wait.
    }
    unreachable!("the numbers do not end")
}

fn leak() -> ! {
    for _ in 0..LEAK_MB / CHUNK_MB {
        std::mem::forget(std::hint::black_box(vec![1u8; CHUNK_MB << 20]));
    }
    std::process::exit(NO_LIMIT)
}
