//! Folders with files of a layout and of the tiny models, for drawing and measuring.

#![allow(dead_code, reason = "each test program uses its own part")]

use crate::altered::Altered;
use candle_core::{Device, Tensor};
use ipc_protocol::family::Family;
use ipc_protocol::ids;
use safetensors::SafeTensors;
use safetensors::tensor::TensorView;
use std::path::{Path, PathBuf};
use worker::fault::WorkerFault;
use worker::golden::case::Goldens;
use worker::golden::measure::{Tolerance, ValueDistance};
use worker::pipelines::{JobParameters, ModelOrigin, Pipeline, load};

/// The files that a layout needs from the tiny model's folder.
pub(crate) const TOKENIZERS: [&str; 2] = [
    "tokenizers/t5/tokenizer.json",
    "tokenizers/clip/tokenizer.json",
];

pub(crate) fn layout(name: &str) -> PathBuf {
    tests().join("layouts").join(name)
}

/// A tiny model in its original layout: `tiny-flux` or `tiny-sd3`.
pub(crate) fn tiny(name: &str) -> PathBuf {
    tests().join("goldens").join(name)
}

fn tests() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests")
}

/// A copy of a folder, with added files of another one.
pub(crate) fn with(folder: &Path, other: &Path, names: &[&str]) -> Altered {
    let copy = Altered::copy_of(folder);
    for name in names {
        let to = copy.file(name);
        std::fs::create_dir_all(to.parent().expect("a file in a folder")).expect("a writable copy");
        std::fs::copy(other.join(name), to).expect("a file of the other folder");
    }
    copy
}

/// Writes one file with tensors of several files: those whose names begin with the first prefix, which is replaced by
/// the second.
pub(crate) fn join(parts: &[(PathBuf, &str, &str)], to: &Path) {
    let read = |(path, ..): &(PathBuf, &str, &str)| std::fs::read(path).expect("a file");
    let files: Vec<Vec<u8>> = parts.iter().map(read).collect();
    let mut views: Vec<(String, TensorView)> = Vec::new();
    for (bytes, (_, from, to)) in files.iter().zip(parts) {
        let file = SafeTensors::deserialize(bytes).expect("a good file");
        views.extend(file.tensors().into_iter().filter_map(|(name, view)| {
            let rest = name.strip_prefix(from)?;
            Some((format!("{to}{rest}"), view))
        }));
    }
    let bytes = safetensors::serialize(views, None).expect("good tensors");
    std::fs::write(to, bytes).expect("a writable folder");
}

/// Draws a small picture with the model in the folder.
pub(crate) fn picture(folder: &Path) -> Vec<u8> {
    drawn(folder, None, 2).expect("a good folder")
}

/// A small picture of a folder's model, or the fault that prevents it.
pub(crate) fn drawn(
    path: &Path,
    family: Option<Family>,
    steps: u32,
) -> Result<Vec<u8>, WorkerFault> {
    let mut model = loaded(path, family)?;
    let job = JobParameters {
        prompt: "a red circle".to_owned(),
        negative: None,
        width: 64,
        height: 64,
        steps,
        guidance: 0.0,
        seed: 7,
    };
    let mut run = model.start(&job, None)?;
    for _ in 0..steps {
        run.step(&|| false)?;
    }
    Ok(run.decode()?.bytes)
}

/// A folder's model on the processor.
pub(crate) fn loaded(
    path: &Path,
    family: Option<Family>,
) -> Result<Box<dyn Pipeline>, WorkerFault> {
    let source = ModelOrigin::Folder {
        path: path.to_owned(),
        family,
    };
    load(&source, ids::Device::Host, &mut |_| {})
}

/// The tensors of one picture's golden.
pub(crate) struct GoldenCase(Goldens);

impl GoldenCase {
    pub(crate) fn read(folder: &Path, case: &str) -> GoldenCase {
        GoldenCase(Goldens::read(folder, case).expect("a golden"))
    }

    pub(crate) fn floats(&self, name: &str) -> Vec<f32> {
        self.0.floats(name, 0).expect("a tensor of the golden").0
    }

    pub(crate) fn tensor(&self, name: &str) -> Tensor {
        let (values, shape) = self.0.floats(name, 0).expect("a tensor of the golden");
        Tensor::from_vec(values, shape, &Device::Cpu).expect("a tensor of that shape")
    }

    pub(crate) fn ids(&self, name: &str) -> Vec<u32> {
        self.0.ids(name, 0).expect("ids of the golden")
    }

    /// Measures our tensor against the golden of that name.
    pub(crate) fn apart(&self, name: &str, ours: &Tensor) -> Measured {
        let ours = ours
            .flatten_all()
            .and_then(|t| t.to_vec1::<f32>())
            .expect("f32");
        let golden = self.floats(name);
        let [ours, golden] = [&ours, &golden].map(|row| row.iter().map(|v| f64::from(*v)));
        Measured {
            part: name.to_owned(),
            distance: ValueDistance::between(ours, golden),
        }
    }
}

/// Checks the distance of a part from the reference's.
pub(crate) struct Measured {
    pub(crate) part: String,
    pub(crate) distance: ValueDistance,
}

#[track_caller]
pub(crate) fn assert_within(what: &str, all: &[Measured], bar: Tolerance) {
    for Measured { part, distance } in all {
        println!(
            "{what} {part}: relative {:.2e} max {:.2e}",
            distance.relative, distance.max
        );
        assert!(bar.holds(distance), "{what} {part}: {distance:?}");
    }
}
