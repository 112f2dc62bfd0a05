//! What a request may say, and for which reasons it may be refused.

use ipc_protocol::failure::FailureKind;
use ipc_protocol::ids::DeviceWish;
use ipc_protocol::request::ImageRequest;
use pool::{Files, GuidanceRule, ModelSpec, Moment, Parameters, Ticket};

use super::quarantine::Fingerprint;
use super::{Asked, Oracle};
use crate::shadow::Verdict;

impl Oracle {
    pub(super) fn asked_for(&self, request: &ImageRequest) -> Option<&ModelSpec> {
        let default = &self.settings.default_model;
        let name = request.model.as_ref().unwrap_or(default);
        let called = |spec: &&ModelSpec| {
            spec.key.as_str() == name || spec.aliases.iter().any(|alias| alias == name)
        };
        let offered = self.offered.iter().filter_map(|key| self.specs.get(key));
        offered.into_iter().find(called)
    }

    /// The model and what it is to draw; nothing where a value of the request cannot be.
    pub(super) fn resolve(
        &self,
        spec: &ModelSpec,
        request: &ImageRequest,
        entropy: u64,
    ) -> Option<(String, Parameters)> {
        let size = request.size.unwrap_or(spec.default_size);
        let side = |side: u32| {
            side >= spec.sizes.min
                && side <= spec.sizes.max
                && side.is_multiple_of(spec.sizes.multiple)
        };
        let steps = request.steps.unwrap_or(spec.default_steps);
        let negative = request.negative.clone().filter(|text| !text.is_empty());
        let (guidance, may) = match (spec.guidance, request.guidance) {
            (GuidanceRule::None, wanted) => (0.0, wanted.is_none_or(|g| (0.0..=1.0).contains(&g))),
            (GuidanceRule::Scale { default, .. }, None) => (default, true),
            (GuidanceRule::Scale { max, .. }, Some(g)) => (g, (0.0..=max).contains(&g)),
        };
        let device = match request.device {
            DeviceWish::Auto => true,
            DeviceWish::On(at) => self.devices.contains(&at) && spec.residency_on(at).is_some(),
        };
        let text = |text: &str| text.len() <= self.settings.prompt_bytes;
        let places = self.settings.queue_per_model.min(self.settings.queue_total);
        let can_be = request.check().is_ok()
            && request.count as usize <= places
            && text(&request.prompt)
            && (spec.empty_prompt || request.prompt.chars().any(|letter| !letter.is_whitespace()))
            && side(size.width)
            && side(size.height)
            && size.pixels() <= self.settings.max_pixels
            && (1..=spec.max_steps).contains(&steps)
            && may
            && negative
                .as_deref()
                .is_none_or(|negative| guidance > 1.0 && text(negative))
            && request.timeout_ms != Some(0)
            && device;
        let parameters = Parameters {
            prompt: request.prompt.as_str().into(),
            negative: negative.map(Into::into),
            size,
            steps,
            guidance,
            seed: request.seed.unwrap_or(entropy),
            previews: request.previews,
        };
        can_be.then(|| (spec.key.to_string(), parameters))
    }

    pub(super) fn fingerprint(&self, model: &str, parameters: &Parameters) -> Fingerprint {
        let digest = self.specs.get(model).map(|spec| spec.digest.clone());
        (
            digest.unwrap_or_default(),
            parameters.prompt.to_string(),
            parameters.negative.as_ref().map(|text| text.to_string()),
            parameters.size,
            parameters.steps,
            parameters.guidance.to_bits(),
        )
    }

    pub(super) fn refuse(&mut self, now: Moment, ticket: Ticket, kind: FailureKind) -> Verdict {
        let Some(Asked { request, entropy }) = self.asked.remove(&ticket) else {
            return Err(format!("refused {ticket:?}, which did not ask"));
        };
        let spec = self.asked_for(&request);
        let resolved = spec.and_then(|spec| self.resolve(spec, &request, entropy));
        // Of files that nobody could read nothing is known that a request could be held against.
        let unread = |spec: &&ModelSpec| matches!(spec.files, Files::Broken(_) | Files::Unread);
        let key = spec.filter(unread).map(|spec| spec.key.to_string());
        let may = match (spec, resolved, kind) {
            _ if key.is_some() => {
                let key = key.unwrap_or_default();
                kind == FailureKind::Draining && self.draining || self.has_trouble(now, &key, kind)
            }
            (None, _, kind) => kind == FailureKind::UnknownModel,
            (Some(_), None, kind) => kind == FailureKind::BadValue,
            (Some(_), Some((model, parameters)), kind) => match kind {
                FailureKind::QueueFull => self.is_full(&model, &parameters, request.count),
                FailureKind::Draining => self.draining,
                FailureKind::Quarantined => self.is_quarantined(now, &model, &parameters),
                FailureKind::DeadlineExceeded => request.timeout_ms.is_some(),
                FailureKind::Stopped
                | FailureKind::ModelMissing
                | FailureKind::ModelUnusable
                | FailureKind::ModelUnread
                | FailureKind::LoadRefused
                | FailureKind::ModelBroken => self.has_trouble(now, &model, kind),
                // What fits is the business of the books, which the shadow keeps.
                FailureKind::MemoryExhausted | FailureKind::NeverFits => true,
                FailureKind::BadValue
                | FailureKind::UnknownModel
                | FailureKind::Cancelled
                | FailureKind::WorkerLost
                | FailureKind::ModelFailed
                | FailureKind::NotPermitted
                | FailureKind::NoSuchName
                | FailureKind::Internal => false,
            },
        };
        match may {
            true => Ok(()),
            false => Err(format!(
                "refused with {kind:?}, which it was not: {request:?}"
            )),
        }
    }

    /// By our own count of what waits.
    pub(super) fn is_full(&self, model: &str, parameters: &Parameters, count: u32) -> bool {
        let bytes = |parameters: &Parameters| {
            parameters.prompt.len() + parameters.negative.as_ref().map_or(0, |text| text.len())
        };
        let waits = || self.jobs.values().filter(|fate| fate.on.is_none());
        let (count, settings) = (count as usize, &self.settings);
        let held: usize = waits().map(|fate| bytes(&fate.parameters)).sum();
        waits().filter(|fate| fate.model == model).count() + count > settings.queue_per_model
            || waits().count() + count > settings.queue_total
            || held + bytes(parameters) * count > settings.queue_bytes
    }
}
