//! The kernel and the transposition compiled for AVX2 and AVX-512.

use std::arch::x86_64::*;

use super::copy::{self, Panels};
use super::few::{self, Few};
use super::kernel::{self, Product};
use super::transpose::{self, Place, Stored, Transpose};
use crate::tile::MatrixRef;

/// 6 x 2 accumulators: with 2 vectors and a broadcast 15 of the 16 registers.
///
/// # Safety
/// As for [`kernel::multiply`].
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) unsafe fn multiply_avx2(p: &Product) {
    // SAFETY: this function has the features of `__m256`; the rest is the caller's promise.
    unsafe { kernel::multiply::<__m256, 6, 2>(p) }
}

/// 6 x 4 accumulators of the 32 registers.
///
/// # Safety
/// As for [`kernel::multiply`].
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512dq")]
pub(super) unsafe fn multiply_avx512(p: &Product) {
    // SAFETY: this function has the features of `__m512`; the rest is the caller's promise.
    unsafe { kernel::multiply::<__m512, 6, 4>(p) }
}

/// # Safety
/// As for [`transpose::rows`].
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) unsafe fn transpose_avx2<S: Stored>(from: *const u8, stride: usize, place: Place) {
    // SAFETY: this function has the features of `__m256`; the rest is the caller's promise.
    unsafe { transpose::rows::<__m256, S>(from, stride, place) }
}

/// # Safety
/// As for [`transpose::rows`].
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512dq")]
pub(super) unsafe fn transpose_avx512<S: Stored>(from: *const u8, stride: usize, place: Place) {
    // SAFETY: this function has the features of `__m512`; the rest is the caller's promise.
    unsafe { transpose::rows::<__m512, S>(from, stride, place) }
}

/// # Safety
/// As for [`copy::rows`].
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) unsafe fn copy_avx2(rows: MatrixRef, panels: Panels) {
    // SAFETY: this function has the features of `__m256`; the rest is the caller's promise.
    unsafe { copy::rows::<__m256>(rows, panels) }
}

/// # Safety
/// As for [`copy::rows`].
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512dq")]
pub(super) unsafe fn copy_avx512(rows: MatrixRef, panels: Panels) {
    // SAFETY: this function has the features of `__m512`; the rest is the caller's promise.
    unsafe { copy::rows::<__m512>(rows, panels) }
}

/// # Safety
/// As for [`few::multiply`].
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) unsafe fn few_avx2<S: Stored>(few: &Few) {
    // SAFETY: this function has the features of `__m256`; the rest is the caller's promise.
    unsafe { few::multiply::<__m256, S, { few::ROWS_OF_16 }>(few) }
}

/// # Safety
/// As for [`few::multiply`].
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512dq")]
pub(super) unsafe fn few_avx512<S: Stored>(few: &Few) {
    // SAFETY: this function has the features of `__m512`; the rest is the caller's promise.
    unsafe { few::multiply::<__m512, S, { few::ROWS_OF_32 }>(few) }
}

impl Transpose for __m256 {
    #[inline(always)]
    unsafe fn columns_f32(from: *const u8, stride: usize, mut take: impl FnMut(usize, Self)) {
        // SAFETY: the caller has the features and the rows.
        let columns = unsafe { square_256(from, stride) };
        for (k, column) in columns.into_iter().enumerate() {
            take(k, column);
        }
    }

    #[inline(always)]
    unsafe fn columns_bf16(from: *const u8, stride: usize, mut take: impl FnMut(usize, Self)) {
        // A pair of numbers moves as one; then the upper one is an f32 but for its lower half.
        // SAFETY: the caller has the features and the rows.
        unsafe {
            let upper = _mm256_set1_epi32(0xffff_0000_u32 as i32);
            for (k, pairs) in square_256(from, stride).into_iter().enumerate() {
                let pairs = _mm256_castps_si256(pairs);
                take(2 * k, _mm256_castsi256_ps(_mm256_slli_epi32::<16>(pairs)));
                take(2 * k + 1, _mm256_castsi256_ps(_mm256_and_si256(pairs, upper)));
            }
        }
    }
}

impl Transpose for __m512 {
    #[inline(always)]
    unsafe fn columns_f32(from: *const u8, stride: usize, mut take: impl FnMut(usize, Self)) {
        // SAFETY: the caller has the features and the rows.
        let columns = unsafe { square_512(from, stride) };
        for (k, column) in columns.into_iter().enumerate() {
            take(k, column);
        }
    }

    #[inline(always)]
    unsafe fn columns_bf16(from: *const u8, stride: usize, mut take: impl FnMut(usize, Self)) {
        // A pair of numbers moves as one; then the upper one is an f32 but for its lower half.
        // SAFETY: the caller has the features and the rows.
        unsafe {
            let upper = _mm512_set1_epi32(0xffff_0000_u32 as i32);
            for (k, pairs) in square_512(from, stride).into_iter().enumerate() {
                let pairs = _mm512_castps_si512(pairs);
                take(2 * k, _mm512_castsi512_ps(_mm512_slli_epi32::<16>(pairs)));
                take(2 * k + 1, _mm512_castsi512_ps(_mm512_and_si512(pairs, upper)));
            }
        }
    }
}

/// The columns of 8 rows of 8 words.
///
/// # Safety
/// The caller has AVX2; `from` is good for the rows, `stride` bytes apart.
#[inline(always)]
unsafe fn square_256(from: *const u8, stride: usize) -> [__m256; 8] {
    // SAFETY: as the caller promises.
    unsafe {
        let mut rows = [_mm256_setzero_ps(); 8];
        for (r, row) in rows.iter_mut().enumerate() {
            *row = _mm256_loadu_ps(from.add(r * stride).cast());
        }
        // Within lanes of 128 bits: columns j and 4 + j of rows 0 to 3, and of rows 4 to 7.
        let mut quads = [_mm256_setzero_ps(); 8];
        for q in [0, 4] {
            let (low0, high0) = (_mm256_unpacklo_ps(rows[q], rows[q + 1]), _mm256_unpackhi_ps(rows[q], rows[q + 1]));
            let (low2, high2) =
                (_mm256_unpacklo_ps(rows[q + 2], rows[q + 3]), _mm256_unpackhi_ps(rows[q + 2], rows[q + 3]));
            quads[q] = _mm256_shuffle_ps::<0x44>(low0, low2);
            quads[q + 1] = _mm256_shuffle_ps::<0xee>(low0, low2);
            quads[q + 2] = _mm256_shuffle_ps::<0x44>(high0, high2);
            quads[q + 3] = _mm256_shuffle_ps::<0xee>(high0, high2);
        }
        let mut columns = [_mm256_setzero_ps(); 8];
        for j in 0..4 {
            columns[j] = _mm256_permute2f128_ps::<0x20>(quads[j], quads[4 + j]);
            columns[4 + j] = _mm256_permute2f128_ps::<0x31>(quads[j], quads[4 + j]);
        }
        columns
    }
}

/// The columns of 16 rows of 16 words.
///
/// # Safety
/// The caller has AVX-512 F; `from` is good for the rows, `stride` bytes apart.
#[inline(always)]
unsafe fn square_512(from: *const u8, stride: usize) -> [__m512; 16] {
    // SAFETY: as the caller promises.
    unsafe {
        let mut rows = [_mm512_setzero_ps(); 16];
        for (r, row) in rows.iter_mut().enumerate() {
            *row = _mm512_loadu_ps(from.add(r * stride).cast());
        }
        // Within lanes of 128 bits: columns j, 4 + j, 8 + j and 12 + j of four rows.
        let mut quads = [_mm512_setzero_ps(); 16];
        for q in [0, 4, 8, 12] {
            let (low0, high0) = (_mm512_unpacklo_ps(rows[q], rows[q + 1]), _mm512_unpackhi_ps(rows[q], rows[q + 1]));
            let (low2, high2) =
                (_mm512_unpacklo_ps(rows[q + 2], rows[q + 3]), _mm512_unpackhi_ps(rows[q + 2], rows[q + 3]));
            quads[q] = _mm512_shuffle_ps::<0x44>(low0, low2);
            quads[q + 1] = _mm512_shuffle_ps::<0xee>(low0, low2);
            quads[q + 2] = _mm512_shuffle_ps::<0x44>(high0, high2);
            quads[q + 3] = _mm512_shuffle_ps::<0xee>(high0, high2);
        }
        // Then whole lanes: the even ones hold columns below 4 and from 8 to 11.
        let mut columns = [_mm512_setzero_ps(); 16];
        for j in 0..4 {
            let even0 = _mm512_shuffle_f32x4::<0x88>(quads[j], quads[4 + j]);
            let even8 = _mm512_shuffle_f32x4::<0x88>(quads[8 + j], quads[12 + j]);
            let odd0 = _mm512_shuffle_f32x4::<0xdd>(quads[j], quads[4 + j]);
            let odd8 = _mm512_shuffle_f32x4::<0xdd>(quads[8 + j], quads[12 + j]);
            columns[j] = _mm512_shuffle_f32x4::<0x88>(even0, even8);
            columns[4 + j] = _mm512_shuffle_f32x4::<0x88>(odd0, odd8);
            columns[8 + j] = _mm512_shuffle_f32x4::<0xdd>(even0, even8);
            columns[12 + j] = _mm512_shuffle_f32x4::<0xdd>(odd0, odd8);
        }
        columns
    }
}
