//! OpenAI's `quality`, as a number of steps.

use pool::ModelSpec;

/// The qualities of OpenAI's models, old and new.
pub(super) const WORDS: [&str; 8] = [
    "auto", "low", "medium", "high", "xhigh", "max", "standard", "hd",
];

/// The steps of a quality: half of the model's default, the default, or twice as many where the model allows it. `None`
/// is the model's default.
pub(super) fn steps(word: &str, model: &ModelSpec) -> Option<u32> {
    match word {
        "low" => Some((model.default_steps / 2).max(1)),
        "high" | "xhigh" | "max" | "hd" => Some((model.default_steps * 2).min(model.max_steps)),
        _ => None,
    }
}
