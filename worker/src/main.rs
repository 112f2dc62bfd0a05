//! The worker's entry: one model, one process, never started by hand.

use std::io::IsTerminal;
use std::process::ExitCode;

use clap::Parser;

/// One image model in one process. The supervisor starts it; by hand it only tells about itself.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    /// Print what is known of the models inside this program, as JSON, and exit.
    #[arg(long)]
    manifest: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if arguments.manifest {
        return match worker::manifest::print_all() {
            Ok(()) => ExitCode::SUCCESS,
            Err(fault) => {
                eprintln!("worker: {fault}");
                ExitCode::from(66)
            }
        };
    }
    if std::io::stdin().is_terminal() {
        eprintln!("worker: started by the supervisor, not by hand; try `imagepool generate`");
        return ExitCode::from(2);
    }
    worker::session::serve()
}
