//! Convolutions with one weight or 3x3 weights for each pair of channels.

use crate::frame::{Frame, Source};
use crate::panels::Panels;
use crate::square::SquareKernel;
use crate::workspace::Workspace;
use pulp::{Simd, WithSimd};
use rayon::prelude::*;

/// A convolution with stride 1 and a bias, whose result has the size of its source.
#[derive(Debug, Clone)]
pub struct Convolution {
    inputs: usize,
    outputs: usize,
    kernel: Kernel,
    bias: Vec<f32>, // padded with zeros
}

#[derive(Debug, Clone)]
enum Kernel {
    /// One weight for each pair of channels.
    Point(Panels),
    /// 3x3 weights, with a pixel of zeros around the source.
    Square(SquareKernel),
}

impl Convolution {
    /// Packs a bias (outputs) and weights (outputs, inputs), or (outputs, inputs, 3, 3) if there are nine times as many.
    pub fn new(inputs: usize, weights: &[f32], bias: &[f32]) -> Convolution {
        let outputs = bias.len();
        let kernel = if weights.len() == inputs * outputs {
            Kernel::Point(Panels::of_transposed(weights, outputs))
        } else {
            Kernel::Square(SquareKernel::new(inputs, weights))
        };
        let mut bias = bias.to_vec();
        bias.resize(Frame::stride(outputs), 0.0);
        Convolution {
            inputs,
            outputs,
            kernel,
            bias,
        }
    }

    /// Number of values that a 3x3 convolution needs in memory besides its source and result, with one thread and for
    /// each further one.
    pub fn scratch(inputs: usize, outputs: usize) -> (usize, usize) {
        SquareKernel::scratch(inputs, outputs)
    }

    /// Computes the convolution, plus `added` if it is given, which has the shape of the result.
    pub fn forward(
        &self,
        source: Source<'_>,
        added: Option<&Frame>,
        workspace: &Workspace,
    ) -> Frame {
        let from = source.frame();
        assert_eq!(from.channels, self.inputs, "the channels of a convolution");
        let scale = source.scale();
        let (height, width) = (from.height * scale, from.width * scale);
        let mut values = workspace.buffer(height * width * self.bias.len());
        let added = added.map(|added| &*added.values);
        match &self.kernel {
            Kernel::Square(kernel) => {
                kernel.apply(source, &self.bias, added, workspace, &mut values)
            }
            Kernel::Point(panels) => {
                assert_eq!(scale, 1, "only 3x3 convolutions double their source");
                panels.product(&from.values, &mut values, workspace.instructions);
                let rows = width * self.bias.len();
                values.par_chunks_mut(rows).enumerate().for_each(|(i, to)| {
                    workspace.instructions.run(AddBias {
                        bias: &self.bias,
                        added: added.map(|added| &added[i * rows..][..rows]),
                        to,
                    });
                });
            }
        }
        Frame {
            height,
            width,
            channels: self.outputs,
            values,
        }
    }
}

/// Adds a bias and another picture.
struct AddBias<'a> {
    bias: &'a [f32],
    added: Option<&'a [f32]>,
    to: &'a mut [f32],
}

impl WithSimd for AddBias<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let bias = S::as_simd_f32s(self.bias).0;
        let to = S::as_mut_simd_f32s(self.to).0;
        for pixel in to.chunks_mut(bias.len()) {
            for (to, bias) in pixel.iter_mut().zip(bias) {
                *to = simd.add_f32s(*to, *bias);
            }
        }
        let added = self.added.map(|added| S::as_simd_f32s(added).0);
        for (to, added) in to.iter_mut().zip(added.unwrap_or_default()) {
            *to = simd.add_f32s(*to, *added);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::InstructionSet;

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

    /// A case: inputs, outputs, side of the kernel, height and width of the picture, doubled, added.
    struct ConvolutionCase {
        inputs: usize,
        outputs: usize,
        side: usize,
        size: (usize, usize),
        is_doubled: bool,
        is_added: bool,
    }

    impl ConvolutionCase {
        fn result_size(&self) -> (usize, usize) {
            let scale = 1 + usize::from(self.is_doubled);
            (self.size.0 * scale, self.size.1 * scale)
        }

        fn weights(&self) -> (Vec<f32>, Vec<f32>) {
            let count = self.inputs * self.outputs * self.side * self.side;
            (values(count, 1), values(self.outputs, 2))
        }

        fn picture(&self) -> Vec<f32> {
            values(self.inputs * self.size.0 * self.size.1, 3)
        }

        fn addend(&self) -> Vec<f32> {
            let (height, width) = self.result_size();
            let addend = values(self.outputs * height * width, 4);
            let share = f32::from(u8::from(self.is_added));
            addend.into_iter().map(|value| value * share).collect()
        }

        fn ours(&self, instructions: InstructionSet) -> Vec<f32> {
            let workspace = Workspace::new(instructions);
            // Old values in a reused buffer must not show.
            let dirty = [1, 2, 16, 64].map(|times| workspace.buffer(times * 4096));
            dirty
                .into_iter()
                .for_each(|mut buffer| buffer.fill(f32::NAN));
            let (weights, bias) = self.weights();
            let convolution = Convolution::new(self.inputs, &weights, &bias);
            let picture = Frame::from_planes(&self.picture(), self.size, &workspace);
            let addend = Frame::from_planes(&self.addend(), self.result_size(), &workspace);
            let source = match self.is_doubled {
                true => Source::Doubled(&picture),
                false => Source::Plain(&picture),
            };
            let added = self.is_added.then_some(&addend);
            convolution.forward(source, added, &workspace).to_planes()
        }

        /// The sums over all weights in f64, and in f32 one weight after the other.
        fn sums(&self) -> Vec<(f64, f32)> {
            let ((height, width), (weights, bias)) = (self.result_size(), self.weights());
            let (picture, addend) = (self.picture(), self.addend());
            let scale = height / self.size.0;
            let (side, reach) = (self.side, self.side / 2);
            let at = |channel: usize, row: usize, column: usize| {
                let is_inside = (reach..height + reach).contains(&row)
                    && (reach..width + reach).contains(&column);
                if !is_inside {
                    return 0.0;
                }
                let (row, column) = ((row - reach) / scale, (column - reach) / scale);
                picture[(channel * self.size.0 + row) * self.size.1 + column]
            };
            let taps = self.inputs * side * side;
            let pixel = |i: usize| {
                let (output, row, column) = (i / (height * width), i / width % height, i % width);
                let mut sums = (0f64, 0f32);
                for (tap, weight) in weights[output * taps..][..taps].iter().enumerate() {
                    let (channel, y, x) = (tap / (side * side), tap / side % side, tap % side);
                    let value = at(channel, row + y, column + x);
                    sums.0 += f64::from(*weight) * f64::from(value);
                    sums.1 = weight.mul_add(value, sums.1);
                }
                let exact = sums.0 + f64::from(bias[output]) + f64::from(addend[i]);
                (exact, sums.1 + bias[output] + addend[i])
            };
            (0..self.outputs * height * width).map(pixel).collect()
        }
    }

    /// The root of the mean square.
    fn norm(values: impl ExactSizeIterator<Item = f64>) -> f64 {
        let count = values.len() as f64;
        (values.map(|value| value * value).sum::<f64>() / count).sqrt()
    }

    fn cases() -> Vec<ConvolutionCase> {
        let case = |(inputs, outputs, side), size, is_doubled, is_added| ConvolutionCase {
            inputs,
            outputs,
            side,
            size,
            is_doubled,
            is_added,
        };
        vec![
            case((16, 32, 3), (8, 8), false, false),
            case((5, 3, 3), (7, 9), false, true),
            case((300, 17, 3), (6, 5), false, false),
            case((16, 16, 3), (1, 1), false, true),
            case((16, 16, 3), (2, 230), false, true),
            case((20, 16, 3), (5, 4), true, false),
            case((16, 33, 3), (3, 61), true, true),
            case((40, 24, 1), (5, 7), false, false),
            case((16, 3, 1), (13, 11), false, true),
        ]
    }

    #[test]
    fn convolutions_are_as_accurate_as_a_sum_over_all_weights() {
        for (i, case) in cases().iter().enumerate() {
            let (ours, sums) = (case.ours(InstructionSet::detect()), case.sums());
            assert_eq!(ours.len(), sums.len());
            let pairs = ours.iter().zip(&sums);
            let apart = norm(pairs.map(|(ours, (exact, _))| f64::from(*ours) - exact));
            let of_sum = norm(sums.iter().map(|(exact, sum)| f64::from(*sum) - exact));
            let size = norm(sums.iter().map(|(exact, _)| *exact));
            println!("case {i}: {:.1e}, sum {:.1e}", apart / size, of_sum / size);
            // The transforms round, too: that shows if most weights meet the zeros around the picture.
            let limit = 1.25 * of_sum + f64::from(f32::EPSILON) * size;
            assert!(apart <= limit, "case {i}: {apart:e} for {limit:e}");
        }
    }

    #[test]
    fn vectors_of_the_processor_compute_what_arrays_compute() {
        let detected = InstructionSet::detect();
        let is_fused = !format!("{detected:?}").starts_with("Sse");
        for (i, case) in cases().iter().enumerate() {
            let (ours, plain) = (case.ours(detected), case.ours(InstructionSet::Plain));
            if is_fused {
                assert_eq!(ours, plain, "case {i}");
            }
        }
    }

    #[cfg(target_arch = "x86_64")]
    #[test]
    fn narrow_vectors_are_as_accurate_as_wide_ones() {
        let Some(narrow) = pulp::x86::V2::try_new() else {
            return;
        };
        for (i, case) in cases().iter().enumerate() {
            let ours = case.ours(InstructionSet::Sse(narrow));
            let sums = case.sums();
            let apart = norm(
                ours.iter()
                    .zip(&sums)
                    .map(|(ours, (exact, _))| f64::from(*ours) - exact),
            );
            let size = norm(sums.iter().map(|(exact, _)| *exact));
            assert!(apart <= 1e-6 * size, "case {i}: {apart:e} of {size:e}");
        }
    }

    #[test]
    fn a_value_that_is_not_finite_stays_visible() {
        let workspace = Workspace::new(InstructionSet::detect());
        let convolution = Convolution::new(1, &[1.0; 9], &[0.0]);
        let mut planes = [0.0; 16];
        planes[5] = f32::NAN;
        let picture = Frame::from_planes(&planes, (4, 4), &workspace);
        let ours = convolution.forward(Source::Plain(&picture), None, &workspace);
        assert!(ours.to_planes().iter().any(|value| !value.is_finite()));
    }
}
