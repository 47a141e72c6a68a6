//! The vectors of AVX2 and AVX-512, and the bands compiled for each.

use std::arch::x86_64::*;

use super::band::{self, Call};
use super::quads::Quads;
use crate::tile::TileMut;

/// Bands with 8 lanes and 6 x 2 accumulators.
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) fn avx2(call: &Call, out: &mut TileMut, scratch: &mut Vec<f32>) {
    // SAFETY: this function has the features of `__m256`; the caller has compared the lengths.
    unsafe { band::band::<__m256, 6, 2>(call, out, scratch) }
}

/// Bands with 16 lanes and 8 x 3 accumulators.
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512dq")]
pub(super) fn avx512(call: &Call, out: &mut TileMut, scratch: &mut Vec<f32>) {
    // SAFETY: this function has the features of `__m512`; the caller has compared the lengths.
    unsafe { band::band::<__m512, 8, 3>(call, out, scratch) }
}

/// Writes the methods of [`Quads`], which all have the same shape and the same reason.
macro_rules! methods {
    ($($name:ident($($arg:ident: $ty:ty),*) $(-> $ret:ty)? $body:block)*) => {
        $(
            #[inline(always)]
            unsafe fn $name($($arg: $ty),*) $(-> $ret)? {
                // SAFETY: the caller has the features, and pointers to as many values as the trait says.
                unsafe { $body }
            }
        )*
    };
}

impl Quads for __m256 {
    methods! {
        load_4(from: *const f32) -> [Self; 4] {
            // Half `h` of row `i` is the group of four values `4 h + i`.
            let mut rows = [_mm256_setzero_ps(); 4];
            for (i, row) in rows.iter_mut().enumerate() {
                let low = _mm256_castps128_ps256(_mm_loadu_ps(from.add(4 * i)));
                *row = _mm256_insertf128_ps::<1>(low, _mm_loadu_ps(from.add(16 + 4 * i)));
            }
            transposed_256(rows)
        }
        store_4(values: [Self; 4], to: *mut f32) {
            for (i, row) in transposed_256(values).into_iter().enumerate() {
                _mm_storeu_ps(to.add(4 * i), _mm256_castps256_ps128(row));
                _mm_storeu_ps(to.add(16 + 4 * i), _mm256_extractf128_ps::<1>(row));
            }
        }
        min(a: Self, b: Self) -> Self { _mm256_min_ps(a, b) }
        reciprocal(a: Self) -> Self {
            // The instruction gives 12 bits, and a step of Newton's twice as many.
            let near = _mm256_rcp_ps(a);
            let error = _mm256_fnmadd_ps(a, near, _mm256_set1_ps(1.0));
            _mm256_fmadd_ps(near, error, near)
        }
    }
}

/// The 4 x 4 matrices in both halves, transposed.
///
/// # Safety
/// The caller has AVX.
#[inline(always)]
unsafe fn transposed_256(r: [__m256; 4]) -> [__m256; 4] {
    // SAFETY: as the caller promises.
    unsafe {
        let (a, b) = (_mm256_unpacklo_ps(r[0], r[2]), _mm256_unpackhi_ps(r[0], r[2]));
        let (c, d) = (_mm256_unpacklo_ps(r[1], r[3]), _mm256_unpackhi_ps(r[1], r[3]));
        [_mm256_unpacklo_ps(a, c), _mm256_unpackhi_ps(a, c), _mm256_unpacklo_ps(b, d), _mm256_unpackhi_ps(b, d)]
    }
}

impl Quads for __m512 {
    methods! {
        load_4(from: *const f32) -> [Self; 4] {
            // Columns 0 and 1, then 2 and 3, of 8 groups of four.
            let first = _mm512_setr_epi32(0, 4, 8, 12, 16, 20, 24, 28, 1, 5, 9, 13, 17, 21, 25, 29);
            let second = _mm512_add_epi32(first, _mm512_set1_epi32(2));
            let (a, b) = (_mm512_loadu_ps(from), _mm512_loadu_ps(from.add(16)));
            let (c, d) = (_mm512_loadu_ps(from.add(32)), _mm512_loadu_ps(from.add(48)));
            let (low, high) = (_mm512_permutex2var_ps(a, first, b), _mm512_permutex2var_ps(c, first, d));
            let (low2, high2) = (_mm512_permutex2var_ps(a, second, b), _mm512_permutex2var_ps(c, second, d));
            [
                _mm512_shuffle_f32x4::<0x44>(low, high),
                _mm512_shuffle_f32x4::<0xee>(low, high),
                _mm512_shuffle_f32x4::<0x44>(low2, high2),
                _mm512_shuffle_f32x4::<0xee>(low2, high2),
            ]
        }
        store_4(values: [Self; 4], to: *mut f32) {
            let even = _mm512_setr_epi32(0, 8, 16, 24, 1, 9, 17, 25, 2, 10, 18, 26, 3, 11, 19, 27);
            let odd = _mm512_add_epi32(even, _mm512_set1_epi32(4));
            let [a, b, c, d] = values;
            let (ab, cd) = (_mm512_shuffle_f32x4::<0x44>(a, b), _mm512_shuffle_f32x4::<0x44>(c, d));
            let (ab2, cd2) = (_mm512_shuffle_f32x4::<0xee>(a, b), _mm512_shuffle_f32x4::<0xee>(c, d));
            _mm512_storeu_ps(to, _mm512_permutex2var_ps(ab, even, cd));
            _mm512_storeu_ps(to.add(16), _mm512_permutex2var_ps(ab, odd, cd));
            _mm512_storeu_ps(to.add(32), _mm512_permutex2var_ps(ab2, even, cd2));
            _mm512_storeu_ps(to.add(48), _mm512_permutex2var_ps(ab2, odd, cd2));
        }
        min(a: Self, b: Self) -> Self { _mm512_min_ps(a, b) }
        reciprocal(a: Self) -> Self {
            // The instruction gives 14 bits, and a step of Newton's twice as many.
            let near = _mm512_rcp14_ps(a);
            let error = _mm512_fnmadd_ps(a, near, _mm512_set1_ps(1.0));
            _mm512_fmadd_ps(near, error, near)
        }
    }
}
