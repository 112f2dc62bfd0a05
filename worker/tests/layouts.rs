//! One model in the layouts that people have on disk.

mod altered;

use altered::Altered;
use candle_core::{Device, Tensor};
use safetensors::SafeTensors;
use safetensors::tensor::TensorView;
use std::path::{Path, PathBuf};
use worker::device::DeviceWish;
use worker::golden::case::Goldens;
use worker::golden::measure::{Bar, Distance};
use worker::pipelines::flux::{Encoded, Flux};
use worker::pipelines::{JobParameters, ModelSource, Settings, folder, load};
use worker::sampling::sigmas;
use worker::weights::Products;

fn tests() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests")
}

fn tiny() -> PathBuf {
    tests().join("goldens/tiny-flux")
}

/// A copy of a layout's folder with files of the tiny model beside it.
fn with_tiny(layout: &str, names: &[&str]) -> Altered {
    let copy = Altered::copy_of(&tests().join("layouts").join(layout));
    for name in names {
        let to = copy.file(name);
        std::fs::create_dir_all(to.parent().expect("a file in a folder")).expect("a writable copy");
        std::fs::copy(tiny().join(name), to).expect("a file of the tiny model");
    }
    copy
}

const TOKENIZERS: [&str; 2] = [
    "tokenizers/t5/tokenizer.json",
    "tokenizers/clip/tokenizer.json",
];
const BESIDE: [&str; 4] = [
    "ae.safetensors",
    "clip_l_flux.safetensors",
    TOKENIZERS[0],
    TOKENIZERS[1],
];

fn picture(folder: &Path) -> Vec<u8> {
    let source = ModelSource::Folder {
        path: folder.to_owned(),
        family: None,
    };
    let mut model = load(&source, &DeviceWish::Cpu, &mut |_| {}).expect("a good folder");
    let job = JobParameters {
        prompt: "a red circle".to_owned(),
        negative: None,
        width: 64,
        height: 64,
        steps: 2,
        guidance: 0.0,
        seed: 7,
    };
    let mut run = model.start(&job, None).expect("a good job");
    for _ in 0..job.steps {
        run.step(&|| false).expect("nobody cancels");
    }
    run.decode().expect("a picture").bytes
}

/// Writes one file that holds the tensors of several, each below its prefix.
fn join(parts: &[(&str, &str)], to: &Path) {
    let read = |(name, _): &(&str, &str)| std::fs::read(tiny().join(name)).expect("a file");
    let files: Vec<Vec<u8>> = parts.iter().map(read).collect();
    let mut views: Vec<(String, TensorView)> = Vec::new();
    for (bytes, (_, prefix)) in files.iter().zip(parts) {
        let file = SafeTensors::deserialize(bytes).expect("a good file");
        views.extend(
            file.tensors()
                .into_iter()
                .map(|(name, view)| (format!("{prefix}{name}"), view)),
        );
    }
    let bytes = safetensors::serialize(views, None).expect("good tensors");
    std::fs::write(to, bytes).expect("a writable folder");
}

#[test]
fn original_files_diffusers_shards_and_one_file_draw_the_same_bytes() {
    let original = picture(&tiny());
    let diffusers = with_tiny("diffusers-flux", &TOKENIZERS);
    assert!(picture(diffusers.path()) == original, "diffusers");
    let one = Altered::copy_of(&tiny());
    let parts = [
        ("flux1-schnell.safetensors", "model.diffusion_model."),
        ("ae.safetensors", "vae."),
        (
            "clip_l_flux.safetensors",
            "text_encoders.clip_l.transformer.",
        ),
        ("t5xxl.safetensors", "text_encoders.t5xxl.transformer."),
    ];
    for (name, _) in parts {
        std::fs::remove_file(one.file(name)).expect("a writable copy");
    }
    join(&parts, &one.file("everything.safetensors"));
    assert!(picture(one.path()) == original, "all in one");
}

#[test]
fn a_tensor_of_no_known_part_in_one_file_is_named() {
    let one = Altered::copy_of(&tiny());
    let name = "flux1-schnell.safetensors";
    join(
        &[
            (name, "model.diffusion_model."),
            ("ae.safetensors", "surprise."),
        ],
        &one.file(name),
    );
    let said = folder::flux(one.path()).err().expect("a stray").to_string();
    assert!(said.contains("surprise."), "{said}");
}

struct Measured {
    part: String,
    distance: Distance,
}

fn apart(part: &str, ours: &Tensor, golden: &[f32]) -> Measured {
    let ours = ours
        .flatten_all()
        .and_then(|t| t.to_vec1::<f32>())
        .expect("f32");
    let [ours, golden] = [&ours[..], golden].map(|row| row.iter().map(|v| f64::from(*v)));
    Measured {
        part: part.to_owned(),
        distance: Distance::between(ours, golden),
    }
}

/// Encoders, both steps and the decoder, each fed what the reference fed its own.
fn measure(layout: &str, products: Products) -> Vec<Measured> {
    let copy = with_tiny(layout, &BESIDE);
    let files = folder::flux(copy.path())
        .expect("a good folder")
        .with_products(products);
    let flux =
        Flux::load(files, &Device::Cpu, Settings::default(), &mut |_| {}).expect("good files");
    let goldens = Goldens::read(copy.path(), "flux_base").expect("a golden");
    let floats = |name: &str| goldens.floats(name, 0).expect("a tensor of the golden");
    let tensor = |name: &str| {
        let (values, shape) = floats(name);
        Tensor::from_vec(values, shape, &Device::Cpu).expect("a tensor of that shape")
    };
    let ids = |name: &str| goldens.ids(name, 0).expect("ids of the golden");
    let encoded = flux
        .encode(&ids("t5_ids"), &ids("clip_ids"))
        .expect("finite states");
    let mut all = vec![apart("t5_embeds", &encoded.text, &floats("t5_embeds").0)];
    let by = Encoded {
        text: tensor("t5_embeds"),
        pooled: tensor("pooled"),
    };
    let by = flux.condition(&by, 64, 64).expect("a condition");
    let mut before = tensor("latents_packed");
    for (i, pair) in sigmas::even(2).windows(2).enumerate() {
        let velocity = flux.predict(&before, pair[0], &by).expect("a velocity");
        let name = format!("pred.{i}");
        all.push(apart(&name, &velocity, &floats(&name).0));
        before = tensor(&format!("latents.{i}"));
    }
    let picture = flux.decode(&tensor("latents_final")).expect("a picture");
    all.push(apart("vae_out", &picture, &floats("vae_out").0));
    all
}

#[track_caller]
fn assert_within(layout: &str, products: Products, bar: Bar) {
    for Measured { part, distance } in measure(layout, products) {
        println!(
            "{layout} {products:?} {part}: relative {:.2e} max {:.2e}",
            distance.relative, distance.max
        );
        assert!(bar.holds(&distance), "{layout} {part}: {distance:?}");
    }
}

#[test]
fn fp8_is_the_reference_on_the_widened_weights() {
    assert_within("fp8", Products::Integer, Bar::PART);
}

#[test]
fn fp8_with_scales_is_the_reference_on_the_scaled_weights() {
    assert_within("fp8-scaled", Products::Integer, Bar::PART);
}

#[test]
fn gguf_blocks_widened_are_the_reference_on_the_widened_weights() {
    assert_within("gguf", Products::Widened, Bar::PART);
    assert_within("gguf-k", Products::Widened, Bar::PART);
}

#[test]
fn gguf_blocks_with_integer_activations_are_within_two_percent() {
    const ROUNDED: Bar = Bar::Close {
        relative: 2e-2,
        max: f64::INFINITY,
    };
    assert_within("gguf", Products::Integer, ROUNDED);
    assert_within("gguf-k", Products::Integer, ROUNDED);
    let first = measure("gguf-k", Products::Integer);
    assert!(
        first.iter().any(|one| one.distance.relative > 1e-4),
        "nothing was rounded"
    );
}

#[test]
fn packed_matrices_stay_packed_in_memory() {
    let copy = with_tiny("gguf-k", &BESIDE);
    let files = folder::flux(copy.path()).expect("a good folder");
    let blocks = |name: &str| name.starts_with("single_blocks.0.linear");
    let held = files.transformer.held_bytes(4, blocks);
    let wide = files.transformer.elements(blocks) * 4;
    assert!(held * 4 < wide, "{held} bytes held of {wide}");
}
