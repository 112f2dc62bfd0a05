//! The worker's entry: one model, one process, never started by hand.

use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use worker::fault::Fault;
use worker::manifest;

/// One image model in one process. The supervisor starts it; by hand it only tells about itself.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    /// Print what is known of the models inside this program, as JSON, and exit.
    #[arg(long)]
    manifest: bool,
    /// Look at a folder of weights, print what it holds as JSON, and exit.
    #[arg(long, value_name = "DIR")]
    inspect: Option<PathBuf>,
    /// Take the folder for this family instead of finding out.
    #[arg(long, value_name = "FAMILY", requires = "inspect")]
    family: Option<String>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if arguments.manifest {
        return told(manifest::print_all());
    }
    if let Some(folder) = &arguments.inspect {
        return told(manifest::print_folder(folder, arguments.family.as_deref()));
    }
    if std::io::stdin().is_terminal() {
        eprintln!("worker: started by the supervisor, not by hand; try `imagepool generate`");
        return ExitCode::from(2);
    }
    worker::session::serve()
}

/// Success, or a sentence on stderr and the fault's exit code.
fn told(printed: Result<(), Fault>) -> ExitCode {
    let Err(fault) = printed else {
        return ExitCode::SUCCESS;
    };
    eprintln!("{fault}");
    let code = fault.exit_code().and_then(|code| u8::try_from(code).ok());
    ExitCode::from(code.unwrap_or(1))
}
