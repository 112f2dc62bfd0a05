//! The registry finds models by every name and refuses unsound ones.

use ipc_protocol::ids::ModelKey;
use ipc_protocol::units::{Mebibytes, PictureSize};
use pool::{ModelSpec, Registry};

use super::CheckResult;

pub(super) fn check(registry: &Registry) -> CheckResult {
    for spec in registry.iter() {
        let names = spec.aliases.iter().map(String::as_str);
        for name in names.chain([spec.key.as_str()]) {
            if registry
                .find(name)
                .is_none_or(|found| found.key != spec.key)
            {
                return Err(format!("{name} is {}, and is not found by it", spec.key));
            }
        }
    }
    if registry.find("nobody").is_some() {
        return Err("a model is found by a name that nobody has".into());
    }
    let Some(sound) = registry.iter().next() else {
        return Ok(());
    };
    for (what, spec) in unsound(sound) {
        if Registry::new(vec![spec]).is_ok() {
            return Err(format!("a registry takes a model {what}"));
        }
    }
    let twin = ModelSpec {
        key: ModelKey::new("twin").expect("a plain key"),
        aliases: vec![sound.key.to_string()],
        ..sound.clone()
    };
    match Registry::new(vec![sound.clone(), twin]) {
        Ok(_) => Err(format!("two models are called {}", sound.key)),
        Err(_) => Ok(()),
    }
}

fn unsound(sound: &ModelSpec) -> Vec<(&'static str, ModelSpec)> {
    let with = |change: &dyn Fn(&mut ModelSpec)| {
        let mut spec = sound.clone();
        change(&mut spec);
        spec
    };
    let side = sound.sizes.max + sound.sizes.multiple;
    vec![
        (
            "without a place to run",
            with(&|spec| {
                (spec.need.on_cpu, spec.need.on_cuda) = (None, None);
            }),
        ),
        (
            "that costs nothing",
            with(&|spec| {
                spec.need.on_cpu = Some(Mebibytes::ZERO);
            }),
        ),
        (
            "with sizes in multiples of 0",
            with(&|spec| spec.sizes.multiple = 0),
        ),
        (
            "that may draw in no steps",
            with(&|spec| spec.default_steps = 0),
        ),
        (
            "with more steps than it allows",
            with(&|spec| spec.default_steps = spec.max_steps + 1),
        ),
        (
            "with a size it does not allow",
            with(&|spec| {
                spec.default_size = PictureSize {
                    width: side,
                    height: spec.sizes.min,
                };
            }),
        ),
    ]
}
