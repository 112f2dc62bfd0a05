//! Stands between the supervisor and an honest worker: the pictures are honest, the end is not.
//!
//! The honest worker writes its latents into the segment itself. So before this process ends it ends that one and passes on what it
//! had still sent: no report may be older than the latents that it is about.

use std::fs;
use std::hint::black_box;
use std::io::{Write, stderr};
use std::os::unix::net::UnixStream;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;

use ipc_protocol::connection;
use ipc_protocol::exit_code::ExitCode;
use ipc_protocol::frame;
use ipc_protocol::messages::worker::{FromWorker, ToWorker, Welcome};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tests::storm::{self, Letter, LifePoint, OwnEnd};

use crate::misbehaviour::die_of;
use crate::socket::WorkerSocket;

/// A leak takes this much at a time, and no more than `LEAK_CHUNKS` of them: it must meet a limit before.
const CHUNK: usize = 4 << 20;
const LEAK_CHUNKS: usize = 64;

/// When this worker ends.
#[derive(Debug, Clone, Copy)]
pub enum Doom {
    /// At the point of a letter.
    At(Letter),
    /// With a request that holds poison.
    OfPoison,
}

/// The worker between the two.
struct Between {
    doom: Doom,
    /// Steps of the job it has.
    steps: AtomicU32,
    /// The honest worker, once there is one.
    child: OnceLock<Pid>,
    /// The end that has been reached.
    ending: OnceLock<OwnEnd>,
}

/// Passes frames on until it is time to end.
pub fn stand(socket: WorkerSocket, welcome: Welcome, doom: Doom) -> ! {
    let between = Between {
        doom,
        steps: AtomicU32::new(0),
        child: OnceLock::new(),
        ending: OnceLock::new(),
    };
    between.reach(LifePoint::Starting);
    let (ours, theirs) = UnixStream::pair().expect("a pair of sockets");
    let mut child = honest(theirs);
    between
        .child
        .get_or_init(|| Pid::from_raw(child.id() as i32));
    let to_child = ours.try_clone().expect("our own socket");
    thread::scope(|scope| {
        scope.spawn(|| between.pass_orders(&socket, welcome, to_child));
        between.pass_reports(&socket, ours);
        // Nothing more comes from it: it ends, and so does this process.
        if let Some(end) = between.ending.get() {
            come_to(*end);
        }
        end_as(&mut child);
    });
    unreachable!("the process has ended")
}

#[expect(
    clippy::disallowed_methods,
    reason = "the honest worker is a process of its own, whose frames pass through this one"
)]
fn honest(socket: UnixStream) -> Child {
    let own = std::env::current_exe().expect("a running program has a path");
    Command::new(own.with_file_name("honest-worker"))
        .arg0(&own)
        .args(std::env::args_os().skip(1))
        .stdin(Stdio::from(std::os::fd::OwnedFd::from(socket)))
        .spawn()
        .expect("the honest worker starts")
}

fn end_as(child: &mut Child) -> ! {
    let status = child.wait().expect("our own child");
    if let Some(signal) = status.signal() {
        die_of(Signal::try_from(signal).expect("a signal"));
    }
    std::process::exit(status.code().unwrap_or(0))
}

impl Between {
    /// From the supervisor to the honest worker, whose parent is this process.
    fn pass_orders(&self, socket: &WorkerSocket, mut welcome: Welcome, mut child: UnixStream) {
        assert!(matches!(socket.hear(), ToWorker::Welcome(_)));
        welcome.supervisor_pid = std::process::id();
        let mut order = ToWorker::Welcome(welcome);
        // A child that has ended closes the other way too.
        while connection::write(&mut child, &order).is_ok() {
            order = socket.hear();
            match &order {
                ToWorker::Run(job) => {
                    self.steps.store(job.steps, Ordering::Release);
                    if matches!(self.doom, Doom::OfPoison) && job.prompt.contains(storm::POISON) {
                        die_of(Signal::SIGSEGV);
                    }
                    self.reach(LifePoint::Encoding);
                }
                ToWorker::Leave => self.reach(LifePoint::Stopping),
                ToWorker::Welcome(_) | ToWorker::Cancel { .. } => {}
            }
        }
    }

    /// From the honest worker to the supervisor.
    fn pass_reports(&self, socket: &WorkerSocket, mut child: UnixStream) {
        while let Ok(mut report) = connection::read::<FromWorker>(&mut child) {
            if let FromWorker::Hello { pid, .. } = &mut report {
                *pid = std::process::id();
                self.greet(socket, &report);
            }
            socket.say(&report);
            self.passed(&report);
        }
    }

    fn greet(&self, socket: &WorkerSocket, hello: &FromWorker) {
        if self.ends_at(LifePoint::Greeting) {
            let bytes = frame::encode(hello).expect("a frame");
            socket.say_bytes(&bytes[..bytes.len() / 2]);
            if let Doom::At(letter) = self.doom {
                come_to(letter.end);
            }
        }
    }

    fn passed(&self, report: &FromWorker) {
        match report {
            FromWorker::Hello { .. } => self.reach(LifePoint::Loading),
            FromWorker::Ready { .. } => self.reach(LifePoint::Idle),
            FromWorker::Step { step, .. } => {
                self.reach(LifePoint::Step(*step));
                if *step == self.steps.load(Ordering::Acquire) {
                    self.reach(LifePoint::Decoding);
                }
            }
            FromWorker::Done { .. } => {
                self.reach(LifePoint::Publishing);
                if let Doom::At(Letter {
                    point: LifePoint::Step(_),
                    end,
                }) = self.doom
                {
                    self.end_with_the_child(end);
                }
            }
            FromWorker::Loading { .. }
            | FromWorker::Heartbeat { .. }
            | FromWorker::Failed { .. }
            | FromWorker::GivingUp { .. } => {}
        }
    }

    fn ends_at(&self, point: LifePoint) -> bool {
        matches!(self.doom, Doom::At(letter) if letter.point == point)
    }

    fn reach(&self, point: LifePoint) {
        if let Doom::At(letter) = self.doom
            && letter.point == point
        {
            self.end_with_the_child(letter.end);
        }
    }

    /// Ends the honest worker; this process ends once everything that it had sent is passed on.
    fn end_with_the_child(&self, end: OwnEnd) {
        let Some(child) = self.child.get() else {
            come_to(end);
        };
        self.ending.get_or_init(|| end);
        kill(*child, Signal::SIGKILL).expect("our own child");
    }
}

fn come_to(end: OwnEnd) -> ! {
    match end {
        OwnEnd::Exit(code) => std::process::exit(i32::from(code)),
        OwnEnd::Signal(number) => die_of(Signal::try_from(number).expect("a signal")),
        OwnEnd::Panic => {
            // As the honest worker ends when a part of it panics.
            let _ = std::panic::catch_unwind(|| panic!("an end of the storm"));
            ExitCode::Panicked.exit();
        }
        OwnEnd::StackOverflow => {
            let _ = writeln!(stderr(), "{}", deeper(1));
        }
        OwnEnd::Allocation => {
            let more_than_there_is: Vec<u8> = Vec::with_capacity(1 << 60);
            drop(black_box(more_than_there_is));
        }
        OwnEnd::KernelOutOfMemory => leak_in_a_small_group(),
    }
    unreachable!("{end:?} ends the process")
}

#[expect(unconditional_recursion, reason = "the stack is to overflow")]
fn deeper(depth: u64) -> u64 {
    let room = black_box([depth; 512]);
    deeper(depth + 1) + room[black_box(7)]
}

fn leak_in_a_small_group() {
    let home = std::env::var_os("TMPDIR").expect("workers inherit it");
    let group = fs::read_to_string(storm::oom_group(Path::new(&home))).expect("it was written");
    let own = std::process::id().to_string();
    fs::write(Path::new(&group).join("cgroup.procs"), own).expect("it can be joined");
    for _ in 0..LEAK_CHUNKS {
        std::mem::forget(black_box(vec![1u8; CHUNK]));
    }
}
