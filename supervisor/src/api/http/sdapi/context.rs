//! The state of A1111's routes.

use std::sync::Arc;

use super::chosen_models::ChosenModels;
use super::ongoing::OngoingDrawings;
use crate::api::http::context::Shared;

/// The state of A1111's routes.
#[derive(Debug)]
pub(super) struct SdapiContext {
    /// The state of all routes.
    pub http: Shared,
    /// The models that clients have selected.
    pub chosen: ChosenModels,
    /// The requests that are being drawn.
    pub ongoing: Arc<OngoingDrawings>,
}

impl SdapiContext {
    pub fn new(http: Shared) -> Self {
        Self {
            http,
            chosen: ChosenModels::default(),
            ongoing: Arc::default(),
        }
    }

    /// The model's name for a request of `user` that names `asked`. These clients may add a hash to a name, as in
    /// `flux-schnell [3e5f1b2c4d]`.
    pub fn model_name(&self, user: &str, asked: Option<&str>) -> String {
        let asked = asked.map(without_hash).filter(|name| !name.is_empty());
        match asked {
            Some(name) => self.http.model_name(Some(name)),
            None => self
                .chosen
                .of(user)
                .unwrap_or_else(|| self.http.policy.now().default_model.clone()),
        }
    }
}

/// A model's name without the hash that clients may add.
fn without_hash(title: &str) -> &str {
    match title.trim().split_once(" [") {
        Some((name, hash)) if hash.ends_with(']') => name,
        Some(_) | None => title.trim(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hash_after_a_models_name_is_left_out() {
        assert_eq!(without_hash("flux-schnell [3e5f1b2c4d]"), "flux-schnell");
        assert_eq!(without_hash(" flux-schnell "), "flux-schnell");
        assert_eq!(without_hash("a [b"), "a [b");
    }
}
