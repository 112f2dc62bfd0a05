//! Weight files: safetensors and GGUF, mapped from disk or embedded in this program.
//!
//! ```text
//!   WeightFile   one file, its header checked          file · header (safetensors) · gguf
//!   Weights      one part's tensors by ORIGINAL name   recipe ◀ naming (from the names in the files)
//!   Section      a prefix of it, device, dtype         section ▸ Tensor, or Matrix, which may stay in its files
//! ```
//!
//! A pipeline asks for a tensor by its name in the model's first published file **and by its shape**. Shards,
//! prefixes, names of other projects, scales and dtypes are handled here, for each tensor. If a file does not
//! match its configuration, loading fails and names the tensor.

pub mod digest;
mod entry;
mod file;
mod foreign;
mod gguf;
mod header;
mod inventory;
mod kind;
mod matrix;
mod naming;
mod piece;
mod recipe;
mod section;
mod slabs;
mod stand_in;
mod stored;

pub use file::{WeightFile, count_tensors, open_regular};
pub use foreign::is_lora;
pub use inventory::Inventory;
pub use ipc_protocol::mark::Mark;
pub use matrix::Matrix;
#[cfg(test)]
pub use naming::targets;
pub use naming::{
    AUTOENCODER, CLIP_G, CLIP_L, HasTensor, ModelPart, NameCounts, OtherModel, Role, T5,
    TensorTarget, indexed, joint_qkv, look_up, split_end,
};
pub use section::{LoadDepth, Meter, Section};
pub use stand_in::stand_in;

use crate::fault::WorkerFault;
use candle_core::Device;
use memmap2::{Mmap, UncheckedAdvice};
use recipe::Recipe;
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::path::Path;
use std::sync::Arc;

/// The tensors of one part of a model by original name, from one or several files.
pub struct Weights {
    files: Vec<Arc<WeightFile>>,
    recipes: BTreeMap<String, Recipe>,
    read: RefCell<BTreeSet<String>>,
}

impl Weights {
    /// Opens a file; its tensors keep their names.
    ///
    /// # Errors
    /// As [`WeightFile::open`].
    pub fn open(path: &Path) -> Result<Weights, WorkerFault> {
        Ok(Weights::whole(Arc::new(WeightFile::open(path)?)))
    }

    fn whole(file: Arc<WeightFile>) -> Weights {
        let recipes = recipe::as_stored(&file);
        Weights::new(vec![file], recipes)
    }

    /// Finds the tensors of `part` in `files`, among those whose names start with `prefix`.
    ///
    /// # Errors
    /// [`WorkerFault::Configuration`] for a tensor that is in two files, lacks one of its pieces or has a scale that
    /// cannot be read, and for a tensor of another model or in an unsupported encoding.
    pub fn of_part(
        part: &'static ModelPart,
        files: Vec<Arc<WeightFile>>,
        prefix: &str,
    ) -> Result<Weights, WorkerFault> {
        for file in &files {
            foreign::refuse(part, file, prefix)?;
        }
        let recipes = recipe::of_part(part, &files, prefix)?;
        Ok(Weights::new(files, recipes))
    }

    fn new(files: Vec<Arc<WeightFile>>, recipes: BTreeMap<String, Recipe>) -> Weights {
        Weights {
            files,
            recipes,
            read: RefCell::default(),
        }
    }

    /// Name of the first file, for messages.
    pub fn file(&self) -> &str {
        self.files.first().map_or("", |file| file.name())
    }

    /// The files of these tensors; they may also contain other parts.
    pub fn files(&self) -> &[Arc<WeightFile>] {
        &self.files
    }

    /// Bytes of these tensors as stored.
    pub fn stored_bytes(&self) -> u64 {
        self.recipes.values().map(Recipe::stored_bytes).sum()
    }

    /// Shape of the tensor with this name, if there is one.
    pub fn shape(&self, name: &str) -> Option<&[usize]> {
        self.recipes.get(name).map(|recipe| recipe.shape.as_slice())
    }

    /// Number of elements of all tensors whose names `wanted` accepts.
    pub fn elements(&self, wanted: impl Fn(&str) -> bool) -> u64 {
        let chosen = self.recipes.iter().filter(|(name, _)| wanted(name));
        chosen.map(|(_, recipe)| recipe.elements()).sum()
    }

    /// Names and shapes of all tensors.
    pub fn inventory(&self) -> Inventory {
        let mut inventory = Inventory::default();
        for (name, recipe) in &self.recipes {
            let stored = Some((recipe.stored_bytes(), recipe.holding()));
            inventory.add(name.clone(), &recipe.shape, stored);
        }
        inventory
    }

    /// Refuses a file with tensors that were not read: it is of another model than the configuration.
    ///
    /// # Errors
    /// [`WorkerFault::Configuration`] with the first tensor that was not read and has none of the `ignored`
    /// prefixes.
    pub fn refuse_unread(&self, ignored: &[&str]) -> Result<(), WorkerFault> {
        let read = self.read.borrow();
        let unread = |name: &&String| {
            !read.contains(*name) && !ignored.iter().any(|start| name.starts_with(start))
        };
        let Some(name) = self.recipes.keys().find(unread) else {
            return Ok(());
        };
        let (file, stored) = self.recipes[name].origin();
        let what = "is in the file, but not in the model of this configuration";
        Err(WorkerFault::configuration(file, stored, what))
    }

    /// Releases the pages of the tensors that were loaded to `device`. Each was released when it was loaded, but the kernel
    /// maps pages around the one that is read, so that loading a tensor brings back some of the one before.
    pub fn release_loaded(&self, device: &Device) {
        let stays = |recipe: &Recipe| device.is_cpu() && recipe.holding().stays_on_host;
        let loaded = self.recipes.values().filter(|recipe| !stays(recipe));
        loaded.for_each(Recipe::release);
    }

    fn recipe(&self, name: &str) -> Result<&Recipe, WorkerFault> {
        let found = self.recipes.get(name);
        found.ok_or_else(|| WorkerFault::configuration(self.file(), name, "is not in the file"))
    }
}

/// Maps a weight file for reading.
#[allow(unsafe_code)]
fn map(file: &File) -> std::io::Result<Mmap> {
    // SAFETY: JUSTIFICATION: the bytes are only read, while the model is loaded and, of matrices that stay in the
    // file, by each product. They are numbers, of which every pattern of bits is valid. If another program writes to the
    // file, its mark tells before and after each use, and no picture is made of what was read. If one truncates it,
    // this process gets a SIGBUS and nothing else happens: a worker has one model, the supervisor reports its exit,
    // and every offset was checked against the mapped length.
    unsafe { Mmap::map(file) }
}

/// Releases the pages of a range, so that a loaded tensor does not take memory a second time in the map.
#[allow(unsafe_code)]
fn release(map: &Mmap, start: usize, length: usize) {
    // SAFETY: JUSTIFICATION: the map is shared with its file and never written. A dropped page is read from the
    // file again on its next access, so no value changes under a reference.
    let given = unsafe { map.unchecked_advise_range(UncheckedAdvice::DontNeed, start, length) };
    // A refusal of the kernel is harmless: it reclaims the pages when memory is short.
    drop(given);
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::DType;
    use ipc_protocol::exit_code::ExitCode;
    use safetensors::tensor::{Dtype as Stored, TensorView};

    fn file(folder: &Path, cut: usize) -> std::path::PathBuf {
        let data: Vec<u8> = [1f32, 2.0].iter().flat_map(|v| v.to_le_bytes()).collect();
        let view = TensorView::new(Stored::F32, vec![2], &data).expect("two floats");
        let mut bytes = safetensors::serialize([("part.scale", view)], None).expect("one tensor");
        bytes.truncate(bytes.len() - cut);
        let path = folder.join(format!("w{cut}.safetensors"));
        std::fs::write(&path, bytes).expect("a writable temporary folder");
        path
    }

    #[test]
    fn a_truncated_file_is_corrupt_and_an_absent_file_is_missing() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        for cut in [1, 8, 12, 60] {
            let found = Weights::open(&file(folder.path(), cut))
                .err()
                .and_then(|f| f.exit_code());
            assert_eq!(found, Some(ExitCode::UnusableWeights), "cut by {cut}");
        }
        let missing = Weights::open(&folder.path().join("none.safetensors"));
        assert!(matches!(
            missing.err(),
            Some(WorkerFault::WeightsMissing { .. })
        ));
    }

    #[test]
    fn a_file_truncated_or_overwritten_after_opening_is_corrupt() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = file(folder.path(), 0);
        let whole = std::fs::read(&path).expect("a good file");
        let spoil: [(&str, &dyn Fn()); 2] = [
            ("cut", &|| std::fs::write(&path, b"").expect("our own file")),
            ("written over", &|| {
                std::fs::write(&path, &whole).expect("our own file");
                let later = std::time::SystemTime::UNIX_EPOCH;
                let written = File::options().write(true).open(&path);
                let set = written.and_then(|written| written.set_modified(later));
                set.expect("our own file");
            }),
        ];
        for (how, spoil) in spoil {
            std::fs::write(&path, &whole).expect("our own file");
            let weights = Weights::open(&path).expect("a good file");
            spoil();
            let mut tell = |_| {};
            let meter = Meter::new(&[&weights], &mut tell);
            let section = Section::new(&weights, &meter, DType::F32, &Device::Cpu).at("part");
            let read = section.tensor("scale", &[2]);
            let fault = read.expect_err(how);
            assert_eq!(
                fault.exit_code(),
                Some(ExitCode::UnusableWeights),
                "{how}: {fault}"
            );
            assert!(fault.to_string().contains("changed"), "{how}: {fault}");
        }
    }

    #[test]
    fn a_wrong_shape_and_an_unread_tensor_are_faults_that_name_the_tensor() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let weights = Weights::open(&file(folder.path(), 0)).expect("a good file");
        let mut last = 0.0;
        let mut tell = |fraction| last = fraction;
        let meter = Meter::new(&[&weights], &mut tell);
        let section = Section::new(&weights, &meter, DType::F32, &Device::Cpu).at("part");
        let wrong = section
            .tensor("scale", &[3])
            .expect_err("the shape differs")
            .to_string();
        assert!(
            wrong.contains("part.scale") && wrong.contains("[2]"),
            "{wrong}"
        );
        let left = weights
            .refuse_unread(&[])
            .expect_err("nothing was read")
            .to_string();
        assert!(left.contains("part.scale"), "{left}");
        section.tensor("scale", &[2]).expect("the right shape");
        weights.refuse_unread(&[]).expect("all was read");
    }
}
