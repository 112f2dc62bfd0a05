//! The first line of a record: the initial state of the pool.

use ipc_protocol::units::Mebibytes;
use pool::{DeviceLimit, Registry};
use serde::{Deserialize, Serialize};

use super::model::RecordedModel;
use super::read;

/// The initial state of a pool, from which a replay builds the same pool.
#[derive(Debug, Clone, PartialEq)]
pub struct Beginning {
    /// Text of the settings file.
    pub settings: String,
    /// Memory limit of each device.
    pub devices: Vec<DeviceLimit>,
    /// The models as they were at the start; their files may be missing when the record is replayed.
    pub registry: Registry,
}

/// The line as JSON.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct BeginningLine {
    settings: String,
    devices: Vec<RecordedDevice>,
    models: Vec<RecordedModel>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RecordedDevice {
    device: String,
    limit_mb: u64,
    confirms: bool,
}

impl Beginning {
    /// Formats the line.
    ///
    /// # Errors
    /// A number is not finite, so JSON cannot represent it.
    pub fn line(&self) -> serde_json::Result<String> {
        let devices = self.devices.iter().map(|limit| RecordedDevice {
            device: limit.device.placement(),
            limit_mb: limit.limit.0,
            confirms: limit.confirms,
        });
        serde_json::to_string(&BeginningLine {
            settings: self.settings.clone(),
            devices: devices.collect(),
            models: self.registry.iter().map(RecordedModel::of).collect(),
        })
    }

    /// Parses a line.
    ///
    /// # Errors
    /// The message; it names the invalid field.
    pub fn read(line: &str) -> Result<Self, String> {
        let line: BeginningLine = serde_json::from_str(line).map_err(|error| error.to_string())?;
        let models: Result<Vec<_>, String> =
            line.models.into_iter().map(RecordedModel::spec).collect();
        let devices: Result<Vec<_>, String> = line.devices.iter().map(limit).collect();
        Ok(Self {
            settings: line.settings,
            devices: devices?,
            registry: Registry::new(models?)?,
        })
    }
}

fn limit(facts: &RecordedDevice) -> Result<DeviceLimit, String> {
    Ok(DeviceLimit {
        device: read::device(&facts.device)?,
        limit: Mebibytes(facts.limit_mb),
        confirms: facts.confirms,
    })
}

#[cfg(test)]
mod tests {
    use ipc_protocol::family::Family;
    use ipc_protocol::ids::{Device, DeviceConstraint, ModelKey};
    use ipc_protocol::units::PictureSize;
    use pool::{Activation, CudaNeed, Files, GuidanceRule, ModelSpec, Need, SizeRule};

    use super::*;

    fn spec(key: &str, guidance: GuidanceRule) -> ModelSpec {
        ModelSpec {
            key: ModelKey::new(key).expect("a key"),
            aliases: vec![format!("maker/{key}")],
            family: Family::new("sd3"),
            need: Need {
                on_cpu: Some(Mebibytes(5)),
                on_cuda: Some(CudaNeed {
                    host: Mebibytes(1),
                    device: Mebibytes(4),
                    activation: Activation {
                        base: Mebibytes(5),
                        ..Activation::default()
                    },
                }),
                activation: Activation {
                    base: Mebibytes(1),
                    per_megapixel: Mebibytes(2),
                    per_megapixel_squared: Mebibytes(3),
                    least: Mebibytes(4),
                },
            },
            default_size: PictureSize {
                width: 64,
                height: 96,
            },
            sizes: SizeRule {
                multiple: 16,
                min: 64,
                max: 256,
            },
            default_steps: 4,
            max_steps: 8,
            guidance,
            empty_prompt: true,
            digest: "d".into(),
            pinned: true,
            min_workers: Some(1),
            max_workers: Some(2),
            device: DeviceConstraint::On(Device::Cuda(1)),
            params: "p".into(),
            files: Files::Broken("not \"here\"".into()),
        }
    }

    fn beginning() -> Beginning {
        let scale = GuidanceRule::Scale {
            default: 0.1,
            max: 10.0,
        };
        let limit = |device, confirms| DeviceLimit {
            device,
            limit: Mebibytes(1000),
            confirms,
        };
        Beginning {
            settings: "[pool]\nidle_seconds = 0.5\n".into(),
            devices: vec![limit(Device::Host, false), limit(Device::Cuda(1), true)],
            registry: Registry::new(vec![spec("a", scale), spec("b", GuidanceRule::None)])
                .expect("two models"),
        }
    }

    #[test]
    fn a_beginning_is_read_back() {
        let line = beginning().line().expect("numbers that JSON has");
        assert!(!line.contains('\n'), "{line}");
        let back = Beginning::read(&line).unwrap_or_else(|why| panic!("{why}: {line}"));
        assert_eq!(back, beginning());
    }

    #[test]
    fn an_invalid_beginning_is_an_error() {
        let line = beginning().line().expect("numbers that JSON has");
        for (there, instead) in [
            ("\"limit_mb\"", "\"limit\""),
            ("\"cuda:1\"", "\"cuda\""),
            ("\"64x96\"", "\"64\""),
            ("\"sd3\"", "\"sd4\""),
            ("\"key\":\"b\"", "\"key\":\"a\""),
        ] {
            let wrong = line.replacen(there, instead, 1);
            assert_ne!(wrong, line, "{there} is in the line");
            assert!(Beginning::read(&wrong).is_err(), "{wrong}");
        }
    }
}
