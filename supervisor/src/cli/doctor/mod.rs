//! `imagepool doctor`: checks the machine, and says in plain words what to change.
//!
//! - [`result`] is the result of a check; `checks` are the checks
//! - [`chaos`] kills and stops the workers of a private pool

pub mod chaos;
mod checks;
pub mod result;

use super::args::ConnectOptions;
use super::colour::ColourChoice;
use super::text::OutputFormat;
use super::{CommandError, say};
use checks::machine::Machine;
use result::{CheckResult, Grade};

/// Exit code: at least one check found a problem.
const PROBLEM: u8 = 1;

/// Checks the machine and prints the results; returns the exit code.
pub fn run(reach: &ConnectOptions, json: bool, colour: ColourChoice) -> Result<u8, CommandError> {
    let machine = Machine::look(reach);
    let format = OutputFormat::of_stdout(colour);
    let mut all: Vec<CheckResult> = Vec::new();
    for check in checks::ALL {
        for finding in check(&machine) {
            match json {
                true => say::line(finding.json()),
                false if reach.quiet && finding.grade == Grade::Ok => {}
                false => {
                    for line in finding.lines(format.columns) {
                        say::painted(&line.print(format.is_coloured));
                    }
                }
            }
            all.push(finding);
        }
    }
    let count = |grade| all.iter().filter(|finding| finding.grade == grade).count();
    let (problems, warnings) = (count(Grade::Problem), count(Grade::Warning));
    if !json && !reach.quiet {
        say::line(format_args!(
            "{} results: {} ok, {warnings} to look at, {problems} to mend",
            all.len(),
            count(Grade::Ok)
        ));
    }
    Ok(match problems {
        0 => 0,
        _ => PROBLEM,
    })
}
