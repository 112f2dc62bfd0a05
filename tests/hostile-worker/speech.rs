//! Words that a terminal would obey, in every place where a worker's words can go.

use std::io::Write;

use ipc_protocol::arithmetic::Dtype;
use ipc_protocol::exit_code::ExitCode;
use ipc_protocol::failure::Field;
use ipc_protocol::messages::worker::{FromWorker, JobFault, Welcome};
use ipc_protocol::sandbox::SandboxReached;
use ipc_protocol::version::PROTOCOL;
use tests::misbehaviours::OBEYED;

use crate::socket::WorkerSocket;

/// Says them there, and does nothing more.
pub fn say(place: &str, socket: &WorkerSocket, welcome: &Welcome) -> ! {
    let message = OBEYED.to_owned();
    match place {
        "giving-up" => {
            greet(socket, welcome);
            socket.say(&FromWorker::GivingUp { message });
            ExitCode::UnusableWeights.exit();
        }
        "dtype" => {
            greet(socket, welcome);
            socket.say(&FromWorker::Ready {
                peak_bytes: 1 << 20,
                dtype: Dtype::F16,
                because: Some(message),
            });
        }
        "stderr" => {
            // A supervisor that does not read fails the test that waits for these words.
            let _ = writeln!(std::io::stderr(), "{message}");
            socket.behave(welcome);
        }
        "job-fault" => fail(socket, welcome, JobFault::Other { message }),
        "bad-request" => {
            let field = Field::Prompt;
            fail(socket, welcome, JobFault::BadRequest { field, message });
        }
        other => panic!("{other} is no place for words"),
    }
    socket.ignore()
}

fn greet(socket: &WorkerSocket, welcome: &Welcome) {
    socket.say(&FromWorker::Hello {
        protocol: PROTOCOL,
        pid: std::process::id(),
        generation: welcome.generation,
        sandbox: SandboxReached::Off,
    });
}

fn fail(socket: &WorkerSocket, welcome: &Welcome, fault: JobFault) {
    let job = socket.behave(welcome).job;
    socket.say(&FromWorker::Failed { job, fault });
}
