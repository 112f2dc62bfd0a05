//! A GPU as the driver describes it, for tests.

use super::gpu::GpuFacts;

/// A GPU of 1000 MiB of which `used_mb` are taken.
pub(crate) fn gpu(index: u32, used_mb: u64) -> GpuFacts {
    GpuFacts {
        index,
        uuid: format!("GPU-{index}000"),
        part_of: None,
        name: "Model".into(),
        compute: Some("9.0".into()),
        total_bytes: 1000 << 20,
        used_bytes: used_mb << 20,
        processes: Some(Vec::new()),
        uncorrected_errors: None,
        temperature_c: Some(40),
        power_mw: None,
        energy_mj: None,
    }
}
