//! Where in a folder each part of a model is, found by looking at names and then into the files.
//!
//! A part is looked for in this order: the published file names; a diffusers folder's components, one file
//! or shards by their index; then every other weight file, in which it may lie below a prefix beside
//! other parts. Files are opened once, however many parts they hold.

mod places;

use crate::fault::Fault;
use crate::weights::{Part, WeightFile, Weights, open_regular};
use places::{components, fits, noun, prefix_of, published};
use serde::Deserialize;
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Says that a folder is laid out as diffusers saves pipelines.
pub const MODEL_INDEX: &str = "model_index.json";
/// Longest index of shards, in bytes.
const INDEX_MAX: u64 = 64 << 20;
/// Folders beside the top one that are looked through.
const FOLDERS: [&str; 4] = ["text_encoders", "vae", "unet", "diffusion_models"];
const PICKLES: [&str; 4] = ["ckpt", "pt", "pth", "bin"];
const ALL_IN_ONE: [&str; 6] = [
    "model.diffusion_model.",
    "first_stage_model.",
    "vae.",
    "text_encoders.clip_l.",
    "text_encoders.clip_g.",
    "text_encoders.t5xxl.",
];

/// A folder's weight files.
pub struct Shelf {
    folder: PathBuf,
    opened: RefCell<BTreeMap<PathBuf, Arc<WeightFile>>>,
}

#[derive(Deserialize)]
struct Index {
    weight_map: BTreeMap<String, String>,
}

impl Shelf {
    /// Opens nothing yet.
    pub fn new(folder: &Path) -> Shelf {
        Shelf {
            folder: folder.to_owned(),
            opened: RefCell::default(),
        }
    }

    /// The tensors of a part, by original name.
    ///
    /// # Errors
    /// [`Fault::WeightsMissing`] when no file holds it; the faults of opening the files that might.
    pub fn part(&self, part: Part) -> Result<Weights, Fault> {
        if let Some(found) = self.find(part)? {
            return Ok(found);
        }
        self.refuse_pickles()?;
        let names = published(part).join(", ");
        Err(Fault::WeightsMissing {
            file: self.folder.display().to_string(),
            what: format!(
                "no {} ({names}, or in another file) in this folder",
                noun(part)
            ),
        })
    }

    /// A part that is looked for first in the files of another one, then under `names`, then as
    /// [`Shelf::part`] does it: a folder may hold two families, whose parts have names in common.
    ///
    /// # Errors
    /// As [`Shelf::part`].
    pub fn part_near(&self, part: Part, near: &Weights, names: &[&str]) -> Result<Weights, Fault> {
        for file in near.files() {
            if let Some(prefix) = prefix_of(part, file).filter(|at| fits(part, file, at)) {
                return Weights::of_part(part, vec![Arc::clone(file)], prefix);
            }
        }
        let mut paths = names.iter().map(|name| self.folder.join(name));
        if let Some(path) = paths.find(|path| path.is_file()) {
            return part_in(part, self.open(&path)?);
        }
        self.part(part)
    }

    /// As [`Shelf::part`], `None` when no file holds it.
    ///
    /// # Errors
    /// The faults of opening the files that might.
    pub fn find(&self, part: Part) -> Result<Option<Weights>, Fault> {
        if let Some(path) = self.by_name(part)? {
            return Ok(Some(part_in(part, self.open(&path)?)?));
        }
        if self.folder.join(MODEL_INDEX).is_file() {
            for component in components(part) {
                if let Some(found) = self.component(part, &self.folder.join(component))? {
                    return Ok(Some(found));
                }
            }
        }
        self.by_content(part)
    }

    fn open(&self, path: &Path) -> Result<Arc<WeightFile>, Fault> {
        if let Some(file) = self.opened.borrow().get(path) {
            return Ok(Arc::clone(file));
        }
        let file = Arc::new(WeightFile::open(path)?);
        let mut opened = self.opened.borrow_mut();
        opened.insert(path.to_owned(), Arc::clone(&file));
        Ok(file)
    }

    /// The first published name that is there; one that ends in `*` stands for any end.
    fn by_name(&self, part: Part) -> Result<Option<PathBuf>, Fault> {
        for name in published(part) {
            let Some(start) = name.strip_suffix('*') else {
                let path = self.folder.join(name);
                if path.is_file() {
                    return Ok(Some(path));
                }
                continue;
            };
            let begins = |path: &PathBuf| file_name(path).starts_with(start);
            if let Some(path) = weight_files(&self.folder)?.into_iter().find(begins) {
                return Ok(Some(path));
            }
        }
        Ok(None)
    }

    /// One component of a diffusers folder, if it is this part.
    fn component(&self, part: Part, folder: &Path) -> Result<Option<Weights>, Fault> {
        if !folder.is_dir() {
            return Ok(None);
        }
        let entries = entries(folder)?;
        let is_index = |path: &&PathBuf| file_name(path).ends_with(".safetensors.index.json");
        let files = match entries.iter().find(is_index) {
            Some(index) => self.shards(folder, index)?,
            None => {
                // Without a variant in its name a file has one dot: `model.safetensors`.
                let mut files = weight_files(folder)?;
                files.sort_by_key(|path| file_name(path).matches('.').count());
                let first = files.first().map(|path| self.open(path)).transpose()?;
                first.into_iter().collect()
            }
        };
        if !part.is_in(|name| files.iter().any(|file| file.has(name))) {
            return Ok(None);
        }
        Ok(Some(Weights::of_part(part, files, "")?))
    }

    /// The files of an index, each holding what the index says it does.
    fn shards(&self, folder: &Path, index: &Path) -> Result<Vec<Arc<WeightFile>>, Fault> {
        let said = index.display().to_string();
        let unread = |error| Fault::reading(index, &error);
        let mut file = open_regular(index)?;
        let length = file.metadata().map_err(unread)?.len();
        if length > INDEX_MAX {
            return Err(corrupt(
                &said,
                format!("has {length} bytes; {INDEX_MAX} are the most"),
            ));
        }
        let mut text = Vec::new();
        file.read_to_end(&mut text).map_err(unread)?;
        let parsed: Index =
            serde_json::from_slice(&text).map_err(|error| corrupt(&said, error.to_string()))?;
        let names: BTreeSet<&String> = parsed.weight_map.values().collect();
        let mut files = BTreeMap::new();
        for name in names {
            let path = folder.join(name);
            if Path::new(name).file_name() != Some(name.as_ref()) {
                return Err(corrupt(&said, format!("{name:?} is no file beside it")));
            }
            files.insert(name, self.open(&path)?);
        }
        for (tensor, name) in &parsed.weight_map {
            if !files[name].has(tensor) {
                let what = format!("is not in the file, but {} says so", file_name(index));
                return Err(Fault::configuration(files[name].name(), tensor, what));
            }
        }
        Ok(files.into_values().collect())
    }

    /// The first file, safetensors before GGUF, in which the part is.
    fn by_content(&self, part: Part) -> Result<Option<Weights>, Fault> {
        let mut paths = weight_files(&self.folder)?;
        for folder in FOLDERS {
            let folder = self.folder.join(folder);
            if folder.is_dir() {
                paths.extend(weight_files(&folder)?);
            }
        }
        let mut damaged = None;
        for path in paths {
            let file = match self.open(&path) {
                Ok(file) => file,
                Err(fault) => {
                    damaged.get_or_insert(fault);
                    continue;
                }
            };
            let Some(prefix) = prefix_of(part, &file).filter(|at| fits(part, &file, at)) else {
                continue;
            };
            return Ok(Some(Weights::of_part(part, vec![file], prefix)?));
        }
        // What is missing may well be what cannot be read.
        damaged.map_or(Ok(None), Err)
    }

    /// A file that would run a program when it is opened is told by name, not overlooked.
    ///
    /// # Errors
    /// [`Fault::WeightsCorrupt`] naming it.
    pub fn refuse_pickles(&self) -> Result<(), Fault> {
        let mut paths = entries(&self.folder)?;
        for name in [
            "transformer",
            "vae",
            "text_encoder",
            "text_encoder_2",
            "text_encoder_3",
        ] {
            paths.extend(entries(&self.folder.join(name)).unwrap_or_default());
        }
        let pickles = paths.iter().filter(|path| {
            let end = path.extension().and_then(|end| end.to_str());
            path.is_file() && end.is_some_and(|end| PICKLES.contains(&end))
        });
        pickles
            .into_iter()
            .try_for_each(|path| WeightFile::open(path).map(|_| ()))
    }
}

/// A part that is known to be in a file, perhaps below a prefix.
///
/// # Errors
/// As [`Weights::of_part`].
pub fn part_in(part: Part, file: Arc<WeightFile>) -> Result<Weights, Fault> {
    let prefix = prefix_of(part, &file).unwrap_or("");
    Weights::of_part(part, vec![file], prefix)
}

/// Refuses what an all-in-one file holds beside the parts that such files are made of.
///
/// # Errors
/// [`Fault::Configuration`] naming the first such tensor.
pub fn refuse_strays(weights: &Weights) -> Result<(), Fault> {
    for file in weights.files() {
        let known = |name: &str| ALL_IN_ONE.iter().any(|start| name.starts_with(start));
        if !file.names().any(known) {
            continue;
        }
        if let Some(stray) = file
            .names()
            .find(|name| !known(name) && *name != "scaled_fp8")
        {
            let what = "is in the file, but belongs to no part that is known";
            return Err(Fault::configuration(file.name(), stray, what));
        }
    }
    Ok(())
}

fn corrupt(file: &str, what: String) -> Fault {
    Fault::WeightsCorrupt {
        file: file.to_owned(),
        what,
    }
}

fn file_name(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default();
    name.to_string_lossy().into_owned()
}

/// What a folder holds, sorted by name.
fn entries(folder: &Path) -> Result<Vec<PathBuf>, Fault> {
    let read = std::fs::read_dir(folder).map_err(|error| Fault::reading(folder, &error))?;
    let mut paths: Vec<PathBuf> = read.flatten().map(|entry| entry.path()).collect();
    paths.sort();
    Ok(paths)
}

/// Weight files of a folder, safetensors before GGUF, each sorted by name.
fn weight_files(folder: &Path) -> Result<Vec<PathBuf>, Fault> {
    let paths = entries(folder)?;
    let ends_in = |end: &'static str| {
        let is = move |path: &&PathBuf| path.extension().is_some_and(|found| found == end);
        paths.iter().filter(is).cloned()
    };
    Ok(ends_in("safetensors").chain(ends_in("gguf")).collect())
}
