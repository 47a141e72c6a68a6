//! The vectors of AVX2 and AVX-512.

use std::arch::x86_64::*;

use super::Vector;

/// Writes the methods of a [`Vector`], which all have the same shape and the same reason.
macro_rules! methods {
    ($($name:ident($($arg:ident: $ty:ty),*) $(-> $ret:ty)? $body:block)*) => {
        $(
            #[inline(always)]
            unsafe fn $name($($arg: $ty),*) $(-> $ret)? {
                // SAFETY: the caller has the features, and pointers to `LANES` values.
                unsafe { $body }
            }
        )*
    };
}

impl Vector for __m256 {
    const LANES: usize = 8;
    methods! {
        splat(value: f32) -> Self { _mm256_set1_ps(value) }
        load(from: *const f32) -> Self { _mm256_loadu_ps(from) }
        store(value: Self, to: *mut f32) { _mm256_storeu_ps(to, value) }
        add(a: Self, b: Self) -> Self { _mm256_add_ps(a, b) }
        sub(a: Self, b: Self) -> Self { _mm256_sub_ps(a, b) }
        mul(a: Self, b: Self) -> Self { _mm256_mul_ps(a, b) }
        mul_add(a: Self, b: Self, c: Self) -> Self { _mm256_fmadd_ps(a, b, c) }
        max(a: Self, b: Self) -> Self { _mm256_max_ps(a, b) }
        power_of_low_bits(a: Self) -> Self {
            let exponent = _mm256_slli_epi32::<23>(_mm256_castps_si256(a));
            _mm256_castsi256_ps(_mm256_add_epi32(exponent, _mm256_set1_epi32(127 << 23)))
        }
        prefetch(at: *const u8) { _mm_prefetch::<_MM_HINT_T0>(at.cast()) }
        zero_where_less(a: Self, b: Self, value: Self) -> Self {
            _mm256_andnot_ps(_mm256_cmp_ps::<_CMP_LT_OQ>(a, b), value)
        }
    }
}

impl Vector for __m512 {
    const LANES: usize = 16;
    methods! {
        splat(value: f32) -> Self { _mm512_set1_ps(value) }
        load(from: *const f32) -> Self { _mm512_loadu_ps(from) }
        store(value: Self, to: *mut f32) { _mm512_storeu_ps(to, value) }
        add(a: Self, b: Self) -> Self { _mm512_add_ps(a, b) }
        sub(a: Self, b: Self) -> Self { _mm512_sub_ps(a, b) }
        mul(a: Self, b: Self) -> Self { _mm512_mul_ps(a, b) }
        mul_add(a: Self, b: Self, c: Self) -> Self { _mm512_fmadd_ps(a, b, c) }
        max(a: Self, b: Self) -> Self { _mm512_max_ps(a, b) }
        power_of_low_bits(a: Self) -> Self {
            let exponent = _mm512_slli_epi32::<23>(_mm512_castps_si512(a));
            _mm512_castsi512_ps(_mm512_add_epi32(exponent, _mm512_set1_epi32(127 << 23)))
        }
        prefetch(at: *const u8) { _mm_prefetch::<_MM_HINT_T0>(at.cast()) }
        zero_where_less(a: Self, b: Self, value: Self) -> Self {
            _mm512_maskz_mov_ps(_mm512_cmp_ps_mask::<_CMP_NLT_UQ>(a, b), value)
        }
    }
}
