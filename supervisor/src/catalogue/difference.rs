//! The difference between the models of two settings files.

use std::collections::BTreeMap;

use ipc_protocol::ids::ModelKey;
use pool::{ModelSpec, Registry};

use super::offer;
use super::placement::CudaDevices;
use super::served::Served;
use crate::config::Config;
use crate::config::file::ModelSection;

/// A model as the settings offer it, before its files are inspected.
#[derive(Debug, Clone, PartialEq)]
pub struct OfferedModel {
    /// As the pool needs it.
    pub spec: ModelSpec,
    /// As the driver needs it.
    pub served: Served,
    /// Its section of the settings; a built-in model needs none.
    pub section: ModelSection,
}

/// All models that the settings offer.
pub type OfferedModels = BTreeMap<ModelKey, OfferedModel>;

/// The effect of an update on a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ModelChange {
    /// It was not offered before.
    Added,
    /// Its files or its workers' settings changed: its workers are replaced.
    Replaced,
    /// The number of its workers changed: they stay.
    Adjusted,
    /// It is not offered any longer.
    Removed,
}

impl ModelChange {
    /// supervisorctl's word in the answer of `reread`.
    pub fn word(self) -> &'static str {
        match self {
            Self::Added => "available",
            Self::Replaced | Self::Adjusted => "changed",
            Self::Removed => "disappeared",
        }
    }
}

/// Returns the models of the settings. No folder is inspected, but fetched models are looked up on the disk.
///
/// # Errors
/// The message; it names the section of the invalid model.
pub fn offered(config: &Config, cuda: CudaDevices) -> Result<OfferedModels, String> {
    let (registry, mut catalogue) = offer::models(config, cuda)?;
    let models = registry.iter().filter_map(|spec| {
        let served = catalogue.remove(&spec.key)?;
        let section = config.models.get(spec.key.as_str());
        let model = OfferedModel {
            spec: spec.clone(),
            served,
            section: section.cloned().unwrap_or_default(),
        };
        Some((spec.key.clone(), model))
    });
    Ok(models.collect())
}

/// Returns the models that differ, by key.
pub fn changes(old: &OfferedModels, new: &OfferedModels) -> BTreeMap<ModelKey, ModelChange> {
    let removed = old.keys().filter(|key| !new.contains_key(*key));
    let removed = removed.map(|key| (key.clone(), ModelChange::Removed));
    let others = new.iter().filter_map(|(key, new)| {
        let change = match old.get(key) {
            None => ModelChange::Added,
            Some(old) => change(old, new)?,
        };
        Some((key.clone(), change))
    });
    removed.chain(others).collect()
}

fn change(old: &OfferedModel, new: &OfferedModel) -> Option<ModelChange> {
    if is_same(&old.spec, &new.spec) && old.section == new.section {
        return None;
    }
    let section = ModelSection {
        pinned: new.section.pinned,
        min_workers: new.section.min_workers,
        max_workers: new.section.max_workers,
        ..old.section.clone()
    };
    let stays = section == new.section && is_same(&adjusted(&old.spec, &new.spec), &new.spec);
    Some(match stays {
        true => ModelChange::Adjusted,
        false => ModelChange::Replaced,
    })
}

/// Whether two settings offer the same model, whatever its files are.
fn is_same(old: &ModelSpec, new: &ModelSpec) -> bool {
    let old = ModelSpec {
        files: new.files.clone(),
        digest: new.digest.clone(),
        ..old.clone()
    };
    old == *new
}

/// Returns a model with the numbers of workers that `new` keeps and allows.
pub fn adjusted(old: &ModelSpec, new: &ModelSpec) -> ModelSpec {
    ModelSpec {
        pinned: new.pinned,
        min_workers: new.min_workers,
        max_workers: new.max_workers,
        ..old.clone()
    }
}

/// Returns the registry of `models`.
///
/// # Errors
/// The message: two models have the same name.
pub fn registry<'a>(models: impl IntoIterator<Item = &'a ModelSpec>) -> Result<Registry, String> {
    Registry::new(models.into_iter().cloned().collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;

    fn models(text: &str) -> OfferedModels {
        let config = config::parse(text).expect("valid settings");
        offered(&config, CudaDevices::Unknown).expect("valid models")
    }

    fn between(old: &str, new: &str) -> Vec<(String, ModelChange)> {
        let changes = changes(&models(old), &models(new));
        let named = changes.into_iter();
        named.map(|(key, what)| (key.to_string(), what)).collect()
    }

    #[test]
    fn models_are_added_replaced_adjusted_and_removed_by_their_sections() {
        let syn = |rest: &str| format!("[models.syn]\nfamily = \"synthetic\"\n{rest}");
        let one = |what| vec![("syn".to_owned(), what)];
        assert_eq!(between("", &syn("")), one(ModelChange::Added));
        assert_eq!(between(&syn(""), ""), one(ModelChange::Removed));
        assert_eq!(between(&syn(""), &syn("# a comment")), []);
        for adjusted in ["pinned = true", "max_workers = 3", "min_workers = 1"] {
            assert_eq!(
                between(&syn(""), &syn(adjusted)),
                one(ModelChange::Adjusted),
                "{adjusted}"
            );
        }
        for replaced in [
            "params = { step_ms = 7 }",
            "threads = 7",
            "device = \"cpu\"",
        ] {
            assert_eq!(
                between(&syn(""), &syn(replaced)),
                one(ModelChange::Replaced),
                "{replaced}"
            );
        }
        assert_eq!(
            between(&syn(""), &format!("[pool]\nidle_seconds = 7\n{}", syn(""))),
            []
        );
    }

    #[test]
    fn a_folder_that_moved_replaces_the_model() {
        let path = |path: &str| format!("[models.flux-schnell]\npath = \"{path}\"");
        let changed = between(&path("/one"), &path("/two"));
        assert_eq!(changed, [("flux-schnell".into(), ModelChange::Replaced)]);
    }
}
