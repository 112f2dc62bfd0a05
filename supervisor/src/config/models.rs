//! The models a daemon offers: the built-in ones, and what `[models.KEY]` sections make of them.

use std::collections::BTreeMap;
use std::path::Path;

use ipc_protocol::ids::{DeviceWish, ModelKey};
use ipc_protocol::messages::worker::ModelSource;
use ipc_protocol::segment::Geometry;
use ipc_protocol::units::{Mebibytes, PictureSize};
use pool::{Activation, Family, GuidanceRule, ModelSpec, Need, Registry, SizeRule};

use super::file::{Model, Synthetic};

/// What only the hands need to know of a model: how a worker of it is started.
#[derive(Debug, Clone, PartialEq)]
pub struct Served {
    /// What a worker loads.
    pub source: ModelSource,
    /// What its segment holds.
    pub geometry: Geometry,
    /// Threads of its arithmetic.
    pub threads: u32,
    /// Digest of its weights.
    pub digest: String,
    /// How its sigmas are chosen.
    pub sampler: &'static str,
    /// Its arithmetic.
    pub dtype: &'static str,
}

/// Every model by key, as the hands know them.
pub type Catalogue = BTreeMap<ModelKey, Served>;

/// What a folder of weights turned out to hold; the worker program looks, because only it knows files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FolderFacts {
    /// The code that runs it.
    pub family: Family,
    /// Size where a request says nothing.
    pub default_size: PictureSize,
    /// Sizes it can draw.
    pub sizes: SizeRule,
    /// Steps where a request says nothing, and most.
    pub steps: (u32, u32),
    /// Weights as held and the process around them.
    pub residency: Mebibytes,
    /// What drawing takes beside them.
    pub activation: Activation,
    /// Digest of the weights.
    pub digest: String,
}

/// Looks at a folder of weights; the error is a sentence that names the file.
pub type Inspect<'a> = &'a dyn Fn(&Path, Option<&str>) -> Result<FolderFacts, String>;

/// `pocket-flux` as `worker --manifest` prints it; a test compares the two.
pub const POCKET_FLUX: &str = "pocket-flux";
const POCKET_DIGEST: &str = include_str!("pocket-flux.digest");

/// The registry for the pool and the catalogue for the hands.
///
/// # Errors
/// A sentence that names the section.
pub fn build(
    sections: &BTreeMap<String, Model>,
    default_threads: u32,
    inspect: Inspect<'_>,
) -> Result<(Registry, Catalogue), String> {
    let (mut specs, mut catalogue) = (Vec::new(), Catalogue::new());
    let nothing = Model::default();
    for key in [POCKET_FLUX, "flux-schnell", "sd3.5-turbo"] {
        let section = sections.get(key).unwrap_or(&nothing);
        add(
            key,
            section,
            default_threads,
            inspect,
            &mut specs,
            &mut catalogue,
        )?;
    }
    for (key, section) in sections {
        if !catalogue.contains_key(&ModelKey::new(key)?) {
            add(
                key,
                section,
                default_threads,
                inspect,
                &mut specs,
                &mut catalogue,
            )?;
        }
    }
    Ok((Registry::new(specs)?, catalogue))
}

fn add(
    key: &str,
    section: &Model,
    default_threads: u32,
    inspect: Inspect<'_>,
    specs: &mut Vec<ModelSpec>,
    catalogue: &mut Catalogue,
) -> Result<(), String> {
    let (mut spec, mut served) =
        model(key, section, inspect).map_err(|why| format!("[models.{key}]: {why}"))?;
    spec.pinned = section.pinned;
    spec.min_workers = section.min_workers;
    spec.max_workers = section.max_workers;
    if let Some(device) = &section.device {
        spec.device = device
            .parse()
            .map_err(|why| format!("[models.{key}] device: {why}"))?;
    }
    served.threads = section.threads.unwrap_or(default_threads).max(1);
    catalogue.insert(spec.key.clone(), served);
    specs.push(spec);
    Ok(())
}

fn model(key: &str, section: &Model, inspect: Inspect<'_>) -> Result<(ModelSpec, Served), String> {
    let key = ModelKey::new(key)?;
    match (&section.path, section.family.as_deref()) {
        (None, Some("synthetic")) => Ok(synthetic(key, section.params.unwrap_or_default())),
        (Some(path), family) => folder(key, path, family, inspect),
        (None, None) if key.as_str() == POCKET_FLUX => Ok(pocket_flux(key)),
        (None, None) if key.as_str() == "flux-schnell" => Ok(absent(key, Family::Flux)),
        (None, None) if key.as_str() == "sd3.5-turbo" => Ok(absent(key, Family::Sd3)),
        (None, Some(family @ ("flux" | "sd3"))) => Err(format!("family {family:?} needs a path")),
        (None, Some(family)) => Err(format!("{family:?} is not one of flux, sd3, synthetic")),
        (None, None) => Err("a model of one's own needs a family or a path".into()),
    }
}

fn pocket_flux(key: ModelKey) -> (ModelSpec, Served) {
    let facts = FolderFacts {
        family: Family::Flux,
        default_size: square(128),
        sizes: SizeRule {
            multiple: 16,
            min: 64,
            max: 256,
        },
        steps: (4, 64),
        residency: Mebibytes(64),
        activation: Activation {
            base: Mebibytes(32),
            per_megapixel: Mebibytes(1024),
            per_megapixel_squared: Mebibytes(0),
        },
        digest: POCKET_DIGEST.trim().to_owned(),
    };
    let source = ModelSource::Embedded {
        key: key.to_string(),
    };
    from_facts(key, source, facts)
}

fn folder(
    key: ModelKey,
    path: &Path,
    family: Option<&str>,
    inspect: Inspect<'_>,
) -> Result<(ModelSpec, Served), String> {
    let path = path
        .canonicalize()
        .map_err(|error| format!("path = {}: {error}", path.display()))?;
    let facts = inspect(&path, family)?;
    let source = ModelSource::Folder {
        path: path
            .to_str()
            .ok_or_else(|| format!("path = {} is not UTF-8", path.display()))?
            .to_owned(),
        family: Some(facts.family.word().to_owned()),
    };
    Ok(from_facts(key, source, facts))
}

/// A real model whose files are not here. It keeps its place in the registry, with the reason.
fn absent(key: ModelKey, family: Family) -> (ModelSpec, Served) {
    let facts = FolderFacts {
        family,
        default_size: square(1024),
        sizes: SizeRule {
            multiple: 16,
            min: 256,
            max: if family == Family::Flux { 2048 } else { 1536 },
        },
        steps: (4, 50),
        residency: Mebibytes(if family == Family::Flux {
            64_600
        } else {
            52_400
        }),
        activation: Activation {
            base: Mebibytes(256),
            per_megapixel: Mebibytes(6 * 1024),
            per_megapixel_squared: Mebibytes(0),
        },
        digest: String::new(),
    };
    let source = ModelSource::Folder {
        path: String::new(),
        family: Some(family.word().to_owned()),
    };
    let why = format!("its files are not on this machine: set path in [models.{key}]");
    let (spec, served) = from_facts(key, source, facts);
    let spec = ModelSpec {
        missing: Some(why),
        ..spec
    };
    (spec, served)
}

fn synthetic(key: ModelKey, params: Synthetic) -> (ModelSpec, Served) {
    let facts = FolderFacts {
        family: Family::Synthetic,
        default_size: square(256),
        sizes: SizeRule {
            multiple: 8,
            min: 64,
            max: 1024,
        },
        steps: (4, 1000),
        // The process around the weights was seen to hold 9 MiB.
        residency: Mebibytes(12 + u64::from(params.weights_mb)),
        activation: Activation {
            base: Mebibytes(2),
            per_megapixel: Mebibytes(16),
            per_megapixel_squared: Mebibytes(0),
        },
        digest: "synthetic".into(),
    };
    let source = ModelSource::Synthetic {
        step_ms: params.step_ms,
        load_ms: params.load_ms,
        weights_mb: params.weights_mb,
    };
    from_facts(key, source, facts)
}

fn from_facts(key: ModelKey, source: ModelSource, facts: FolderFacts) -> (ModelSpec, Served) {
    let geometry = geometry(facts.sizes.max);
    let segment = Mebibytes::holding(geometry.total_bytes());
    let spec = ModelSpec {
        aliases: aliases(key.as_str()),
        key,
        family: facts.family,
        need: Need {
            on_cpu: Some(facts.residency + segment),
            on_cuda: None,
            activation: facts.activation,
        },
        default_size: facts.default_size,
        sizes: facts.sizes,
        default_steps: facts.steps.0,
        max_steps: facts.steps.1,
        guidance: match facts.family {
            Family::Flux | Family::Synthetic => GuidanceRule::None,
            Family::Sd3 => GuidanceRule::Scale {
                default: 0.0,
                max: 10.0,
            },
        },
        empty_prompt: true,
        digest: facts.digest.clone(),
        pinned: false,
        min_workers: None,
        max_workers: None,
        device: DeviceWish::Auto,
        params: String::new(),
        missing: None,
    };
    let served = Served {
        source,
        geometry,
        threads: 1,
        digest: facts.digest,
        sampler: match facts.family {
            Family::Flux => "euler, linear sigmas",
            Family::Sd3 => "euler, shifted sigmas",
            Family::Synthetic => "synthetic",
        },
        dtype: "f32",
    };
    (spec, served)
}

/// The hub's names for the real models are aliases of their keys.
fn aliases(key: &str) -> Vec<String> {
    match key {
        "flux-schnell" => vec!["black-forest-labs/FLUX.1-schnell".into()],
        "sd3.5-turbo" => vec!["stabilityai/stable-diffusion-3.5-large-turbo".into()],
        _ => Vec::new(),
    }
}

/// Room for the largest square: latents are 16 channels of f32 at an eighth of each side, a preview
/// has a pixel per latent.
fn geometry(side_max: u32) -> Geometry {
    let side = u64::from(side_max);
    let latent_pixels = side.div_ceil(8) * side.div_ceil(8);
    Geometry {
        latents_bytes: latent_pixels * 16 * 4,
        preview_bytes: latent_pixels * 3,
        picture_bytes: side * side * 3,
    }
}

fn square(side: u32) -> PictureSize {
    PictureSize {
        width: side,
        height: side,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn built(text: &str) -> Result<(Registry, Catalogue), String> {
        let file = super::super::file::parse(text)?;
        build(&file.models, 1, &|path, _| {
            Err(format!("nothing to see in {}", path.display()))
        })
    }

    #[test]
    fn the_seeds_models_and_the_embedded_one_are_always_there() {
        let (registry, catalogue) = built("").expect("the built-in models");
        for name in ["pocket-flux", "flux-schnell", "sd3.5-turbo"] {
            assert!(registry.find(name).is_some(), "{name}");
        }
        assert!(registry.find("black-forest-labs/FLUX.1-schnell").is_some());
        assert_eq!(catalogue.len(), 3);
    }

    #[test]
    fn a_section_that_makes_no_model_says_what_is_missing() {
        let error = built("[models.mine]\npinned = true").expect_err("no family");
        assert!(error.starts_with("[models.mine]: "), "{error}");
        let error = built("[models.mine]\nfamily = \"fluxx\"").expect_err("no such family");
        assert!(error.contains("flux, sd3, synthetic"), "{error}");
    }
}
