//! A family that exists only in this test is recognised, described and drawn like the built-in ones.

use candle_core::{DType, Tensor};
use ipc_protocol::family::Family;
use ipc_protocol::latents::LatentShape;
use ipc_protocol::units::PictureSize;
use std::path::Path;
use worker::fault::WorkerFault;
use worker::pipelines::families::{self, Description, FamilyFiles, ModelFamily, TABLE};
use worker::pipelines::folder::search::{FolderLayout, FolderSearch};
use worker::pipelines::need::{ActivationMemory, MemoryNeed};
use worker::pipelines::{
    ComputeSettings, Denoising, JobParameters, LatentCheckpoint, Pipeline, Rgb8,
};
use worker::weights::{Meter, ModelPart, Role, Section, Weights};

/// The family: its transformer is a single colour.
static COLOUR: ModelPart = ModelPart {
    noun: "toy transformer",
    role: Role::Transformer,
    prefixes: &[],
    marks: &["toy.colour"],
    diffusers_marks: &[],
    components: &["transformer"],
    target: |_, _| None,
    other_model: ModelPart::no_other_model,
    fits: ModelPart::always_fits,
};

static LAYOUT: FolderLayout = FolderLayout {
    family: Family::new("toy"),
    title: "Toy",
    model: "Toy",
    transformer: &COLOUR,
    transformer_words: &["toy"],
    names: &[(&COLOUR, &["toy.safetensors"])],
    autoencoder_stem: None,
    notes: &[],
    schedule_shift: 1.0,
};

const LATENTS: LatentShape = LatentShape {
    channels: 3,
    downscale: 4,
};

struct Toy;

struct ToyFiles(Weights);

struct ToyModel([u8; 3]);

struct ToyJob<'m> {
    model: &'m ToyModel,
    size: PictureSize,
    done: u32,
}

impl ModelFamily for Toy {
    fn layout(&self) -> &'static FolderLayout {
        &LAYOUT
    }

    fn open(
        &self,
        path: &Path,
        all: &[&'static FolderLayout],
    ) -> Result<Box<dyn FamilyFiles>, WorkerFault> {
        let shapes = vec![("toy.colour".to_owned(), vec![3])];
        let weights = FolderSearch::new(path, &LAYOUT, all).part(&COLOUR, &shapes)?;
        Ok(Box::new(ToyFiles(weights)))
    }
}

impl ToyFiles {
    fn colour(&self) -> Result<[u8; 3], WorkerFault> {
        let mut untold = |_| {};
        let meter = Meter::new(&[&self.0], &mut untold);
        let section = Section::new(&self.0, &meter, DType::F32, &candle_core::Device::Cpu);
        let values = section.tensor("toy.colour", &[3])?.to_vec1::<f32>()?;
        self.0.refuse_unread(&[])?;
        Ok([0, 1, 2].map(|channel| values[channel] as u8))
    }
}

impl FamilyFiles for ToyFiles {
    fn weights(&self) -> Vec<&Weights> {
        vec![&self.0]
    }

    fn check(&self) -> Result<(), WorkerFault> {
        self.colour().map(drop)
    }

    fn describe(&self) -> Description {
        Description {
            family: LAYOUT.family,
            default_side: 32,
            min_side: 16,
            max_side: 64,
            size_multiple: LATENTS.downscale,
            default_steps: 1,
            max_steps: 2,
            latents: LATENTS,
            guidance: None,
            sampler: "none",
            draws: Vec::new(),
            rights: Default::default(),
        }
    }

    fn need(&self, embedded: u64, _: ComputeSettings) -> MemoryNeed {
        MemoryNeed {
            residency_mb: (self.0.stored_bytes() + embedded).div_ceil(1 << 20),
            per_thread_mb: 2,
            activation: ActivationMemory {
                base_mb: 1,
                per_megapixel_mb: 3,
                per_megapixel_squared_mb: 0,
                least_mb: 0,
            },
        }
    }

    fn load(
        self: Box<Self>,
        _: &candle_core::Device,
        _: ComputeSettings,
        progress: &mut dyn FnMut(f32),
    ) -> Result<Box<dyn Pipeline>, WorkerFault> {
        progress(1.0);
        Ok(Box::new(ToyModel(self.colour()?)))
    }
}

impl Pipeline for ToyModel {
    fn start<'a>(
        &'a mut self,
        job: &JobParameters,
        from: Option<LatentCheckpoint>,
    ) -> Result<Box<dyn Denoising + 'a>, WorkerFault> {
        Ok(Box::new(ToyJob {
            model: self,
            size: job.size(),
            done: from.map_or(0, |checkpoint| checkpoint.steps_done),
        }))
    }

    fn latents_bytes(&self, width: u32, height: u32) -> usize {
        LATENTS.bytes(PictureSize { width, height }) as usize
    }
}

impl Denoising for ToyJob<'_> {
    fn steps_done(&self) -> u32 {
        self.done
    }

    fn step(&mut self, _: &dyn Fn() -> bool) -> Result<(), WorkerFault> {
        self.done += 1;
        Ok(())
    }

    fn latents(&self) -> Result<Vec<u8>, WorkerFault> {
        Ok(vec![0; LATENTS.bytes(self.size) as usize])
    }

    fn preview(&self) -> Result<Option<Rgb8>, WorkerFault> {
        Ok(None)
    }

    fn decode(self: Box<Self>) -> Result<Rgb8, WorkerFault> {
        let pixels = self.size.pixels() as usize;
        Ok(Rgb8 {
            width: self.size.width,
            height: self.size.height,
            bytes: self.model.0.repeat(pixels),
        })
    }
}

/// A model folder of the family, with one colour.
fn folder(name: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let colour = Tensor::new(&[200f32, 100.0, 50.0], &candle_core::Device::Cpu).expect("values");
    let tensors = std::collections::HashMap::from([("toy.colour".to_owned(), colour)]);
    candle_core::safetensors::save(&tensors, folder.path().join(name)).expect("a writable folder");
    folder
}

/// The table of families with one more line.
fn table() -> Vec<&'static dyn ModelFamily> {
    TABLE
        .iter()
        .copied()
        .chain([&Toy as &dyn ModelFamily])
        .collect()
}

#[test]
fn a_toy_family_is_recognised_described_and_drawn() {
    for name in ["toy.safetensors", "anything.safetensors"] {
        let folder = folder(name);
        let files = families::open(&table(), folder.path(), None).expect("a good folder");
        files.check().expect("a good file");
        assert_eq!(files.describe().family, LAYOUT.family);
        let need = files.need(0, ComputeSettings::default());
        assert_eq!((need.residency_mb, need.activation.at(64, 64)), (1, 2));
        let device = candle_core::Device::Cpu;
        let mut model = files
            .load(&device, ComputeSettings::default(), &mut |_| {})
            .expect("a good file");
        let job = JobParameters {
            prompt: "anything".to_owned(),
            negative: None,
            width: 16,
            height: 8,
            steps: 1,
            guidance: 0.0,
            seed: 1,
        };
        assert_eq!(model.latents_bytes(16, 8), 4 * 2 * 3 * 4);
        let mut run = model.start(&job, None).expect("a good job");
        run.step(&|| false).expect("it is not cancelled");
        let picture = run.decode().expect("a picture");
        assert_eq!(picture.bytes, [200, 100, 50].repeat(16 * 8));
    }
}

#[test]
fn other_families_are_recognised_besides_a_toy_and_a_mixture_is_refused_with_all_names() {
    let tiny = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens");
    for (name, family) in [("tiny-flux", "flux"), ("tiny-sd3", "sd3")] {
        let found = families::recognised(&table(), &tiny.join(name), None).expect("a model");
        assert_eq!(found.layout().family, Family::new(family));
    }
    let mixed = folder("colours.safetensors");
    let from = tiny.join("tiny-flux/flux1-schnell.safetensors");
    std::fs::copy(from, mixed.path().join("other.safetensors")).expect("a writable folder");
    let fault = families::open(&table(), mixed.path(), None).err();
    let said = fault.expect("two families").to_string();
    assert!(said.contains("set family = \"flux\" or \"toy\""), "{said}");
    let named = families::open(&table(), mixed.path(), Some(LAYOUT.family));
    assert_eq!(
        named.expect("the named one").describe().family,
        LAYOUT.family
    );
}

#[test]
fn the_toy_is_not_in_the_built_in_table() {
    let folder = folder("toy.safetensors");
    assert!(families::open(TABLE, folder.path(), None).is_err());
}
