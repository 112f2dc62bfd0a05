//! The daemon's program: parses arguments, loads settings and runs the daemon.

#![deny(
    clippy::print_stderr,
    reason = "it panics without a reader: telemetry::stderr"
)]

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use ipc_protocol::folders;
use ipc_protocol::units::counted;
use supervisor::api::http::server::HttpSettings;
use supervisor::api::jobs::store::ResultLimits;
use supervisor::api::rights::KnownUsers;
use supervisor::cli::say;
use supervisor::clock::Clock;
use supervisor::config::http::HttpAddress;
use supervisor::config::paths;
use supervisor::config::source::SettingsSource;
use supervisor::daemon::Daemon;
use supervisor::daemon::arguments::DaemonArguments;
use supervisor::daemon::leash::Leash;
use supervisor::daemon::notifier::NotifySocket;
use supervisor::daemon::passed_sockets::PassedSockets;
use supervisor::driver::setup::Setup;
use supervisor::journal::folder::JournalFolder;
use supervisor::obituaries::store::ObituaryStore;
use supervisor::probe::nvml;
use supervisor::process::{children, descriptors, groups, programs, signals};
use supervisor::telemetry;
use supervisor::telemetry::logging;

/// How long writing the last log lines may take at the end.
const LOG_PATIENCE: Duration = Duration::from_secs(1);

fn main() -> ExitCode {
    signals::fail_beyond_file_size_limit();
    descriptors::close_inherited(PassedSockets::count());
    let arguments = match DaemonArguments::try_parse() {
        Ok(arguments) => arguments,
        Err(answer) => return say::usage(&answer),
    };
    if arguments.probe_gpus {
        return probe_gpus(&arguments);
    }
    let leash = match arguments.leashed.then(Leash::hold).transpose() {
        Ok(leash) => leash,
        Err(error) => {
            say::aside(format_args!("supervisor: cannot watch its caller: {error}"));
            return ExitCode::FAILURE;
        }
    };
    let code = match run(&arguments, leash) {
        Ok(()) => say::end(0),
        Err(error) => {
            say::aside(format_args!("supervisor: {error}"));
            ExitCode::FAILURE
        }
    };
    logging::flush(LOG_PATIENCE);
    code
}

/// Is the probing process: it may hang in the driver's library, so it dies with the process that waits for it.
fn probe_gpus(arguments: &DaemonArguments) -> ExitCode {
    if let Some(parent) = arguments.parent
        && let Err(error) = signals::die_with(parent)
    {
        say::aside(format_args!("supervisor: --parent: {error}"));
        return ExitCode::FAILURE;
    }
    say::line(nvml::ask(arguments.library.as_deref()).line());
    say::end(0)
}

/// Opens the state folder. One that was not given may be unusable: then obituaries are kept in memory, and detached jobs
/// end with the daemon.
fn state(
    given: Option<PathBuf>,
    most: usize,
) -> Result<(ObituaryStore, Option<JournalFolder>), Box<dyn std::error::Error>> {
    let open = |folder: &Path| -> Result<_, Box<dyn std::error::Error>> {
        let obituaries = ObituaryStore::open(folder, most)?;
        Ok((obituaries, Some(JournalFolder::open(folder)?)))
    };
    if let Some(folder) = given.or_else(paths::given_state_dir) {
        return open(&folder);
    }
    let Some(folder) = paths::own_state_dir() else {
        telemetry::daemon::no_state_dir(&"there is no home folder; choose one with --state-dir");
        return Ok((ObituaryStore::default(), None));
    };
    Ok(open(&folder).unwrap_or_else(|error| {
        telemetry::daemon::no_state_dir(&error);
        (ObituaryStore::default(), None)
    }))
}

fn run(
    arguments: &DaemonArguments,
    leash: Option<Leash>,
) -> Result<(), Box<dyn std::error::Error>> {
    let clock = Clock::start();
    let sockets = PassedSockets::take()?;
    // The log lines of a private daemon appear among those of the command that started it.
    let timed = !arguments.leashed;
    logging::start(arguments.log_format, &arguments.log_level, timed)?;
    let address = arguments.http.as_deref().map(HttpAddress::parse);
    let source = SettingsSource {
        file: arguments.config.clone(),
        http: address
            .transpose()
            .map_err(|why| format!("--http: {why}"))?,
        no_sandbox: arguments.no_sandbox,
        leashed: arguments.leashed,
    };
    let config = source.load()?;
    if !config.hub.offline
        && let Err(error) = programs::find("fetch")
    {
        telemetry::files::no_fetch_program(&error);
    }
    let mut setup = Setup::assemble(&config, programs::find("worker")?, clock)?;
    if arguments.check_config {
        let models = counted(setup.catalogue.len() as u64, "model");
        say::line(format_args!("settings valid: {models}"));
        let unusable = setup.library.unusable(&setup.beginning.registry);
        unusable.iter().for_each(say::line);
        return Ok(());
    }
    children::adopt();
    let mut journal = None;
    if leash.is_none() {
        (setup.obituaries, journal) = state(arguments.state_dir.clone(), config.obituaries)?;
        setup.groups = groups::prepare(config.control_groups);
    }
    if let Some(path) = &arguments.record {
        setup = setup
            .recorded(path)
            .map_err(|error| format!("cannot write {}: {error}", path.display()))?;
    }
    // A private daemon belongs to its caller, even if a service manager started that one.
    let notify = match leash.is_some() {
        true => NotifySocket::default(),
        false => NotifySocket::from_environment()
            .map_err(|error| format!("cannot reach the service manager: {error}"))?,
    };
    let users = KnownUsers::of(&config);
    let results = ResultLimits {
        keep: config.result_keep,
        memory_mb: config.result_mb,
    };
    let daemon = Daemon {
        sockets,
        notify,
        setup,
        source,
        runtime_dir: arguments
            .runtime_dir
            .clone()
            .unwrap_or_else(folders::runtime),
        socket_mode: config.socket_mode,
        users,
        http: leash.is_none().then_some(HttpSettings {
            config: config.http,
            default_model: config.pool.default_model,
            metadata: config.metadata,
            max_pixels: config.pool.max_pixels,
            results,
        }),
        journal,
        journal_is_chosen: arguments.state_dir.is_some() || paths::given_state_dir().is_some(),
        results,
        otlp: config.otlp,
        leash,
    };
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?
        .block_on(daemon.serve())?;
    Ok(())
}
