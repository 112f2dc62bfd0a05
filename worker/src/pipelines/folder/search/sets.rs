//! The weight files of one folder, grouped into sets: single files, or all shards of one file.

use super::{INDEX_MAX, corrupt, file_name};
use crate::fault::WorkerFault;
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// Endings of the names of weight files, in the order of the search.
const ENDS: [&str; 3] = ["safetensors", "sft", "gguf"];

/// A set of files that belong together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Set {
    /// The file, the index or the first shard, for messages.
    pub(super) named: PathBuf,
    /// Paths of the files, in the order of their names.
    pub(super) paths: Vec<PathBuf>,
    /// File name of each tensor, if there is an index.
    pub(super) index: Option<BTreeMap<String, String>>,
}

/// The sets of a folder.
#[derive(Debug, Default)]
pub(super) struct FolderSets {
    /// The complete sets; in a diffusers component the one without a variant in its name is first.
    pub(super) sets: Vec<Set>,
    /// Files that cannot be used, each with its fault.
    pub(super) near: Vec<(PathBuf, WorkerFault)>,
}

#[derive(Deserialize)]
struct Index {
    weight_map: BTreeMap<String, String>,
}

/// Finds the sets of a folder; a missing folder has none.
///
/// # Errors
/// [`WorkerFault::WeightsCorrupt`] if it cannot be listed.
pub(super) fn of_folder(folder: &Path) -> Result<FolderSets, WorkerFault> {
    let mut found = FolderSets::default();
    if !folder.is_dir() {
        return Ok(found);
    }
    let entries = entries(folder)?;
    let (mut taken, mut indexed) = (BTreeSet::new(), BTreeSet::new());
    for index in entries.iter().filter(|path| is_index(path)) {
        indexed.insert(stem_of_index(&file_name(index)));
        match of_index(folder, index) {
            Ok((set, said)) => {
                taken.extend(said);
                found.sets.push(set);
            }
            Err(fault) => found.near.push((index.clone(), fault)),
        }
    }
    let mut shards: BTreeMap<(String, usize), Vec<(usize, PathBuf)>> = BTreeMap::new();
    for path in weight_files(&entries) {
        if let Some(fault) = dangling(&path) {
            found.near.push((path, fault));
        } else if taken.contains(&path) || !path.is_file() {
            // It already belongs to a set, or is a folder.
        } else if let Some((stem, number, of)) = shard(&file_name(&path)) {
            let key = (stem.to_owned(), of);
            shards.entry(key).or_default().push((number, path));
        } else {
            found.sets.push(Set {
                named: path.clone(),
                paths: vec![path],
                index: None,
            });
        }
    }
    // Shards with an unusable index are not grouped by their names.
    shards.retain(|(stem, _), _| !indexed.contains(stem));
    for ((_, of), files) in shards {
        match without_index(of, files) {
            Ok(set) => found.sets.push(set),
            Err((path, fault)) => found.near.push((path, fault)),
        }
    }
    // A name without a variant has the fewest dots: `model.safetensors`.
    let end = |set: &Set| {
        ENDS.iter()
            .position(|end| set.named.extension().is_some_and(|found| found == *end))
    };
    let stem = |set: &Set| {
        file_name(&set.named)
            .replace(".safetensors.index", "")
            .matches('.')
            .count()
    };
    found
        .sets
        .sort_by_key(|set| (stem(set), set.index.is_none(), end(set)));
    Ok(found)
}

/// Lists a folder, sorted by name.
pub(super) fn entries(folder: &Path) -> Result<Vec<PathBuf>, WorkerFault> {
    let read = std::fs::read_dir(folder).map_err(|error| WorkerFault::reading(folder, &error))?;
    let mut paths: Vec<PathBuf> = read.flatten().map(|entry| entry.path()).collect();
    paths.sort();
    Ok(paths)
}

/// Selects weight files by their names, sorted by ending and then by name.
fn weight_files(entries: &[PathBuf]) -> Vec<PathBuf> {
    let ends_in = |end: &'static str| {
        let is = move |path: &&PathBuf| path.extension().is_some_and(|found| found == end);
        entries.iter().filter(is).cloned()
    };
    ENDS.into_iter().flat_map(ends_in).collect()
}

/// Tells whether a path is an index, such as `model.safetensors.index.json` or
/// `model.safetensors.index.fp16.json`.
fn is_index(path: &Path) -> bool {
    let name = file_name(path);
    name.ends_with(".json") && name.contains(".safetensors.index.")
}

/// The stem of an index's shards: `model` of `model.safetensors.index.json`, `model.fp16` of
/// `model.safetensors.index.fp16.json`.
fn stem_of_index(name: &str) -> String {
    let name = name.strip_suffix(".json").unwrap_or(name);
    name.replace(".safetensors.index", "")
}

/// Parses the name of a shard: `model-00002-of-00003.safetensors` is (`model`, 2, 3).
fn shard(name: &str) -> Option<(&str, usize, usize)> {
    let (stem, _) = name.rsplit_once('.')?;
    let (rest, of) = stem.rsplit_once("-of-")?;
    let (stem, number) = rest.rsplit_once('-')?;
    Some((stem, number.parse().ok()?, of.parse().ok()?))
}

/// The fault for a link with a missing target.
fn dangling(path: &Path) -> Option<WorkerFault> {
    let target = std::fs::read_link(path).ok()?;
    if path.exists() {
        return None;
    }
    Some(WorkerFault::WeightsMissing {
        file: path.display().to_string(),
        what: format!(
            "is a link to {}, which is missing: the cache that it points to was moved, cleaned or not \
             filled; download the model again, or copy the file itself",
            target.display()
        ),
    })
}

/// Reads the set of an index, and the paths in it.
fn of_index(folder: &Path, index: &Path) -> Result<(Set, BTreeSet<PathBuf>), WorkerFault> {
    let said = index.display().to_string();
    if let Some(fault) = dangling(index) {
        return Err(fault);
    }
    let length = std::fs::metadata(index)
        .map_err(|error| WorkerFault::reading(index, &error))?
        .len();
    if length > INDEX_MAX {
        let what = format!("has {length} bytes, more than {INDEX_MAX}");
        return Err(corrupt(&said, what));
    }
    let parsed: Index = crate::pipelines::folder::text_file::read_json(index)?;
    let names: BTreeSet<&String> = parsed.weight_map.values().collect();
    let mut paths = BTreeSet::new();
    for name in names {
        if Path::new(name).file_name() != Some(name.as_ref()) {
            return Err(corrupt(
                &said,
                format!("{name:?} is not a file in the same folder"),
            ));
        }
        let path = folder.join(name);
        if let Some(fault) = dangling(&path) {
            return Err(fault);
        }
        if !path.is_file() {
            return Err(WorkerFault::WeightsMissing {
                file: path.display().to_string(),
                what: format!("no such file, although {} lists it", file_name(index)),
            });
        }
        paths.insert(path);
    }
    let set = Set {
        named: index.to_owned(),
        paths: paths.iter().cloned().collect(),
        index: Some(parsed.weight_map),
    };
    Ok((set, paths))
}

/// Makes a set of shards without an index, if all of them exist.
fn without_index(
    of: usize,
    mut files: Vec<(usize, PathBuf)>,
) -> Result<Set, (PathBuf, WorkerFault)> {
    files.sort();
    let there: Vec<usize> = files.iter().map(|(number, _)| *number).collect();
    let paths: Vec<PathBuf> = files.into_iter().map(|(_, path)| path).collect();
    let named = paths.first().cloned().unwrap_or_default();
    if there.iter().copied().eq(1..=of) {
        return Ok(Set {
            named,
            paths,
            index: None,
        });
    }
    let absent = (1..=of).find(|number| !there.contains(number));
    let what = format!(
        "is one of {of} shards, of which number {} is missing: download it, or all of them again",
        absent.unwrap_or(of)
    );
    let fault = WorkerFault::WeightsMissing {
        file: named.display().to_string(),
        what,
    };
    Err((named, fault))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(names: &[&str]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().expect("a temporary folder");
        for name in names {
            std::fs::write(folder.path().join(name), b"").expect("a writable folder");
        }
        folder
    }

    fn named(found: &FolderSets) -> Vec<String> {
        found.sets.iter().map(|set| file_name(&set.named)).collect()
    }

    #[test]
    fn shards_without_an_index_are_one_set_if_all_exist() {
        let there = folder(&[
            "model.fp16-00001-of-00002.safetensors",
            "model.fp16-00002-of-00002.safetensors",
            "b.sft",
        ]);
        let found = of_folder(there.path()).expect("a folder");
        let sizes: Vec<usize> = found.sets.iter().map(|set| set.paths.len()).collect();
        assert_eq!((sizes, found.near.len()), (vec![1, 2], 0));
        let half = folder(&["t5-00002-of-00002.safetensors"]);
        let found = of_folder(half.path()).expect("a folder");
        assert!(found.sets.is_empty());
        let said = found.near[0].1.to_string();
        assert!(
            said.contains("t5-00002-of-00002") && said.contains("number 1"),
            "{said}"
        );
    }

    #[test]
    fn a_file_without_a_variant_comes_before_one_with_a_variant() {
        let there = folder(&["model.fp16.safetensors", "model.safetensors"]);
        let found = of_folder(there.path()).expect("a folder");
        assert_eq!(
            named(&found),
            ["model.safetensors", "model.fp16.safetensors"]
        );
    }

    #[test]
    fn a_link_with_a_missing_target_is_reported_with_the_target() {
        let there = folder(&[]);
        let link = there.path().join("ae.safetensors");
        std::os::unix::fs::symlink("../../blobs/0123", &link).expect("a link");
        let found = of_folder(there.path()).expect("a folder");
        let said = found.near[0].1.to_string();
        assert!(
            said.contains("../../blobs/0123") && said.contains("ae.safetensors"),
            "{said}"
        );
    }
}
