//! The noise levels (sigmas) of the steps, and the Euler step.
//!
//! Source: `FlowMatchEulerDiscreteScheduler` in diffusers, with the sigmas of `FluxPipeline`.

use crate::fault::WorkerFault;
use candle_core::Tensor;

/// The sigmas of FLUX.1-schnell: `steps` levels from 1 to 1/`steps`, evenly spaced and not shifted, then 0.
///
/// They are computed in f64 and rounded once, like NumPy's `linspace`.
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

/// The sigmas of Stable Diffusion 3.5 Large Turbo: `steps` levels from 1, evenly spaced between shifted end
/// points and shifted again, then 0.
///
/// The end points are the first and last of the 1000 training levels after their shift, and all levels are
/// shifted a second time, as in `FlowMatchEulerDiscreteScheduler`, which the published pipeline uses. Four
/// steps have 1, .8577, .6022, .0089.
pub fn shifted_twice(steps: u32) -> Vec<f32> {
    const LEVELS: f32 = 1000.0;
    let lowest = 1.0 / LEVELS;
    let lowest = SHIFT as f32 * lowest / (1.0 + (SHIFT as f32 - 1.0) * lowest); // in f32, as there
    let last = f64::from(lowest) * f64::from(LEVELS);
    let count = f64::from(steps);
    let stride = (last - f64::from(LEVELS)) / (count - 1.0).max(1.0);
    let mut times: Vec<f64> = (0..steps)
        .map(|i| f64::from(i) * stride + f64::from(LEVELS))
        .collect();
    if steps > 1
        && let Some(end) = times.last_mut()
    {
        *end = last; // linspace sets its end point exactly
    }
    let levels = times
        .into_iter()
        .map(|time| shifted(time / f64::from(LEVELS)) as f32);
    levels.chain([0.0]).collect()
}

/// The shift of the levels towards noise.
const SHIFT: f64 = 3.0;

fn shifted(level: f64) -> f64 {
    SHIFT * level / (1.0 + (SHIFT - 1.0) * level)
}

/// Returns the MMDiT's time, 0..1000, as the reference records it.
pub fn record(sigma: f32) -> f32 {
    sigma * 1000.0
}

/// Returns the FLUX transformer's time, 0..1000, with the reference's roundings.
///
/// The reference multiplies by 1000 to record the time, divides for the call, and multiplies again inside,
/// each in f32. At 1000, the last bit is 6e-5, and the embedding's first frequency is 1, so that these
/// roundings change the result.
pub fn timestep(sigma: f32) -> f32 {
    sigma * 1000.0 / 1000.0 * 1000.0
}

/// Does one Euler step along the predicted velocity: `latents + (next - now) * velocity`, in f32.
///
/// # Errors
/// Faults of the device.
pub fn euler(
    latents: &Tensor,
    velocity: &Tensor,
    now: f32,
    next: f32,
) -> Result<Tensor, WorkerFault> {
    Ok((latents + (velocity * f64::from(next - now))?)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn four_even_steps_are_quarters() {
        assert_eq!(even(4), [1.0, 0.75, 0.5, 0.25, 0.0]);
        assert_eq!(even(1), [1.0, 0.0]);
    }

    /// `numpy.linspace(1.0, 1 / n, n).astype(numpy.float32)` for n = 3 and n = 7.
    #[test]
    fn odd_step_counts_round_like_the_reference() {
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

    /// Recorded by the reference for 1, 2 and 4 steps.
    #[test]
    fn turbo_levels_are_shifted_twice_including_the_last() {
        assert_eq!(shifted_twice(1), [1.0, 0.0]);
        assert_eq!(shifted_twice(2), [1.0, 0.008_928_572, 0.0]);
        let four = [1.0, 0.857_692_3, 0.602_150_56, 0.008_928_572, 0.0];
        assert_eq!(shifted_twice(4), four);
    }

    #[test]
    fn sigmas_decrease_for_every_step_count() {
        for (steps, levels) in (1..=64).flat_map(|n| [(n, even(n)), (n, shifted_twice(n))]) {
            assert_eq!(levels.len(), steps as usize + 1);
            assert!(
                levels.windows(2).all(|pair| pair[0] > pair[1]),
                "{levels:?}"
            );
        }
    }
}
