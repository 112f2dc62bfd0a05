//! Computes parts of models with random weights, for `scripts/bench parts`.
//!
//! Reads names of parts from standard input, a line each, and prints the CPU seconds of each on a line.

use candle_core::{DType, Device, Tensor};
use nix::time::{ClockId, clock_gettime};
use safetensors::tensor::{Dtype, TensorView};
use std::cell::RefCell;
use std::io::{BufRead, Write};
use worker::fault::WorkerFault;
use worker::pipelines::families::flux::rope;
use worker::pipelines::families::flux::sizes::{FluxSizes, schnell};
use worker::pipelines::families::flux::transformer::FluxTransformer;
use worker::pipelines::families::sd3::sizes::{MmditSizes, large_turbo};
use worker::pipelines::families::sd3::transformer::Mmdit;
use worker::pipelines::parts::autoencoder::Decoder;
use worker::pipelines::parts::clip::Clip;
use worker::pipelines::parts::sizes::{T5Sizes, clip_l};
use worker::pipelines::parts::t5::T5;
use worker::sampling::noise;
use worker::weights::{Inventory, Meter, Section, Weights};

type Result<T> = std::result::Result<T, WorkerFault>;
/// Computes a part once.
type Part = Box<dyn Fn() -> Result<()>>;

/// The side of a picture's latents: 256 pixels.
const LATENTS: usize = 32;
/// Tokens of a picture of that size.
const TOKENS: usize = 256;
/// Tokens of its prompt.
const WORDS: usize = 256;
/// Rows and columns of the matrices whose product shows the processor's peak.
const MATRIX: usize = 1024;

/// Random values in f32.
fn random(seed: u64, shape: &[usize]) -> Result<Tensor> {
    let values = noise::normal(seed, shape.iter().product());
    Ok(Tensor::from_vec(values, shape, &Device::Cpu)?)
}

/// Loads a part from a file with random weights that keep the size of its values.
fn loaded<T>(load: impl Fn(&Section) -> Result<T>) -> Result<T> {
    let inventory = RefCell::<Inventory>::default();
    load(&Section::listing(&inventory, &Device::Cpu))?;
    let inventory = inventory.into_inner();
    let tensors = inventory.shapes().zip(1..).map(|((name, shape), seed)| {
        let inputs: usize = shape[1..].iter().product();
        let (mean, spread) = match (shape.len(), name.ends_with("bias")) {
            (1, true) => (0.0, 0.02),
            (1, false) => (1.0, 0.02),
            _ => (0.0, (inputs as f32).sqrt().recip()),
        };
        let values = noise::normal(seed, shape.iter().product());
        let values = values.into_iter().map(|value| mean + spread * value);
        (
            name,
            shape.to_vec(),
            values.flat_map(f32::to_le_bytes).collect::<Vec<u8>>(),
        )
    });
    let tensors: Vec<_> = tensors.collect();
    let views = tensors.iter().map(|(name, shape, bytes)| {
        let view = TensorView::new(Dtype::F32, shape.clone(), bytes);
        (*name, view.expect("values of this shape"))
    });
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("part.safetensors");
    safetensors::serialize_to_file(views, None, &path).expect("a writable temporary folder");
    let weights = Weights::open(&path)?;
    let mut tell = |_| {};
    let meter = Meter::new(&[&weights], &mut tell);
    load(&Section::new(&weights, &meter, DType::F32, &Device::Cpu))
}

fn t5_sizes() -> T5Sizes {
    T5Sizes {
        d_model: 1024,
        d_kv: 64,
        d_ff: 2560,
        num_layers: 4,
        num_heads: 16,
        vocab_size: 32128,
        length: WORDS,
    }
}

fn decoder(is_stock: bool) -> Result<Part> {
    let sizes = schnell();
    let decoder = loaded(|section| match is_stock {
        true => Decoder::of_tensors(section, &sizes.decoder, sizes.latent),
        false => Decoder::load(section, &sizes.decoder, sizes.latent),
    })?;
    let latents = random(1, &[1, 16, LATENTS, LATENTS])?;
    Ok(Box::new(move || decoder.forward(&latents).map(drop)))
}

fn t5() -> Result<Part> {
    let t5 = loaded(|section| T5::load(section, &t5_sizes()))?;
    let ids: Vec<u32> = (1..=WORDS as u32).collect();
    Ok(Box::new(move || t5.forward(&ids).map(drop)))
}

fn clip() -> Result<Part> {
    let sizes = clip_l();
    let clip = loaded(|section| Clip::load(section, &sizes))?;
    let ids: Vec<u32> = (1..77).chain([sizes.eos]).collect();
    Ok(Box::new(move || clip.forward(&ids).map(drop)))
}

fn flux() -> Result<Part> {
    let sizes = FluxSizes {
        hidden_size: 768,
        num_heads: 6,
        depth: 2,
        depth_single_blocks: 4,
        context_in_dim: t5_sizes().d_model,
        ..schnell().transformer
    };
    let flux = loaded(|section| FluxTransformer::load(section, &sizes))?;
    let (text, pooled) = (
        random(1, &[1, WORDS, sizes.context_in_dim])?,
        random(2, &[1, sizes.vec_in_dim])?,
    );
    let side = LATENTS / 2;
    let by = flux.condition(&text, &pooled, &rope::positions(WORDS, side, side))?;
    let tokens = random(3, &[1, TOKENS, sizes.in_channels])?;
    Ok(Box::new(move || {
        flux.forward(&tokens, 500.0, &by).map(drop)
    }))
}

fn mmdit() -> Result<Part> {
    /// Width of both CLIPs together, and tokens of T5 and a CLIP.
    const POOLED: usize = 1024;
    const PROMPT: usize = WORDS + 77;
    let sizes = MmditSizes {
        depth: 8,
        head_size: 64,
        pos_embed_max_size: 64,
        context_in_dim: t5_sizes().d_model,
        ..large_turbo().transformer
    };
    let mmdit = loaded(|section| Mmdit::load(section, &sizes, POOLED))?;
    let text = random(1, &[1, PROMPT, sizes.context_in_dim])?;
    let by = mmdit.condition(&text, &random(2, &[1, POOLED])?)?;
    let latents = random(3, &[1, sizes.in_channels, LATENTS, LATENTS])?;
    Ok(Box::new(move || {
        mmdit.forward(&latents, 500.0, &by).map(drop)
    }))
}

/// A product of square matrices.
fn product() -> Result<Part> {
    let (a, b) = (random(1, &[MATRIX, MATRIX])?, random(2, &[MATRIX, MATRIX])?);
    Ok(Box::new(move || Ok(a.matmul(&b).map(drop)?)))
}

fn named(name: &str) -> Option<Result<Part>> {
    Some(match name {
        "decode" => decoder(false),
        "decode_stock" => decoder(true),
        "t5" => t5(),
        "clip_l" => clip(),
        "flux_step" => flux(),
        "mmdit_step" => mmdit(),
        "product" => product(),
        _ => return None,
    })
}

/// CPU seconds of this process so far.
fn cpu_seconds() -> f64 {
    let now = clock_gettime(ClockId::CLOCK_PROCESS_CPUTIME_ID).expect("a clock of Linux");
    now.tv_sec() as f64 + now.tv_nsec() as f64 * 1e-9
}

fn main() {
    let mut parts: Vec<(String, Part)> = Vec::new();
    for line in std::io::stdin().lock().lines() {
        let name = line.expect("a line of text");
        if !parts.iter().any(|(known, _)| *known == name) {
            let Some(part) = named(&name) else {
                eprintln!("parts: {name:?} is not a part");
                std::process::exit(2);
            };
            parts.push((name.clone(), part.expect("random weights")));
        }
        let part = parts.iter().find(|(known, _)| *known == name);
        let (_, part) = part.expect("it was loaded");
        let before = cpu_seconds();
        part().expect("a part that computes");
        println!("{}", cpu_seconds() - before);
        std::io::stdout().flush().expect("a reader");
    }
}
