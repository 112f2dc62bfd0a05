//! Runs a hook of the settings: a program, or the fetch program that sends a request.

use std::time::Duration;

use ipc_protocol::ids::Device;

use super::{programs, spawn};
use crate::config::truce::Hook;

/// Runs a hook about a device to its end.
///
/// # Errors
/// The message: it could not be started, took longer than `at_most`, or failed, with its last words.
pub fn run(hook: &Hook, device: Device, at_most: Duration) -> Result<(), String> {
    let answer = match hook {
        Hook::Program(words) => {
            let (program, arguments) = words.split_first().ok_or("it names no program")?;
            spawn::run_hook(program, arguments, device, at_most)
        }
        Hook::Call { url, body } => {
            let fetch = programs::find("fetch").map_err(|error| error.to_string())?;
            spawn::call(&fetch, url, body.as_deref(), at_most)
        }
    };
    match answer {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(said)) if said.is_empty() => Err("it failed without a word on stderr".into()),
        Ok(Err(said)) => Err(said),
        Err(error) => Err(format!("it cannot be started: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ran(words: &[&str]) -> Result<(), String> {
        let words = words.iter().map(|word| (*word).to_owned()).collect();
        let (hook, second) = (Hook::Program(words), Duration::from_secs(1));
        run(&hook, Device::Cuda(3), second)
    }

    #[test]
    fn a_program_gets_the_device_and_its_failure_is_reported() {
        assert_eq!(
            ran(&["sh", "-c", "test $IMAGEPOOL_DEVICE = cuda:3"]),
            Ok(())
        );
        let failed = ran(&["sh", "-c", "echo it is busy >&2; exit 3"]);
        assert_eq!(failed, Err("it is busy".into()));
        let slow = ran(&["sleep", "60"]).expect_err("it takes too long");
        assert!(slow.contains("no answer within 1 s"), "{slow}");
        let none = ran(&["/no/such/program"]).expect_err("it is not there");
        assert!(none.contains("cannot be started"), "{none}");
    }
}
