//! The instruction sets that the kernels are compiled for.

use pulp::{Scalar256b, Simd, WithSimd};

/// Vectors of the processor.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub enum InstructionSet {
    /// Arrays of eight numbers: the form that the others are compared with.
    Plain,
    /// SSE 4.1: sums of products are rounded twice.
    #[cfg(target_arch = "x86_64")]
    Sse(pulp::x86::V2),
    /// AVX2 with FMA.
    #[cfg(target_arch = "x86_64")]
    Avx2(pulp::x86::V3),
    /// NEON.
    #[cfg(target_arch = "aarch64")]
    Neon(pulp::aarch64::Neon),
}

impl InstructionSet {
    /// The widest vectors of this processor.
    pub fn detect() -> InstructionSet {
        #[cfg(target_arch = "x86_64")]
        {
            let narrow = pulp::x86::V2::try_new().map(InstructionSet::Sse);
            let wide = pulp::x86::V3::try_new().map(InstructionSet::Avx2);
            wide.or(narrow).unwrap_or(InstructionSet::Plain)
        }
        #[cfg(target_arch = "aarch64")]
        {
            let neon = pulp::aarch64::Neon::try_new().map(InstructionSet::Neon);
            neon.unwrap_or(InstructionSet::Plain)
        }
        #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
        InstructionSet::Plain
    }

    /// Runs `kernel` with these vectors.
    #[inline]
    pub(crate) fn run<K: WithSimd>(self, kernel: K) -> K::Output {
        match self {
            InstructionSet::Plain => Scalar256b.vectorize(kernel),
            #[cfg(target_arch = "x86_64")]
            InstructionSet::Sse(simd) => Simd::vectorize(simd, kernel),
            #[cfg(target_arch = "x86_64")]
            InstructionSet::Avx2(simd) => Simd::vectorize(simd, kernel),
            #[cfg(target_arch = "aarch64")]
            InstructionSet::Neon(simd) => Simd::vectorize(simd, kernel),
        }
    }
}
