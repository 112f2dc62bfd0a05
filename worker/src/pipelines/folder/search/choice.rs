//! Chooses one of several files that contain a part, or refuses if they fit equally well.

use super::{Candidate, FolderSearch, Shapes};
use crate::fault::WorkerFault;
use crate::weights::{ModelPart, WeightFile, Weights};
use std::path::Path;
use std::sync::Arc;

/// Largest files that are compared byte by byte, to find out whether they are copies; in bytes.
const COMPARED_MAX: usize = 1 << 30;

impl FolderSearch {
    /// Chooses the candidate that fits best, first by shapes and then by name.
    pub(super) fn choose(
        &self,
        part: &'static ModelPart,
        candidates: Vec<Candidate>,
        shapes: &Shapes,
    ) -> Result<Weights, WorkerFault> {
        let mut read: Vec<(Candidate, Result<Weights, WorkerFault>)> = candidates
            .into_iter()
            .map(|one| {
                let weights = Weights::of_part(part, one.files.clone(), one.prefix);
                (one, weights)
            })
            .collect();
        let suits = |weights: &Result<Weights, WorkerFault>| {
            weights.as_ref().is_ok_and(|weights| {
                let mut shapes = shapes.iter();
                shapes.all(|(name, shape)| weights.shape(name) == Some(shape.as_slice()))
            })
        };
        if read.iter().any(|(_, weights)| suits(weights)) {
            read.retain(|(_, weights)| suits(weights));
        }
        read.sort_by_key(|(one, _)| one.rank);
        let Some(best) = read.first().map(|(one, _)| one.rank) else {
            return Err(self.absent(part, None));
        };
        read.retain(|(one, _)| one.rank == best);
        let first = &read[0].0;
        let differing = read[1..].iter().find(|(other, _)| !alike(first, other));
        if let Some((other, _)) = differing {
            return Err(self.ambiguous(part, &first.named, &other.named));
        }
        read.swap_remove(0).1
    }

    fn ambiguous(&self, part: &ModelPart, one: &Path, other: &Path) -> WorkerFault {
        let below = |path: &Path| {
            path.strip_prefix(&self.folder)
                .unwrap_or(path)
                .display()
                .to_string()
        };
        let remedy = if part.is_transformer() {
            format!(
                "set path in the model's section to the file to use, {}",
                one.display()
            )
        } else {
            let own = self.published(part).first().unwrap_or(&"");
            format!("rename the one to use to {own} (or link it), or move the other one away")
        };
        WorkerFault::configuration(
            self.folder.display().to_string(),
            part.noun,
            format!(
                "is in {} and in {}, which differ: {remedy}",
                below(one),
                below(other)
            ),
        )
    }
}

/// Tells whether two candidates are the same files under other names, or copies.
fn alike(one: &Candidate, other: &Candidate) -> bool {
    let same = |a: &Arc<WeightFile>, b: &Arc<WeightFile>| {
        let path = |file: &WeightFile| std::fs::canonicalize(file.name()).ok();
        if path(a).is_some() && path(a) == path(b) {
            return true;
        }
        let (a, b) = (a.bytes(), b.bytes());
        a.len() == b.len() && a.len() <= COMPARED_MAX && a == b
    };
    let pairs = one.files.iter().zip(&other.files);
    one.prefix == other.prefix
        && one.files.len() == other.files.len()
        && pairs.into_iter().all(|(a, b)| same(a, b))
}
