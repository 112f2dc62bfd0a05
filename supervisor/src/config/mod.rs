//! The settings: read from a file, checked and converted.
//!
//! - [`mod@file`]: the TOML file; an unknown key is refused with the closest known one
//! - [`bounds`]: the valid values of each setting
//! - [`http`]: the HTTP door's address, tokens and rights
//! - [`names`]: the keys and aliases of the models
//! - [`operators`]: the users and groups that may operate the pool
//! - [`paths`]: the daemon's folders; [`source`]: the file that a daemon reads, at its start and at each reload
//! - [`restart`]: the settings that a running daemon cannot change
//! - [`truce`]: how other programs are asked for the memory of GPUs
//! - [`users`]: the quotas of users

pub mod bounds;
pub mod file;
pub mod http;
pub mod names;
pub mod operators;
pub mod paths;
pub mod restart;
pub mod source;
pub mod truce;
pub mod users;

use std::fs::OpenOptions;
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ipc_protocol::segment::Backing;
use ipc_protocol::units::Mebibytes;

use file::SettingsFile;

/// The checked settings.
#[derive(Debug, Clone)]
pub struct Config {
    /// Settings of the pool.
    pub pool: pool::Settings,
    /// Kind of shared memory that segments use.
    pub backing: Backing,
    /// Whether workers confine themselves.
    pub sandbox: bool,
    /// Permissions of the native door's socket.
    pub socket_mode: u32,
    /// User ids that may operate the pool besides the daemon's own and root.
    pub operators: operators::OperatorIds,
    /// How long the pictures of detached jobs are kept.
    pub result_keep: Duration,
    /// Memory for the pictures of detached jobs, in MiB.
    pub result_mb: u64,
    /// Settings of the HTTP door.
    pub http: http::HttpConfig,
    /// Share of the machine's memory that workers may reserve, in percent.
    pub limit_percent: u64,
    /// Host memory that workers may reserve; replaces `limit_percent` if set.
    pub host_limit: Option<Mebibytes>,
    /// Memory of each GPU that workers may reserve; replaces `limit_percent` if set.
    pub device_limit: Option<Mebibytes>,
    /// Whether each worker gets a control group of its own.
    pub control_groups: file::ControlGroups,
    /// The GPU driver's management library, if it is not where the dynamic linker looks.
    pub gpu_library: Option<PathBuf>,
    /// The text of the settings file; empty without a file.
    pub text: String,
    /// Whether picture files have the receipt and the mark of generated pictures.
    pub metadata: bool,
    /// Settings of the model hub.
    pub hub: HubConfig,
    /// How other programs are asked for the memory of GPUs.
    pub truce: truce::TruceConfig,
    /// Http or https URL of a collector of OpenTelemetry traces; nothing is traced without it.
    pub otlp: Option<String>,
    /// Most obituaries of workers in the state folder.
    pub obituaries: usize,
    /// The `[models.KEY]` sections.
    pub models: std::collections::BTreeMap<String, file::ModelSection>,
}

/// The checked section `[hub]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HubConfig {
    /// Whether fetching is forbidden: no process opens a network connection.
    pub offline: bool,
    /// Http or https URL of a mirror to use instead of the default hub.
    pub endpoint: Option<String>,
    /// Folder of the fetched models, if it is not the default.
    pub folder: Option<PathBuf>,
    /// How long to wait for data from the hub.
    pub patience: Duration,
}

/// Longest settings file, in bytes.
const FILE_BYTES_MAX: usize = 1 << 20;

/// Why settings are invalid. Every message names the file.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Unreadable {
        /// The settings file.
        path: PathBuf,
        /// The error of the read.
        source: std::io::Error,
    },
    /// A setting is unknown or has an invalid value.
    #[error("{}: {what}", path.display())]
    Invalid {
        /// The settings file.
        path: PathBuf,
        /// The fault, and a valid value.
        what: String,
    },
}

/// Reads the settings file, or returns the defaults if `path` is `None`.
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

/// Reads a settings file, at most [`FILE_BYTES_MAX`] bytes. Refuses a pipe or a device, whose reader could wait without end
/// and would find something else at the next reload.
fn read(path: &Path) -> std::io::Result<String> {
    let mut text = String::new();
    let most = FILE_BYTES_MAX as u64 + 1;
    // A pipe without a writer is opened at once.
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(nix::libc::O_NONBLOCK)
        .open(path)?;
    if !file.metadata()?.is_file() {
        let what = "it is not a regular file: put the settings into one";
        return Err(std::io::Error::other(what));
    }
    file.take(most).read_to_string(&mut text)?;
    if text.len() > FILE_BYTES_MAX {
        let what =
            format!("it is longer than {FILE_BYTES_MAX} bytes, the limit of a settings file");
        return Err(std::io::Error::other(what));
    }
    Ok(text)
}

/// Parses and checks settings; the error names the line or the key.
pub fn parse(text: &str) -> Result<Config, String> {
    let config = file::parse(text).and_then(check)?;
    Ok(Config {
        text: text.to_owned(),
        ..config
    })
}

/// Converts the settings, and checks values that depend on each other; the error names both.
fn check(file: SettingsFile) -> Result<Config, String> {
    fits_together(&file)?;
    let seconds = Duration::from_secs_f64;
    let truce = file.truce.clone().check()?;
    let pool = pool::Settings {
        default_model: file.default_model.clone(),
        cold_start_workers: file.pool.cold_start_workers,
        max_workers_per_model: file.pool.max_workers_per_model,
        max_starting_workers: file.pool.max_starting_workers,
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
        truce: truce.terms(),
        quotas: users::quotas(&file)?,
        ..pool::Settings::default()
    };
    Ok(Config {
        pool,
        backing: match file.segment {
            file::SegmentKind::Sealed => Backing::Sealed,
            file::SegmentKind::Named => Backing::Named,
        },
        sandbox: file.sandbox,
        socket_mode: mode(&file.socket.mode)?,
        operators: operators::OperatorIds::of(&file.socket.operators)?,
        result_keep: seconds(file.pool.result_seconds),
        result_mb: file.limits.result_mb,
        http: file.http.check()?,
        limit_percent: file.memory.limit_percent,
        host_limit: file.memory.host_limit_mb.map(Mebibytes),
        device_limit: file.memory.device_limit_mb.map(Mebibytes),
        control_groups: file.memory.control_groups,
        gpu_library: file.gpu.library,
        text: String::new(),
        metadata: file.pictures.metadata,
        hub: HubConfig {
            offline: file.hub.offline,
            endpoint: file.hub.endpoint,
            folder: file.hub.folder,
            patience: seconds(file.hub.patience_seconds),
        },
        truce,
        otlp: file.telemetry.otlp,
        obituaries: file.telemetry.obituaries,
        models: file.models,
    })
}

/// Checks the values that depend on each other.
fn fits_together(file: &SettingsFile) -> Result<(), String> {
    let (least, most) = (file.pool.min_workers, file.pool.max_workers_per_model);
    if least > most {
        return Err(format!(
            "pool.min_workers = {least} is more than pool.max_workers_per_model = {most}: use 0 to {most}"
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
                "{name} = {least} is too many: {key} may have {most} workers at most, so use 0 to {most}"
            ));
        }
    }
    if file.models.contains_key("all") {
        return Err(
            "[models.all]: \"all\" means every model in operators' commands: use another key"
                .into(),
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

/// Parses the octal mode of the door's socket: the daemon's user alone, or its group too.
fn mode(text: &str) -> Result<u32, String> {
    match text {
        "0600" => Ok(0o600),
        "0660" => Ok(0o660),
        _ => Err(format!(
            "socket.mode = {text:?} is invalid: use 0600 or 0660"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_default_is_valid() {
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
                Some(setting) if setting.contains(" = ") || setting.starts_with('[') => setting,
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
    fn a_hub_endpoint_is_a_plain_http_or_https_url() {
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
    fn settings_that_contradict_each_other_are_refused_with_both_names() {
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
                "\"all\" means every model in operators' commands",
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
    fn a_file_that_is_too_long_is_refused_before_it_fills_memory() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("long.toml");
        let file = std::fs::File::create(&path).expect("our own folder");
        file.set_len(1 << 40).expect("a sparse file");
        let error = load(Some(&path)).expect_err("no settings");
        assert!(error.to_string().contains("longer than"), "{error}");
    }

    #[test]
    fn a_pipe_a_device_or_a_folder_is_refused_at_once() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let pipe = folder.path().join("pipe");
        let mode = nix::sys::stat::Mode::S_IRUSR;
        nix::unistd::mkfifo(&pipe, mode).expect("our own folder");
        for path in [&pipe, folder.path(), Path::new("/dev/zero")] {
            let error = load(Some(path)).expect_err("no settings").to_string();
            let place = path.display().to_string();
            assert!(error.contains(&place), "{error}");
            assert!(error.contains("not a regular file"), "{error}");
        }
    }
}
