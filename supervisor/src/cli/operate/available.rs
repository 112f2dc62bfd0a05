//! `avail`: the models of the settings file.

use ipc_protocol::client::ClientError;
use ipc_protocol::failure::FailureKind;
use ipc_protocol::messages::client::AvailableModel;
use serde_json::json;

use super::verbs::{FAILED, VerbOutput};
use crate::cli::args::ConnectOptions;
use crate::cli::daemon::connect;
use crate::cli::json_output::list;
use crate::cli::{CommandError, say};

/// Prints a line for each model; returns the exit code.
pub fn run(reach: &ConnectOptions, teller: VerbOutput) -> Result<u8, CommandError> {
    let models = match connect::daemon(reach)?.available() {
        // The request has no values: the settings file has a bad one. `reread`, `update` and `reload` say it like that.
        Err(ClientError::Refused(failure)) if failure.kind == FailureKind::BadValue => {
            teller.line(&format!("ERROR: {}", failure.message));
            return Ok(FAILED);
        }
        models => models?,
    };
    match teller.json {
        true => list(models.iter().map(|model| {
            json!({
                "name": model.key.as_str(),
                "in_use": model.in_use,
                "auto": model.auto,
            })
        })),
        false => models.iter().map(line).for_each(say::line),
    }
    Ok(0)
}

/// Formats a model in supervisorctl's columns. All models have its default priority, because the pool starts workers
/// when they are needed, in no fixed order.
fn line(model: &AvailableModel) -> String {
    let in_use = match model.in_use {
        true => "in use",
        false => "avail",
    };
    let start = match model.auto {
        true => "auto",
        false => "manual",
    };
    format!("{:<32} {in_use:<9} {start:<9} 999:999", model.key)
}

#[cfg(test)]
mod tests {
    use ipc_protocol::ids::ModelKey;

    use super::*;

    #[test]
    fn the_columns_are_supervisorctls() {
        let model = AvailableModel {
            key: ModelKey::new("cat").expect("a plain key"),
            in_use: true,
            auto: true,
        };
        // Printed by supervisorctl 4.3 for a program "cat".
        let theirs = "cat                              in use    auto      999:999";
        assert_eq!(line(&model), theirs);
    }
}
