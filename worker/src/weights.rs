//! Weight files: safetensors and GGUF, mapped from disk or inside this program.
//!
//! ```text
//!   WeightFile   one file, its header checked          file · header (safetensors) · gguf
//!   Weights      one part's tensors by ORIGINAL name   recipe ◀ naming (whatever the files call them)
//!   Section      a prefix of it, device, dtype         section ▸ Tensor, or Matrix where blocks stay packed
//! ```
//!
//! A pipeline asks for a tensor by the name it has in the model's first published file **and by shape**;
//! shards, prefixes, other projects' names, scales and dtypes are dealt with here, tensor by tensor. A
//! file that does not fit its configuration is found while loading, by name.

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
mod recipe;
mod section;

pub use file::{WeightFile, open_regular};
pub use foreign::{is_lora, stand_in};
pub use inventory::Inventory;
pub use ipc_protocol::mark::Mark;
pub use matrix::Matrix;
pub use naming::{
    AUTOENCODER, CLIP_G, CLIP_L, ModelPart, NameCounts, Role, T5, TensorTarget, indexed, look_up,
    split_end,
};
pub use section::{LoadDepth, Meter, Section};

use crate::fault::WorkerFault;
use memmap2::{Mmap, UncheckedAdvice};
use recipe::Recipe;
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::path::Path;
use std::sync::Arc;

/// The tensors of one part of a model, by original name, whatever files hold them.
pub struct Weights {
    files: Vec<Arc<WeightFile>>,
    recipes: BTreeMap<String, Recipe>,
    read: RefCell<BTreeSet<String>>,
}

impl Weights {
    /// All tensors of one file under the names that they have there.
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

    /// The tensors of `part` among those of `files` whose names start with `prefix`.
    ///
    /// # Errors
    /// [`WorkerFault::Configuration`] for a tensor that two files hold, that lacks one of its pieces or whose
    /// scale cannot be read, and for one by which the part is another model's or in an encoding that is
    /// not read.
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

    /// The first file's name in messages.
    pub fn file(&self) -> &str {
        self.files.first().map_or("", |file| file.name())
    }

    /// The files that hold these tensors, and perhaps those of other parts.
    pub fn files(&self) -> &[Arc<WeightFile>] {
        &self.files
    }

    /// Bytes of these tensors as stored.
    pub fn stored_bytes(&self) -> u64 {
        self.recipes.values().map(Recipe::stored_bytes).sum()
    }

    /// Shape of a tensor, if there is one of this name.
    pub fn shape(&self, name: &str) -> Option<&[usize]> {
        self.recipes.get(name).map(|recipe| recipe.shape.as_slice())
    }

    /// Elements of all tensors whose name `wanted` accepts.
    pub fn elements(&self, wanted: impl Fn(&str) -> bool) -> u64 {
        let chosen = self.recipes.iter().filter(|(name, _)| wanted(name));
        chosen.map(|(_, recipe)| recipe.elements()).sum()
    }

    /// Names and shapes of all tensors.
    pub fn inventory(&self) -> Inventory {
        let mut inventory = Inventory::default();
        for (name, recipe) in &self.recipes {
            let packed = recipe.packed().map(|_| recipe.stored_bytes());
            inventory.add(name.clone(), &recipe.shape, packed);
        }
        inventory
    }

    /// Refuses tensors that nobody asked for: they mean another model than the configuration says.
    ///
    /// # Errors
    /// [`WorkerFault::Configuration`] naming the first tensor that is neither read nor below one of the
    /// `ignored` prefixes.
    pub fn refuse_unread(&self, ignored: &[&str]) -> Result<(), WorkerFault> {
        let read = self.read.borrow();
        let unread = |name: &&String| {
            !read.contains(*name) && !ignored.iter().any(|start| name.starts_with(start))
        };
        let Some(name) = self.recipes.keys().find(unread) else {
            return Ok(());
        };
        let (file, stored) = self.recipes[name].origin();
        let what = "is in the file, but the configuration has no place for it";
        Err(WorkerFault::configuration(file, stored, what))
    }

    fn recipe(&self, name: &str) -> Result<&Recipe, WorkerFault> {
        let found = self.recipes.get(name);
        found.ok_or_else(|| WorkerFault::configuration(self.file(), name, "is not in the file"))
    }
}

/// Maps a weight file read-only.
#[allow(unsafe_code)]
fn map(file: &File) -> std::io::Result<Mmap> {
    // SAFETY: JUSTIFICATION: the bytes are only ever read, each once, while the model loads. Somebody who
    // truncates the file meanwhile gets this process a SIGBUS and nothing else: a worker holds one model,
    // the supervisor reports its death, and every offset used was checked against the mapped length.
    unsafe { Mmap::map(file) }
}

/// Gives the pages of a range back, so that a loaded tensor is not held a second time as the file's.
#[allow(unsafe_code)]
fn release(map: &Mmap, start: usize, length: usize) {
    // SAFETY: JUSTIFICATION: the map is shared with its file and never written, so a page that is dropped is
    // read from the file again when somebody touches it: no value changes under any reference.
    let given = unsafe { map.unchecked_advise_range(UncheckedAdvice::DontNeed, start, length) };
    // A kernel that will not is no fault: the pages are reclaimed under pressure.
    drop(given);
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{DType, Device};
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
    fn a_truncated_file_is_corrupt_and_an_absent_one_missing() {
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
    fn a_file_that_is_cut_or_written_over_after_it_was_opened_is_corrupt() {
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
    fn a_wrong_shape_and_a_tensor_left_over_are_named() {
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
