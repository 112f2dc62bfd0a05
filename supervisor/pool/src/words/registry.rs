//! The models, with their limits and needs.

use std::collections::BTreeMap;

use ipc_protocol::family::Family;
use ipc_protocol::ids::{Device, DeviceConstraint, ModelKey};
use ipc_protocol::units::{Mebibytes, PictureSize};

/// The beginning of what identifies a model in place of a digest: its files were not read whole.
pub const FOLDER_IDENTITY: &str = "folder ";

/// Every model by key.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Registry {
    models: BTreeMap<ModelKey, ModelSpec>,
}

/// The index of a model in the pool; never used for another model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ModelId(usize);

impl ModelId {
    pub(crate) fn new(index: usize) -> Self {
        Self(index)
    }

    pub(crate) fn index(self) -> usize {
        self.0
    }
}

/// One model.
#[derive(Debug, Clone, PartialEq)]
pub struct ModelSpec {
    pub key: ModelKey,
    /// Other names for it.
    pub aliases: Vec<String>,
    /// The code that can run it.
    pub family: Family,
    /// Memory it takes.
    pub need: Need,
    /// Pixels where a request says nothing.
    pub default_size: PictureSize,
    /// Sizes it can draw.
    pub sizes: SizeRule,
    /// Steps where a request says nothing.
    pub default_steps: u32,
    /// Most steps.
    pub max_steps: u32,
    /// Guidance it can follow.
    pub guidance: GuidanceRule,
    /// Whether an empty prompt means something.
    pub empty_prompt: bool,
    /// Hash over its weights, for fingerprints.
    pub digest: String,
    /// Keep one worker resident.
    pub pinned: bool,
    /// Workers kept, instead of the general setting.
    pub min_workers: Option<u32>,
    /// Most workers, instead of the general setting.
    pub max_workers: Option<u32>,
    /// Where it should run when the request leaves it open.
    pub device: DeviceConstraint,
    /// Everything else that a worker is started with, as text: a worker that was started with other values is outdated.
    pub params: String,
    /// Whether its files can be used.
    pub files: Files,
}

/// Whether the files of a model can be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Files {
    /// They can. The stamp changes when the files do; a worker that loaded others is outdated.
    Here {
        /// The stamp of the files when they were inspected; empty if they never change.
        stamp: String,
    },
    /// They are being looked at. It does not stay so: the look has a deadline.
    Unread,
    /// They are not on this machine, for this reason.
    Missing(String),
    /// They are here, or should be, and cannot be used, for this reason.
    Broken(String),
}

impl Files {
    /// Whether workers can load them.
    pub fn are_here(&self) -> bool {
        match self {
            Self::Here { .. } => true,
            Self::Unread | Self::Missing(_) | Self::Broken(_) => false,
        }
    }
}

impl Default for Files {
    fn default() -> Self {
        Self::Here {
            stamp: String::new(),
        }
    }
}

/// Memory a worker takes: residency while it lives, activation while it draws.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Need {
    /// Residency when it runs on the CPU: weights as held, context, segment.
    pub on_cpu: Option<Mebibytes>,
    /// Memory when it runs on a CUDA device.
    pub on_cuda: Option<CudaNeed>,
    /// Latents, attention and decoder peak when it runs on the CPU.
    pub activation: Activation,
}

/// Memory of a worker that runs on a CUDA device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CudaNeed {
    /// On the host: process, pinned buffers, segment.
    pub host: Mebibytes,
    /// On the device: weights, context.
    pub device: Mebibytes,
    /// Latents, attention and decoder peak on the device.
    pub activation: Activation,
}

/// Memory for drawing one picture as a function of its size.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Activation {
    pub base: Mebibytes,
    /// For every 2^20 pixels.
    pub per_megapixel: Mebibytes,
    /// For every (2^20 pixels) squared, where attention keeps its scores.
    pub per_megapixel_squared: Mebibytes,
    /// Of every picture: what its prompt takes before it is drawn, where encoders are loaded for it.
    pub least: Mebibytes,
}

impl Activation {
    /// Returns the memory of a picture of `size`, rounded up.
    pub fn at(&self, size: PictureSize) -> Mebibytes {
        let pixels = u128::from(size.pixels());
        let linear = (pixels * u128::from(self.per_megapixel.0)).div_ceil(1 << 20);
        let square = (pixels * pixels * u128::from(self.per_megapixel_squared.0)).div_ceil(1 << 40);
        let sum = u128::from(self.base.0) + linear + square;
        Mebibytes(u64::try_from(sum).unwrap_or(u64::MAX / 4)).max(self.least)
    }
}

/// Sizes a model can draw.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SizeRule {
    /// Both sides are multiples of it.
    pub multiple: u32,
    /// Shortest side.
    pub min: u32,
    /// Longest side.
    pub max: u32,
}

impl SizeRule {
    /// Checks `size`; the error is a sentence.
    pub fn check(&self, size: PictureSize, max_pixels: u64) -> Result<(), String> {
        let Self { multiple, min, max } = *self;
        let fits = |side: u32| (min..=max).contains(&side) && side.is_multiple_of(multiple);
        if !fits(size.width) || !fits(size.height) {
            return Err(format!(
                "{size} is not possible: width and height must be multiples of {multiple} from {min} to {max}"
            ));
        }
        if size.pixels() > max_pixels {
            return Err(format!(
                "{size} has {} pixels, more than the {max_pixels} allowed here",
                size.pixels()
            ));
        }
        Ok(())
    }
}

/// Guidance a model can follow.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum GuidanceRule {
    /// Distilled without: 0 to 1 is accepted and means none; a negative prompt means nothing.
    None,
    /// Classifier-free guidance in this range; a negative prompt needs more than 1.
    Scale {
        /// Where a request says nothing.
        default: f32,
        /// Most.
        max: f32,
    },
}

impl Registry {
    /// A registry of `models`.
    ///
    /// # Errors
    /// A sentence: two models of one name, a rule that excludes its own default, or a model that
    /// would cost nothing.
    pub fn new(models: Vec<ModelSpec>) -> Result<Self, String> {
        let mut registry = Self::default();
        for spec in models {
            spec.check()?;
            let names = [spec.key.as_str()];
            let names = names
                .into_iter()
                .chain(spec.aliases.iter().map(String::as_str));
            for name in names {
                if registry.find(name).is_some() {
                    return Err(format!("two models are called {name:?}"));
                }
            }
            registry.models.insert(spec.key.clone(), spec);
        }
        Ok(registry)
    }

    /// Every model, by key.
    pub fn iter(&self) -> impl Iterator<Item = &ModelSpec> {
        self.models.values()
    }

    /// The model called `name`, by key or alias.
    pub fn find(&self, name: &str) -> Option<&ModelSpec> {
        let named = |spec: &&ModelSpec| {
            spec.key.as_str() == name || spec.aliases.iter().any(|alias| alias == name)
        };
        self.models.values().find(named)
    }
}

impl ModelSpec {
    /// Residency and default activation of a worker on `device`, as host part and device part;
    /// `None` where it cannot run there.
    pub fn residency_on(&self, device: Device) -> Option<(Mebibytes, Mebibytes)> {
        match device {
            Device::Host => self.need.on_cpu.map(|host| (host, Mebibytes::ZERO)),
            Device::Cuda(_) => self.need.on_cuda.map(|part| (part.host, part.device)),
        }
    }

    /// Memory of a picture on `device`, beside the residency.
    pub fn activation_on(&self, device: Device) -> Activation {
        match device {
            Device::Host => self.need.activation,
            Device::Cuda(_) => self
                .need
                .on_cuda
                .map_or(self.need.activation, |part| part.activation),
        }
    }

    /// Whether a worker made for this model cannot serve `new`, the same model after a change. Every field is named here,
    /// so that a new one needs a decision.
    pub fn needs_new_workers(&self, new: &Self) -> bool {
        let Self {
            family,
            need,
            sizes,
            device,
            params,
            // `same_files` compares both.
            files: _,
            digest: _,
            // Requests are checked and completed with these; a worker gets values.
            key: _,
            aliases: _,
            default_size: _,
            default_steps: _,
            max_steps: _,
            guidance: _,
            empty_prompt: _,
            // They are about the number of workers.
            pinned: _,
            min_workers: _,
            max_workers: _,
        } = self;
        *family != new.family
            || *need != new.need
            || sizes.max < new.sizes.max
            || *device != new.device
            || *params != new.params
            || !self.same_files(new)
    }

    /// Whether two looks found the same files. A digest may be known later than the files are.
    fn same_files(&self, new: &Self) -> bool {
        match (&self.files, &new.files) {
            (Files::Here { stamp: old }, Files::Here { stamp: new })
                if !old.is_empty() && !new.is_empty() =>
            {
                old == new
            }
            (one, other) => one == other && self.digest == new.digest,
        }
    }

    /// Whether its weights are certainly others than those with this digest.
    pub(crate) fn differs_from(&self, digest: &str) -> bool {
        let is_known = |digest: &str| !digest.is_empty() && !digest.starts_with(FOLDER_IDENTITY);
        is_known(digest) && is_known(&self.digest) && self.digest != digest
    }

    fn check(&self) -> Result<(), String> {
        let key = &self.key;
        let residency = [self.need.on_cpu, self.need.on_cuda.map(|part| part.device)];
        if residency.iter().flatten().next().is_none() {
            return Err(format!("model {key} can run nowhere"));
        }
        if residency
            .iter()
            .flatten()
            .any(|&part| part == Mebibytes::ZERO)
        {
            return Err(format!("model {key} would cost no memory, which cannot be"));
        }
        if self.sizes.multiple == 0 {
            return Err(format!("model {key} has sizes that are multiples of 0"));
        }
        if !(1..=self.max_steps).contains(&self.default_steps) {
            return Err(format!(
                "model {key} has a default number of steps it does not allow"
            ));
        }
        self.sizes
            .check(self.default_size, u64::MAX)
            .map_err(|why| format!("model {key} has a default size it does not allow: {why}"))
    }
}
