//! The command, and its answers as JSON.

use std::process::Command;

use serde_json::Value;

use crate::program::{self, ProgramOutput};
use crate::sandbox::Sandbox;

/// `imagepool` with arguments, not started yet.
pub fn command(sandbox: &Sandbox, arguments: &[&str]) -> Command {
    let mut command = program::command(&sandbox.binaries().imagepool(), sandbox);
    command.args(arguments);
    command
}

impl ProgramOutput {
    /// The JSON objects on stdout, one a line.
    pub fn json(&self) -> Vec<Value> {
        String::from_utf8_lossy(&self.stdout)
            .lines()
            .map(|line| {
                serde_json::from_str(line)
                    .unwrap_or_else(|error| panic!("{error} in {line:?}, stderr {:?}", self.stderr))
            })
            .collect()
    }

    /// The one JSON array on stdout.
    pub fn json_list(&self) -> Vec<Value> {
        match self.json().as_slice() {
            [Value::Array(list)] => list.clone(),
            other => panic!("{other:?} is not one array, stderr {:?}", self.stderr),
        }
    }

    /// Its stdout as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    /// Fails the test unless the program ended with 0.
    pub fn succeeded(self) -> Self {
        self.ended_with(0)
    }

    /// Fails the test unless the program ended with `code`.
    pub fn ended_with(self, code: i32) -> Self {
        assert_eq!(
            self.code,
            code,
            "stderr: {}\nstdout: {}",
            self.stderr,
            String::from_utf8_lossy(&self.stdout)
        );
        self
    }
}
