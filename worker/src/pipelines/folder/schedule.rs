//! Checks `scheduler_config.json` of a diffusers folder against the family's sampler.
//!
//! Keys and defaults are those of diffusers' `FlowMatchEulerDiscreteScheduler`. The noise levels are part of a
//! family's pipeline, and a receipt does not contain them. So a folder with another schedule is refused.

use crate::fault::WorkerFault;
use crate::pipelines::folder::text_file::read_json;
use serde::Deserialize;
use std::path::Path;

/// Possible paths of the file.
const FILES: [&str; 2] = ["scheduler/scheduler_config.json", "scheduler_config.json"];
const CLASS: &str = "FlowMatchEulerDiscreteScheduler";
/// Number of noise levels in training, the same for both families.
const TRAINED: u32 = 1000;

#[derive(Deserialize)]
struct ScheduleConfig {
    #[serde(rename = "_class_name")]
    class: Option<String>,
    #[serde(default = "unshifted")]
    shift: f64,
    #[serde(default = "trained")]
    num_train_timesteps: u32,
    shift_terminal: Option<f64>,
    #[serde(default)]
    use_dynamic_shifting: bool,
    #[serde(default)]
    use_karras_sigmas: Option<bool>,
    #[serde(default)]
    use_exponential_sigmas: Option<bool>,
    #[serde(default)]
    use_beta_sigmas: Option<bool>,
    #[serde(default)]
    invert_sigmas: bool,
    #[serde(default)]
    stochastic_sampling: bool,
}

fn unshifted() -> f64 {
    1.0
}

fn trained() -> u32 {
    TRAINED
}

/// Refuses a folder with another scheduler than that of `model`, which shifts its noise levels by `shift`. A
/// folder without the file is accepted.
///
/// # Errors
/// [`WorkerFault::Configuration`] with the key.
pub fn check(folder: &Path, model: &str, shift: f64) -> Result<(), WorkerFault> {
    let mut paths = FILES.iter().map(|name| folder.join(name));
    let Some(path) = paths.find(|path| path.is_file()) else {
        return Ok(());
    };
    let found: ScheduleConfig = read_json(&path)?;
    let Some((key, value, wanted)) = difference(&found, shift) else {
        return Ok(());
    };
    let what = format!(
        "is {value}, but {model} needs {wanted}: these files are of another model, or the schedule was \
         changed; replace the file by the published one, or remove it"
    );
    Err(WorkerFault::configuration(
        path.display().to_string(),
        key,
        what,
    ))
}

/// The first key that differs, with its value and the needed one.
fn difference(found: &ScheduleConfig, shift: f64) -> Option<(&'static str, String, String)> {
    if let Some(class) = found.class.as_ref().filter(|class| *class != CLASS) {
        return Some(("_class_name", class.clone(), CLASS.to_owned()));
    }
    if found.num_train_timesteps != TRAINED {
        let value = found.num_train_timesteps.to_string();
        return Some(("num_train_timesteps", value, TRAINED.to_string()));
    }
    let switches = [
        ("use_dynamic_shifting", found.use_dynamic_shifting),
        ("use_karras_sigmas", found.use_karras_sigmas == Some(true)),
        (
            "use_exponential_sigmas",
            found.use_exponential_sigmas == Some(true),
        ),
        ("use_beta_sigmas", found.use_beta_sigmas == Some(true)),
        ("invert_sigmas", found.invert_sigmas),
        ("stochastic_sampling", found.stochastic_sampling),
    ];
    if let Some((key, _)) = switches.into_iter().find(|(_, on)| *on) {
        return Some((key, "true".to_owned(), "false".to_owned()));
    }
    if let Some(end) = found.shift_terminal {
        return Some(("shift_terminal", end.to_string(), "none".to_owned()));
    }
    (found.shift != shift).then(|| ("shift", found.shift.to_string(), shift.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use ipc_protocol::exit_code::ExitCode;

    fn checked(text: &str, shift: f64) -> Result<(), WorkerFault> {
        let folder = tempfile::tempdir().expect("a temporary folder");
        std::fs::create_dir(folder.path().join("scheduler")).expect("a writable folder");
        std::fs::write(folder.path().join(FILES[0]), text).expect("a writable folder");
        check(folder.path(), "the model", shift)
    }

    #[test]
    fn the_published_schedulers_are_accepted_and_so_is_a_missing_file() {
        let flux = r#"{"_class_name": "FlowMatchEulerDiscreteScheduler", "base_image_seq_len": 256,
            "base_shift": 0.5, "max_image_seq_len": 4096, "max_shift": 1.15, "num_train_timesteps": 1000,
            "shift": 1.0, "use_dynamic_shifting": false}"#;
        checked(flux, 1.0).expect("FLUX.1 schnell's");
        let sd3 = r#"{"_class_name": "FlowMatchEulerDiscreteScheduler", "num_train_timesteps": 1000,
            "shift": 3.0, "shift_terminal": null, "use_karras_sigmas": null, "invert_sigmas": false}"#;
        checked(sd3, 3.0).expect("Stable Diffusion 3.5's");
        let folder = tempfile::tempdir().expect("a temporary folder");
        check(folder.path(), "the model", 3.0).expect("the family's own");
    }

    #[test]
    fn another_schedule_is_refused_with_the_key_that_differs() {
        let cases = [
            (r#"{"shift": 1.0}"#, 3.0, "shift: is 1,"),
            ("{}", 3.0, "shift: is 1,"),
            (r#"{"shift": 3.0}"#, 1.0, "shift: is 3,"),
            (
                r#"{"use_dynamic_shifting": true}"#,
                1.0,
                "use_dynamic_shifting",
            ),
            (
                r#"{"shift": 3, "use_beta_sigmas": true}"#,
                3.0,
                "use_beta_sigmas",
            ),
            (
                r#"{"shift": 3, "shift_terminal": 0.1}"#,
                3.0,
                "shift_terminal",
            ),
            (r#"{"_class_name": "DDIMScheduler"}"#, 1.0, "DDIMScheduler"),
            (
                r#"{"num_train_timesteps": 500}"#,
                1.0,
                "num_train_timesteps",
            ),
        ];
        for (text, shift, words) in cases {
            let fault = checked(text, shift).expect_err("another schedule");
            assert_eq!(fault.exit_code(), Some(ExitCode::BadConfiguration));
            assert!(fault.to_string().contains(words), "{fault}");
        }
    }
}
