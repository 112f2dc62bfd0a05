//! The settings file as people write it. Units are part of each name.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Deserialize;

use super::bounds;
use super::operators::Operator;

/// The whole file; what is absent has its default.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SettingsFile {
    /// Model of requests that name none.
    pub default_model: String,
    /// Back end of the shared memory.
    pub segment: SegmentKind,
    /// The native door.
    pub socket: SocketSection,
    /// What may be promised.
    pub memory: MemorySection,
    /// How the pool decides.
    pub pool: PoolSection,
    /// What a request may ask for.
    pub limits: LimitsSection,
    /// Where models are fetched from.
    pub hub: HubSection,
    /// Changes to built-in models, and models of one's own.
    pub models: BTreeMap<String, ModelSection>,
}

impl Default for SettingsFile {
    fn default() -> Self {
        Self {
            default_model: pool::Settings::default().default_model,
            segment: SegmentKind::default(),
            socket: SocketSection::default(),
            memory: MemorySection::default(),
            pool: PoolSection::default(),
            limits: LimitsSection::default(),
            hub: HubSection::default(),
            models: BTreeMap::new(),
        }
    }
}

/// `segment`
#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SegmentKind {
    /// Sealed memfd.
    #[default]
    Sealed,
    /// POSIX shared memory.
    Named,
}

/// `[socket]`
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SocketSection {
    /// Octal permissions of `pool.sock`.
    pub mode: String,
    /// Users that may operate the pool, beside the daemon's own and root.
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

/// `[memory]`
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MemorySection {
    /// Share of the machine's memory that may be promised.
    pub limit_percent: u64,
    /// Host memory that may be promised, instead of the share.
    pub host_limit_mb: Option<u64>,
    /// Memory of each accelerator that may be promised, instead of the share.
    pub device_limit_mb: Option<u64>,
}

impl Default for MemorySection {
    fn default() -> Self {
        Self {
            limit_percent: 80,
            host_limit_mb: None,
            device_limit_mb: None,
        }
    }
}

/// `[pool]`
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[expect(
    missing_docs,
    reason = "each is documented where it is used and in the example file"
)]
pub struct PoolSection {
    pub cold_start_workers: u32,
    pub max_workers_per_model: u32,
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

/// `[limits]`
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LimitsSection {
    /// Longest prompt.
    pub prompt_bytes: usize,
    /// Largest picture.
    pub max_pixels: u64,
    /// Finished pictures of detached jobs together.
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

/// `[hub]`
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HubSection {
    /// Never use the network.
    pub offline: bool,
    /// A mirror instead of the default hub.
    pub endpoint: Option<String>,
    /// Where fetched models are kept.
    pub folder: Option<PathBuf>,
    /// Longest silence of the hub that is borne.
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

/// `[models.KEY]`
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ModelSection {
    /// `flux`, `sd3` or `synthetic`: makes KEY a model of one's own.
    pub family: Option<String>,
    /// A folder of weights.
    pub path: Option<PathBuf>,
    /// Which files are fetched, where there is a choice.
    pub variant: Option<String>,
    /// A branch, a tag or a commit of the hub's repository.
    pub revision: Option<String>,
    /// Keep one worker resident.
    pub pinned: bool,
    /// Workers kept.
    pub min_workers: Option<u32>,
    /// Most workers.
    pub max_workers: Option<u32>,
    /// `auto`, `cpu` or `cuda:N`.
    pub device: Option<String>,
    /// Threads of its arithmetic.
    pub threads: Option<u32>,
    /// `f32`, `bf16` or `f16`: what encoders and transformer compute in.
    pub dtype: Option<String>,
    /// `keep`, `drop` or `cpu`: where the text encoders are between two prompts.
    pub encoders: Option<String>,
    /// Of the synthetic family.
    pub params: Option<SyntheticParams>,
}

/// `params` of the synthetic family.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SyntheticParams {
    /// Milliseconds a step takes.
    pub step_ms: u32,
    /// Milliseconds a load takes.
    pub load_ms: u32,
    /// MiB that it touches.
    pub weights_mb: u32,
}

impl Default for SyntheticParams {
    fn default() -> Self {
        Self {
            step_ms: 10,
            load_ms: 10,
            weights_mb: 16,
        }
    }
}

/// Reads TOML and checks every value by itself; the error is a sentence with the line or the setting, and for
/// an unknown key the nearest known one.
pub fn parse(text: &str) -> Result<SettingsFile, String> {
    let table: toml::Table = toml::from_str(text).map_err(|error| {
        let (place, line) = place(text, &error);
        // What is not TOML may be a number that TOML cannot hold: the line says of which setting.
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

/// Where an error is: `line N: `, and the line itself as far as it is worth repeating.
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

/// serde names an unknown key and then the known ones, each in backticks: keep the first and say which
/// of the others is nearest to it.
fn with_nearest(message: &str) -> String {
    let names: Vec<&str> = message.split('`').skip(1).step_by(2).collect();
    match names.split_first() {
        Some((unknown, known)) if message.starts_with("unknown field") && !known.is_empty() => {
            let nearest = known
                .iter()
                .max_by(|a, b| {
                    strsim::jaro_winkler(unknown, a).total_cmp(&strsim::jaro_winkler(unknown, b))
                })
                .expect("the guard says that there is one");
            format!("there is no setting `{unknown}`; did you mean `{nearest}`?")
        }
        _ => message.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_key_is_refused_with_the_nearest_known_one() {
        let error = parse("[pool]\nqueue_per_modle = 3").expect_err("misspelt");
        assert!(error.contains("`queue_per_modle`"), "{error}");
        assert!(error.contains("`queue_per_model`"), "{error}");
        assert!(error.starts_with("line 2: "), "{error}");
    }

    #[test]
    fn a_synthetic_model_is_three_numbers() {
        let file = parse(
            "[models.syn]\nfamily = \"synthetic\"\nparams = { step_ms = 300, load_ms = 5, weights_mb = 8 }",
        )
        .expect("as the interfaces show it");
        let params = file.models["syn"].params.expect("given");
        assert_eq!(
            (params.step_ms, params.load_ms, params.weights_mb),
            (300, 5, 8)
        );
    }
}
