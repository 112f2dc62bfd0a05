//! Detects intact files that cannot be used: other models, other encodings, and files that replace the real one.
//!
//! Each is recognised by its first bytes or tensor names, so that the error names the kind of the file and
//! not an unexpected byte or tensor.

use super::file::WeightFile;
use super::naming::ModelPart;
use crate::fault::WorkerFault;

/// The supported encodings, for the end of every error.
pub(super) const READ: &str =
    "F32, F16, BF16, F8_E4M3 (alone or scaled) and the GGUF blocks Q4_0 to Q6_K are read";

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

/// Describes a text file that a failed download left in place of the weights.
pub fn stand_in(bytes: &[u8]) -> Option<&'static str> {
    if bytes.starts_with(b"version https://git-lfs") {
        return Some(
            "is a git-lfs pointer and not the file itself: run `git lfs pull` in its repository, or \
             download it again",
        );
    }
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let text = bytes.trim_ascii_start();
    let begins = |start: &[u8]| {
        let first = text.get(..start.len());
        first.is_some_and(|first| first.eq_ignore_ascii_case(start))
    };
    let page = [&b"<!doctype"[..], b"<html", b"<head", b"<?xml", b"<error"];
    if page.into_iter().any(begins) {
        return Some(
            "is a web page and not the file itself: its download was answered with a page, as for a \
             repository that asks for a login or a licence; download it again",
        );
    }
    let answer = [
        &b"{\"error\""[..],
        b"Invalid username or password",
        b"Access to model",
        b"Entry not found",
    ];
    answer.into_iter().any(begins).then_some(
        "is a server's error message and not the file itself: its download was refused; download it again",
    )
}

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
        let what =
            "is a LoRA's, which is not read: merge it into the model's file with another program";
        return refuse(tensor, what.to_owned());
    }
    for (mark, meaning) in ENCODINGS {
        if let Some(tensor) = below().find(|name| name.contains(mark)) {
            return refuse(
                tensor,
                format!("belongs to {meaning}, which are not read; {READ}"),
            );
        }
    }
    let has = |name: &str| file.has(&format!("{prefix}{name}"));
    if let Some((tensor, what)) = (part.other_model)(&has) {
        return refuse(&format!("{prefix}{tensor}"), what.to_owned());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lfs_pointers_web_pages_and_server_errors_are_recognised_and_weights_are_not() {
        let pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n";
        let told = stand_in(pointer).expect("a pointer");
        assert!(told.contains("git-lfs pointer"), "{told}");
        let pages = [
            "<!DOCTYPE html>",
            "\u{feff}<HTML><head>",
            "\n  <?xml version=\"1.0\"?>",
        ];
        for page in pages {
            let told = stand_in(page.as_bytes()).expect("a page");
            assert!(told.contains("web page"), "{page}: {told}");
        }
        assert!(stand_in(b"{\"error\":\"gated\"}").is_some());
        assert!(stand_in(b"\x10\0\0\0\0\0\0\0{\"a\":1}").is_none());
        assert!(stand_in(b"GGUF\x03\0\0\0").is_none());
    }
}
