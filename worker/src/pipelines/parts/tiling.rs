//! Decoding in overlapping tiles that are blended, which needs less memory than the whole.
//!
//! Source: `AutoencoderKL.tiled_decode` in diffusers (`models/autoencoders/autoencoder_kl.py`): tiles overlap by a
//! quarter, and are mixed linearly over the overlap, first with the tile above, then with the one to the left. Norms
//! and attention see only their tile, so colours may differ slightly from those of the whole.

use crate::fault::WorkerFault;
use candle_core::{Device, Tensor};

/// Side of a tile in latents: 512 pixels in the published autoencoders.
pub const TILE: usize = 64;

/// Tells whether a picture with latents of these rows and columns has more than one tile.
pub fn has_tiles(rows: usize, columns: usize, tile: usize) -> bool {
    rows > tile || columns > tile
}

/// Decodes latents (1, c, h, w) in tiles of `tile` x `tile`, a multiple of 4, to (1, n, h * `downscale`, w *
/// `downscale`).
///
/// # Errors
/// Faults of `decode` and of the device.
pub fn in_tiles(
    latents: &Tensor,
    (tile, downscale): (usize, usize),
    decode: impl Fn(&Tensor) -> Result<Tensor, WorkerFault>,
) -> Result<Tensor, WorkerFault> {
    let (_, _, rows, columns) = latents.dims4()?;
    let step = tile - tile / 4;
    let (overlap, kept) = (tile / 4 * downscale, step * downscale);
    let mut above: Vec<Tensor> = Vec::new();
    let mut bands = Vec::new();
    for top in (0..rows).step_by(step) {
        let mut band: Vec<Tensor> = Vec::new();
        for (i, left) in (0..columns).step_by(step).enumerate() {
            let part = latents.narrow(2, top, tile.min(rows - top))?;
            let part = part.narrow(3, left, tile.min(columns - left))?;
            let mut part = decode(&part.contiguous()?)?;
            if let Some(above) = above.get(i) {
                part = blended(above, &part, overlap, 2)?;
            }
            if let Some(left) = band.last() {
                part = blended(left, &part, overlap, 3)?;
            }
            band.push(part);
        }
        let shown: Vec<Tensor> = band
            .iter()
            .map(|part| corner(part, kept))
            .collect::<Result<_, _>>()?;
        bands.push(Tensor::cat(&shown, 3)?);
        above = band;
    }
    Ok(Tensor::cat(&bands, 2)?)
}

/// The part of a tile that the next tiles do not replace.
fn corner(tile: &Tensor, kept: usize) -> Result<Tensor, WorkerFault> {
    let (_, _, height, width) = tile.dims4()?;
    let part = tile.narrow(2, 0, kept.min(height))?;
    Ok(part.narrow(3, 0, kept.min(width))?)
}

/// Replaces the first `extent` lines of `tile` along `axis` by a mix with the last ones of `before`: line i has the
/// share i / extent of `tile`.
fn blended(
    before: &Tensor,
    tile: &Tensor,
    extent: usize,
    axis: usize,
) -> Result<Tensor, WorkerFault> {
    let (last, length) = (before.dim(axis)?, tile.dim(axis)?);
    let extent = extent.min(last).min(length);
    if extent == 0 {
        return Ok(tile.clone());
    }
    let shares: Vec<f32> = (0..extent).map(|i| i as f32 / extent as f32).collect();
    let mut shape = [1; 4];
    shape[axis] = extent;
    let share = Tensor::from_vec(shares, &shape, &Device::Cpu)?;
    let share = share.to_device(tile.device())?.to_dtype(tile.dtype())?;
    let old = before.narrow(axis, last - extent, extent)?;
    let new = tile.narrow(axis, 0, extent)?;
    let mixed = (old.broadcast_mul(&(1.0 - &share)?)? + new.broadcast_mul(&share)?)?;
    let rest = tile.narrow(axis, extent, length - extent)?;
    Ok(Tensor::cat(&[mixed, rest], axis)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sampling::noise;
    use std::cell::Cell;

    fn latents(rows: usize, columns: usize) -> Tensor {
        let values = noise::normal(7, 2 * rows * columns);
        Tensor::from_vec(values, (1, 2, rows, columns), &Device::Cpu).expect("values of this shape")
    }

    fn flat(x: &Tensor) -> Vec<f32> {
        let flat = x.flatten_all().and_then(|x| x.to_vec1());
        flat.expect("f32 values")
    }

    /// Each latent becomes 2 x 2 pixels.
    fn doubled(x: &Tensor) -> Result<Tensor, WorkerFault> {
        let (_, _, height, width) = x.dims4()?;
        Ok(x.upsample_nearest2d(height * 2, width * 2)?)
    }

    #[test]
    fn tiles_of_a_local_decoder_give_the_whole_picture() {
        for (rows, columns) in [(16, 16), (17, 9), (8, 31), (9, 8), (20, 20)] {
            let latents = latents(rows, columns);
            let tiled = in_tiles(&latents, (8, 2), doubled).expect("cpu");
            let whole = doubled(&latents).expect("cpu");
            assert_eq!(tiled.dims(), whole.dims());
            for (ours, exact) in flat(&tiled).iter().zip(flat(&whole)) {
                assert!((ours - exact).abs() <= 1e-6, "{ours} for {exact}");
            }
        }
    }

    #[test]
    fn the_seam_is_the_linear_mix_of_the_reference() {
        // Tile n is decoded to the value n everywhere: 0 1 in the first band, 2 3 in the second.
        let tile = Cell::new(0);
        let decode = |x: &Tensor| {
            let value = f64::from(tile.replace(tile.get() + 1));
            Ok((x.narrow(1, 0, 1)?.zeros_like()? + value)?)
        };
        let picture = in_tiles(&latents(8, 8), (8, 1), |x| Ok(x.clone())).expect("cpu");
        assert_eq!(picture.dims(), [1, 2, 8, 8]);
        let picture = in_tiles(&latents(12, 12), (8, 1), decode).expect("cpu");
        let picture = picture
            .squeeze(0)
            .and_then(|p| p.squeeze(0))
            .expect("one channel");
        let picture = picture.to_vec2::<f32>().expect("f32 values");
        // Columns 6 and 7 are the overlap: shares 0 and 1/2 of the right tile. Rows likewise.
        assert_eq!(picture[0][5..9], [0.0, 0.0, 0.5, 1.0]);
        assert_eq!(picture[6][..2], [0.0, 0.0]);
        assert_eq!(picture[7][..2], [1.0, 1.0]);
        assert_eq!(picture[8][..2], [2.0, 2.0]);
        // blend_v, then blend_h, each with tiles that are blended already, as in the reference.
        let above = 0.5 * 0.0 + 0.5 * 1.0;
        let left = 0.5 * 0.0 + 0.5 * 2.0;
        assert_eq!(picture[7][7], 0.5 * left + 0.5 * (0.5 * above + 0.5 * 3.0));
        assert_eq!(picture[8][7], 0.5 * 2.0 + 0.5 * 3.0);
    }

    #[test]
    fn only_pictures_beyond_one_tile_have_tiles() {
        assert!(!has_tiles(64, 64, TILE) && has_tiles(66, 64, TILE) && has_tiles(32, 128, TILE));
    }
}
