//! A model of the registry as a JSON object.

use ipc_protocol::family::Family;
use ipc_protocol::ids::ModelKey;
use ipc_protocol::units::Mebibytes;
use pool::{Activation, CudaNeed, Files, GuidanceRule, ModelSpec, Need, SizeRule};
use serde::{Deserialize, Serialize};

/// All properties of a model that the pool uses.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RecordedModel {
    key: String,
    aliases: Vec<String>,
    family: Family,
    cpu_mb: Option<u64>,
    cuda: Option<CudaFacts>,
    activation: ActivationFacts,
    default_size: String,
    sizes: SizeFacts,
    default_steps: u32,
    max_steps: u32,
    guidance: Option<GuidanceFacts>,
    empty_prompt: bool,
    digest: String,
    pinned: bool,
    min_workers: Option<u32>,
    max_workers: Option<u32>,
    device: String,
    params: String,
    files: FilesFacts,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum FilesFacts {
    Here(String),
    Unread,
    Missing(String),
    Broken(String),
}

impl FilesFacts {
    fn of(files: &Files) -> Self {
        match files.clone() {
            Files::Here { stamp } => Self::Here(stamp),
            Files::Unread => Self::Unread,
            Files::Missing(why) => Self::Missing(why),
            Files::Broken(why) => Self::Broken(why),
        }
    }

    fn files(self) -> Files {
        match self {
            Self::Here(stamp) => Files::Here { stamp },
            Self::Unread => Files::Unread,
            Self::Missing(why) => Files::Missing(why),
            Self::Broken(why) => Files::Broken(why),
        }
    }
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct CudaFacts {
    host_mb: u64,
    device_mb: u64,
    activation: ActivationFacts,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ActivationFacts {
    base_mb: u64,
    per_megapixel_mb: u64,
    per_megapixel_squared_mb: u64,
    least_mb: u64,
}

impl ActivationFacts {
    fn of(activation: Activation) -> Self {
        Self {
            base_mb: activation.base.0,
            per_megapixel_mb: activation.per_megapixel.0,
            per_megapixel_squared_mb: activation.per_megapixel_squared.0,
            least_mb: activation.least.0,
        }
    }

    fn activation(&self) -> Activation {
        Activation {
            base: Mebibytes(self.base_mb),
            per_megapixel: Mebibytes(self.per_megapixel_mb),
            per_megapixel_squared: Mebibytes(self.per_megapixel_squared_mb),
            least: Mebibytes(self.least_mb),
        }
    }
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct SizeFacts {
    multiple: u32,
    min: u32,
    max: u32,
}

/// Guidance of a model; missing if it does not support guidance.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct GuidanceFacts {
    default: f32,
    max: f32,
}

impl RecordedModel {
    pub(super) fn of(spec: &ModelSpec) -> Self {
        let Need {
            on_cpu,
            on_cuda,
            activation,
        } = spec.need;
        Self {
            key: spec.key.to_string(),
            aliases: spec.aliases.clone(),
            family: spec.family,
            cpu_mb: on_cpu.map(|part| part.0),
            cuda: on_cuda.map(|part| CudaFacts {
                host_mb: part.host.0,
                device_mb: part.device.0,
                activation: ActivationFacts::of(part.activation),
            }),
            activation: ActivationFacts::of(activation),
            default_size: spec.default_size.to_string(),
            sizes: SizeFacts {
                multiple: spec.sizes.multiple,
                min: spec.sizes.min,
                max: spec.sizes.max,
            },
            default_steps: spec.default_steps,
            max_steps: spec.max_steps,
            guidance: match spec.guidance {
                GuidanceRule::None => None,
                GuidanceRule::Scale { default, max } => Some(GuidanceFacts { default, max }),
            },
            empty_prompt: spec.empty_prompt,
            digest: spec.digest.clone(),
            pinned: spec.pinned,
            min_workers: spec.min_workers,
            max_workers: spec.max_workers,
            device: spec.device.to_string(),
            params: spec.params.clone(),
            files: FilesFacts::of(&spec.files),
        }
    }

    pub(super) fn spec(self) -> Result<ModelSpec, String> {
        Ok(ModelSpec {
            key: ModelKey::new(&self.key)?,
            aliases: self.aliases,
            family: self.family,
            need: Need {
                on_cpu: self.cpu_mb.map(Mebibytes),
                on_cuda: self.cuda.map(|part| CudaNeed {
                    host: Mebibytes(part.host_mb),
                    device: Mebibytes(part.device_mb),
                    activation: part.activation.activation(),
                }),
                activation: self.activation.activation(),
            },
            default_size: self.default_size.parse()?,
            sizes: SizeRule {
                multiple: self.sizes.multiple,
                min: self.sizes.min,
                max: self.sizes.max,
            },
            default_steps: self.default_steps,
            max_steps: self.max_steps,
            guidance: match self.guidance {
                None => GuidanceRule::None,
                Some(GuidanceFacts { default, max }) => GuidanceRule::Scale { default, max },
            },
            empty_prompt: self.empty_prompt,
            digest: self.digest,
            pinned: self.pinned,
            min_workers: self.min_workers,
            max_workers: self.max_workers,
            device: self.device.parse()?,
            params: self.params,
            files: self.files.files(),
        })
    }
}
