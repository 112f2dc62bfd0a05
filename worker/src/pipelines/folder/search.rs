//! Finds the files of a model's parts in a folder, by names and by content.
//!
//! Every file that may contain a part is a candidate. Candidates whose tensors have the shapes of the model are
//! preferred, then those with the family's own file names. If two different files fit equally well, both are
//! named and the folder is refused. Each file is opened once, even if it contains several parts.

mod absence;
mod choice;
mod places;
mod sets;

use crate::fault::WorkerFault;
use crate::weights::{ModelPart, WeightFile, Weights};
use places::{FOLDERS, Rank, fits, prefix_of};
pub use places::{FolderLayout, T5_FILES};
use sets::Set;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Name of the file that marks a folder as a pipeline saved by diffusers.
pub const MODEL_INDEX: &str = "model_index.json";
/// Largest index of shards, in bytes.
const INDEX_MAX: u64 = 64 << 20;
const ALL_IN_ONE: [&str; 6] = [
    "model.diffusion_model.",
    "first_stage_model.",
    "vae.",
    "text_encoders.clip_l.",
    "text_encoders.clip_g.",
    "text_encoders.t5xxl.",
];

/// Shapes by original name, which tell this model's part from that of another model.
pub type Shapes = Vec<(String, Vec<usize>)>;

/// A search for the parts of a family's model in a folder.
pub struct FolderSearch {
    folder: PathBuf,
    layout: &'static FolderLayout,
    /// The layouts of all families.
    all: Vec<&'static FolderLayout>,
    /// The transformer's file, if the settings name it instead of the folder.
    chosen: Option<PathBuf>,
    opened: RefCell<BTreeMap<PathBuf, Arc<WeightFile>>>,
}

/// A set of files that contains a part.
struct Candidate {
    rank: Rank,
    named: PathBuf,
    files: Vec<Arc<WeightFile>>,
    prefix: &'static str,
}

/// The folder of a model. `path` is the folder, or the transformer's file in it or in one of the searched
/// subfolders.
pub fn folder_of(path: &Path) -> PathBuf {
    if !path.is_file() {
        return path.to_owned();
    }
    let parent = path.parent().unwrap_or(Path::new("."));
    let mut names = FOLDERS.iter().chain(&["transformer"]);
    let within = names.any(|name| parent.file_name() == Some(OsStr::new(name)));
    let above = parent.parent().filter(|_| within);
    above.unwrap_or(parent).to_owned()
}

impl FolderSearch {
    /// Makes a search without opening files. `path` is a folder, or the transformer's file in it.
    pub fn new(
        path: &Path,
        layout: &'static FolderLayout,
        all: &[&'static FolderLayout],
    ) -> FolderSearch {
        FolderSearch {
            folder: folder_of(path),
            layout,
            all: all.to_vec(),
            chosen: path.is_file().then(|| path.to_owned()),
            opened: RefCell::default(),
        }
    }

    /// Finds the tensors of a part, by original name. If several files contain it, those with `shapes` are
    /// preferred.
    ///
    /// # Errors
    /// [`WorkerFault::WeightsMissing`] if no file contains it; [`WorkerFault::Configuration`] if several fit equally
    /// well; faults of opening candidates.
    pub fn part(&self, part: &'static ModelPart, shapes: &Shapes) -> Result<Weights, WorkerFault> {
        self.part_near(part, None, shapes)
    }

    /// Like [`FolderSearch::part`], but searches the files of another part first.
    ///
    /// # Errors
    /// As [`FolderSearch::part`].
    pub fn part_near(
        &self,
        part: &'static ModelPart,
        near: Option<&Weights>,
        shapes: &Shapes,
    ) -> Result<Weights, WorkerFault> {
        if let Some(files) = near.map(Weights::files) {
            let prefix = prefix_of(part, files).filter(|at| fits(part, files, at));
            if let Some(prefix) = prefix {
                return Weights::of_part(part, files.to_vec(), prefix);
            }
        }
        let mut came_near = None;
        let candidates = self.candidates(part, &mut came_near)?;
        if candidates.is_empty() {
            return Err(self.absent(part, came_near));
        }
        if self.are_of_another_family(part, &candidates)? {
            return Err(self.of_another_family(part, &candidates));
        }
        self.choose(part, candidates, shapes)
    }

    /// The file that contains a part, if any, for messages.
    ///
    /// # Errors
    /// Faults of files with the family's own names.
    pub fn holds(&self, part: &'static ModelPart) -> Result<Option<PathBuf>, WorkerFault> {
        let mut candidates = self.candidates(part, &mut None)?;
        candidates.sort_by_key(|one| one.rank);
        Ok(candidates.into_iter().next().map(|one| one.named))
    }

    /// Finds every set of files that contains the part. `came_near` is set to the fault of the first file that could
    /// not be read.
    fn candidates(
        &self,
        part: &'static ModelPart,
        came_near: &mut Option<WorkerFault>,
    ) -> Result<Vec<Candidate>, WorkerFault> {
        if let Some(path) = self.chosen.as_ref().filter(|_| part.is_transformer()) {
            return self.of_chosen(part, path);
        }
        let mut all = Vec::new();
        let mut near = |path: &Path, fault: WorkerFault| {
            // A file with the family's own name must be readable, even if there are other candidates.
            let below = path.strip_prefix(&self.folder).unwrap_or(path);
            match self.rank(part, below) {
                Rank::Published(_) => Err(fault),
                _ => {
                    came_near.get_or_insert(fault);
                    Ok(())
                }
            }
        };
        for place in [""].iter().chain(&FOLDERS) {
            let found = sets::of_folder(&self.folder.join(place))?;
            for (path, fault) in found.near {
                near(&path, fault)?;
            }
            for set in found.sets {
                let below = set.named.strip_prefix(&self.folder).unwrap_or(&set.named);
                let rank = self.rank(part, below);
                match self.candidate(part, &set, rank) {
                    Ok(candidate) => all.extend(candidate),
                    Err(fault) => near(&set.named, fault)?,
                }
            }
        }
        if self.folder.join(MODEL_INDEX).is_file() {
            for component in part.components {
                self.component(part, component, &mut all, &mut near)?;
            }
        }
        Ok(all)
    }

    /// Adds the candidate of a diffusers component, its first set; reports the unreadable files if it has none.
    fn component(
        &self,
        part: &'static ModelPart,
        name: &str,
        all: &mut Vec<Candidate>,
        near: &mut impl FnMut(&Path, WorkerFault) -> Result<(), WorkerFault>,
    ) -> Result<(), WorkerFault> {
        let folder = self.folder.join(name);
        let found = sets::of_folder(&folder)?;
        let mut faults = found.near;
        for set in found.sets {
            match self.files_of(&set) {
                Ok(files) if prefix_of(part, &files) == Some("") => {
                    // The folder's name tells which CLIP it is, so the file is not checked for that.
                    all.retain(|one| one.named != set.named);
                    all.push(Candidate {
                        rank: Rank::Component,
                        named: set.named,
                        files,
                        prefix: "",
                    });
                    return Ok(());
                }
                Ok(_) => {}
                Err(fault) => faults.push((set.named, fault)),
            }
        }
        faults
            .into_iter()
            .try_for_each(|(path, fault)| near(&path, fault))
    }

    /// The candidate that the settings name: the file, or all shards of the set that it belongs to.
    fn of_chosen(
        &self,
        part: &'static ModelPart,
        path: &Path,
    ) -> Result<Vec<Candidate>, WorkerFault> {
        let folder = path.parent().unwrap_or(Path::new("."));
        let found = sets::of_folder(folder)?;
        let mut holding = found.sets.into_iter();
        let set = holding.find(|set| set.paths.iter().any(|one| one == path));
        let set = set.unwrap_or_else(|| Set {
            named: path.to_owned(),
            paths: vec![path.to_owned()],
            index: None,
        });
        let candidate = self.candidate(part, &set, Rank::Chosen)?;
        Ok(candidate.into_iter().collect())
    }

    fn candidate(
        &self,
        part: &'static ModelPart,
        set: &Set,
        rank: Rank,
    ) -> Result<Option<Candidate>, WorkerFault> {
        let files = self.files_of(set)?;
        let Some(prefix) = prefix_of(part, &files).filter(|at| fits(part, &files, at)) else {
            return Ok(None);
        };
        Ok(Some(Candidate {
            rank,
            named: set.named.clone(),
            files,
            prefix,
        }))
    }

    /// Opens a set, and checks that each file contains the tensors that the index lists for it.
    fn files_of(&self, set: &Set) -> Result<Vec<Arc<WeightFile>>, WorkerFault> {
        let opened = set.paths.iter().map(|path| self.open(path));
        let files = opened.collect::<Result<Vec<_>, WorkerFault>>()?;
        for (tensor, name) in set.index.iter().flatten() {
            let held = set.paths.iter().position(|path| file_name(path) == *name);
            let file = held.map(|at| &files[at]);
            if !file.is_some_and(|file| file.has(tensor)) {
                let what = format!(
                    "is not in the file, although {} lists it",
                    file_name(&set.named)
                );
                let file = file.map_or(name.as_str(), |file| file.name());
                return Err(WorkerFault::configuration(file, tensor, what));
            }
        }
        Ok(files)
    }

    fn open(&self, path: &Path) -> Result<Arc<WeightFile>, WorkerFault> {
        if let Some(file) = self.opened.borrow().get(path) {
            return Ok(Arc::clone(file));
        }
        let file = Arc::new(WeightFile::open(path)?);
        let mut opened = self.opened.borrow_mut();
        opened.insert(path.to_owned(), Arc::clone(&file));
        Ok(file)
    }
}

/// The part in a file that is known to contain it, with or without a prefix.
///
/// # Errors
/// As [`Weights::of_part`].
pub fn part_in(part: &'static ModelPart, file: Arc<WeightFile>) -> Result<Weights, WorkerFault> {
    let files = vec![file];
    let prefix = prefix_of(part, &files).unwrap_or("");
    Weights::of_part(part, files, prefix)
}

/// Refuses unknown tensors in a file that contains all parts.
///
/// # Errors
/// [`WorkerFault::Configuration`] with the first such tensor.
pub fn refuse_strays(weights: &Weights) -> Result<(), WorkerFault> {
    for file in weights.files() {
        let known = |name: &str| ALL_IN_ONE.iter().any(|start| name.starts_with(start));
        if !file.names().any(known) {
            continue;
        }
        if let Some(stray) = file
            .names()
            .find(|name| !known(name) && *name != "scaled_fp8")
        {
            let what = "is in the file, but does not belong to a known part";
            return Err(WorkerFault::configuration(file.name(), stray, what));
        }
    }
    Ok(())
}

fn corrupt(file: &str, what: String) -> WorkerFault {
    WorkerFault::WeightsCorrupt {
        file: file.to_owned(),
        what,
    }
}

fn file_name(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default();
    name.to_string_lossy().into_owned()
}
