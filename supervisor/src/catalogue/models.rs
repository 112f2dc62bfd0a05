//! Builds the models that a daemon offers, from the built-in ones and the `[models.KEY]` sections.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use ipc_protocol::about::ModelRights;
use ipc_protocol::arithmetic::Arithmetic;
use ipc_protocol::family::{Family, PublishedModel};
use ipc_protocol::ids::ModelKey;
use ipc_protocol::messages::worker::ModelSource;
use ipc_protocol::units::Mebibytes;
use pool::{CudaNeed, Files, ModelSpec, Need, Registry};

use super::facts::{FolderFacts, Look};
use super::placement::CudaDevices;
use super::served::{Catalogue, Served, absent, from_facts};
use crate::config::file::{ModelSection, SyntheticParams};
use crate::config::names::keys;

/// Inspects a folder of weights of a family, for an arithmetic.
pub type LookAt<'a> = &'a dyn Fn(&Path, Option<&str>, Arithmetic) -> Look;

/// Returns the folder of a fetched model and the digest of its files, or `None` if it was not fetched. The
/// error is a message about its section.
pub type FindFetched<'a> =
    &'a dyn Fn(&str, &ModelSection) -> Result<Option<(PathBuf, String)>, String>;

/// Returns the properties of a family's published model in an arithmetic, without its files.
pub type DescribePublished<'a> = &'a dyn Fn(Family, Arithmetic) -> Result<FolderFacts, String>;

/// The name of the family without weights.
const SYNTHETIC: &str = Family::SYNTHETIC.word();

/// The sources of the properties of models.
pub struct FactSources<'a> {
    /// Models inside the worker program, by key.
    pub built_in: BTreeMap<String, FolderFacts>,
    /// Describes a published model without its files.
    pub published: DescribePublished<'a>,
    /// Inspects a folder.
    pub look: LookAt<'a>,
    /// Finds the files of a fetched model.
    pub fetched: FindFetched<'a>,
    /// Threads of a worker if the model's section does not set them.
    pub threads: u32,
    /// The CUDA devices.
    pub cuda: CudaDevices,
}

/// Builds the registry for the pool and the catalogue for the driver.
///
/// # Errors
/// The message; it names the invalid section.
pub fn build(
    sections: &BTreeMap<String, ModelSection>,
    facts: &FactSources<'_>,
) -> Result<(Registry, Catalogue), String> {
    let (mut specs, mut catalogue) = (Vec::new(), Catalogue::new());
    let nothing = ModelSection::default();
    for key in keys(sections) {
        let section = sections.get(&key).unwrap_or(&nothing);
        let (spec, served) = one(&key, section, facts)?;
        catalogue.insert(spec.key.clone(), served);
        specs.push(spec);
    }
    Ok((Registry::new(specs)?, catalogue))
}

/// Builds one model from its section.
///
/// # Errors
/// The message; it names the section.
pub fn one(
    key: &str,
    section: &ModelSection,
    facts: &FactSources<'_>,
) -> Result<(ModelSpec, Served), String> {
    let (mut spec, served) =
        model(key, section, facts).map_err(|why| format!("[models.{key}]: {why}"))?;
    spec.params += &file_choice(section);
    spec.pinned = section.pinned;
    spec.min_workers = section.min_workers;
    spec.max_workers = section.max_workers;
    if let Some(device) = &section.device {
        spec.device = device
            .parse()
            .map_err(|why| format!("[models.{key}] device: {why}"))?;
    }
    Ok((spec, served))
}

/// The keys of a section that choose the model's files, as text: if they change, the workers are replaced. Every key is
/// named here, so that a new one needs a decision.
fn file_choice(section: &ModelSection) -> String {
    let ModelSection {
        family,
        path,
        variant,
        revision,
        // Properties of the model itself.
        pinned: _,
        min_workers: _,
        max_workers: _,
        device: _,
        // Workers are told them: `served` writes them down.
        threads: _,
        dtype: _,
        encoders: _,
        params: _,
    } = section;
    let path = path.as_ref().map(|path| path.display().to_string());
    let keys = [
        ("family", family.clone()),
        ("path", path),
        ("variant", variant.clone()),
        ("revision", revision.clone()),
    ];
    let given = keys.into_iter();
    let given = given.filter_map(|(key, value)| Some(format!(", {key} {:?}", value?)));
    given.collect()
}

fn threads(section: &ModelSection, facts: &FactSources<'_>) -> u32 {
    section.threads.unwrap_or(facts.threads).max(1)
}

/// Parses the arithmetic that a section sets.
fn arithmetic(section: &ModelSection) -> Result<Arithmetic, String> {
    let said = Arithmetic {
        dtype: word("dtype", section.dtype.as_deref())?,
        encoders: word("encoders", section.encoders.as_deref())?,
    };
    if section.family.as_deref() == Some(SYNTHETIC) && said != Arithmetic::default() {
        return Err(
            "dtype and encoders do not apply to family \"synthetic\", which has no weights: remove them".into(),
        );
    }
    Ok(said)
}

/// Parses a setting whose values are words; the error names the setting.
fn word<T: FromStr<Err = String> + Default>(name: &str, said: Option<&str>) -> Result<T, String> {
    said.map_or(Ok(T::default()), |said| {
        said.parse().map_err(|why| format!("{name}: {why}"))
    })
}

fn model(
    key: &str,
    section: &ModelSection,
    facts: &FactSources<'_>,
) -> Result<(ModelSpec, Served), String> {
    let key = ModelKey::new(key)?;
    let arithmetic = arithmetic(section)?;
    let running = (threads(section, facts), facts.cuda);
    let here = |source, found| Ok(from_facts(key.clone(), source, found, running, arithmetic));
    if section.params.is_some() && section.family.as_deref() != Some(SYNTHETIC) {
        return Err(
            "params apply to family \"synthetic\" only: remove them, or set that family".into(),
        );
    }
    let (family, found) = match (&section.path, section.family.as_deref()) {
        (None, Some(SYNTHETIC)) => {
            let params = section.params.unwrap_or_default();
            let (source, found) = synthetic(params, facts)?;
            let (mut spec, served) = here(source, found)?;
            spec.need.on_cuda = synthetic_on_cuda(params, &spec.need);
            return Ok((spec, served));
        }
        (Some(_), Some(SYNTHETIC)) => {
            return Err("family \"synthetic\" has no weights: remove path".into());
        }
        (Some(path), family) => {
            // A folder may contain weights of several families; the key of a published model selects one.
            let published = PublishedModel::with_key(key.as_str()).map(|model| model.family);
            let family = family.and_then(Family::named).or(published);
            let found = folder(path, family.map(Family::word), arithmetic, facts);
            (family.unwrap_or_else(|| likeliest(&key, facts)), found)
        }
        (None, None) => match (
            PublishedModel::with_key(key.as_str()),
            facts.built_in.get(key.as_str()),
        ) {
            (Some(model), _) => (model.family, fetched(&key, section, model.family, facts)?),
            // The table has its need in f32 with the encoders kept, which is the largest.
            (_, Some(found)) => {
                let source = ModelSource::Embedded {
                    key: key.to_string(),
                };
                return here(source, found.clone());
            }
            (_, None) => return Err("a model that is not built in needs `family` or `path`".into()),
        },
        (None, Some(family)) => return Err(format!("family {family:?} needs a path")),
    };
    match found {
        Ok((source, found)) => here(source, found),
        Err(files) => {
            let published = (facts.published)(family, arithmetic)?;
            Ok(absent(key, published, running, arithmetic, files))
        }
    }
}

/// The family of a folder that was not inspected and whose section names none: that of the embedded model with
/// this key, else the first in the table.
fn likeliest(key: &ModelKey, facts: &FactSources<'_>) -> Family {
    let embedded = facts.built_in.get(key.as_str()).map(|found| found.family);
    let first = PublishedModel::all().map(|model| model.family).next();
    embedded.or(first).unwrap_or(Family::SYNTHETIC)
}

/// The files of a model, or why they are unusable. Unusable files do not make the settings invalid, because they
/// can change at any time.
type FilesFound = Result<(ModelSource, FolderFacts), Files>;

/// Finds the fetched files of a model.
fn fetched(
    key: &ModelKey,
    section: &ModelSection,
    family: Family,
    facts: &FactSources<'_>,
) -> Result<FilesFound, String> {
    Ok(match (facts.fetched)(key.as_str(), section)? {
        Some((path, digest)) => {
            let found = folder(&path, Some(family.word()), arithmetic(section)?, facts);
            match found {
                Ok((source, facts)) => Ok((source, FolderFacts { digest, ..facts })),
                Err(Files::Broken(why)) => Err(Files::Broken(format!(
                    "its fetched files cannot be used: {why}; `imagepool models verify {key}` checks them"
                ))),
                Err(other) => Err(other),
            }
        }
        None => Err(Files::Missing(format!(
            "its files are not on this machine: `imagepool models fetch {key}` fetches them, or set path in \
             [models.{key}]"
        ))),
    })
}

fn folder(
    path: &Path,
    family: Option<&str>,
    arithmetic: Arithmetic,
    facts: &FactSources<'_>,
) -> FilesFound {
    match (facts.look)(path, family, arithmetic) {
        Look::Seen { folder, found } => {
            let source = ModelSource::Folder {
                path: folder,
                family: Some(found.family.word().to_owned()),
            };
            Ok((source, *found))
        }
        Look::Unread => Err(Files::Unread),
        Look::Broken(why) => Err(Files::Broken(why)),
    }
}

fn synthetic(
    params: SyntheticParams,
    facts: &FactSources<'_>,
) -> Result<(ModelSource, FolderFacts), String> {
    let source = ModelSource::Synthetic {
        step_ms: params.step_ms,
        load_ms: params.load_ms,
        weights_mb: params.weights_mb,
        device_mb: params.device_mb,
    };
    let bare = facts
        .built_in
        .get("synthetic")
        .ok_or("this build has no synthetic family")?;
    let found = FolderFacts {
        residency: bare.residency + Mebibytes(params.weights_mb.into()),
        digest: synthetic_digest(&bare.digest, params),
        draws: Vec::new(),
        rights: ModelRights::default(),
        ..bare.clone()
    };
    Ok((source, found))
}

/// The memory of a synthetic model on a GPU: `device_mb` there, beside its memory on the CPU. It computes on the CPU
/// wherever it runs, so the books of a GPU can be tested without one.
fn synthetic_on_cuda(params: SyntheticParams, need: &Need) -> Option<CudaNeed> {
    let device = Mebibytes(params.device_mb.into());
    let host = need.on_cpu.filter(|_| device > Mebibytes::ZERO)?;
    Some(CudaNeed {
        host,
        device,
        activation: need.activation,
    })
}

/// A stand-in digest: synthetic models have no weights. Memory and load time stand for the files, so models that
/// differ in them are different models. The step time stands for the speed of the machine, so it is left out, and
/// so is a GPU's memory, which stands for another place of the same files.
fn synthetic_digest(family: &str, params: SyntheticParams) -> String {
    let SyntheticParams {
        step_ms: _,
        load_ms,
        weights_mb,
        device_mb: _,
    } = params;
    format!("{family}:weights_mb={weights_mb},load_ms={load_ms}")
}

#[cfg(test)]
mod tests {
    use ipc_protocol::arithmetic::{Dtype, Encoders};
    use ipc_protocol::latents::LatentShape;
    use pool::{Activation, SizeRule};

    use super::super::served::square;
    use super::*;

    fn built(text: &str) -> Result<(Registry, Catalogue), String> {
        let file = crate::config::file::parse(text)?;
        let synthetic = FolderFacts {
            family: Family::SYNTHETIC,
            digest: "synthetic".into(),
            draws: Vec::new(),
            rights: ModelRights::default(),
            ..small()
        };
        let built_in = BTreeMap::from([
            ("pocket-flux".to_owned(), small()),
            ("synthetic".to_owned(), synthetic),
        ]);
        let facts = FactSources {
            built_in,
            published: &published,
            look: &|path, _, _| Look::Broken(format!("nothing to see in {}", path.display())),
            fetched: &|_, _| Ok(None),
            threads: 1,
            cuda: CudaDevices::Unknown,
        };
        build(&file.models, &facts)
    }

    fn seen(found: FolderFacts) -> Look {
        Look::Seen {
            folder: "/where/it/is".into(),
            found: Box::new(found),
        }
    }

    fn published(family: Family, _: Arithmetic) -> Result<FolderFacts, String> {
        Ok(FolderFacts { family, ..small() })
    }

    fn small() -> FolderFacts {
        FolderFacts {
            family: Family::new("flux"),
            default_size: square(128),
            sizes: SizeRule {
                multiple: 16,
                min: 64,
                max: 256,
            },
            steps: (4, 64),
            residency: Mebibytes(30),
            activation: Activation::default(),
            on_cuda: Vec::new(),
            per_thread: Mebibytes::ZERO,
            latents: LatentShape {
                channels: 16,
                downscale: 8,
            },
            guidance: None,
            sampler: "euler, linear sigmas".into(),
            digest: "d".into(),
            draws: Vec::new(),
            rights: ModelRights::default(),
            stamp: String::new(),
            marks: Vec::new(),
        }
    }

    #[test]
    fn the_key_of_a_published_model_selects_the_family_in_a_folder() {
        let asked = std::cell::RefCell::new(Vec::new());
        let look = |_: &Path, family: Option<&str>, _: Arithmetic| {
            asked.borrow_mut().push(family.map(str::to_owned));
            Look::Broken("nothing to see".into())
        };
        let section = ModelSection {
            path: Some("/somewhere".into()),
            ..ModelSection::default()
        };
        for key in ["flux-schnell", "sd3.5-turbo", "mine"] {
            let facts = FactSources {
                built_in: BTreeMap::new(),
                published: &|_, _| Err("no published models".into()),
                look: &look,
                fetched: &|_, _| Ok(None),
                threads: 1,
                cuda: CudaDevices::Unknown,
            };
            // The result does not matter: the test checks the recorded questions.
            drop(one(key, &section, &facts));
        }
        let families = ["flux", "sd3"].map(|family| Some(family.to_owned()));
        assert_eq!(asked.into_inner(), [&families[..], &[None]].concat());
    }

    #[test]
    fn the_published_models_and_the_embedded_one_are_always_offered() {
        let (registry, catalogue) = built("").expect("the built-in models");
        for name in ["pocket-flux", "flux-schnell", "sd3.5-turbo"] {
            assert!(registry.find(name).is_some(), "{name}");
        }
        assert!(registry.find("black-forest-labs/FLUX.1-schnell").is_some());
        assert_eq!(catalogue.len(), 3);
    }

    #[test]
    fn a_fetched_model_uses_the_folder_it_was_fetched_to() {
        let file = crate::config::file::parse("").expect("no settings");
        let here = tempfile::tempdir().expect("a temporary folder");
        let built_in = BTreeMap::from([("pocket-flux".to_owned(), small())]);
        let facts = FactSources {
            built_in,
            published: &published,
            look: &|_, family, _| {
                assert_eq!(family, Some("flux"));
                seen(small())
            },
            fetched: &|key, _| {
                Ok((key == "flux-schnell").then(|| (here.path().to_owned(), "d2".into())))
            },
            threads: 1,
            cuda: CudaDevices::Unknown,
        };
        let (registry, catalogue) = build(&file.models, &facts).expect("its folder is there");
        let key = ModelKey::new("flux-schnell").expect("a key");
        assert!(
            matches!(&catalogue[&key].source, ModelSource::Folder { path, .. } if !path.is_empty())
        );
        // What the hub stated, however large the files are.
        assert_eq!(catalogue[&key].digest, "d2");
        assert!(
            registry
                .find("flux-schnell")
                .is_some_and(|spec| spec.files.are_here())
        );
        let missing = registry.find("sd3.5-turbo").map(|spec| spec.files.clone());
        let command = "imagepool models fetch sd3.5-turbo";
        assert!(matches!(missing, Some(Files::Missing(why)) if why.contains(command)));
    }

    #[test]
    fn an_unreadable_fetched_model_is_broken_and_the_others_are_offered() {
        let file = crate::config::file::parse("").expect("no settings");
        let here = tempfile::tempdir().expect("a temporary folder");
        let facts = FactSources {
            built_in: BTreeMap::from([("pocket-flux".to_owned(), small())]),
            published: &published,
            look: &|_, _, _| Look::Broken("ae.safetensors is cut short".into()),
            fetched: &|_, _| Ok(Some((here.path().to_owned(), "d2".into()))),
            threads: 1,
            cuda: CudaDevices::Unknown,
        };
        let (registry, _) = build(&file.models, &facts).expect("the settings are good");
        let files = |key| registry.find(key).map(|spec| spec.files.clone());
        let cut = "ae.safetensors is cut short";
        assert!(matches!(files("sd3.5-turbo"), Some(Files::Broken(why)) if why.contains(cut)));
        assert!(files("pocket-flux").is_some_and(|files| files.are_here()));
    }

    /// The digests by which the pool knows synthetic models with these `params`, in order.
    fn known_by(params: [&str; 2]) -> [String; 2] {
        let [first, second] = params;
        let text = format!(
            "[models.first]\nfamily = \"synthetic\"\nparams = {{ {first} }}\n\
             [models.second]\nfamily = \"synthetic\"\nparams = {{ {second} }}\n"
        );
        let (registry, catalogue) = built(&text).expect("two models");
        ["first", "second"].map(|name| {
            let spec = registry.find(name).expect("it was added");
            assert_eq!(spec.digest, catalogue[&spec.key].digest);
            spec.digest.clone()
        })
    }

    #[test]
    fn synthetic_models_differ_by_memory_and_load_time_and_not_by_step_time() {
        let base = "step_ms = 10, load_ms = 5, weights_mb = 8";
        for other in [
            "step_ms = 10, load_ms = 6, weights_mb = 8",
            "step_ms = 10, load_ms = 5, weights_mb = 9",
        ] {
            let [first, second] = known_by([base, other]);
            assert_ne!(first, second, "{other}");
        }
        let [first, second] = known_by([base, "step_ms = 900, load_ms = 5, weights_mb = 8"]);
        assert_eq!(first, second);
    }

    #[test]
    fn folders_without_digests_are_different_models_and_not_in_receipts() {
        let (one, two) = (tempfile::tempdir(), tempfile::tempdir());
        let (one, two) = (one.expect("a folder"), two.expect("a folder"));
        let section = |key: &str, path: &Path| format!("[models.{key}]\npath = {path:?}\n");
        let text = section("a", one.path()) + &section("b", two.path()) + &section("c", two.path());
        let file = crate::config::file::parse(&text).expect("three folders");
        let facts = FactSources {
            built_in: BTreeMap::from([("pocket-flux".to_owned(), small())]),
            published: &published,
            look: &|path, _, _| Look::Seen {
                folder: path.display().to_string(),
                found: Box::new(FolderFacts {
                    digest: String::new(),
                    ..small()
                }),
            },
            fetched: &|_, _| Ok(None),
            threads: 1,
            cuda: CudaDevices::Unknown,
        };
        let (registry, catalogue) = build(&file.models, &facts).expect("three models");
        let spec = |key| registry.find(key).expect("it was added");
        assert_ne!(spec("a").digest, spec("b").digest);
        assert_eq!(spec("b").digest, spec("c").digest);
        assert_eq!(catalogue[&spec("a").key].digest, "");
    }

    #[test]
    fn the_arithmetic_of_a_section_reaches_the_inspection_and_the_worker() {
        let here = tempfile::tempdir().expect("a temporary folder");
        let text = format!(
            "[models.mine]\npath = {:?}\ndtype = \"bf16\"\nencoders = \"drop\"",
            here.path()
        );
        let file = crate::config::file::parse(&text).expect("valid TOML");
        let wanted = Arithmetic {
            dtype: Dtype::Bf16,
            encoders: Encoders::Drop,
        };
        let facts = FactSources {
            built_in: BTreeMap::from([("pocket-flux".to_owned(), small())]),
            published: &published,
            look: &|_, _, arithmetic| {
                assert_eq!(arithmetic, wanted);
                seen(small())
            },
            fetched: &|_, _| Ok(None),
            threads: 1,
            cuda: CudaDevices::Unknown,
        };
        let (registry, catalogue) = build(&file.models, &facts).expect("good settings");
        let key = ModelKey::new("mine").expect("a key");
        assert_eq!(catalogue[&key].arithmetic, wanted);
        // What the pool compares when settings are read again.
        let params = |name| registry.find(name).map(|spec| spec.params.clone());
        assert_ne!(params("mine"), params("pocket-flux"));
    }

    #[test]
    fn an_invalid_arithmetic_is_refused_with_its_section_and_setting() {
        let error = built("[models.pocket-flux]\ndtype = \"f64\"").expect_err("no such dtype");
        let sentence =
            "models.pocket-flux.dtype = \"f64\" is not a known word: use f32 or bf16 or f16";
        assert_eq!(error, sentence);
        let error = built("[models.pocket-flux]\nencoders = \"gpu\"").expect_err("no such place");
        let sentence =
            "models.pocket-flux.encoders = \"gpu\" is not a known word: use keep or drop or cpu";
        assert_eq!(error, sentence);
        let error = built("[models.syn]\nfamily = \"synthetic\"\ndtype = \"bf16\"");
        let error = error.expect_err("a pattern has no dtype");
        assert!(
            error.starts_with("[models.syn]: dtype and encoders"),
            "{error}"
        );
    }

    #[test]
    fn an_unusable_folder_is_broken_and_the_others_are_offered() {
        let (registry, catalogue) =
            built("[models.mine]\npath = \"/not/mounted\"\nfamily = \"sd3\"")
                .expect("the settings are good");
        let mine = registry.find("mine").expect("it is offered");
        let why = "nothing to see in /not/mounted".to_owned();
        assert_eq!(
            (mine.family, &mine.files),
            (Family::new("sd3"), &Files::Broken(why))
        );
        assert_eq!(catalogue.len(), 4);
        assert!(
            registry
                .find("pocket-flux")
                .is_some_and(|spec| spec.files.are_here())
        );
    }

    #[test]
    fn a_synthetic_model_with_a_path_and_a_folder_with_params_are_refused() {
        let error = built("[models.syn]\nfamily = \"synthetic\"\npath = \"/a\"");
        assert!(
            error
                .expect_err("two sources")
                .starts_with("[models.syn]: family")
        );
        let error = built("[models.mine]\npath = \"/a\"\nparams = { step_ms = 1 }");
        assert!(
            error
                .expect_err("no such family")
                .starts_with("[models.mine]: params")
        );
    }

    #[test]
    fn an_incomplete_section_is_refused_with_the_missing_setting() {
        let error = built("[models.mine]\npinned = true").expect_err("no family");
        assert!(error.starts_with("[models.mine]: "), "{error}");
        let error = built("[models.mine]\nfamily = \"fluxx\"").expect_err("no such family");
        assert!(error.contains("flux or sd3 or synthetic"), "{error}");
    }
}
