//! The keys and aliases of the models in the settings.

use std::collections::BTreeMap;

use ipc_protocol::family::{EMBEDDED_MODEL, PublishedModel};

use super::file::ModelSection;

/// The keys of all models, in the order of `status`.
pub fn keys(sections: &BTreeMap<String, ModelSection>) -> Vec<String> {
    let published = PublishedModel::all().map(|model| model.key);
    let always: Vec<&str> = [EMBEDDED_MODEL].into_iter().chain(published).collect();
    let own = sections.keys().map(String::as_str);
    let own: Vec<&str> = own.filter(|key| !always.contains(key)).collect();
    always.into_iter().chain(own).map(str::to_owned).collect()
}

/// Whether `name` is the key or an alias of a model in these settings.
pub fn is_name(sections: &BTreeMap<String, ModelSection>, name: &str) -> bool {
    let called = |key: &String| key == name || aliases(key).iter().any(|alias| alias == name);
    keys(sections).iter().any(called)
}

/// The hub's names for the published models are aliases of their keys.
pub fn aliases(key: &str) -> Vec<String> {
    let aliases = PublishedModel::with_key(key).map_or(&[][..], |model| model.aliases);
    aliases.iter().map(|alias| (*alias).to_owned()).collect()
}
