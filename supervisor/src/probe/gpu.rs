//! An answer about the GPUs of this machine: one line of JSON from the probing process.

use ipc_protocol::untrusted::Untrusted;
use serde::{Deserialize, Serialize};

/// The answer of the probing process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GpuAnswer {
    /// The driver answered.
    Report(GpuReport),
    /// No GPU can be used, for this reason.
    Nothing(String),
}

/// Every GPU at one moment, as the driver describes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GpuReport {
    /// Version of the driver.
    pub driver: String,
    /// The GPUs that answered, in the order of their PCI addresses; of a divided GPU its parts.
    pub gpus: Vec<GpuFacts>,
    /// A sentence for each GPU that did not answer.
    pub failed: Vec<String>,
}

/// One GPU, or one part of a GPU that is divided into MIG devices.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GpuFacts {
    /// Index of the GPU, as `nvidia-smi` counts.
    pub index: u32,
    /// Its own id, `GPU-…` or `MIG-…`.
    pub uuid: String,
    /// Id of the GPU that it is a part of.
    pub part_of: Option<String>,
    /// Name of the product.
    pub name: String,
    /// CUDA compute capability, as in `9.0`.
    pub compute: Option<String>,
    /// Size of the memory.
    pub total_bytes: u64,
    /// Memory that cannot be allocated now, the driver's own included.
    pub used_bytes: u64,
    /// Processes with memory there; `None` if the driver does not list them.
    pub processes: Option<Vec<GpuProcess>>,
    /// Errors of the memory since the driver was loaded that could not be corrected.
    pub uncorrected_errors: Option<u64>,
    /// Temperature, in degrees Celsius.
    pub temperature_c: Option<u32>,
    /// Power, in milliwatts.
    pub power_mw: Option<u32>,
    /// Energy since the driver was loaded, in millijoules.
    pub energy_mj: Option<u64>,
}

/// Memory of one process on a GPU.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct GpuProcess {
    /// Its process id, as this machine or container counts.
    pub pid: u32,
    /// Its memory; `None` if the driver does not tell.
    pub bytes: Option<u64>,
}

impl GpuAnswer {
    /// Formats the answer as one line.
    pub fn line(&self) -> String {
        serde_json::to_string(self).expect("numbers and texts have a JSON form")
    }

    /// Parses a line. Texts from the driver come out without control characters.
    ///
    /// # Errors
    /// The message: the line is not an answer.
    pub fn read(line: &str) -> Result<Self, String> {
        let answer: Self = serde_json::from_str(line)
            .map_err(|error| format!("invalid answer of the probing process: {error}"))?;
        Ok(match answer {
            Self::Report(report) => Self::Report(printable_report(report)),
            Self::Nothing(why) => Self::Nothing(printable(why)),
        })
    }
}

fn printable_report(report: GpuReport) -> GpuReport {
    let gpu = |facts: GpuFacts| GpuFacts {
        uuid: printable(facts.uuid),
        part_of: facts.part_of.map(printable),
        name: printable(facts.name),
        ..facts
    };
    GpuReport {
        driver: printable(report.driver),
        gpus: report.gpus.into_iter().map(gpu).collect(),
        failed: report.failed.into_iter().map(printable).collect(),
    }
}

fn printable(text: String) -> String {
    Untrusted::new(text).to_string()
}

#[cfg(test)]
mod tests {
    use super::super::sample::gpu;
    use super::*;

    #[test]
    fn an_answer_is_read_back() {
        let report = GpuReport {
            driver: "570.1".into(),
            gpus: vec![gpu(0, 100)],
            failed: vec!["GPU 1: gone".into()],
        };
        for answer in [
            GpuAnswer::Report(report),
            GpuAnswer::Nothing("no driver".into()),
        ] {
            assert!(!answer.line().contains('\n'));
            assert_eq!(GpuAnswer::read(&answer.line()), Ok(answer));
        }
        assert!(GpuAnswer::read("{}").is_err() && GpuAnswer::read("").is_err());
    }

    #[test]
    fn text_from_the_driver_is_read_without_control_characters() {
        let facts = GpuFacts {
            name: "a\u{1b}[2Jb\nc".into(),
            ..gpu(0, 0)
        };
        let report = GpuReport {
            driver: "5\r70".into(),
            gpus: vec![facts],
            failed: Vec::new(),
        };
        let read = GpuAnswer::read(&GpuAnswer::Report(report).line());
        let Ok(GpuAnswer::Report(read)) = read else {
            panic!("{read:?}");
        };
        let texts = [read.driver.as_str(), read.gpus[0].name.as_str()];
        assert!(
            texts.iter().all(|text| !text.contains(char::is_control)),
            "{texts:?}"
        );
    }
}
