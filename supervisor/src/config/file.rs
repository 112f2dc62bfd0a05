//! The settings file. Every name includes its unit.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Deserialize;

use super::bounds;
use super::http::HttpSection;
use super::operators::Operator;
use super::truce::TruceSection;

/// The whole file; a missing setting has its default.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SettingsFile {
    /// Key or alias of the model for requests that name none.
    pub default_model: String,
    /// Kind of shared memory.
    pub segment: SegmentKind,
    /// Whether workers confine themselves.
    pub sandbox: bool,
    /// Settings of the native door.
    pub socket: SocketSection,
    /// Settings of the HTTP door.
    pub http: HttpSection,
    /// Memory limits.
    pub memory: MemorySection,
    /// Settings of the GPU driver.
    pub gpu: GpuSection,
    /// Settings of the pool.
    pub pool: PoolSection,
    /// Limits of requests.
    pub limits: LimitsSection,
    /// Settings of picture files.
    pub pictures: PicturesSection,
    /// Settings of the model hub.
    pub hub: HubSection,
    /// Settings of the reports to other programs.
    pub telemetry: TelemetrySection,
    /// How other programs are asked for the memory of GPUs.
    pub truce: TruceSection,
    /// The quotas of users, by name.
    pub users: BTreeMap<String, UserSection>,
    /// Changes to built-in models, and additional models, by key.
    pub models: BTreeMap<String, ModelSection>,
}

impl Default for SettingsFile {
    fn default() -> Self {
        Self {
            default_model: pool::Settings::default().default_model,
            segment: SegmentKind::default(),
            sandbox: true,
            socket: SocketSection::default(),
            http: HttpSection::default(),
            memory: MemorySection::default(),
            gpu: GpuSection::default(),
            pool: PoolSection::default(),
            limits: LimitsSection::default(),
            pictures: PicturesSection::default(),
            hub: HubSection::default(),
            telemetry: TelemetrySection::default(),
            truce: TruceSection::default(),
            users: BTreeMap::new(),
            models: BTreeMap::new(),
        }
    }
}

/// The setting `segment`.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SegmentKind {
    /// A sealed memfd.
    #[default]
    Sealed,
    /// Named POSIX shared memory.
    Named,
}

/// The section `[socket]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SocketSection {
    /// Octal permissions of `pool.sock`.
    pub mode: String,
    /// Users and groups that may operate the pool besides the daemon's own user and root.
    pub operators: Vec<Operator>,
}

impl Default for SocketSection {
    fn default() -> Self {
        Self {
            mode: "0600".into(),
            operators: Vec::new(),
        }
    }
}

/// The section `[memory]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MemorySection {
    /// Share of the machine's memory that workers may reserve, in percent.
    pub limit_percent: u64,
    /// Host memory that workers may reserve, in MiB; replaces the share.
    pub host_limit_mb: Option<u64>,
    /// Memory of each accelerator that workers may reserve, in MiB; replaces the share.
    pub device_limit_mb: Option<u64>,
    /// Whether each worker gets a control group of its own.
    pub control_groups: ControlGroups,
}

/// The setting `memory.control_groups`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ControlGroups {
    /// Where the daemon is alone in its own group and may divide it.
    #[default]
    Auto,
    /// Even if other processes are in the daemon's group, which only version 1 allows.
    On,
    /// Never.
    Off,
}

impl Default for MemorySection {
    fn default() -> Self {
        Self {
            limit_percent: 80,
            host_limit_mb: None,
            device_limit_mb: None,
            control_groups: ControlGroups::default(),
        }
    }
}

/// The section `[gpu]`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GpuSection {
    /// The driver's management library, if it is not where the dynamic linker looks.
    pub library: Option<PathBuf>,
}

/// The section `[pool]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[expect(
    missing_docs,
    reason = "pool::Settings and imagepool.example.toml document them"
)]
pub struct PoolSection {
    pub cold_start_workers: u32,
    pub max_workers_per_model: u32,
    pub max_starting_workers: u32,
    pub min_workers: u32,
    pub grow_after_seconds: f64,
    pub idle_seconds: f64,
    pub queue_per_model: u64,
    pub queue_total: u64,
    pub drain_seconds: f64,
    pub max_attempts: u32,
    pub quarantine_seconds: f64,
    pub max_overtakes: u32,
    pub max_overtake_seconds: f64,
    pub result_seconds: f64,
    pub fifo: bool,
}

impl Default for PoolSection {
    fn default() -> Self {
        let settings = pool::Settings::default();
        Self {
            cold_start_workers: settings.cold_start_workers,
            max_workers_per_model: settings.max_workers_per_model,
            max_starting_workers: settings.max_starting_workers,
            min_workers: settings.min_workers,
            grow_after_seconds: settings.grow_after.as_secs_f64(),
            idle_seconds: settings.idle.as_secs_f64(),
            queue_per_model: settings.queue_per_model as u64,
            queue_total: settings.queue_total as u64,
            drain_seconds: settings.drain.as_secs_f64(),
            max_attempts: settings.max_attempts,
            quarantine_seconds: settings.quarantine.as_secs_f64(),
            max_overtakes: settings.max_overtakes,
            max_overtake_seconds: settings.max_overtake.as_secs_f64(),
            result_seconds: 600.0,
            fifo: settings.fifo,
        }
    }
}

/// The section `[limits]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LimitsSection {
    /// Longest prompt, in bytes.
    pub prompt_bytes: usize,
    /// Largest picture, in pixels.
    pub max_pixels: u64,
    /// Most memory for the finished pictures of detached jobs, in MiB.
    pub result_mb: u64,
}

impl Default for LimitsSection {
    fn default() -> Self {
        let settings = pool::Settings::default();
        Self {
            prompt_bytes: settings.prompt_bytes,
            max_pixels: settings.max_pixels,
            result_mb: 512,
        }
    }
}

/// The section `[pictures]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PicturesSection {
    /// Whether files have the receipt and the mark of generated pictures.
    pub metadata: bool,
}

impl Default for PicturesSection {
    fn default() -> Self {
        Self { metadata: true }
    }
}

/// The section `[hub]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HubSection {
    /// Whether fetching is forbidden: no process opens a network connection.
    pub offline: bool,
    /// Http or https URL of a mirror to use instead of the default hub.
    pub endpoint: Option<String>,
    /// Folder of the fetched models.
    pub folder: Option<PathBuf>,
    /// How long to wait for data from the hub, in seconds.
    pub patience_seconds: f64,
}

impl Default for HubSection {
    fn default() -> Self {
        Self {
            offline: false,
            endpoint: None,
            folder: None,
            patience_seconds: 60.0,
        }
    }
}

/// The section `[telemetry]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TelemetrySection {
    /// Http or https URL of a collector of OpenTelemetry traces; nothing is traced without it.
    pub otlp: Option<String>,
    /// Obituaries of workers that are kept in the state folder.
    pub obituaries: usize,
}

impl Default for TelemetrySection {
    fn default() -> Self {
        Self {
            otlp: None,
            obituaries: 100,
        }
    }
}

/// A section `[users.NAME]`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct UserSection {
    /// Most jobs within any hour.
    pub jobs_per_hour: Option<u32>,
    /// The models that the user may request.
    pub models: Option<Vec<String>>,
    /// The highest priority that the user may request: `high`, `normal` or `low`.
    pub priority_max: Option<String>,
}

/// A section `[models.KEY]`.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ModelSection {
    /// `flux`, `sd3` or `synthetic`; required if KEY is not a built-in model.
    pub family: Option<String>,
    /// Folder of the weights.
    pub path: Option<PathBuf>,
    /// Variant to fetch, if the model has several.
    pub variant: Option<String>,
    /// Branch, tag or commit of the hub's repository.
    pub revision: Option<String>,
    /// Whether one worker always stays in memory.
    pub pinned: bool,
    /// Least number of workers.
    pub min_workers: Option<u32>,
    /// Most workers at a time.
    pub max_workers: Option<u32>,
    /// Device: `auto`, `cpu` or `cuda:N`.
    pub device: Option<String>,
    /// Threads for each worker's arithmetic.
    pub threads: Option<u32>,
    /// Data type of the encoders and the transformer: `f32`, `bf16` or `f16`.
    pub dtype: Option<String>,
    /// Where the text encoders stay between two prompts: `keep`, `drop` or `cpu`.
    pub encoders: Option<String>,
    /// Parameters of the synthetic family.
    pub params: Option<SyntheticParams>,
}

/// The parameters of a synthetic model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SyntheticParams {
    /// Duration of a step, in milliseconds.
    pub step_ms: u32,
    /// Duration of a load, in milliseconds.
    pub load_ms: u32,
    /// Memory that stands in for the weights, in MiB.
    pub weights_mb: u32,
    /// Memory of a GPU that stands in for the weights there, in MiB; 0 if the model runs on the CPU only.
    pub device_mb: u32,
}

impl Default for SyntheticParams {
    fn default() -> Self {
        Self {
            step_ms: 10,
            load_ms: 10,
            weights_mb: 16,
            device_mb: 0,
        }
    }
}

/// Parses the TOML and checks every value by itself. The error names the line or the setting, and for an
/// unknown key the closest known one.
pub fn parse(text: &str) -> Result<SettingsFile, String> {
    let table: toml::Table = toml::from_str(text).map_err(|error| {
        let (place, line) = place(text, &error);
        // TOML cannot hold every number: quoting the line shows which setting is meant.
        match line {
            "" => format!("{place}{}", error.message()),
            line => format!("{place}{line}: {}", error.message()),
        }
    })?;
    bounds::check(&table)?;
    toml::from_str(text).map_err(|error: toml::de::Error| {
        let (place, _) = place(text, &error);
        format!("{place}{}", with_nearest(error.message()))
    })
}

/// The place of an error: `line N: `, and the first 80 characters of the line.
fn place<'a>(text: &'a str, error: &toml::de::Error) -> (String, &'a str) {
    let Some(span) = error.span() else {
        return (String::new(), "");
    };
    let number = text[..span.start].matches('\n').count();
    let line = text.lines().nth(number).unwrap_or_default().trim();
    let end = line
        .char_indices()
        .nth(80)
        .map_or(line.len(), |(end, _)| end);
    (format!("line {}: ", number + 1), &line[..end])
}

/// Shortens serde's message about an unknown key: keeps the key and the closest known one. serde lists the
/// unknown key first, then all known ones, each in backticks.
fn with_nearest(message: &str) -> String {
    let names: Vec<&str> = message.split('`').skip(1).step_by(2).collect();
    match names.split_first() {
        Some((unknown, known)) if message.starts_with("unknown field") && !known.is_empty() => {
            let nearest = known
                .iter()
                .max_by(|a, b| {
                    strsim::jaro_winkler(unknown, a).total_cmp(&strsim::jaro_winkler(unknown, b))
                })
                .expect("the guard checked that there is one");
            format!("unknown setting `{unknown}`: did you mean `{nearest}`?")
        }
        _ => message.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_key_is_refused_with_the_closest_known_one() {
        let error = parse("[pool]\nqueue_per_modle = 3").expect_err("misspelt");
        assert!(error.contains("`queue_per_modle`"), "{error}");
        assert!(error.contains("`queue_per_model`"), "{error}");
        assert!(error.starts_with("line 2: "), "{error}");
    }

    #[test]
    fn the_parameters_of_a_synthetic_model_are_numbers() {
        let file = parse(
            "[models.syn]\nfamily = \"synthetic\"\nparams = { step_ms = 300, load_ms = 5, weights_mb = 8 }",
        )
        .expect("valid settings");
        let params = file.models["syn"].params.expect("given");
        assert_eq!(
            (
                params.step_ms,
                params.load_ms,
                params.weights_mb,
                params.device_mb
            ),
            (300, 5, 8, 0)
        );
    }
}
