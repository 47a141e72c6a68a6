//! Vectors of integers of AVX2 and AVX-512, and the kernel compiled for each.

use std::arch::x86_64::*;

use super::Head;
use super::panels::{self, Integers, WEIGHTS};
use crate::tile::{MatrixRef, TileMut};

/// Rows at a time: with 2 vectors, a broadcast and a product, all of the 16 registers.
pub(super) const ROWS_AVX2: usize = 6;
/// Rows at a time: 24 accumulators of the 32 registers.
pub(super) const ROWS_AVX512: usize = 8;

/// Writes an entry of the kernel for one set of features.
macro_rules! entry {
    ($(#[$doc:meta])* $name:ident, $features:literal, $integers:ty, $rows:expr, $vectors:literal) => {
        $(#[$doc])*
        #[target_feature(enable = $features)]
        pub(super) fn $name(
            head: &Head,
            out: &mut TileMut,
            q: MatrixRef,
            packed: &[u32],
            scale: f32,
            causal_from: Option<usize>,
            scratch: &mut Vec<f32>,
        ) {
            // SAFETY: this function has the features of the integers.
            unsafe { panels::attend::<$integers, $rows, $vectors>(head, out, q, packed, scale, causal_from, scratch) }
        }
    };
}

entry!(
    /// 8 lanes and 6 x 2 accumulators.
    avx2, "avx2,fma,f16c", Avx2, ROWS_AVX2, 2
);
entry!(
    /// 16 lanes and 8 x 3 accumulators; a sum of products is two instructions.
    avx512, "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512dq", Avx512<false>, ROWS_AVX512, 3
);
entry!(
    /// 16 lanes and 8 x 3 accumulators; a sum of products is one instruction.
    avx512_vnni, "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512dq,avx512vnni", Avx512<true>, ROWS_AVX512, 3
);

struct Avx2;
struct Avx512<const VNNI: bool>;

/// Writes the methods of [`Integers`], which all have the same shape and the same reason.
macro_rules! methods {
    ($($name:ident($($arg:ident: $ty:ty),*) $(-> $ret:ty)? $body:block)*) => {
        $(
            #[inline(always)]
            unsafe fn $name($($arg: $ty),*) $(-> $ret)? {
                // SAFETY: the caller has the features, and pointers to a vector of words.
                unsafe { $body }
            }
        )*
    };
}

impl Integers for Avx2 {
    type Floats = __m256;
    type Ints = __m256i;
    methods! {
        splat(word: u32) -> __m256i { _mm256_set1_epi32(word as i32) }
        load(from: *const u32) -> __m256i { _mm256_loadu_si256(from.cast()) }
        store(value: __m256i, to: *mut u32) { _mm256_storeu_si256(to.cast(), value) }
        dot(sum: __m256i, a: __m256i, b: __m256i) -> __m256i { _mm256_add_epi32(sum, _mm256_madd_epi16(a, b)) }
        to_floats(value: __m256i) -> __m256 { _mm256_cvtepi32_ps(value) }
        weights(x: __m256) -> __m256i {
            // Below -100 the weight is 0 as well, and the exponent stays in its bits.
            let x = _mm256_max_ps(x, _mm256_set1_ps(-100.0));
            let n = _mm256_floor_ps(x);
            let f = _mm256_sub_ps(x, n);
            let mut p = _mm256_set1_ps(WEIGHTS[4]);
            for coefficient in [WEIGHTS[3], WEIGHTS[2], WEIGHTS[1], WEIGHTS[0]] {
                p = _mm256_fmadd_ps(p, f, _mm256_set1_ps(coefficient));
            }
            let exponent = _mm256_slli_epi32::<23>(_mm256_cvtps_epi32(n));
            _mm256_cvtps_epi32(_mm256_castsi256_ps(_mm256_add_epi32(_mm256_castps_si256(p), exponent)))
        }
        pairs(low: __m256i, high: __m256i) -> __m256i { _mm256_or_si256(low, _mm256_slli_epi32::<16>(high)) }
    }
}

impl<const VNNI: bool> Integers for Avx512<VNNI> {
    type Floats = __m512;
    type Ints = __m512i;
    methods! {
        splat(word: u32) -> __m512i { _mm512_set1_epi32(word as i32) }
        load(from: *const u32) -> __m512i { _mm512_loadu_si512(from.cast()) }
        store(value: __m512i, to: *mut u32) { _mm512_storeu_si512(to.cast(), value) }
        dot(sum: __m512i, a: __m512i, b: __m512i) -> __m512i {
            if VNNI {
                _mm512_dpwssd_epi32(sum, a, b)
            } else {
                _mm512_add_epi32(sum, _mm512_madd_epi16(a, b))
            }
        }
        to_floats(value: __m512i) -> __m512 { _mm512_cvtepi32_ps(value) }
        weights(x: __m512) -> __m512i {
            // As above; `_mm512_reduce_ps` would round its difference in another direction.
            let x = _mm512_max_ps(x, _mm512_set1_ps(-100.0));
            let n = _mm512_roundscale_ps::<{ _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC }>(x);
            let f = _mm512_sub_ps(x, n);
            let mut p = _mm512_set1_ps(WEIGHTS[4]);
            for coefficient in [WEIGHTS[3], WEIGHTS[2], WEIGHTS[1], WEIGHTS[0]] {
                p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(coefficient));
            }
            _mm512_cvtps_epi32(_mm512_scalef_ps(p, n))
        }
        pairs(low: __m512i, high: __m512i) -> __m512i { _mm512_or_si512(low, _mm512_slli_epi32::<16>(high)) }
    }
}
