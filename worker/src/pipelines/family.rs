//! The families of models that this program draws.

use crate::fault::Fault;

/// A kind of model: one pipeline in code, many sets of weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// Black Forest Labs' FLUX.1 (schnell).
    Flux,
    /// Stability AI's Stable Diffusion 3.5 (Large Turbo).
    Sd35,
    /// A pattern from the seed, without weights.
    Synthetic,
}

impl Family {
    /// The family of that name, as settings and the wire spell it.
    ///
    /// # Errors
    /// [`Fault::Configuration`] for any other word.
    pub fn named(word: &str) -> Result<Family, Fault> {
        match word {
            "flux" => Ok(Family::Flux),
            "sd3" => Ok(Family::Sd35),
            "synthetic" => Ok(Family::Synthetic),
            _ => Err(Fault::configuration(
                word,
                "family",
                "is not one of flux, sd3, synthetic",
            )),
        }
    }
}
