//! The difference between the models of two settings files.

use std::collections::BTreeMap;

use ipc_protocol::ids::ModelKey;
use pool::{ModelSpec, Registry};

use super::offer;
use super::placement::CudaDevices;
use super::served::Served;
use crate::config::Config;

/// A model as the settings offer it, before its files are inspected.
#[derive(Debug, Clone, PartialEq)]
pub struct OfferedModel {
    /// As the pool needs it.
    pub spec: ModelSpec,
    /// As the driver needs it.
    pub served: Served,
}

/// All models that the settings offer.
pub type OfferedModels = BTreeMap<ModelKey, OfferedModel>;

/// The effect of an update on a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ModelChange {
    /// It was not offered before.
    Added,
    /// Something that its workers were told changed, or its files: its workers are replaced.
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
        let model = OfferedModel {
            spec: spec.clone(),
            served,
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

/// The pool decides whether workers have to be replaced, here as there. The files of the models do not count: they are
/// looked at later, and those that the section chooses are among what the pool compares.
fn change(old: &OfferedModel, new: &OfferedModel) -> Option<ModelChange> {
    let (old, new) = (&old.spec, &new.spec);
    let new = ModelSpec {
        files: old.files.clone(),
        digest: old.digest.clone(),
        ..new.clone()
    };
    match () {
        () if *old == new => None,
        () if old.needs_new_workers(&new) => Some(ModelChange::Replaced),
        () => Some(ModelChange::Adjusted),
    }
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

    const ADJUSTED: Option<ModelChange> = Some(ModelChange::Adjusted);
    const REPLACED: Option<ModelChange> = Some(ModelChange::Replaced);

    /// The effect of each key's change on a model: the section before, the same in other words, and after.
    const KEYS: [(&str, [&str; 3], Option<ModelChange>); 14] = [
        ("pinned", ["", "pinned = false", "pinned = true"], ADJUSTED),
        ("min_workers", ["", "", "min_workers = 1"], ADJUSTED),
        ("max_workers", ["", "", "max_workers = 3"], ADJUSTED),
        ("family", ["", "", "family = \"sd3\""], REPLACED),
        ("path", ["", "", "path = \"/two\""], REPLACED),
        ("variant", ["", "", "variant = \"ungated\""], REPLACED),
        ("revision", ["", "", "revision = \"other\""], REPLACED),
        (
            "device",
            ["", "device = \"auto\"", "device = \"cpu\""],
            REPLACED,
        ),
        (
            "threads",
            ["threads = 3", "threads = 3", "threads = 7"],
            REPLACED,
        ),
        ("dtype", ["", "", "dtype = \"bf16\""], REPLACED),
        (
            "encoders",
            ["", "encoders = \"keep\"", "encoders = \"drop\""],
            REPLACED,
        ),
        (
            "params",
            ["", "params = {}", "params = { step_ms = 11 }"],
            REPLACED,
        ),
        (
            "params",
            ["", "params = { step_ms = 10 }", "params = { load_ms = 11 }"],
            REPLACED,
        ),
        (
            "params",
            [
                "",
                "params = { device_mb = 0 }",
                "params = { device_mb = 9 }",
            ],
            REPLACED,
        ),
    ];

    /// The keys of a section, as the error about an unknown one lists them.
    fn known_keys(text: &str) -> Vec<String> {
        #[derive(Debug, serde::Deserialize)]
        struct Sections {
            #[expect(dead_code, reason = "only the error is of interest")]
            models: BTreeMap<String, crate::config::file::ModelSection>,
        }
        let error = toml::from_str::<Sections>(text).expect_err("an unknown key");
        let names = error.message().split('`').skip(1).step_by(2).skip(1);
        names.map(str::to_owned).collect()
    }

    #[test]
    fn every_key_of_a_model_replaces_its_workers_or_leaves_them_alone_and_says_so() {
        let mut known = known_keys("[models.a]\nunknown = 1");
        known.sort();
        let mut tested: Vec<&str> = KEYS.iter().map(|(key, ..)| *key).collect();
        tested.sort_unstable();
        tested.dedup();
        assert_eq!(known, tested, "a key is not in the table");
        for (key, [before, same, after], expected) in KEYS {
            let of_files = ["family", "path", "variant", "revision", "dtype", "encoders"];
            let section = |rest: &str| match (of_files.contains(&key), key) {
                (false, _) => format!("[models.m]\nfamily = \"synthetic\"\n{rest}"),
                (true, "path") if rest.is_empty() => "[models.m]\npath = \"/one\"".into(),
                (true, "path") => format!("[models.m]\n{rest}"),
                (true, "family") => format!("[models.m]\npath = \"/one\"\n{rest}"),
                (true, _) => format!("[models.flux-schnell]\n{rest}"),
            };
            assert_eq!(between(&section(before), &section(same)), [], "{same}");
            let changed = between(&section(before), &section(after));
            let changed: Vec<ModelChange> = changed.into_iter().map(|(_, what)| what).collect();
            assert_eq!(changed, Vec::from_iter(expected), "{after}");
            // The pool, which ends the workers, says the same.
            let (old, new) = (models(&section(before)), models(&section(after)));
            let (old, new) = (old.into_values(), new.into_values());
            let replaced = old
                .zip(new)
                .any(|(old, new)| old.spec.needs_new_workers(&new.spec));
            assert_eq!(replaced, expected == REPLACED, "{after}");
        }
    }

    #[test]
    fn every_parameter_of_a_synthetic_model_replaces_its_workers() {
        let known = known_keys("[models.a]\nparams = { unknown = 1 }");
        assert!(known.len() >= 4, "{known:?}");
        let syn = |rest: &str| format!("[models.syn]\nfamily = \"synthetic\"\n{rest}");
        for key in known {
            let changed = between(&syn(""), &syn(&format!("params = {{ {key} = 77 }}")));
            assert_eq!(
                changed,
                [("syn".to_owned(), ModelChange::Replaced)],
                "{key}"
            );
        }
    }

    #[test]
    fn models_are_added_and_removed_with_their_sections_and_general_settings_leave_them_alone() {
        let syn = |rest: &str| format!("[models.syn]\nfamily = \"synthetic\"\n{rest}");
        let one = |what| vec![("syn".to_owned(), what)];
        assert_eq!(between("", &syn("")), one(ModelChange::Added));
        assert_eq!(between(&syn(""), ""), one(ModelChange::Removed));
        assert_eq!(between(&syn(""), &syn("# a comment")), []);
        assert_eq!(
            between(&syn(""), &format!("[pool]\nidle_seconds = 7\n{}", syn(""))),
            []
        );
        // The general number of threads follows from it, if the machine has several cores.
        let changed = between(
            &format!("[pool]\ncold_start_workers = 1\n{}", syn("threads = 1")),
            &format!("[pool]\ncold_start_workers = 2\n{}", syn("threads = 1")),
        );
        assert!(changed.iter().all(|(key, _)| key != "syn"), "{changed:?}");
    }

    #[test]
    fn keys_without_effect_on_the_embedded_model_replace_its_workers_all_the_same() {
        let with = |rest: &str| format!("[models.pocket-flux]\n{rest}");
        let changed = between(&with(""), &with("variant = \"x\""));
        assert_eq!(changed, [("pocket-flux".into(), ModelChange::Replaced)]);
    }

    #[test]
    fn a_folder_that_moved_replaces_the_model() {
        let path = |path: &str| format!("[models.flux-schnell]\npath = \"{path}\"");
        let changed = between(&path("/one"), &path("/two"));
        assert_eq!(changed, [("flux-schnell".into(), ModelChange::Replaced)]);
    }
}
