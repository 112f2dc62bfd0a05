//! The worker's entry: one model, one process, never started by hand.

use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Parser;
use ipc_protocol::arithmetic::{Arithmetic, Dtype, Encoders};
use ipc_protocol::ids::Device;
use ipc_protocol::untrusted::{Untrusted, escaped};
use worker::fault::{WorkerFault, complain};
use worker::leash;
use worker::manifest::{self, Digested};
use worker::pipelines::{ComputeSettings, families};
use worker::weights::digest;

/// Exit code of an answer that could not be printed.
const OUTPUT_LOST: u8 = 74;

/// One image model in one process. The supervisor starts it; by hand it only tells about itself.
#[derive(Debug, Parser)]
#[command(version)]
struct WorkerArguments {
    /// Print what is known of the models inside this program, as JSON, and exit.
    #[arg(long)]
    manifest: bool,
    /// Print what is known of the published models without their files, as JSON, and exit.
    #[arg(long)]
    published: bool,
    /// Look at a folder of weights, print what it holds as JSON, and exit.
    #[arg(long, value_name = "DIR")]
    inspect: Option<PathBuf>,
    /// Compare weights with their digests: those of a folder with its SHA256SUMS, those of one model inside
    /// this program or of all of them, and exit.
    #[arg(long, value_name = "DIR|KEY", num_args = 0..=1)]
    verify: Option<Option<PathBuf>>,
    /// Take the folder for this family instead of finding out.
    #[arg(long, value_name = "FAMILY", requires = "inspect")]
    family: Option<String>,
    /// Read all bytes of the folder's files for their digest, however large they are.
    #[arg(long, requires = "inspect")]
    whole: bool,
    /// The dtype for the inspected model: f32, bf16 or f16.
    #[arg(long, default_value_t)]
    dtype: Dtype,
    /// The process that waits for the answer, with which this one ends.
    #[arg(long, hide = true, value_name = "PID")]
    parent: Option<u32>,
    /// Where its encoders are between two prompts: keep, drop or cpu.
    #[arg(long, default_value_t)]
    encoders: Encoders,
}

fn main() -> ExitCode {
    leash::fail_beyond_file_size_limit();
    let arguments = WorkerArguments::parse();
    if let Some(parent) = arguments.parent {
        leash::arm();
        leash::check_parent(parent);
    }
    if arguments.manifest {
        return told(manifest::all_as_json());
    }
    if arguments.published {
        return told(manifest::published_as_json());
    }
    if let Some(folder) = &arguments.inspect {
        let wished = Arithmetic {
            dtype: arguments.dtype,
            encoders: arguments.encoders,
        };
        // The need is the host's, so it is that of what a processor makes of the wish.
        let settings = ComputeSettings::on(Device::Host, wished);
        let family = arguments.family.as_deref();
        let digested = match arguments.whole {
            true => Digested::Always,
            false => Digested::Quickly,
        };
        let json = manifest::folder_as_json(folder, family, settings, digested);
        // It holds words of the folder's files; escaped it is the same JSON.
        return told(json.map(escaped));
    }
    if let Some(folder) = &arguments.verify {
        return told(verify(folder.as_deref()));
    }
    if std::io::stdin().is_terminal() {
        complain(format_args!(
            "worker: started by the supervisor, not by hand; try `imagepool generate`"
        ));
        return ExitCode::from(2);
    }
    worker::session::serve().into()
}

/// A line for each file that is what it was: of a folder, of one embedded model, of all of them.
fn verify(what: Option<&Path>) -> Result<String, WorkerFault> {
    let embedded = |path: &Path| path.to_str().and_then(families::embedded_with_key);
    let names = match what {
        Some(path) => match embedded(path) {
            Some(model) => model.verify()?,
            None => digest::verify(path)?,
        },
        None => {
            let all = families::embedded().map(|model| model.verify());
            all.collect::<Result<Vec<_>, WorkerFault>>()?.concat()
        }
    };
    let line = |name: &String| format!("{}: OK", Untrusted::new(name));
    let lines: Vec<String> = names.iter().map(line).collect();
    Ok(lines.join("\n"))
}

/// Prints the answer, or a sentence on stderr; the exit code is the fault's, or says that the answer is lost.
fn told(answer: Result<String, WorkerFault>) -> ExitCode {
    let fault = match answer {
        Ok(text) => {
            let mut stdout = std::io::stdout().lock();
            let printed = writeln!(stdout, "{text}").and_then(|()| stdout.flush());
            let Err(error) = printed else {
                return ExitCode::SUCCESS;
            };
            complain(format_args!("worker: cannot print the answer: {error}"));
            return ExitCode::from(OUTPUT_LOST);
        }
        Err(fault) => fault,
    };
    complain(format_args!("{}", Untrusted::of(&fault)));
    fault.exit_code().map_or(ExitCode::FAILURE, ExitCode::from)
}
