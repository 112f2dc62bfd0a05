//! From a file to checked settings.
//!
//! - [`mod@file`] is the TOML as people write it: every key, unknown ones refused with the nearest known
//! - [`models`] are the built-in models and how a `[models.KEY]` section changes or adds one
//! - [`served`] is what the pool and the hands know of each
//! - [`operators`] are the users that may operate the pool
//! - [`paths`] are the folders a daemon works in

pub mod file;
pub mod models;
pub mod operators;
pub mod paths;
pub mod served;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ipc_protocol::segment::Backing;
use ipc_protocol::units::Mebibytes;

use file::File;

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
    /// The settings file, where there is one.
    pub file: Option<PathBuf>,
    /// What it held as it was read; empty where there is none.
    pub text: String,
    /// Where models are fetched from.
    pub hub: Hub,
    /// The `[models.KEY]` sections.
    pub models: std::collections::BTreeMap<String, file::Model>,
}

/// `[hub]`, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hub {
    /// Never use the network.
    pub offline: bool,
    /// A mirror instead of the default hub; an http or https URL.
    pub endpoint: Option<String>,
    /// Where fetched models are kept, where it is said.
    pub folder: Option<PathBuf>,
    /// Longest silence of the hub that is borne.
    pub patience: Duration,
}

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
        return check(File::default()).map_err(|what| ConfigError::Invalid {
            path: "the defaults".into(),
            what,
        });
    };
    let text = std::fs::read_to_string(path).map_err(|source| ConfigError::Unreadable {
        path: path.to_owned(),
        source,
    })?;
    let config = parse(&text).map_err(|what| ConfigError::Invalid {
        path: path.to_owned(),
        what,
    })?;
    Ok(Config {
        file: Some(path.to_owned()),
        ..config
    })
}

/// Settings from their text; the error is a sentence with the line or the key.
pub fn parse(text: &str) -> Result<Config, String> {
    let config = file::parse(text).and_then(check)?;
    Ok(Config {
        text: text.to_owned(),
        ..config
    })
}

/// Turns what was written into what holds; the error names the key.
fn check(file: File) -> Result<Config, String> {
    let seconds = |key: &str, value: f64| {
        Duration::try_from_secs_f64(value).map_err(|_| format!("{key} = {value} is no duration"))
    };
    let within = |key: &str, value: u64, least: u64, most: u64| {
        (least..=most)
            .contains(&value)
            .then_some(value)
            .ok_or_else(|| format!("{key} = {value} must lie between {least} and {most}"))
    };
    let limit_percent = within("memory.limit_percent", file.memory.limit_percent, 1, 100)?;
    let pool = pool::Settings {
        default_model: file.default_model,
        cold_start_workers: within(
            "pool.cold_start_workers",
            file.pool.cold_start_workers.into(),
            1,
            64,
        )? as u32,
        max_workers_per_model: within(
            "pool.max_workers_per_model",
            file.pool.max_workers_per_model.into(),
            1,
            64,
        )? as u32,
        min_workers: file.pool.min_workers,
        grow_after: seconds("pool.grow_after_seconds", file.pool.grow_after_seconds)?,
        idle: seconds("pool.idle_seconds", file.pool.idle_seconds)?,
        queue_per_model: within(
            "pool.queue_per_model",
            file.pool.queue_per_model,
            1,
            100_000,
        )? as usize,
        drain: seconds("pool.drain_seconds", file.pool.drain_seconds)?,
        max_attempts: within("pool.max_attempts", file.pool.max_attempts.into(), 1, 10)? as u32,
        max_overtakes: file.pool.max_overtakes,
        max_overtake: seconds("pool.max_overtake_seconds", file.pool.max_overtake_seconds)?,
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
        limit_percent,
        host_limit: file.memory.host_limit_mb.map(Mebibytes),
        file: None,
        text: String::new(),
        hub: hub(file.hub)?,
        models: file.models,
    })
}

/// A hub that can be asked.
fn hub(hub: file::Hub) -> Result<Hub, String> {
    if let Some(endpoint) = &hub.endpoint {
        let rest = endpoint
            .strip_prefix("https://")
            .or_else(|| endpoint.strip_prefix("http://"));
        // A name or a password in it would end up in messages; the token has a place of its own.
        if rest.is_none_or(|rest| rest.is_empty() || rest.contains('@')) {
            return Err("hub.endpoint must be a plain http:// or https:// address".into());
        }
    }
    let patience = Duration::try_from_secs_f64(hub.patience_seconds)
        .ok()
        .filter(|patience| !patience.is_zero())
        .ok_or("hub.patience_seconds must be above 0")?;
    Ok(Hub {
        offline: hub.offline,
        endpoint: hub.endpoint,
        folder: hub.folder,
        patience,
    })
}

/// An octal mode for the door's socket: its own user, and its group where that is wanted.
fn mode(text: &str) -> Result<u32, String> {
    match text {
        "0600" => Ok(0o600),
        "0660" => Ok(0o660),
        _ => Err(format!(
            "socket.mode = {text:?} must be \"0600\" or \"0660\""
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
        let error = checked("[hub]\npatience_seconds = 0").expect_err("no patience");
        assert!(error.contains("hub.patience_seconds"), "{error}");
    }

    #[test]
    fn a_value_out_of_range_names_its_key() {
        let parsed = file::parse("[memory]\nlimit_percent = 101").expect("valid TOML");
        let error = check(parsed).expect_err("over 100 %");
        assert!(error.contains("memory.limit_percent"), "{error}");
        let parsed = file::parse("[socket]\nmode = \"0777\"").expect("valid TOML");
        assert!(
            check(parsed)
                .expect_err("open to all")
                .contains("socket.mode")
        );
    }
}
