//! The tensors of the published models, listed without their files.

use crate::fault::Fault;
use crate::pipelines::families::flux::transformer::Transformer;
use crate::pipelines::families::sd3::sizes::Sd3ModelSizes;
use crate::pipelines::families::sd3::transformer::Mmdit;
use crate::pipelines::need::Parts;
use crate::pipelines::parts::autoencoder::Decoder;
use crate::pipelines::parts::clip::Clip;
use crate::pipelines::parts::layers::Linear;
use crate::pipelines::parts::sizes::{
    ClipSizes, DecoderSizes, FluxModelSizes, LatentSizes, T5Sizes,
};
use crate::pipelines::parts::t5::T5;
use crate::weights::{Inventory, Section};
use candle_core::Device;
use std::cell::RefCell;

/// The tensors of a FLUX model of these sizes.
///
/// # Errors
/// None that sizes which passed their check can cause.
pub fn flux(sizes: &FluxModelSizes) -> Result<Parts, Fault> {
    Ok(Parts {
        t5: t5(&sizes.t5)?,
        clips: vec![clip(&sizes.clip)?],
        transformer: listed(|section| Transformer::load(section, &sizes.transformer).map(drop))?,
        decoder: decoder(&sizes.decoder, sizes.latent)?,
    })
}

/// The tensors of a Stable Diffusion 3.5 model of these sizes.
///
/// # Errors
/// As [`flux`].
pub fn sd3(sizes: &Sd3ModelSizes) -> Result<Parts, Fault> {
    let width = sizes.clip_g.hidden_size;
    let pooled = sizes.clip_l.hidden_size + width;
    let clip_g = listed(|section| {
        Linear::without_bias(&section.at("text_projection"), width, width)?;
        Clip::load(section, &sizes.clip_g).map(drop)
    })?;
    Ok(Parts {
        t5: t5(&sizes.t5)?,
        clips: vec![clip(&sizes.clip_l)?, clip_g],
        transformer: listed(|section| Mmdit::load(section, &sizes.transformer, pooled).map(drop))?,
        decoder: decoder(&sizes.decoder, sizes.latent)?,
    })
}

fn t5(sizes: &T5Sizes) -> Result<Inventory, Fault> {
    listed(|section| T5::load(section, sizes).map(drop))
}

fn clip(sizes: &ClipSizes) -> Result<Inventory, Fault> {
    listed(|section| Clip::load(section, sizes).map(drop))
}

fn decoder(sizes: &DecoderSizes, latent: LatentSizes) -> Result<Inventory, Fault> {
    listed(|section| Decoder::load(section, sizes, latent).map(drop))
}

/// Every tensor that `load` asks for.
fn listed(load: impl FnOnce(&Section) -> Result<(), Fault>) -> Result<Inventory, Fault> {
    let inventory = RefCell::default();
    load(&Section::listing(&inventory, &Device::Cpu))?;
    Ok(inventory.into_inner())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pipelines::families::flux::files::FluxFiles;
    use crate::pipelines::families::sd3::files::Sd3Files;
    use std::path::{Path, PathBuf};

    fn goldens(name: &str) -> PathBuf {
        let goldens = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens");
        goldens.join(name)
    }

    #[test]
    fn the_listed_tensors_are_those_of_the_files() {
        let files = FluxFiles::open(&goldens("tiny-flux")).expect("a good folder");
        let mut sizes = files.described.sizes.clone();
        let listed = |sizes: &FluxModelSizes| flux(sizes).expect("sizes of a model");
        // Rows of the embeddings are the files' to tell.
        (sizes.t5.vocab_size, sizes.clip.eos) = (1100, 1023);
        assert_eq!(listed(&sizes), Parts::of_flux(&files));
        sizes.transformer.depth -= 1;
        assert_ne!(listed(&sizes), Parts::of_flux(&files));

        let files = Sd3Files::open(&goldens("tiny-sd3")).expect("a good folder");
        let mut sizes = files.described.sizes.clone();
        sizes.t5.vocab_size = 1100;
        (sizes.clip_l.eos, sizes.clip_g.eos) = (1023, 1023);
        let listed = sd3(&sizes).expect("sizes of a model");
        assert_eq!(listed, Parts::of_sd3(&files));
    }
}
