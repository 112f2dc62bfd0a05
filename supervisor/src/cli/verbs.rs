//! The operator's verbs.

use ipc_protocol::client::Client;
use ipc_protocol::failure::{Failure, FailureKind, Field};
use ipc_protocol::ids::{ModelKey, WorkerName};
use ipc_protocol::messages::client::{Target, Told, Verb};
use ipc_protocol::version::BUILD;

use super::args::{Quarantine, Reach};
use super::{CommandError, connect, say};

/// `stop`, `start` and `restart`: prints a line per worker or model that it happened to.
pub fn each(
    reach: &Reach,
    names: &[String],
    verb: impl Fn(Target) -> Verb,
) -> Result<u8, CommandError> {
    let targets: Vec<Target> = names
        .iter()
        .map(|name| target(name))
        .collect::<Result<_, _>>()?;
    let mut client = connect::daemon(reach)?;
    let mut code = 0;
    for target in targets {
        code = code.max(print(client.operate(verb(target))?));
    }
    Ok(code)
}

/// Any verb whose answer is lines.
pub fn tell(reach: &Reach, verb: Verb) -> Result<u8, CommandError> {
    Ok(print(connect::daemon(reach)?.operate(verb)?))
}

/// `pin` and `unpin`.
pub fn pin(reach: &Reach, model: String, pinned: bool) -> Result<u8, CommandError> {
    tell(reach, Verb::Pin { model, pinned })
}

/// `plan MODEL [--size WxH]`.
pub fn plan(reach: &Reach, model: String, size: Option<&str>) -> Result<u8, CommandError> {
    let size = size
        .map(str::parse)
        .transpose()
        .map_err(|why: String| Failure::bad_value(Field::Size, why))?;
    tell(reach, Verb::Plan { model, size })
}

/// `quarantine [list|release|drop]`.
pub fn quarantine(reach: &Reach, what: Option<Quarantine>) -> Result<u8, CommandError> {
    let verb = match what {
        None | Some(Quarantine::List) => Verb::Quarantined,
        Some(Quarantine::Release { digest }) => Verb::Release {
            digest: Some(digest),
        },
        Some(Quarantine::Drop) => Verb::Release { digest: None },
    };
    tell(reach, verb)
}

/// Prints lines; the code is supervisorctl's: what was so already is no error, anything else is 1.
fn print(told: Told) -> u8 {
    told.lines.iter().for_each(say::line);
    u8::from(!told.success)
}

/// `shutdown`: drains; `Shut down` is printed when the process is gone.
pub fn shutdown(reach: &Reach) -> Result<u8, CommandError> {
    let mut client = connect::daemon(reach)?;
    client.operate(Verb::Shutdown)?;
    client.wait_for_end().map_err(CommandError::Client)?;
    say::line("Shut down");
    Ok(0)
}

/// `version`: ours, and the daemon's where one answers.
pub fn version(reach: &Reach) -> Result<u8, CommandError> {
    say::line(format_args!("imagepool {BUILD}"));
    if let Some(Client { version, pid, .. }) = connect::daemon_if_any(reach)? {
        say::line(format_args!("supervisor {version}, pid {pid}"));
    }
    Ok(0)
}

/// `all`, `MODEL` or `MODEL:SLOT`.
fn target(name: &str) -> Result<Target, CommandError> {
    let unknown = |why: String| Failure::new(FailureKind::NoSuchName, why);
    if name == "all" {
        return Ok(Target::All);
    }
    Ok(match name.rsplit_once(':') {
        None => Target::Model(ModelKey::new(name).map_err(unknown)?),
        Some((model, slot)) => Target::Worker(WorkerName {
            model: ModelKey::new(model).map_err(unknown)?,
            slot: slot
                .parse()
                .map_err(|_| unknown(format!("{name}: ERROR (no such process)")))?,
        }),
    })
}
