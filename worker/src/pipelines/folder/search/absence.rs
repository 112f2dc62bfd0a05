//! Why a part is not found: what came near it, whose it is by its name, and which names would do.

use super::places::{FOLDERS, Rank};
use super::{Candidate, FolderSearch, file_name, sets};
use crate::fault::WorkerFault;
use crate::weights::{ModelPart, Role, WeightFile, is_lora};
use std::cell::RefCell;

const PICKLES: [&str; 4] = ["ckpt", "pt", "pth", "bin"];

impl FolderSearch {
    /// What came near a transformer in a folder that holds none: a file that cannot be read, a pickle, an
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

    /// Whether another family's transformer is in the folder too, so that a file's name says whose it is.
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

    /// Whether the names of all candidates say that they are another family's autoencoder, which has the
    /// same shapes; the encoders of both families are the same models. A stem such as `ae` is such a name
    /// only where the other family's transformer is in the folder too.
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
            "no {} of this family: {} is the other family's by its name; put this one's beside it as {own}",
            part.noun,
            names.join(", ")
        );
        WorkerFault::WeightsMissing {
            file: self.folder.display().to_string(),
            what,
        }
    }

    /// Why a part is not there: what came near, a pickle, an adapter, else the names that would do.
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

    /// That a file is an adapter, where one is.
    fn adapter(&self) -> Option<WorkerFault> {
        let opened = self.opened.borrow();
        let file = opened.values().find(|file| is_lora(file))?;
        let what = "is a LoRA, which is not read, and no model is beside it: merge it into a model's file \
                    with another program";
        Some(WorkerFault::configuration(file.name(), "LoRA", what))
    }

    /// A file that would run a program when it is opened is told by name, not overlooked.
    ///
    /// # Errors
    /// [`WorkerFault::WeightsCorrupt`] naming it.
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
