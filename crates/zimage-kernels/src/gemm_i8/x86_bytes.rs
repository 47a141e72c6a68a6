//! Quantization with AVX-512: 64 values of a row are one register of bytes, and 16 of those are turned into lines.

use std::arch::x86_64::*;

use super::pack::{LANES, Side, step_of_row};
use super::quantize::step_of;
use super::{Chunks, Line, row_stride};

/// A register of bytes.
pub(super) const BLOCK: usize = 64;

/// Which of the 16 lanes from `at` on lie before `end`.
pub(super) fn lanes_before(at: usize, end: usize) -> __mmask16 {
    match end.saturating_sub(at) {
        16.. => !0,
        left => (1 << left) - 1,
    }
}

/// The largest magnitude of `len` values; not a number where one is infinite or not a number.
///
/// # Safety
/// `x` is good for `len` values.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
#[inline]
unsafe fn largest(x: *const f32, len: usize) -> f32 {
    let magnitude = _mm512_set1_epi32(0x7fff_ffff);
    let mut largest = [_mm512_setzero_si512(); 2];
    for at in (0..len).step_by(16) {
        // SAFETY: lanes beyond the end are not read.
        let values = unsafe { _mm512_maskz_loadu_epi32(lanes_before(at, len), x.add(at).cast()) };
        let side = at / 16 % 2;
        // Bits of magnitudes are ordered as the magnitudes are, and those of a NaN lie above all.
        largest[side] = _mm512_max_epu32(largest[side], _mm512_and_si512(values, magnitude));
    }
    let bits = _mm512_reduce_max_epu32(_mm512_max_epu32(largest[0], largest[1]));
    let largest = f32::from_bits(bits);
    if largest.is_finite() { largest } else { f32::NAN }
}

/// `x * inverse` of up to 64 values as the nearest integers, ties to even; zeros behind the last one.
///
/// # Safety
/// `x` is good for `len` values.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
#[inline]
unsafe fn bytes(x: *const f32, len: usize, inverse: __m512) -> __m512i {
    // A macro, since a closure would not have the features.
    macro_rules! quarter {
        ($at:literal) => {{
            // SAFETY: lanes beyond the end are not read.
            let values = unsafe { _mm512_maskz_loadu_ps(lanes_before($at, len), x.wrapping_add($at)) };
            _mm512_cvtepi32_epi8(_mm512_cvtps_epi32(_mm512_mul_ps(values, inverse)))
        }};
    }
    let low = _mm256_inserti128_si256::<1>(_mm256_castsi128_si256(quarter!(0)), quarter!(16));
    let high = _mm256_inserti128_si256::<1>(_mm256_castsi128_si256(quarter!(32)), quarter!(48));
    _mm512_inserti64x4::<1>(_mm512_castsi256_si512(low), high)
}

/// `quantize::quantize_each`.
///
/// # Safety
/// The slices have the lengths that `quantize_rows` checks.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
pub(super) unsafe fn quantize_each(values: &mut [u8], scales: &mut [f32], x: &[f32], cols: usize) {
    let chunks = Chunks::of(cols);
    let flip = _mm512_set1_epi8(-128);
    let rows = values.chunks_exact_mut(row_stride(cols)).zip(scales.chunks_exact_mut(chunks.count()));
    for ((values, scales), x) in rows.zip(x.chunks_exact(cols)) {
        for (chunk, scale) in scales.iter_mut().enumerate() {
            let range = chunks.range(chunk);
            // SAFETY: the chunk lies in the row; chunks start at multiples of 64, and rows of bytes are padded to them.
            unsafe {
                let (step, inverse) = step_of(largest(x.as_ptr().add(range.start), range.len()));
                *scale = step;
                let inverse = _mm512_set1_ps(inverse);
                for at in range.clone().step_by(BLOCK) {
                    let block = bytes(x.as_ptr().add(at), range.end - at, inverse);
                    _mm512_storeu_si512(values.as_mut_ptr().add(at).cast(), _mm512_xor_si512(block, flip));
                }
            }
        }
        values[cols.next_multiple_of(BLOCK)..].fill(0x80);
    }
}

/// `pack::pack_rows`.
///
/// # Safety
/// There are at most 16 rows of `cols` values, and the panel is one for so many columns.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
pub(super) unsafe fn pack_rows(
    panel: &mut [Line],
    rows: &[f32],
    cols: usize,
    steps: &[Option<f32>; LANES],
    side: usize,
) {
    let chunks = Chunks::of(cols);
    let count = rows.len() / cols;
    let ones = _mm512_set1_epi8(1);
    for chunk in 0..chunks.count() {
        let range = chunks.range(chunk);
        let mut packed = Side::of(panel, chunks, chunk, side);
        let (mut scales, mut inverses, mut sums) = ([0.0; LANES], [0.0; LANES], [_mm512_setzero_si512(); LANES]);
        for r in 0..count {
            // SAFETY: the chunk lies in the row.
            let largest = unsafe { largest(rows.as_ptr().add(r * cols + range.start), range.len()) };
            (scales[r], inverses[r]) = step_of_row(largest, steps[r]);
        }
        for at in range.clone().step_by(BLOCK) {
            let mut block = [_mm512_setzero_si512(); LANES];
            for r in 0..count {
                // SAFETY: the columns up to the chunk's end lie in the row.
                let row =
                    unsafe { bytes(rows.as_ptr().add(r * cols + at), range.end - at, _mm512_set1_ps(inverses[r])) };
                sums[r] = _mm512_dpbusd_epi32(sums[r], ones, row);
                block[r] = row;
            }
            for (line, turned) in packed.quads((at - range.start) / 4).zip(transposed(block)) {
                // SAFETY: a line has 64 bytes.
                unsafe { _mm512_storeu_si512(std::ptr::from_mut(line).cast(), turned) };
            }
        }
        packed.finish(scales, std::array::from_fn(|r| _mm512_reduce_add_epi32(sums[r])));
    }
}

/// 16 x 16 words, the other way round: four perfect shuffles of the rows.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
#[inline]
pub(super) fn transposed(mut rows: [__m512i; LANES]) -> [__m512i; LANES] {
    let low = _mm512_setr_epi32(0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
    let high = _mm512_setr_epi32(8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31);
    for _ in 0..4 {
        let mut next = rows;
        for r in 0..LANES / 2 {
            next[2 * r] = _mm512_permutex2var_epi32(rows[r], low, rows[r + LANES / 2]);
            next[2 * r + 1] = _mm512_permutex2var_epi32(rows[r], high, rows[r + LANES / 2]);
        }
        rows = next;
    }
    rows
}
