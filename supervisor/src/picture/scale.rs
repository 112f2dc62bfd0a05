//! Pictures in another size.

use std::iter;

use ipc_protocol::units::PictureSize;

/// Bytes of a pixel.
const PIXEL: usize = 3;
/// Pixels that a cubic spline reaches on both sides.
const REACH: f32 = 2.0;

/// Scales a picture with Catmull-Rom splines, which keep edges sharper than lines between pixels do. A smaller picture
/// takes the mean of the pixels that it has no room for.
///
/// `rgb8` are rows from the top, three bytes a pixel, of the size `from`.
pub fn scale(from: PictureSize, rgb8: &[u8], to: PictureSize) -> Vec<u8> {
    if from == to || from.pixels() == 0 {
        return rgb8.to_vec();
    }
    let (across, down) = (taps(from.width, to.width), taps(from.height, to.height));
    let rows: Vec<Vec<f32>> = rgb8
        .chunks_exact(from.width as usize * PIXEL)
        .map(|row| wide(row, &across))
        .collect();
    let mut scaled = Vec::with_capacity(to.rgb8_bytes() as usize);
    let mut sum = vec![0.0; to.width as usize * PIXEL];
    for tap in &down {
        sum.fill(0.5); // rounds to the nearest
        for (weight, row) in tap.weights.iter().zip(&rows[tap.first..]) {
            for (sum, value) in sum.iter_mut().zip(row) {
                *sum += weight * value;
            }
        }
        // The conversion clamps to 0 to 255: a spline overshoots at edges.
        scaled.extend(sum.iter().map(|value| *value as u8));
    }
    scaled
}

/// The pixels that one pixel of the scaled picture is made of, along one side.
#[derive(Debug)]
struct Tap {
    /// The first of them.
    first: usize,
    /// Their shares; the sum is 1.
    weights: Vec<f32>,
}

/// Scales a row.
fn wide(row: &[u8], across: &[Tap]) -> Vec<f32> {
    let pixels = row.as_chunks::<PIXEL>().0;
    let pixel = |tap: &Tap| {
        let weighted = tap.weights.iter().zip(&pixels[tap.first..]);
        weighted.fold([0.0; PIXEL], |sum, (weight, pixel)| {
            [0, 1, 2].map(|channel| sum[channel] + weight * f32::from(pixel[channel]))
        })
    };
    across.iter().flat_map(pixel).collect()
}

/// The taps of all pixels along a side.
fn taps(from: u32, to: u32) -> Vec<Tap> {
    let ratio = from as f32 / to as f32;
    let wide = ratio.max(1.0);
    let tap = |place: u32| {
        let middle = (place as f32 + 0.5) * ratio;
        let first = (middle - REACH * wide).max(0.0) as u32;
        let end = ((middle + REACH * wide).ceil() as u32).min(from);
        let weight = |pixel: u32| spline((pixel as f32 + 0.5 - middle) / wide);
        let sum: f32 = (first..end).map(weight).sum();
        Tap {
            first: first as usize,
            weights: (first..end).map(|pixel| weight(pixel) / sum).collect(),
        }
    };
    iter::successors(Some(0), |place| Some(place + 1))
        .take(to as usize)
        .map(tap)
        .collect()
}

/// Catmull and Rom's spline: 1 at 0, and 0 at the other whole numbers.
fn spline(x: f32) -> f32 {
    let x = x.abs();
    if x < 1.0 {
        (1.5 * x - 2.5) * x * x + 1.0
    } else if x < REACH {
        ((2.5 - 0.5 * x) * x - 4.0) * x + 2.0
    } else {
        0.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn size(width: u32, height: u32) -> PictureSize {
        PictureSize { width, height }
    }

    /// Sizes that grow, shrink, and do neither in proportion.
    const SIZES: [(u32, u32); 7] = [
        (1, 1),
        (2, 3),
        (16, 16),
        (17, 5),
        (64, 64),
        (100, 33),
        (128, 128),
    ];

    fn each_pair(check: impl Fn(PictureSize, PictureSize)) {
        for from in SIZES {
            for to in SIZES {
                check(size(from.0, from.1), size(to.0, to.1));
            }
        }
    }

    /// Pixels without an order.
    fn noise(size: PictureSize) -> Vec<u8> {
        let mut random = 1u32;
        let mut next = || {
            random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (random >> 24) as u8
        };
        (0..size.rgb8_bytes()).map(|_| next()).collect()
    }

    fn mean(rgb8: &[u8], channel: usize) -> f64 {
        let values = rgb8.iter().skip(channel).step_by(PIXEL);
        values.map(|value| f64::from(*value)).sum::<f64>() * PIXEL as f64 / rgb8.len() as f64
    }

    #[test]
    fn a_constant_picture_keeps_its_colour_in_every_size() {
        each_pair(|from, to| {
            for colour in [[0, 0, 0], [255, 255, 255], [1, 128, 254]] {
                let scaled = scale(from, &colour.repeat(from.pixels() as usize), to);
                assert_eq!(scaled.len() as u64, to.rgb8_bytes());
                assert!(
                    scaled
                        .as_chunks::<3>()
                        .0
                        .iter()
                        .all(|pixel| *pixel == colour),
                    "{from} to {to}"
                );
            }
        });
    }

    #[test]
    fn the_mean_colour_stays_where_a_picture_grows() {
        for from in SIZES {
            let from = size(from.0, from.1);
            let to = size(from.width * 8, from.height * 8);
            // In the middle of the range: at its ends overshoots are cut.
            let pixels: Vec<u8> = noise(from).iter().map(|value| 96 + value / 4).collect();
            let scaled = scale(from, &pixels, to);
            for channel in 0..3 {
                let (before, after) = (mean(&pixels, channel), mean(&scaled, channel));
                let sides = f64::from(from.width.min(from.height));
                // The pixels at the edges count a little more: they have no neighbours.
                assert!(
                    (before - after).abs() < 1.0 + 20.0 / sides,
                    "{from}: {before}, {after}"
                );
            }
        }
    }

    #[test]
    fn pixels_stay_in_their_places_and_channels_apart() {
        let (from, to) = (size(8, 8), size(64, 64));
        let pixels: Vec<u8> = (0..64)
            .flat_map(|place| match (place % 8, place / 8) {
                (6, 1) => [255, 0, 0],
                (1, 6) => [0, 0, 255],
                _ => [0, 128, 0],
            })
            .collect();
        let scaled = scale(from, &pixels, to);
        let at = |x: usize, y: usize| scaled[3 * (64 * y + x)..][..3].to_vec();
        let [red, blue, green] = [at(52, 12), at(12, 52), at(32, 32)];
        assert!(red[0] > 240 && red[2] == 0, "{red:?}");
        assert!(blue[2] > 240 && blue[0] == 0, "{blue:?}");
        assert_eq!(green, [0, 128, 0]);
    }

    #[test]
    fn a_picture_comes_back_from_a_larger_size() {
        let (small, large) = (size(16, 12), size(128, 96));
        let pixels: Vec<u8> = (0..small.pixels())
            .flat_map(|place| [place % 16 * 9, place / 16 * 15, 100].map(|value| value as u8))
            .collect();
        let back = scale(large, &scale(small, &pixels, large), small);
        let errors = pixels.iter().zip(&back).map(|(a, b)| a.abs_diff(*b));
        assert!(errors.max() <= Some(6));
        assert_eq!(scale(small, &pixels, small), pixels);
    }
}
