//! The keys and aliases of the models that settings offer.

use std::collections::BTreeMap;

use super::file::Model;

/// The models that are always in the registry, in the order of `status`.
const ALWAYS: [&str; 3] = ["pocket-flux", "flux-schnell", "sd3.5-turbo"];

/// The keys of all models, in the order of `status`.
pub fn keys(sections: &BTreeMap<String, Model>) -> Vec<String> {
    let own = sections.keys().map(String::as_str);
    let own = own.filter(|key| !ALWAYS.contains(key));
    ALWAYS.into_iter().chain(own).map(str::to_owned).collect()
}

/// Whether a model of these settings has that key or alias.
pub fn is_name(sections: &BTreeMap<String, Model>, name: &str) -> bool {
    let called = |key: &String| key == name || aliases(key).iter().any(|alias| alias == name);
    keys(sections).iter().any(called)
}

/// The hub's names for the real models are aliases of their keys.
pub fn aliases(key: &str) -> Vec<String> {
    match key {
        "flux-schnell" => vec!["black-forest-labs/FLUX.1-schnell".into()],
        "sd3.5-turbo" => vec!["stabilityai/stable-diffusion-3.5-large-turbo".into()],
        _ => Vec::new(),
    }
}
