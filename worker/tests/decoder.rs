//! The decoder's error compared with f64, which must not grow with the picture.

use candle_core::{DType, Device, Tensor};
use safetensors::tensor::{Dtype, TensorView};
use std::path::Path;
use worker::golden::measure::{Tolerance, ValueDistance};
use worker::pipelines::parts::autoencoder::Decoder;
use worker::pipelines::parts::sizes::{DecoderSizes, LatentSizes};
use worker::weights::{Meter, Section, Weights};

/// Channels of every level, one norm group.
const CHANNELS: usize = 4;
/// Number of levels; each except the last doubles the sides. More than the published four, so that the attention at
/// the size of the latents takes little time compared with the norms of a large picture.
const LEVELS: usize = 6;
const LATENT_CHANNELS: usize = 2;

fn sizes() -> DecoderSizes {
    DecoderSizes {
        ch: CHANNELS,
        ch_mult: vec![1; LEVELS],
        num_res_blocks: 0,
        norm_groups: 1,
        z_channels: LATENT_CHANNELS,
    }
}

/// Numbers in -1..1 that look random.
fn values(count: usize, seed: u64) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    };
    (0..count).map(|_| next()).collect()
}

/// The name and shape of every tensor of the decoder.
fn tensors() -> Vec<(String, Vec<usize>)> {
    let mut all = Vec::new();
    let mut add = |name: &str, shape: &[usize]| {
        all.push((format!("decoder.{name}.weight"), shape.to_vec()));
        all.push((format!("decoder.{name}.bias"), vec![shape[0]]));
    };
    let c = CHANNELS;
    add("conv_in", &[c, LATENT_CHANNELS, 3, 3]);
    add("conv_out", &[3, c, 3, 3]);
    add("norm_out", &[c]);
    add("mid.attn_1.norm", &[c]);
    for part in ["q", "k", "v", "proj_out"] {
        add(&format!("mid.attn_1.{part}"), &[c, c, 1, 1]);
    }
    let levels = (0..LEVELS).map(|level| format!("up.{level}.block.0"));
    let mid = ["mid.block_1", "mid.block_2"].map(str::to_owned);
    for block in levels.chain(mid) {
        for nth in 1..=2 {
            add(&format!("{block}.norm{nth}"), &[c]);
            add(&format!("{block}.conv{nth}"), &[c, c, 3, 3]);
        }
    }
    for level in 1..LEVELS {
        add(&format!("up.{level}.upsample.conv"), &[c, c, 3, 3]);
    }
    all
}

/// Writes the decoder's weights: norms of about 1, and convolutions that keep the magnitude of values.
fn write(path: &Path) {
    let stored = tensors().into_iter().zip(1..).map(|((name, shape), seed)| {
        let inputs: usize = shape[1..].iter().product();
        let (mean, spread) = match (shape.len(), name.ends_with("weight")) {
            (1, true) => (1.0, 0.2),
            (1, false) => (0.0, 0.2),
            _ => (0.0, (3.0 / inputs as f32).sqrt()),
        };
        let values = values(shape.iter().product(), seed);
        let bytes = values.iter().map(|value| mean + spread * value);
        let bytes: Vec<u8> = bytes.flat_map(f32::to_le_bytes).collect();
        (name, shape, bytes)
    });
    let stored: Vec<_> = stored.collect();
    let views = stored.iter().map(|(name, shape, bytes)| {
        let view = TensorView::new(Dtype::F32, shape.clone(), bytes);
        (name.as_str(), view.expect("values of this shape"))
    });
    let bytes = safetensors::serialize(views, None).expect("tensors");
    std::fs::write(path, bytes).expect("a writable temporary folder");
}

/// Decodes the same latents in `dtype`.
fn decoded(weights: &Weights, dtype: DType, side: usize) -> Vec<f64> {
    let device = Device::Cpu;
    let mut tell = |_| {};
    let meter = Meter::new(&[weights], &mut tell);
    let section = Section::new(weights, &meter, dtype, &device);
    let latent = LatentSizes {
        scale_factor: 1.0,
        shift_factor: 0.0,
    };
    let decoder = Decoder::load(&section, &sizes(), latent).expect("every tensor");
    let latents = values(LATENT_CHANNELS * side * side, 7);
    let latents = Tensor::from_vec(latents, (1, LATENT_CHANNELS, side, side), &device);
    let latents = latents.and_then(|latents| latents.to_dtype(dtype));
    let picture = decoder
        .forward(&latents.expect("latents"))
        .expect("a picture");
    let picture = picture.to_dtype(DType::F64).and_then(|p| p.flatten_all());
    picture.and_then(|p| p.to_vec1()).expect("values")
}

#[test]
fn a_picture_of_1024_x_1024_is_decoded_as_accurately_as_a_small_one() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("decoder.safetensors");
    write(&path);
    let weights = Weights::open(&path).expect("a good file");
    for side in [8, 32] {
        let [ours, exact] = [DType::F32, DType::F64].map(|dtype| decoded(&weights, dtype, side));
        assert_eq!(exact.len(), 3 * (side << (LEVELS - 1)).pow(2));
        let distance = ValueDistance::between(ours.into_iter(), exact.into_iter());
        println!("{side}: {distance:?}");
        assert!(Tolerance::PART.holds(&distance), "{side}: {distance:?}");
        assert!(distance.relative <= 1e-6, "{side}: {distance:?}");
    }
}
