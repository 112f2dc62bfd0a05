//! Selects and numbers the GPUs that this daemon may use, as `CUDA_VISIBLE_DEVICES` says.
//!
//! The variable means what it means to a CUDA program
//! (<https://docs.nvidia.com/cuda/cuda-c-programming-guide/index.html#cuda-environment-variables>): a list of indices and
//! ids, in the wanted order; the first entry that names no GPU ends it. Indices count as `nvidia-smi` does. One difference:
//! every MIG device is usable, because each worker is shown its own GPU only.

use super::gpu::GpuFacts;

/// Returns the usable GPUs in the order of their numbers. `wanted` is the value of `CUDA_VISIBLE_DEVICES`.
pub fn usable<'a>(gpus: &'a [GpuFacts], wanted: Option<&str>) -> Vec<&'a GpuFacts> {
    let Some(wanted) = wanted else {
        return gpus.iter().collect();
    };
    let mut usable: Vec<&GpuFacts> = Vec::new();
    for word in wanted.split(',').map(str::trim) {
        let named = named(gpus, word);
        if named.is_empty() {
            break;
        }
        // An entry that is there twice is a mistake, for which CUDA shows nothing.
        if named.iter().any(|gpu| is_in(&usable, gpu)) {
            return Vec::new();
        }
        usable.extend(named);
    }
    usable
}

fn is_in(gpus: &[&GpuFacts], gpu: &GpuFacts) -> bool {
    gpus.iter().any(|other| other.uuid == gpu.uuid)
}

/// The GPUs that an entry names: by index, or by the beginning of an id that only one GPU has.
fn named<'a>(gpus: &'a [GpuFacts], word: &str) -> Vec<&'a GpuFacts> {
    if let Ok(index) = word.parse::<u32>() {
        return gpus.iter().filter(|gpu| gpu.index == index).collect();
    }
    let begins = |id: &str| !word.is_empty() && id.starts_with(word);
    let matching =
        |gpu: &&GpuFacts| begins(&gpu.uuid) || gpu.part_of.as_deref().is_some_and(begins);
    let found: Vec<&GpuFacts> = gpus.iter().filter(matching).collect();
    let whole = |gpu: &GpuFacts| gpu.part_of.clone().unwrap_or_else(|| gpu.uuid.clone());
    match found.as_slice() {
        [] | [_] => found,
        // All parts of one GPU, by its own id.
        [first, rest @ ..]
            if word.starts_with("GPU-") && rest.iter().all(|gpu| whole(gpu) == whole(first)) =>
        {
            found
        }
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::sample::gpu;
    use super::*;

    fn indices(wanted: Option<&str>) -> Vec<u32> {
        let gpus = [gpu(0, 0), gpu(1, 0), gpu(2, 0)];
        usable(&gpus, wanted).iter().map(|gpu| gpu.index).collect()
    }

    #[test]
    fn all_gpus_are_usable_unless_the_variable_selects_some() {
        assert_eq!(indices(None), [0, 1, 2]);
        assert_eq!(indices(Some("")), [0_u32; 0]);
        assert_eq!(indices(Some("2, 0")), [2, 0]);
        assert_eq!(indices(Some("GPU-1000")), [1]);
        assert_eq!(indices(Some("GPU-2,0")), [2, 0]);
    }

    #[test]
    fn the_first_entry_that_names_no_gpu_ends_the_list() {
        assert_eq!(indices(Some("1,-1,0")), [1]);
        assert_eq!(indices(Some("NoDevFiles")), [0_u32; 0]);
        assert_eq!(indices(Some("GPU-")), [0_u32; 0], "three begin so");
        assert_eq!(indices(Some("0,0")), [0_u32; 0]);
    }

    #[test]
    fn the_parts_of_a_divided_gpu_are_devices() {
        let part = |nth: u32| GpuFacts {
            uuid: format!("MIG-{nth}"),
            part_of: Some("GPU-0000".into()),
            ..gpu(0, 0)
        };
        let gpus = [part(0), part(1), gpu(1, 0)];
        let ids = |wanted| -> Vec<&str> {
            let usable = usable(&gpus, wanted);
            usable.iter().map(|gpu| gpu.uuid.as_str()).collect()
        };
        assert_eq!(ids(None), ["MIG-0", "MIG-1", "GPU-1000"]);
        assert_eq!(ids(Some("MIG-1")), ["MIG-1"]);
        assert_eq!(ids(Some("GPU-0000")), ["MIG-0", "MIG-1"]);
        assert_eq!(ids(Some("1,0")), ["GPU-1000", "MIG-0", "MIG-1"]);
    }
}
