//! Elementary functions of vectors.

use pulp::Simd;
#[cfg(target_arch = "x86_64")]
use std::any::TypeId;

/// `a * b + c`, rounded once. SSE rounds twice: it has no such operation, and pulp would call a function for each value.
#[inline(always)]
pub(crate) fn multiply_add<S: Simd>(simd: S, a: S::f32s, b: S::f32s, c: S::f32s) -> S::f32s {
    #[cfg(target_arch = "x86_64")]
    if TypeId::of::<S>() == TypeId::of::<pulp::x86::V2>() {
        return simd.add_f32s(simd.mul_f32s(a, b), c);
    }
    simd.mul_add_f32s(a, b, c)
}

/// `1 / (1 + e^-x)`.
#[inline(always)]
pub(crate) fn sigmoid<S: Simd>(simd: S, x: S::f32s) -> S::f32s {
    let one = simd.splat_f32s(1.0);
    simd.div_f32s(one, simd.add_f32s(one, exp(simd, simd.neg_f32s(x))))
}

/// `x * sigmoid(x)`.
#[inline(always)]
pub(crate) fn silu<S: Simd>(simd: S, x: S::f32s) -> S::f32s {
    let one = simd.splat_f32s(1.0);
    simd.div_f32s(x, simd.add_f32s(one, exp(simd, simd.neg_f32s(x))))
}

/// `e^x` within two units in the last place; 0 below -87, e^88 above 88, and NaN for NaN.
#[inline(always)]
pub(crate) fn exp<S: Simd>(simd: S, x: S::f32s) -> S::f32s {
    /// 1.5 * 2^23: adding it rounds to an integer, whose value is in the lowest bits.
    const ROUND: f32 = 12_582_912.0;
    const LN_2_HIGH: f32 = 0.693_359_4;
    const LN_2_LOW: f32 = -2.121_944_4e-4;
    /// 1/n!, from 7 to 0.
    const TERMS: [f32; 8] = [
        1.0 / 5040.0,
        1.0 / 720.0,
        1.0 / 120.0,
        1.0 / 24.0,
        1.0 / 6.0,
        0.5,
        1.0,
        1.0,
    ];
    let given = x;
    let lowest = simd.splat_f32s(-87.0);
    let x = simd.max_f32s(lowest, simd.min_f32s(simd.splat_f32s(88.0), x));
    let round = simd.splat_f32s(ROUND);
    let shifted = multiply_add(simd, x, simd.splat_f32s(std::f32::consts::LOG2_E), round);
    let whole = simd.sub_f32s(shifted, round);
    let r = multiply_add(simd, whole, simd.splat_f32s(-LN_2_HIGH), x);
    let r = multiply_add(simd, whole, simd.splat_f32s(-LN_2_LOW), r);
    let mut sum = simd.splat_f32s(TERMS[0]);
    for term in &TERMS[1..] {
        sum = multiply_add(simd, sum, r, simd.splat_f32s(*term));
    }
    let power = simd.add_u32s(simd.transmute_u32s_f32s(shifted), simd.splat_u32s(127));
    let power = simd.wrapping_dyn_shl_u32s(power, simd.splat_u32s(23));
    let value = simd.mul_f32s(sum, simd.transmute_f32s_u32s(power));
    let zero = simd.splat_f32s(0.0);
    let value = simd.select_f32s(simd.less_than_f32s(given, lowest), zero, value);
    simd.select_f32s(simd.equal_f32s(given, given), value, given)
}
