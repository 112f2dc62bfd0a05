//! From a file to checked settings.
//!
//! - [`mod@file`] is the TOML as people write it: every key, unknown ones refused with the nearest known
//! - [`bounds`] are the values that each setting may have
//! - [`names`] are the keys and aliases of the models
//! - [`operators`] are the users that may operate the pool
//! - [`paths`] are the folders a daemon works in

pub mod bounds;
pub mod file;
pub mod names;
pub mod operators;
pub mod paths;

use std::collections::BTreeSet;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ipc_protocol::segment::Backing;
use ipc_protocol::units::Mebibytes;

use file::SettingsFile;

/// Everything an operator decided, checked.
#[derive(Debug, Clone)]
pub struct Config {
    /// What the pool follows.
    pub pool: pool::Settings,
    /// Where segments live.
    pub backing: Backing,
    /// Permissions of the native door's socket.
    pub socket_mode: u32,
    /// Users that may operate the pool, beside our own and root.
    pub operators: BTreeSet<u32>,
    /// Share of the machine's memory that may be promised, in percent.
    pub limit_percent: u64,
    /// Host memory that may be promised, where it is said outright.
    pub host_limit: Option<Mebibytes>,
    /// What it held as it was read; empty where there is none.
    pub text: String,
    /// Where models are fetched from.
    pub hub: HubSettings,
    /// The `[models.KEY]` sections.
    pub models: std::collections::BTreeMap<String, file::ModelSection>,
}

/// `[hub]`, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HubSettings {
    /// Never use the network.
    pub offline: bool,
    /// A mirror instead of the default hub; an http or https URL.
    pub endpoint: Option<String>,
    /// Where fetched models are kept, where it is said.
    pub folder: Option<PathBuf>,
    /// Longest silence of the hub that is borne.
    pub patience: Duration,
}

/// Longest settings file.
const FILE_BYTES_MAX: usize = 1 << 20;

/// Why settings cannot be used; each names the file.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the kernel said.
        source: std::io::Error,
    },
    /// The file holds something that is no setting.
    #[error("{}: {what}", path.display())]
    Invalid {
        /// The file.
        path: PathBuf,
        /// What is wrong, with the nearest known name for an unknown key.
        what: String,
    },
}

/// Reads the settings in `path`, or takes every default where there is no file.
pub fn load(path: Option<&Path>) -> Result<Config, ConfigError> {
    let Some(path) = path else {
        return check(SettingsFile::default()).map_err(|what| ConfigError::Invalid {
            path: "the defaults".into(),
            what,
        });
    };
    let text = read(path).map_err(|source| ConfigError::Unreadable {
        path: path.to_owned(),
        source,
    })?;
    parse(&text).map_err(|what| ConfigError::Invalid {
        path: path.to_owned(),
        what,
    })
}

/// The text of a settings file, or of a pipe that holds it.
fn read(path: &Path) -> std::io::Result<String> {
    let mut text = String::new();
    let most = FILE_BYTES_MAX as u64 + 1;
    std::fs::File::open(path)?
        .take(most)
        .read_to_string(&mut text)?;
    if text.len() > FILE_BYTES_MAX {
        let what = format!("it is longer than {FILE_BYTES_MAX} bytes, so it holds no settings");
        return Err(std::io::Error::other(what));
    }
    Ok(text)
}

/// Settings from their text; the error is a sentence with the line or the key.
pub fn parse(text: &str) -> Result<Config, String> {
    let config = file::parse(text).and_then(check)?;
    Ok(Config {
        text: text.to_owned(),
        ..config
    })
}

/// Turns what was written into what holds. Each value was checked by itself; here are those that have to
/// fit each other. The error names both.
fn check(file: SettingsFile) -> Result<Config, String> {
    fits_together(&file)?;
    let seconds = Duration::from_secs_f64;
    let pool = pool::Settings {
        default_model: file.default_model,
        cold_start_workers: file.pool.cold_start_workers,
        max_workers_per_model: file.pool.max_workers_per_model,
        min_workers: file.pool.min_workers,
        grow_after: seconds(file.pool.grow_after_seconds),
        idle: seconds(file.pool.idle_seconds),
        queue_per_model: file.pool.queue_per_model as usize,
        queue_total: file.pool.queue_total as usize,
        drain: seconds(file.pool.drain_seconds),
        max_attempts: file.pool.max_attempts,
        quarantine: seconds(file.pool.quarantine_seconds),
        max_overtakes: file.pool.max_overtakes,
        max_overtake: seconds(file.pool.max_overtake_seconds),
        fifo: file.pool.fifo,
        prompt_bytes: file.limits.prompt_bytes,
        max_pixels: file.limits.max_pixels,
        ..pool::Settings::default()
    };
    Ok(Config {
        pool,
        backing: match file.segment {
            file::SegmentKind::Sealed => Backing::Sealed,
            file::SegmentKind::Named => Backing::Named,
        },
        socket_mode: mode(&file.socket.mode)?,
        operators: operators::uids(&file.socket.operators)?,
        limit_percent: file.memory.limit_percent,
        host_limit: file.memory.host_limit_mb.map(Mebibytes),
        text: String::new(),
        hub: HubSettings {
            offline: file.hub.offline,
            endpoint: file.hub.endpoint,
            folder: file.hub.folder,
            patience: seconds(file.hub.patience_seconds),
        },
        models: file.models,
    })
}

/// Checks settings against each other.
fn fits_together(file: &SettingsFile) -> Result<(), String> {
    let (least, most) = (file.pool.min_workers, file.pool.max_workers_per_model);
    if least > most {
        return Err(format!(
            "pool.min_workers = {least} is not possible with pool.max_workers_per_model = {most}: use 0 to {most}"
        ));
    }
    for (key, model) in &file.models {
        let most = model.max_workers.unwrap_or(most);
        let (name, least) = match model.min_workers {
            Some(least) => (format!("models.{key}.min_workers"), least),
            None => ("pool.min_workers".to_owned(), least),
        };
        if least > most {
            return Err(format!(
                "{name} = {least} is not possible: {key} may have {most} workers at most, so use 0 to {most}"
            ));
        }
    }
    if file.models.contains_key("all") {
        return Err(
            "[models.all]: \"all\" is the verbs' word for every model: use another key".into(),
        );
    }
    if !names::is_name(&file.models, &file.default_model) {
        let known = names::keys(&file.models).join(", ");
        return Err(format!(
            "default_model = {:?} is not the name of a model: use one of {known}",
            file.default_model
        ));
    }
    Ok(())
}

/// An octal mode for the door's socket: its own user, and its group where that is wanted.
fn mode(text: &str) -> Result<u32, String> {
    match text {
        "0600" => Ok(0o600),
        "0660" => Ok(0o660),
        _ => Err(format!(
            "socket.mode = {text:?} is not a known word: use 0600 or 0660"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_default_is_allowed() {
        let config = load(None).expect("the defaults are settings");
        assert_eq!(config.pool.cold_start_workers, 2);
        assert_eq!(config.limit_percent, 80);
        assert_eq!(config.socket_mode, 0o600);
    }

    #[test]
    fn the_example_file_documents_every_setting_at_its_default() {
        let example = include_str!("../../../imagepool.example.toml");
        let uncommented: String = example
            .lines()
            .map(|line| match line.strip_prefix("# ") {
                Some(setting) if setting.contains(" = ") || setting.starts_with("[models.") => {
                    setting
                }
                _ => line,
            })
            .filter(|line| !line.starts_with("path = "))
            .map(|line| format!("{line}\n"))
            .collect();
        file::parse(example).expect("the example can be loaded");
        file::parse(&uncommented).expect("what it shows as comments can be loaded too");
        let config = file::parse(example)
            .and_then(check)
            .expect("and every value is allowed");
        assert_eq!(config.pool, load(None).expect("the defaults").pool);
    }

    #[test]
    fn a_hub_is_asked_at_a_plain_address_only() {
        let checked = |text: &str| file::parse(text).and_then(check);
        let config = checked("[hub]\noffline = true\nendpoint = \"http://127.0.0.1:8080\"")
            .expect("a mirror");
        assert!(config.hub.offline);
        for endpoint in ["ftp://a", "https://", "https://name:word@mirror", "mirror"] {
            let error = checked(&format!("[hub]\nendpoint = \"{endpoint}\"")).expect_err(endpoint);
            assert!(error.contains("hub.endpoint"), "{error}");
            assert!(!error.contains("word"), "{error}");
        }
    }

    #[test]
    fn settings_that_do_not_fit_each_other_are_refused_with_both() {
        for (text, what) in [
            ("[pool]\nmin_workers = 5", "pool.max_workers_per_model = 4"),
            (
                "[pool]\nmin_workers = 2\n[models.flux-schnell]\nmax_workers = 1",
                "flux-schnell may have 1",
            ),
            (
                "[models.flux-schnell]\nmin_workers = 5",
                "models.flux-schnell.min_workers = 5",
            ),
            ("default_model = \"fluxx\"", "default_model = \"fluxx\""),
            (
                "[models.all]\nfamily = \"synthetic\"",
                "\"all\" is the verbs' word for every model",
            ),
        ] {
            let error = parse(text).expect_err(text);
            assert!(error.contains(what) && error.contains("use "), "{error}");
        }
        parse("[models.flux-schnell]\nmin_workers = 5\nmax_workers = 5").expect("five of five");
        parse("default_model = \"black-forest-labs/FLUX.1-schnell\"").expect("an alias");
        parse("default_model = \"own\"\n[models.own]\npath = \"/srv/own\"").expect("one's own");
    }

    #[test]
    fn a_file_without_an_end_is_refused_before_it_fills_memory() {
        let error = load(Some(Path::new("/dev/zero"))).expect_err("no settings");
        assert!(error.to_string().contains("longer than"), "{error}");
    }
}
