//! `pocket-flux`, the small FLUX model inside this program. Its files: `worker/assets/pocket-flux/`.

use crate::fault::Fault;
use crate::pipelines::configuration;
use crate::pipelines::folder::{FluxFiles, Text};
use crate::weights::Weights;
use std::borrow::Cow;

/// Names the embedded files in messages.
const NAME: &str = "pocket-flux";

macro_rules! asset {
    ($name:literal) => {
        include_bytes!(concat!("../../assets/pocket-flux/", $name))
    };
}

/// The embedded files, checked like any folder's.
///
/// # Errors
/// As those of a folder; this program was built from damaged files then.
pub fn files() -> Result<FluxFiles, Fault> {
    let weights = |part: &str, bytes| Weights::embedded(&format!("{NAME}/{part}"), bytes);
    let text = |part: &str, bytes| Text {
        file: format!("{NAME}/{part}"),
        bytes: Cow::Borrowed(bytes),
    };
    Ok(FluxFiles {
        transformer: weights(
            "flux1-schnell.safetensors",
            asset!("flux1-schnell.safetensors"),
        )?,
        autoencoder: weights("ae.safetensors", asset!("ae.safetensors"))?,
        t5: weights("t5.safetensors", asset!("t5.safetensors"))?,
        clip: weights("clip_l.safetensors", asset!("clip_l.safetensors"))?,
        t5_tokenizer: text("t5_tokenizer.json", asset!("t5_tokenizer.json")),
        clip_tokenizer: text("clip_tokenizer.json", asset!("clip_tokenizer.json")),
        described: configuration::from_config("pocket-flux/config.json", asset!("config.json"))?,
    })
}
