//! The operator's verbs.

use ipc_protocol::client::Client;
use ipc_protocol::failure::{Failure, FailureKind};
use ipc_protocol::ids::{ModelKey, WorkerName};
use ipc_protocol::messages::client::{Target, Verb};
use ipc_protocol::version::BUILD;

use super::args::Reach;
use super::{CommandError, connect};

/// `stop NAME…`: prints a line per worker or model that it stopped.
pub fn stop(reach: &Reach, names: &[String]) -> Result<u8, CommandError> {
    let mut client = connect::daemon(reach)?;
    for name in names {
        for line in client.operate(Verb::Stop(target(name)?))? {
            println!("{line}");
        }
    }
    Ok(0)
}

/// `shutdown`: drains; `Shut down` is printed when the process is gone.
pub fn shutdown(reach: &Reach) -> Result<u8, CommandError> {
    let mut client = connect::daemon(reach)?;
    client.operate(Verb::Shutdown)?;
    client.wait_for_end().map_err(CommandError::Client)?;
    println!("Shut down");
    Ok(0)
}

/// `version`: ours, and the daemon's where one answers.
pub fn version(reach: &Reach) -> Result<u8, CommandError> {
    println!("imagepool {BUILD}");
    if let Some(Client { version, pid, .. }) = connect::daemon_if_any(reach)? {
        println!("supervisor {version}, pid {pid}");
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
