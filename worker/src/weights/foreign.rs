//! Whole files that cannot be used: other models and other encodings.
//!
//! Each is recognised by its first bytes or tensor names, so that the error names the kind of the file and
//! not an unexpected byte or tensor.

use super::file::WeightFile;
use super::kind::READ;
use super::naming::ModelPart;
use crate::fault::WorkerFault;

/// Texts in tensor names that identify encodings of other programs, with a description.
const ENCODINGS: [(&str, &str); 5] = [
    (
        ".quant_state.bitsandbytes__",
        "4-bit weights of bitsandbytes (nf4 or fp4)",
    ),
    (
        ".weight.absmax",
        "4-bit weights of bitsandbytes (nf4 or fp4)",
    ),
    (
        ".weight_scale_2",
        "4-bit weights with scales of scales (nvfp4)",
    ),
    (".SCB", "8-bit weights of bitsandbytes (int8)"),
    (".qweight", "packed integers (GPTQ, AWQ or SVDQuant)"),
];

/// Texts in tensor names that identify an adapter.
const LORA: [&str; 6] = [
    "lora_A",
    "lora_B",
    "lora_up",
    "lora_down",
    "lora_a",
    "lora_b",
];

/// Tells whether a file is an adapter (LoRA) and not a model.
pub fn is_lora(file: &WeightFile) -> bool {
    let adapter = |name: &str| LORA.iter().any(|mark| name.contains(mark));
    file.names().any(adapter)
}

/// Refuses a part in an unsupported encoding, and a part of another model.
///
/// # Errors
/// [`WorkerFault::Configuration`] with the tensor that identifies it.
pub(super) fn refuse(part: &ModelPart, file: &WeightFile, prefix: &str) -> Result<(), WorkerFault> {
    let below = || file.names().filter(|name| name.starts_with(prefix));
    let refuse =
        |tensor: &str, what: String| Err(WorkerFault::configuration(file.name(), tensor, what));
    if let Some(tensor) = below().find(|name| LORA.iter().any(|mark| name.contains(mark))) {
        let what = "belongs to a LoRA, which is not supported: merge it into the model's file with another program";
        return refuse(tensor, what.to_owned());
    }
    for (mark, meaning) in ENCODINGS {
        if let Some(tensor) = below().find(|name| name.contains(mark)) {
            return refuse(
                tensor,
                format!("belongs to {meaning}, which are not supported; {READ}"),
            );
        }
    }
    let has = |name: &str| file.has(&format!("{prefix}{name}"));
    if let Some((tensor, what)) = (part.other_model)(&has) {
        return refuse(&format!("{prefix}{tensor}"), what.to_owned());
    }
    Ok(())
}
