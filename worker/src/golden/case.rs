//! Reads the files of the reference scripts: `meta.json` and `golden_CASE.safetensors`.

use crate::fault::WorkerFault;
use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, TensorView};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// `meta.json` of a folder of goldens.
#[derive(Debug, Deserialize)]
pub struct GoldenMeta {
    /// Cases by name, such as `flux_base`.
    pub cases: BTreeMap<String, Case>,
    /// Folder of the model's files, relative to this one; `None` if they are in this folder.
    pub model: Option<PathBuf>,
}

/// A case: prompts, size, steps and seed.
#[derive(Debug, Deserialize)]
pub struct Case {
    /// The prompt of each image of the batch.
    pub prompts: Vec<String>,
    /// In pixels.
    pub height: u32,
    /// In pixels.
    pub width: u32,
    /// Denoising steps.
    pub steps: u32,
    /// T5 tokens.
    pub t5_len: usize,
    /// The negative prompt of each image.
    pub negative: Option<Vec<String>>,
    /// The guidance scale, if there is guidance.
    pub cfg: Option<f64>,
}

impl GoldenMeta {
    /// Reads `meta.json` of `folder`.
    ///
    /// # Errors
    /// [`WorkerFault::WeightsMissing`] or [`WorkerFault::Configuration`].
    pub fn read(folder: &Path) -> Result<GoldenMeta, WorkerFault> {
        let path = folder.join("meta.json");
        let text = std::fs::read(&path).map_err(|error| WorkerFault::reading(&path, &error))?;
        let refuse = |error: serde_json::Error| {
            WorkerFault::configuration(path.display().to_string(), "cases", error.to_string())
        };
        serde_json::from_slice(&text).map_err(refuse)
    }
}

/// The tensors of one case.
pub struct Goldens {
    file: String,
    bytes: Vec<u8>,
}

impl Goldens {
    /// Reads `golden_CASE.safetensors` of `folder`.
    ///
    /// # Errors
    /// [`WorkerFault::WeightsMissing`] if it is missing.
    pub fn read(folder: &Path, case: &str) -> Result<Goldens, WorkerFault> {
        let path = folder.join(format!("golden_{case}.safetensors"));
        let bytes = std::fs::read(&path).map_err(|error| WorkerFault::reading(&path, &error))?;
        Ok(Goldens {
            file: path.display().to_string(),
            bytes,
        })
    }

    fn view(&self, name: &str, dtype: Dtype) -> Result<TensorView<'_>, WorkerFault> {
        let refuse = |what: String| WorkerFault::configuration(&self.file, name, what);
        let file =
            SafeTensors::deserialize(&self.bytes).map_err(|error| WorkerFault::WeightsCorrupt {
                file: self.file.clone(),
                what: error.to_string(),
            })?;
        let view = file
            .tensor(name)
            .map_err(|error| refuse(error.to_string()))?;
        if view.dtype() != dtype || view.shape().is_empty() {
            return Err(refuse(format!("is {:?} {:?}", view.dtype(), view.shape())));
        }
        Ok(view)
    }

    /// The bytes of a whole tensor, and its shape.
    fn whole(&self, name: &str, dtype: Dtype) -> Result<(&[u8], Vec<usize>), WorkerFault> {
        let view = self.view(name, dtype)?;
        Ok((view.data(), view.shape().to_vec()))
    }

    /// The bytes of one image of the batch, with the shape of a batch of one.
    fn image(
        &self,
        name: &str,
        dtype: Dtype,
        image: usize,
    ) -> Result<(&[u8], Vec<usize>), WorkerFault> {
        let (bytes, mut shape) = self.whole(name, dtype)?;
        let size = bytes.len() / shape[0].max(1);
        if image >= shape[0] {
            let what = format!("has {} images, not {}", shape[0], image + 1);
            return Err(WorkerFault::configuration(&self.file, name, what));
        }
        shape[0] = 1;
        Ok((&bytes[image * size..(image + 1) * size], shape))
    }

    /// The f32 values of one image, and their shape, (1, …).
    ///
    /// # Errors
    /// [`WorkerFault::Configuration`] if the tensor is missing or of another dtype, as for all readers here.
    pub fn floats(&self, name: &str, image: usize) -> Result<(Vec<f32>, Vec<usize>), WorkerFault> {
        let (bytes, shape) = self.image(name, Dtype::F32, image)?;
        Ok((floats(bytes), shape))
    }

    /// The f32 values of a tensor that is the same for all images.
    ///
    /// # Errors
    /// As [`Goldens::floats`].
    pub fn shared(&self, name: &str) -> Result<Vec<f32>, WorkerFault> {
        Ok(floats(self.whole(name, Dtype::F32)?.0))
    }

    /// The token ids of one image.
    ///
    /// # Errors
    /// As [`Goldens::floats`].
    pub fn ids(&self, name: &str, image: usize) -> Result<Vec<u32>, WorkerFault> {
        let (bytes, _) = self.image(name, Dtype::I64, image)?;
        Ok(bytes
            .as_chunks::<8>()
            .0
            .iter()
            .map(|id| i64::from_le_bytes(*id) as u32)
            .collect())
    }

    /// The bytes of one image.
    ///
    /// # Errors
    /// As [`Goldens::floats`].
    pub fn bytes(&self, name: &str, image: usize) -> Result<&[u8], WorkerFault> {
        Ok(self.image(name, Dtype::U8, image)?.0)
    }
}

fn floats(bytes: &[u8]) -> Vec<f32> {
    bytes
        .as_chunks::<4>()
        .0
        .iter()
        .map(|word| f32::from_le_bytes(*word))
        .collect()
}
