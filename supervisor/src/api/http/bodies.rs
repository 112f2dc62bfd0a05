//! Reads bodies of requests without a daemon, for tests and measurements of what clients may send.

use axum::body::Bytes;
use pool::Registry;

use super::fields::Fields;
use super::images::order::ImageOrder;
use super::policy::HttpPolicy;
use super::sdapi::order::SdapiOrder;
use super::tokens::TokenTable;
use crate::config::Config;

/// A door's rules for bodies.
#[derive(Debug)]
pub struct BodyRules {
    policy: HttpPolicy,
    models: Registry,
}

impl BodyRules {
    /// The rules of a daemon with these settings and models.
    pub fn new(config: &Config, models: Registry) -> Self {
        Self {
            policy: HttpPolicy::of(config, config.http.clone(), TokenTable::default()),
            models,
        }
    }

    /// Whether a body is an order of OpenAI's image API.
    pub fn is_image_order(&self, body: &[u8]) -> bool {
        let fields = Fields::parse(&Bytes::copy_from_slice(body));
        fields.is_ok_and(|fields| ImageOrder::read(&fields, &self.policy, &self.models).is_ok())
    }

    /// Whether a body is an order of the web UI's API, for the model that it would be for without a choice.
    pub fn is_txt2img(&self, body: &[u8]) -> bool {
        let name = &self.policy.default_model;
        let (model, most) = (self.models.find(name), self.policy.max_pixels);
        let fields = Fields::parse(&Bytes::copy_from_slice(body));
        fields.is_ok_and(|fields| SdapiOrder::read(&fields, name, model, most).is_ok())
    }
}
