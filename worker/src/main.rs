//! The worker program: serves one model, and is started by the supervisor.

use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Parser;
use ipc_protocol::arithmetic::{Arithmetic, Dtype, Encoders};
use ipc_protocol::sandbox::SandboxReached;
use ipc_protocol::untrusted::{Untrusted, escaped};
use sandbox::SandboxProfile;
use worker::fault::{WorkerFault, complain};
use worker::leash;
use worker::manifest::{self, Digested};
use worker::pipelines::families;
use worker::pipelines::folder::search::folder_of;
use worker::weights::digest;

/// Most private memory of a process that reads a model's files and computes nothing: headers and configurations take much
/// less, and the weights are mapped.
const READER_BYTES_MAX: u64 = 2 << 30;
/// Exit code if the output could not be printed.
const OUTPUT_LOST: u8 = 74;

/// Serve one image model. The supervisor starts this program; by hand, it only prints information.
#[derive(Debug, Parser)]
#[command(version)]
struct WorkerArguments {
    /// Print the manifests of the embedded models as JSON, and exit.
    #[arg(long)]
    manifest: bool,
    /// Print the manifests of the published models, as far as known without their files, as JSON, and exit.
    #[arg(long)]
    published: bool,
    /// Inspect a folder of weights, print its manifest as JSON, and exit.
    #[arg(long, value_name = "DIR")]
    inspect: Option<PathBuf>,
    /// Compare weights with their digests, and exit: a folder's with its SHA256SUMS, or those of one or all
    /// embedded models.
    #[arg(long, value_name = "DIR|KEY", num_args = 0..=1)]
    verify: Option<Option<PathBuf>>,
    /// Treat the folder as a model of this family, instead of recognising it.
    #[arg(long, value_name = "FAMILY", requires = "inspect")]
    family: Option<String>,
    /// Read all bytes of the folder's files for their digest, even if they are large.
    #[arg(long, requires = "inspect")]
    whole: bool,
    /// The dtype for the inspected model: f32, bf16, f16 or auto.
    #[arg(long, default_value_t)]
    dtype: Dtype,
    /// Do not confine this process.
    #[arg(long)]
    no_sandbox: bool,
    /// Print how far this process could confine itself, and exit.
    #[arg(long)]
    sandbox: bool,
    /// The process that waits for the output; this process ends with it.
    #[arg(long, hide = true, value_name = "PID")]
    parent: Option<u32>,
    /// Placement of the text encoders between two prompts: keep, drop or cpu.
    #[arg(long, default_value_t)]
    encoders: Encoders,
}

fn main() -> ExitCode {
    leash::fail_beyond_file_size_limit();
    let arguments = WorkerArguments::parse();
    if serves(&arguments) && std::io::stdin().is_terminal() {
        complain(format_args!(
            "worker: this program is started by the supervisor; to draw, run `imagepool generate`"
        ));
        return ExitCode::from(2);
    }
    if serves(&arguments) || arguments.parent.is_some() {
        leash::arm();
    }
    // Before any byte from outside is read, except the arguments.
    let reached = confine(&arguments);
    if let Some(parent) = arguments.parent {
        leash::check_parent(parent);
    }
    let read = [
        &arguments.inspect,
        arguments.verify.as_ref().unwrap_or(&None),
    ];
    if let Some(path) = read.into_iter().flatten().next()
        && reached != SandboxReached::Off
        && let Err(why) = sandbox::narrow(SandboxProfile::Cpu, Some(&folder_of(path)))
    {
        complain(format_args!("worker: {why}"));
        return ExitCode::FAILURE;
    }
    if arguments.sandbox {
        return told(Ok(reached.to_string()));
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
        let family = arguments.family.as_deref();
        let digested = match arguments.whole {
            true => Digested::Always,
            false => Digested::Quickly,
        };
        let json = manifest::folder_as_json(folder, family, wished, digested);
        // The JSON contains text from the folder's files. Escaping it does not change its values.
        return told(json.map(escaped));
    }
    if let Some(folder) = &arguments.verify {
        return told(verify(folder.as_deref()));
    }
    worker::session::serve(profile(&arguments), reached).into()
}

/// Whether this process serves a model, instead of printing something.
fn serves(arguments: &WorkerArguments) -> bool {
    let WorkerArguments {
        manifest,
        published,
        inspect,
        verify,
        sandbox,
        ..
    } = arguments;
    !manifest && !published && !sandbox && inspect.is_none() && verify.is_none()
}

/// The rights that this process needs. Of all programs, only the one for CUDA devices needs their driver.
fn profile(arguments: &WorkerArguments) -> SandboxProfile {
    match cfg!(feature = "cuda") && (serves(arguments) || arguments.sandbox) {
        true => SandboxProfile::Gpu,
        false => SandboxProfile::Cpu,
    }
}

fn confine(arguments: &WorkerArguments) -> SandboxReached {
    match arguments.no_sandbox {
        true => SandboxReached::Off,
        false => {
            if !serves(arguments) {
                sandbox::limit_memory(READER_BYTES_MAX);
            }
            sandbox::enter(profile(arguments))
        }
    }
}

/// Verifies a folder, one embedded model, or all of them. Returns a line for each file that matches its digest.
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

/// Prints the output, or the fault on stderr. The exit code is the fault's, or [`OUTPUT_LOST`].
fn told(answer: Result<String, WorkerFault>) -> ExitCode {
    let fault = match answer {
        Ok(text) => {
            let mut stdout = std::io::stdout().lock();
            let printed = writeln!(stdout, "{text}").and_then(|()| stdout.flush());
            let Err(error) = printed else {
                return ExitCode::SUCCESS;
            };
            complain(format_args!("worker: cannot print the output: {error}"));
            return ExitCode::from(OUTPUT_LOST);
        }
        Err(fault) => fault,
    };
    complain(format_args!("{}", Untrusted::of(&fault)));
    fault.exit_code().map_or(ExitCode::FAILURE, ExitCode::from)
}
