//! Kernels for f32 on the CPU: convolutions and norms of pictures, activations and softmax.
//!
//! The channels of a pixel lie side by side.
//!
//! Each kernel is written once, over the vectors of [`pulp`], and compiled for every [`InstructionSet`]. One of them,
//! arrays of eight numbers, is the plain form that tests compare with the others. There is no `unsafe` code. Every sum
//! has a fixed order, so the number of threads changes no result.

mod activation;
mod convolution;
mod elementary;
mod frame;
mod instruction_set;
mod norm;
mod panels;
mod row_norm;
mod square;
mod winograd;
mod workspace;

pub use activation::{Nonlinearity, softmax};
pub use convolution::Convolution;
pub use frame::{Frame, Source};
pub use instruction_set::InstructionSet;
pub use norm::PictureNorm;
pub use row_norm::RowNorm;
pub use workspace::{Buffer, Workspace};
