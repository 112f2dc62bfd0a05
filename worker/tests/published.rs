//! The facts of a published model without its files equal those with its files.

mod grown;

use grown::{StoredAs, sparse};
use ipc_protocol::arithmetic::Arithmetic;
use ipc_protocol::family::Family;
use std::path::Path;
use worker::manifest::{self, ModelManifest};
use worker::pipelines::architecture::Architecture;
use worker::pipelines::families::flux::Flux;
use worker::pipelines::families::sd3::Sd3;
use worker::pipelines::need::PartTensors;
use worker::weights::Inventory;

/// Writes a part of the published size: a header of a few kilobytes, and holes.
fn write(folder: &Path, name: &str, prefix: &str, parts: &[&Inventory]) {
    let shapes = parts.iter().flat_map(|part| part.shapes());
    let tensors = shapes.map(|(name, shape)| {
        let sides = shape.iter().map(|side| *side as u64);
        (format!("{prefix}{name}"), sides.collect())
    });
    sparse(&folder.join(name), StoredAs::Bf16, tensors);
}

/// Folders with all files of the two published models, in their real sizes.
fn write_all(flux: &Path, sd3: &Path) {
    let parts = PartTensors::listed::<Flux>(&Flux::published().sizes).expect("published sizes");
    write(flux, "flux1-schnell.safetensors", "", &[&parts.transformer]);
    write(flux, "ae.safetensors", "", &[&parts.decoder]);
    write(flux, "t5xxl_fp16.safetensors", "", &[&parts.t5]);
    write(flux, "clip_l.safetensors", "", &[&parts.clips[0]]);
    let parts = PartTensors::listed::<Sd3>(&Sd3::published().sizes).expect("published sizes");
    let transformer = "sd3.5_large_turbo.safetensors";
    write(
        sd3,
        transformer,
        "model.diffusion_model.",
        &[&parts.transformer],
    );
    write(sd3, "sd3_vae.safetensors", "", &[&parts.decoder]);
    write(sd3, "t5xxl_fp16.safetensors", "", &[&parts.t5]);
    std::fs::create_dir(sd3.join("text_encoders")).expect("a writable folder");
    for (name, part) in ["clip_l", "clip_g"].into_iter().zip(&parts.clips) {
        write(
            sd3,
            &format!("text_encoders/{name}.safetensors"),
            "",
            &[part],
        );
    }
}

#[test]
fn the_need_of_a_published_model_is_the_same_without_and_with_its_files() {
    let [flux, sd3] = [(); 2].map(|()| tempfile::tempdir().expect("a temporary folder"));
    write_all(flux.path(), sd3.path());
    let known = manifest::all_published().expect("published sizes");
    assert_eq!(known.len(), 2 * 4 * 3);
    for one in known {
        let (folder, family) = match one.manifest.family.word() {
            "flux" => (flux.path(), Family::new("flux")),
            _ => (sd3.path(), Family::new("sd3")),
        };
        let wished = Arithmetic {
            dtype: one.dtype.parse().expect("a dtype"),
            encoders: one.encoders.parse().expect("a place"),
        };
        let found = manifest::of_folder(folder, Some(family), wished).expect("a good folder");
        let found = ModelManifest {
            stamp: String::new(), // the files' own
            marks: Vec::new(),
            ..found
        };
        assert_eq!(found, one.manifest, "{} {}", one.dtype, one.encoders);
    }
}

/// Numbers of parameters of the published files, in billions: FLUX.1-schnell's transformer (23.8 GB of bf16), Stable
/// Diffusion 3.5 Large's with its table of positions, T5 XXL's encoder, and the CLIPs.
#[test]
fn listed_tensors_have_as_many_parameters_as_the_published_models() {
    let billions = |part: &Inventory| part.device_bytes(1, |_| true) as f64 / 1e9;
    let near = |part: &Inventory, count: f64| {
        let ours = billions(part);
        assert!((ours - count).abs() <= 0.01 * count, "{ours} for {count}");
    };
    let parts = PartTensors::listed::<Flux>(&Flux::published().sizes).expect("published sizes");
    near(&parts.transformer, 11.9);
    near(&parts.t5, 4.76);
    near(&parts.clips[0], 0.123);
    near(&parts.decoder, 0.0495);
    let parts = PartTensors::listed::<Sd3>(&Sd3::published().sizes).expect("published sizes");
    near(&parts.transformer, 8.15);
    near(&parts.clips[1], 0.695);
}
