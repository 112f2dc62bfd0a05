//! `imagepool top`: a live view of workers, jobs and memory.
//!
//! - `live` waits for keys, signals, reports and the next second, and draws
//! - `reports` asks the daemon on a thread of its own, so that a daemon that hangs does not block the keys
//! - `screen` is the terminal while the view is open; `view` lays a report out, in `columns`

mod columns;
mod live;
mod reports;
mod screen;
mod view;

use std::io::{self, IsTerminal};
use std::os::fd::AsFd;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::args::ConnectOptions;
use super::colour::ColourChoice;
use super::daemon::connect;
use super::text::OutputFormat;
use super::{CommandError, say};
use view::WorkerOrder;

/// Time between two reports, in milliseconds.
const PERIOD_MS: u16 = 1000;

/// Shows reports: in a live view in a terminal, else as tables or as JSON. `count` is the number of reports; without
/// it, one table, and any number of the others. Returns the exit code.
pub fn run(
    reach: &ConnectOptions,
    count: Option<u64>,
    json: bool,
    colour: ColourChoice,
) -> Result<u8, CommandError> {
    let format = OutputFormat::of_stdout(colour);
    let is_terminal = io::stdin().is_terminal() && io::stdout().is_terminal();
    if is_terminal && !json {
        return live::run(reach, count, format);
    }
    let count = match json {
        true => count.unwrap_or(u64::MAX),
        false => count.unwrap_or(1),
    };
    let mut client = connect::daemon(reach)?;
    for nth in 0..count {
        if nth > 0 && !reader_stays()? {
            break;
        }
        let report = client.status()?;
        match json {
            true => {
                say::line(serde_json::to_string(&report).expect("a status is numbers and words"))
            }
            false => {
                for line in view::lines(&report, WorkerOrder::Name, format.columns) {
                    say::painted(&line.print(format.is_coloured));
                }
            }
        }
    }
    Ok(0)
}

/// Waits for the next report's time. Returns early, with false, if the reader of stdout is gone.
fn reader_stays() -> Result<bool, CommandError> {
    let stdout = io::stdout();
    let mut reader = [PollFd::new(stdout.as_fd(), PollFlags::empty())];
    match poll(&mut reader, PollTimeout::from(PERIOD_MS)) {
        Ok(0) | Err(Errno::EINTR) => Ok(true),
        Ok(_) => Ok(false),
        Err(error) => Err(CommandError::Output(format!("stdout: {error}"))),
    }
}
