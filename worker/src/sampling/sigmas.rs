//! Noise levels of the steps, and the step itself.
//!
//! Source: `FlowMatchEulerDiscreteScheduler` in diffusers, with the sigmas that `FluxPipeline` hands to it.

use crate::fault::Fault;
use candle_core::Tensor;

/// FLUX.1-schnell: `steps` levels from 1 to 1/`steps`, evenly spaced and not shifted, then 0.
///
/// Evenly spaced in f64 and rounded once, as NumPy's `linspace` does it.
pub fn even(steps: u32) -> Vec<f32> {
    let count = f64::from(steps);
    let stride = (1.0 / count - 1.0) / (count - 1.0).max(1.0);
    let mut sigmas: Vec<f32> = (0..steps)
        .map(|i| (1.0 + stride * f64::from(i)) as f32)
        .collect();
    if steps > 1
        && let Some(last) = sigmas.last_mut()
    {
        *last = (1.0 / count) as f32; // linspace sets its end point exactly
    }
    sigmas.push(0.0);
    sigmas
}

/// What a transformer is told as time, 0..1000, rounded as the reference rounds it.
///
/// The reference multiplies by 1000 for its own record, divides for the call and multiplies
/// again inside, each time in f32. At 1000 the last bit is 6e-5, and the embedding's first frequency
/// is 1, so that the roundings show.
pub fn timestep(sigma: f32) -> f32 {
    sigma * 1000.0 / 1000.0 * 1000.0
}

/// One Euler step along the predicted velocity: `latents + (next - now) * velocity`, in f32.
///
/// # Errors
/// The device's faults.
pub fn euler(latents: &Tensor, velocity: &Tensor, now: f32, next: f32) -> Result<Tensor, Fault> {
    Ok((latents + (velocity * f64::from(next - now))?)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn four_steps_are_the_quarters() {
        assert_eq!(even(4), [1.0, 0.75, 0.5, 0.25, 0.0]);
        assert_eq!(even(1), [1.0, 0.0]);
    }

    /// `numpy.linspace(1.0, 1 / n, n).astype(numpy.float32)` for n = 3 and n = 7.
    #[test]
    fn odd_step_counts_round_as_the_reference() {
        assert_eq!(even(3), [1.0, 0.666_666_7, 0.333_333_34, 0.0]);
        let seven = [
            1.0,
            0.857_142_87,
            0.714_285_73,
            0.571_428_6,
            0.428_571_43,
            0.285_714_3,
            0.142_857_15,
            0.0,
        ];
        assert_eq!(even(7), seven);
    }

    #[test]
    fn sigmas_fall_for_every_step_count() {
        for steps in 1..=64 {
            let sigmas = even(steps);
            assert_eq!(sigmas.len(), steps as usize + 1);
            assert!(
                sigmas.windows(2).all(|pair| pair[0] > pair[1]),
                "{sigmas:?}"
            );
        }
    }
}
