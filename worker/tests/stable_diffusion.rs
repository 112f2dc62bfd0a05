//! Stable Diffusion 3.5's tensors by original name, value by value, from other layouts.

use candle_core::{DType, Device};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use worker::pipelines::Family;
use worker::pipelines::folder;
use worker::pipelines::shelf::Shelf;
use worker::weights::{Meter, Part, Section, Weights};

fn layout(name: &str) -> PathBuf {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
    tests.join("layouts").join(name)
}

/// Digests of the values in f32, by name below `prefix`.
fn digests(layout: &Path, prefix: &str) -> BTreeMap<String, String> {
    let text = std::fs::read(layout.join("digests.json")).expect("a list of digests");
    let all: BTreeMap<String, String> = serde_json::from_slice(&text).expect("names and digests");
    let below =
        |(name, digest): (String, String)| Some((name.strip_prefix(prefix)?.to_owned(), digest));
    all.into_iter().filter_map(below).collect()
}

#[track_caller]
fn assert_values(weights: &Weights, digests: &BTreeMap<String, String>) {
    assert!(!digests.is_empty());
    let mut tell = |_| {};
    let meter = Meter::new(&[weights], &mut tell);
    let section = Section::new(weights, &meter, DType::F32, &Device::Cpu);
    for (name, digest) in digests {
        let shape = section
            .shape(name)
            .unwrap_or_else(|| panic!("{name} is not there"));
        let tensor = section
            .tensor(name, shape)
            .expect("a tensor of its own shape");
        let values = tensor
            .flatten_all()
            .and_then(|t| t.to_vec1::<f32>())
            .expect("f32");
        let mut sum = Sha256::new();
        values
            .iter()
            .for_each(|value| sum.update(value.to_le_bytes()));
        let found: String = sum
            .finalize()
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        assert_eq!(found, *digest, "{name}");
    }
    weights
        .refuse_unread(&[])
        .expect("no tensor beyond those of the list");
}

#[test]
fn a_diffusers_folder_holds_the_originals_values() {
    let layout = layout("diffusers-sd3");
    assert_eq!(
        folder::family(&layout, None).expect("a transformer"),
        Family::Sd35
    );
    let shelf = Shelf::new(&layout);
    for (part, prefix) in [(Part::ClipL, "0."), (Part::ClipG, "1."), (Part::Mmdit, "")] {
        let mut digests = digests(&layout, prefix);
        digests.retain(|name, _| part != Part::Mmdit || !name.starts_with(['0', '1']));
        assert_values(&shelf.part(part).expect("a part of the folder"), &digests);
    }
}

#[test]
fn blocks_of_a_width_that_k_quants_do_not_divide_are_widened_as_the_reference_does() {
    let layout = layout("gguf-sd3");
    let weights = Shelf::new(&layout)
        .part(Part::Mmdit)
        .expect("a transformer");
    assert_eq!(
        weights.shape("joint_blocks.0.x_block.attn.qkv.weight"),
        Some(&[960, 320][..])
    );
    assert_values(&weights, &digests(&layout, ""));
}
