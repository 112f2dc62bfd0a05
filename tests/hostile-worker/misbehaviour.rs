//! Every misbehaviour, one arm each.

use std::io::Write;
use std::sync::mpsc;
use std::time::Duration;

use ipc_protocol::arithmetic::Dtype;
use ipc_protocol::exit_code::ExitCode;
use ipc_protocol::frame;
use ipc_protocol::ids::{Generation, JobId};
use ipc_protocol::latents::LatentShape;
use ipc_protocol::messages::client::ToPool;
use ipc_protocol::messages::worker::{FromWorker, JobOrder, Timings, Welcome};
use ipc_protocol::reading::Reading;
use ipc_protocol::sandbox::SandboxReached;
use ipc_protocol::segment::Slot;
use ipc_protocol::units::PictureSize;
use ipc_protocol::version::PROTOCOL;
use nix::sys::signal::{Signal, raise};

use tests::misbehaviours::HELD_MB;

use crate::linger::{self, ProcessScope};
use crate::socket::WorkerSocket;

const GARBAGE: [u8; 64] = [0xa5; 64];
/// Memory of a worker that reports to hold a byte.
const HELD_BYTES: usize = (HELD_MB as usize) << 20;

/// Does it. Whatever returns ends the process with 0.
pub fn act(name: &str, socket: WorkerSocket, welcome: &Welcome) {
    match name {
        "garbled-hello" => socket.say_bytes(&GARBAGE),
        "other-protocol" => socket.say(&hello(PROTOCOL + 1, welcome.generation)),
        "other-generation" => socket.say(&hello(PROTOCOL, Generation(u64::MAX))),
        "exit-0-at-once" => return,
        "abort-at-once" => std::process::abort(),
        "closed-socket-alive" => {
            socket.close();
            wait_for_the_end();
        }
        "half-a-header" => {
            socket.say_bytes(b"IMGP\x01");
            return socket.close();
        }
        _ => after_hello(name, &socket, welcome),
    }
    socket.ignore()
}

/// Lives until the supervisor ends it.
pub fn wait_for_the_end() -> ! {
    loop {
        nix::unistd::pause();
    }
}

fn hello(protocol: u32, generation: Generation) -> FromWorker {
    FromWorker::Hello {
        protocol,
        pid: std::process::id(),
        generation,
        sandbox: SandboxReached::Off,
    }
}

fn after_hello(name: &str, socket: &WorkerSocket, welcome: &Welcome) {
    let greet = || socket.say(&hello(PROTOCOL, welcome.generation));
    match name {
        "giving-up" => {
            greet();
            let message = "x".repeat(4090);
            socket.say(&FromWorker::GivingUp { message });
            ExitCode::UnusableWeights.exit();
        }
        "giving-up-with-control-characters" => {
            greet();
            let message = "\x1b[2J\rerror: forged\r\nwarning: forged\x07\u{202e}".to_owned();
            // A supervisor that does not read is none of this one's business.
            let _ = std::io::stderr().write_all(message.as_bytes());
            socket.say(&FromWorker::GivingUp { message });
            ExitCode::UnusableWeights.exit();
        }
        "loading-without-end" => {
            greet();
            loop {
                socket.say(&FromWorker::Loading { permille: 500 });
            }
        }
        "garbage-while-loading" => {
            greet();
            socket.say(&FromWorker::Loading { permille: 500 });
            socket.say_bytes(&GARBAGE);
        }
        "ready-twice" => {
            let order = socket.behave(welcome);
            socket.say(&FromWorker::Ready {
                peak_bytes: u64::MAX,
                dtype: Dtype::F32,
                because: None,
            });
            socket.say(&hello(PROTOCOL, welcome.generation));
            drop(order);
            std::process::abort();
        }
        "loading-backwards" => {
            greet();
            for permille in [u16::MAX, 999, 0] {
                socket.say(&FromWorker::Loading { permille });
            }
            std::process::abort();
        }
        _ => {
            let order = socket.behave(welcome);
            bytes_with_job(name, socket, &order);
        }
    }
}

/// Misbehaves with wrong bytes.
fn bytes_with_job(name: &str, socket: &WorkerSocket, order: &JobOrder) {
    match name {
        "garbage-mid-job" => socket.say_bytes(&GARBAGE),
        "length-of-4-gib" => socket.say_bytes(b"IMGP\x05\x00\x00\x00\xff\xff\xff\xff"),
        "body-cut-short" => {
            socket.say_bytes(b"IMGP\x05\x00\x00\x00\x40\x00\x00\x00\x04");
            socket.close();
        }
        "trailing-bytes" => {
            let mut bytes = frame::encode(&step(order, 1, Slot::Latents1)).expect("a frame");
            bytes[8] += 1;
            bytes.push(7);
            socket.say_bytes(&bytes);
        }
        "the-other-sides-frame" => {
            socket.say_bytes(&frame::encode(&ToPool::Hello { protocol: 1 }).expect("a frame"));
            socket.say_bytes(b"IMGP\x63\x00\x00\x00\x00\x00\x00\x00");
        }
        _ => lies_with_job(name, socket, order),
    }
}

/// Latents of the model that this program says it holds.
const LATENTS: LatentShape = LatentShape {
    channels: 16,
    downscale: 8,
};

fn step(order: &JobOrder, step: u32, slot: Slot) -> FromWorker {
    FromWorker::Step {
        job: order.job,
        step,
        slot,
        bytes: LATENTS.bytes(order.size),
        preview: None,
        elapsed_ms: 1,
    }
}

fn done(job: JobId, size: PictureSize) -> FromWorker {
    FromWorker::Done {
        job,
        size,
        reading: Reading::default(),
        timings: Timings::default(),
        peak_bytes: u64::MAX,
    }
}

/// Misbehaves with wrong messages.
fn lies_with_job(name: &str, socket: &WorkerSocket, order: &JobOrder) {
    let other = JobId(order.job.0 + 1000);
    let vast = PictureSize {
        width: u32::MAX,
        height: u32::MAX,
    };
    match name {
        "step-3-first" => socket.say(&step(order, 3, Slot::Latents1)),
        "step-0" => socket.say(&step(order, 0, Slot::Latents0)),
        "step-in-the-wrong-slot" => socket.say(&step(order, 1, Slot::Picture)),
        "step-of-another-job" => socket.say(&FromWorker::Step {
            job: other,
            step: 1,
            slot: Slot::Latents1,
            bytes: LATENTS.bytes(order.size),
            preview: None,
            elapsed_ms: 1,
        }),
        "step-of-endless-bytes" => {
            socket.say(&FromWorker::Step {
                job: order.job,
                step: 1,
                slot: Slot::Latents1,
                bytes: u64::MAX,
                preview: Some(vast),
                elapsed_ms: u32::MAX,
            });
            std::process::abort();
        }
        "steps-without-end" => {
            for number in 1..=order.steps + 1 {
                socket.say(&step(order, number, Slot::of_step(number)));
            }
        }
        "wrong-steps-without-end" => loop {
            socket.say(&step(order, 3, Slot::Latents1));
        },
        "done-without-steps" => socket.say(&done(order.job, order.size)),
        "done-of-a-vast-size" => socket.say(&done(order.job, vast)),
        "done-of-another-job" => socket.say(&done(other, order.size)),
        "failed-for-another-job" => {
            socket.fail(other);
            std::process::abort();
        }
        _ => dies_with_job(name, socket),
    }
}

/// Dies of a signal as after a fault. The runtime's own handler takes the first and steps aside.
pub fn die_of(signal: Signal) {
    for _ in 0..2 {
        raise(signal).expect("a process may signal itself");
    }
}

/// Shows signs of life and does nothing.
pub fn beat_for_ever(socket: &WorkerSocket) -> ! {
    let (_sender, never) = mpsc::channel::<()>();
    loop {
        socket.say(&FromWorker::Heartbeat {
            resident_bytes: 1 << 20,
            work: 0,
        });
        let _ = never.recv_timeout(Duration::from_millis(500)); // Nobody sends: it is a wait.
    }
}

/// Misbehaves as a process.
fn dies_with_job(name: &str, socket: &WorkerSocket) {
    match name {
        "abort-mid-job" => std::process::abort(),
        "exit-0-mid-job" => ExitCode::Left.exit(),
        "flood-of-heartbeats" => {
            for resident_bytes in 0..200_000 {
                socket.say(&FromWorker::Heartbeat {
                    resident_bytes,
                    work: resident_bytes,
                });
            }
            std::process::abort();
        }
        "heartbeats-without-end" => loop {
            socket.say(&FromWorker::Heartbeat {
                resident_bytes: 1,
                work: 0,
            });
        },
        // Silent on its socket, so it ends all the same.
        "stderr-without-end" => loop {
            let _ = std::io::stderr().write_all(b"a line of a worker that has lost its mind\n");
        },
        "flood-of-stderr" => {
            let line = [&[0x1b; 1][..], &[b'x'; 9000], b"\n"].concat();
            for _ in 0..500 {
                // A supervisor that does not read is what this tests.
                let _ = std::io::stderr().write_all(&line);
            }
            std::process::abort();
        }
        "child-keeps-the-socket" => {
            linger::leave(ProcessScope::Group);
            die_of(Signal::SIGSEGV);
        }
        "exit-leaves-a-child" => {
            linger::leave(ProcessScope::Group);
            ExitCode::Left.exit();
        }
        "exit-leaves-a-daemon" => {
            linger::leave(ProcessScope::Session);
            ExitCode::Left.exit();
        }
        "exit-leaves-a-stranger" => {
            linger::leave(ProcessScope::Stranger);
            ExitCode::Left.exit();
        }
        "closed-socket-leaves-a-daemon" => {
            linger::leave(ProcessScope::Session);
            socket.close();
            wait_for_the_end();
        }
        "freezes" => raise(Signal::SIGSTOP).expect("a process may signal itself"),
        "allocation-fails" => {
            let more_than_there_is: Vec<u8> = Vec::with_capacity(1 << 60);
            drop(std::hint::black_box(more_than_there_is));
        }
        "holds-more-than-it-says" => {
            let pages = std::hint::black_box(vec![1u8; HELD_BYTES]);
            socket.say(&FromWorker::Heartbeat {
                resident_bytes: 1,
                work: 0,
            });
            // It is ended for its silence, with everything that it holds.
            std::mem::forget(pages);
        }
        "read-fails" => die_of(Signal::SIGBUS),
        "sleeps-while-drawing" => beat_for_ever(socket),
        // Its caller ignores everything from here on, the heartbeat that is due included.
        "silence-with-a-job" => {}
        other => panic!("{other} is no misbehaviour"),
    }
}
