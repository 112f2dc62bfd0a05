//! Converts latents between planes of channels and the sequence of tokens of a transformer.
//!
//! A token is a patch of 2x2 latents, its values ordered channel, row, column. Source:
//! `FluxPipeline._pack_latents` in diffusers, `rearrange("b c (h ph) (w pw) -> b (h w) (c ph pw)")` in
//! black-forest-labs/flux, `src/flux/sampling.py`.

use crate::fault::WorkerFault;
use candle_core::Tensor;

/// Side of a patch, in latents.
pub const PATCH: usize = 2;

/// Converts planes to tokens: (b, c, h, w) to (b, h/2 * w/2, c*4).
///
/// # Errors
/// Faults of the device; a height or width that is not a multiple of [`PATCH`].
pub fn pack(latents: &Tensor) -> Result<Tensor, WorkerFault> {
    let (batch, channels, height, width) = latents.dims4()?;
    let (rows, columns) = (height / PATCH, width / PATCH);
    let patches = latents.reshape(&[batch, channels, rows, PATCH, columns, PATCH])?;
    let tokens = patches.permute([0, 2, 4, 1, 3, 5])?; // (b, rows, columns, c, ph, pw)
    Ok(tokens.reshape((batch, rows * columns, channels * PATCH * PATCH))?) // (b, s, c*4)
}

/// Converts tokens to planes of `height` x `width` latents.
///
/// # Errors
/// Faults of the device; a number of tokens that does not match the size.
pub fn unpack(tokens: &Tensor, height: usize, width: usize) -> Result<Tensor, WorkerFault> {
    let (batch, _, values) = tokens.dims3()?;
    let (rows, columns, channels) = (height / PATCH, width / PATCH, values / (PATCH * PATCH));
    let patches = tokens.reshape(&[batch, rows, columns, channels, PATCH, PATCH])?;
    let latents = patches.permute([0, 3, 1, 4, 2, 5])?; // (b, c, rows, ph, columns, pw)
    Ok(latents.reshape((batch, channels, height, width))?)
}

/// Like [`unpack`], for tokens with values in the order row, column, channel: the output of the MMDiT.
///
/// # Errors
/// As [`unpack`].
pub fn unpack_channels_last(
    tokens: &Tensor,
    height: usize,
    width: usize,
) -> Result<Tensor, WorkerFault> {
    let (batch, _, values) = tokens.dims3()?;
    let (rows, columns, channels) = (height / PATCH, width / PATCH, values / (PATCH * PATCH));
    let patches = tokens.reshape(&[batch, rows, columns, PATCH, PATCH, channels])?;
    let latents = patches.permute([0, 5, 1, 3, 2, 4])?; // (b, c, rows, ph, columns, pw)
    Ok(latents.reshape((batch, channels, height, width))?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;

    #[test]
    fn values_of_a_token_are_in_the_order_channel_row_column_and_unpacking_restores_the_planes() {
        let values: Vec<f32> = (0..2 * 4 * 6).map(|v| v as f32).collect();
        let latents = Tensor::from_vec(values, (1, 2, 4, 6), &Device::Cpu).expect("the shape fits");
        let tokens = pack(&latents).expect("even sides");
        assert_eq!(tokens.dims(), [1, 6, 8]);
        let rows: Vec<Vec<f32>> = tokens.squeeze(0).and_then(|t| t.to_vec2()).expect("f32");
        assert_eq!(rows[4], [14.0, 15.0, 20.0, 21.0, 38.0, 39.0, 44.0, 45.0]);
        let back = unpack(&tokens, 4, 6).expect("the same size");
        let pair = [back, latents].map(|t| t.flatten_all().and_then(|t| t.to_vec1::<f32>()));
        let [back, latents] = pair.map(|values| values.expect("f32"));
        assert_eq!(back, latents);
    }
}
