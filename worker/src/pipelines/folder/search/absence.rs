//! Explains why a part was not found: unreadable files, files of another family, and the expected names.

use super::places::{FOLDERS, Rank};
use super::{Candidate, FolderSearch, file_name, sets};
use crate::fault::WorkerFault;
use crate::weights::{ModelPart, Role, WeightFile, is_lora};
use std::cell::RefCell;

const PICKLES: [&str; 4] = ["ckpt", "pt", "pth", "bin"];

impl FolderSearch {
    /// In a folder without a transformer, the fault of the file closest to one: an unreadable file, a pickle or an
    /// adapter.
    pub fn near_transformer(&self) -> Option<WorkerFault> {
        let mut came_near = None;
        match self.candidates(self.layout.transformer, &mut came_near) {
            Ok(_) => came_near
                .or_else(|| self.refuse_pickles().err())
                .or_else(|| self.adapter()),
            Err(fault) => Some(fault),
        }
    }

    /// Tells whether the folder also contains another family's transformer, so that names decide whose a file is.
    fn holds_another_family(&self) -> Result<bool, WorkerFault> {
        let search = FolderSearch {
            folder: self.folder.clone(),
            layout: self.layout,
            all: self.all.clone(),
            chosen: None,
            opened: RefCell::new(self.opened.borrow().clone()),
        };
        for other in self.others() {
            if !search.candidates(other.transformer, &mut None)?.is_empty() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Tells whether all candidates are another family's autoencoder by their names; it has the same shapes. The
    /// text encoders of both families are the same models. A stem such as `ae` is such a name only if the other
    /// family's transformer is in the folder too.
    pub(super) fn are_of_another_family(
        &self,
        part: &ModelPart,
        candidates: &[Candidate],
    ) -> Result<bool, WorkerFault> {
        if part.role != Role::Autoencoder || candidates.iter().any(|one| one.rank != Rank::Foreign)
        {
            return Ok(false);
        }
        let bare = |one: &Candidate| {
            let name = file_name(&one.named);
            let stem = name.split('.').next();
            let mut stems = self.others().filter_map(|layout| layout.autoencoder_stem);
            stems.any(|known| Some(known) == stem)
        };
        Ok(!candidates.iter().all(bare) || self.holds_another_family()?)
    }

    pub(super) fn of_another_family(
        &self,
        part: &ModelPart,
        candidates: &[Candidate],
    ) -> WorkerFault {
        let names: Vec<String> = candidates.iter().map(|one| file_name(&one.named)).collect();
        let own = self.published(part).join(" or ");
        let what = format!(
            "no {} of this family: by its name, {} is of the other family; add the one of this family as {own}",
            part.noun,
            names.join(", ")
        );
        WorkerFault::WeightsMissing {
            file: self.folder.display().to_string(),
            what,
        }
    }

    /// The fault for a missing part: that of an unreadable file, a pickle, an adapter, or the expected names.
    pub(super) fn absent(&self, part: &ModelPart, came_near: Option<WorkerFault>) -> WorkerFault {
        if let Some(fault) = came_near {
            return fault;
        }
        if let Err(fault) = self.refuse_pickles() {
            return fault;
        }
        if let Some(fault) = self.adapter().filter(|_| part.is_transformer()) {
            return fault;
        }
        let names = self.published(part).join(", ");
        let mut notes = self.layout.notes.iter();
        let needed = notes
            .find(|(of, _)| *of == part)
            .map_or("", |(_, note)| note);
        let within = FOLDERS.join("/, ");
        WorkerFault::WeightsMissing {
            file: self.folder.display().to_string(),
            what: format!(
                "no {} ({names}, or in another safetensors or GGUF file) in this folder nor in {within}/ of \
                 it{needed}",
                part.noun
            ),
        }
    }

    /// The fault for an adapter, if there is one.
    fn adapter(&self) -> Option<WorkerFault> {
        let opened = self.opened.borrow();
        let file = opened.values().find(|file| is_lora(file))?;
        let what = "is a LoRA, which is not supported, and the folder contains no model: merge it into a model's \
                    file with another program";
        Some(WorkerFault::configuration(file.name(), "LoRA", what))
    }

    /// Refuses pickles, which can run a program when they are opened, instead of ignoring them.
    ///
    /// # Errors
    /// [`WorkerFault::WeightsCorrupt`] with the file.
    pub fn refuse_pickles(&self) -> Result<(), WorkerFault> {
        let mut paths = sets::entries(&self.folder)?;
        for name in [
            "transformer",
            "vae",
            "text_encoder",
            "text_encoder_2",
            "text_encoder_3",
        ] {
            paths.extend(sets::entries(&self.folder.join(name)).unwrap_or_default());
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
