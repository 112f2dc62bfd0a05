//! `avail`: the models of the settings file.

use ipc_protocol::messages::client::AvailableModel;
use serde_json::json;

use crate::cli::args::ConnectOptions;
use crate::cli::daemon::connect;
use crate::cli::{CommandError, say};

/// Prints a line for each model; returns the exit code.
pub fn run(reach: &ConnectOptions, is_json: bool) -> Result<u8, CommandError> {
    for model in connect::daemon(reach)?.available()? {
        match is_json {
            true => say::line(json!({
                "name": model.key.as_str(),
                "in_use": model.in_use,
                "auto": model.auto,
            })),
            false => say::line(line(&model)),
        }
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
