//! Packing with AVX-512 straight from bytes that have a scale and a bias for each group, as files of MLX hold them: what
//! decoding them to rows of f32 and packing those gives, without the rows.
//!
//! ```text
//! for every chunk of 16 rows:
//!     turn its bytes into the order of the panel, where a lane is a row; find the least and the largest of each group
//!     for every four columns: widen the bytes, scale them, add the bias, divide by the chunk's step, round
//! ```

use std::arch::x86_64::*;
use std::ops::Range;

use super::pack::{LANES, Side};
use super::quantize::step_of;
use super::x86_bytes::{BLOCK, lanes_before, transposed};
use super::{CHUNK, Chunks, Line};
use crate::blocks::{AffineBytes, ScaleType};

/// Registers of bytes in a row of a chunk; a group is one of them, or several.
const BLOCKS: usize = CHUNK / BLOCK;

/// A chunk of 16 rows in the order of the panel: a lane is a row, and holds four neighbours of it.
struct Numbers {
    quads: [[__m512i; LANES]; BLOCKS],
    /// By group, as bits.
    scales: [__m512i; LANES],
    biases: [__m512i; LANES],
    /// The largest magnitude of each row, as bits.
    largest: __m512i,
}

impl Numbers {
    /// The scales and the biases of a group.
    #[target_feature(enable = "avx512f")]
    #[inline]
    fn line(&self, group: usize) -> (__m512, __m512) {
        (_mm512_castsi512_ps(self.scales[group]), _mm512_castsi512_ps(self.biases[group]))
    }
}

/// Packs up to 16 rows as the features `16 * side ..` of a panel.
///
/// # Safety
/// The CPU has the features, and the panel is one for as many columns as the weight has.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
pub(super) unsafe fn pack_rows(panel: &mut [Line], w: &AffineBytes, rows: Range<usize>, side: usize) {
    let chunks = Chunks::of(w.cols());
    let zeros = [_mm512_setzero_si512(); LANES];
    let mut numbers = Numbers { quads: [zeros; BLOCKS], scales: zeros, biases: zeros, largest: zeros[0] };
    for chunk in 0..chunks.count() {
        let range = chunks.range(chunk);
        read(&mut numbers, w, rows.clone(), range.clone());
        let mut magnitudes = [0u32; LANES];
        // SAFETY: the array has 16 words.
        unsafe { _mm512_storeu_si512(magnitudes.as_mut_ptr().cast(), numbers.largest) };
        let steps = magnitudes.map(|bits| {
            let largest = f32::from_bits(bits);
            step_of(if largest.is_finite() { largest } else { f32::NAN })
        });
        let mut packed = Side::of(panel, chunks, chunk, side);
        let sums = write(&mut packed, &numbers, w, range, steps.map(|(_, inverse)| inverse));
        packed.finish(steps.map(|(scale, _)| scale), sums);
    }
}

/// Reads some columns of up to 16 rows; rows that are missing are zeros.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
#[inline]
fn read(numbers: &mut Numbers, w: &AffineBytes, rows: Range<usize>, cols: Range<usize>) {
    let groups = cols.start / w.group()..cols.end.div_ceil(w.group());
    let (mut scales, mut biases) = ([_mm512_setzero_si512(); LANES], [_mm512_setzero_si512(); LANES]);
    let factor = _mm512_set1_ps(w.factor());
    for (r, row) in rows.clone().enumerate() {
        let (row_scales, row_biases) = w.lines(row, groups.clone());
        scales[r] = _mm512_castps_si512(_mm512_mul_ps(widened(w.scale(), row_scales), factor));
        biases[r] = _mm512_castps_si512(widened(w.scale(), row_biases));
    }
    numbers.scales = transposed(scales);
    numbers.biases = transposed(biases);
    numbers.largest = _mm512_setzero_si512();
    for (block, at) in cols.clone().step_by(BLOCK).enumerate() {
        let mut bytes = [_mm512_setzero_si512(); LANES];
        for (bytes, row) in bytes.iter_mut().zip(rows.clone()) {
            // SAFETY: a chunk of such a weight is a whole number of blocks.
            *bytes = unsafe { _mm512_loadu_si512(w.row(row)[at..at + BLOCK].as_ptr().cast()) };
        }
        let quads = transposed(bytes);
        numbers.quads[block] = quads;
        let group = at / w.group() - groups.start;
        let (scale, bias) = numbers.line(group);
        let largest = largest_of(quads, scale, bias);
        // Bits of magnitudes are ordered as the magnitudes are, and those of a NaN lie above all.
        numbers.largest = _mm512_max_epu32(numbers.largest, largest);
    }
}

/// Up to 16 scales, or biases.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
#[inline]
fn widened(scale: ScaleType, bytes: &[u8]) -> __m512 {
    let lanes = lanes_before(0, bytes.len() / scale.bytes());
    // SAFETY: lanes beyond the end are not read.
    unsafe {
        let halves = || _mm256_maskz_loadu_epi16(lanes, bytes.as_ptr().cast());
        match scale {
            ScaleType::F32 => _mm512_maskz_loadu_ps(lanes, bytes.as_ptr().cast()),
            ScaleType::F16 => _mm512_cvtph_ps(halves()),
            ScaleType::BF16 => _mm512_castsi512_ps(_mm512_slli_epi32::<16>(_mm512_cvtepu16_epi32(halves()))),
            ScaleType::E4M3 | ScaleType::E8M0 => unreachable!("no such scales have biases: this is a bug"),
        }
    }
}

/// The bits of the largest magnitude in each lane. Products and sums round monotonically, so that it is that of the least
/// or of the largest byte; and where one of the others is not finite, one of these is not.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
#[inline]
fn largest_of(quads: [__m512i; LANES], scale: __m512, bias: __m512) -> __m512i {
    let (mut low, mut high) = (quads[0], quads[0]);
    for quad in quads {
        low = _mm512_min_epu8(low, quad);
        high = _mm512_max_epu8(high, quad);
    }
    low = _mm512_min_epu8(low, _mm512_ror_epi32::<16>(low));
    low = _mm512_min_epu8(low, _mm512_ror_epi32::<8>(low));
    high = _mm512_max_epu8(high, _mm512_ror_epi32::<16>(high));
    high = _mm512_max_epu8(high, _mm512_ror_epi32::<8>(high));
    let lowest = _mm512_set1_epi32(0xff);
    let low = scaled(_mm512_and_si512(low, lowest), scale, bias);
    let high = scaled(_mm512_and_si512(high, lowest), scale, bias);
    _mm512_max_epu32(_mm512_castps_si512(_mm512_abs_ps(low)), _mm512_castps_si512(_mm512_abs_ps(high)))
}

/// What numbers stand for: rounded after the product, and after the sum.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
#[inline]
fn scaled(numbers: __m512i, scale: __m512, bias: __m512) -> __m512 {
    _mm512_add_ps(_mm512_mul_ps(_mm512_cvtepi32_ps(numbers), scale), bias)
}

/// Writes the lines of a chunk; the sums of its weights.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
#[inline]
fn write(
    packed: &mut Side,
    numbers: &Numbers,
    w: &AffineBytes,
    cols: Range<usize>,
    inverses: [f32; LANES],
) -> [i32; LANES] {
    // SAFETY: the array has 16 values.
    let inverse = unsafe { _mm512_loadu_ps(inverses.as_ptr()) };
    let mut sums = _mm512_setzero_si512();
    for (block, at) in cols.clone().step_by(BLOCK).enumerate() {
        let group = at / w.group() - cols.start / w.group();
        let (scale, bias) = numbers.line(group);
        for (line, quad) in packed.quads(block * BLOCK / 4).zip(&numbers.quads[block]) {
            let weights = requantized(*quad, scale, bias, inverse);
            sums = _mm512_dpbusd_epi32(sums, _mm512_set1_epi8(1), weights);
            // SAFETY: a line has 64 bytes.
            unsafe { _mm512_storeu_si512(std::ptr::from_mut(line).cast(), weights) };
        }
    }
    let mut words = [0; LANES];
    // SAFETY: the array has 16 words.
    unsafe { _mm512_storeu_si512(words.as_mut_ptr().cast(), sums) };
    words
}

/// Four bytes of each lane as multiples of the chunk's step, to the nearest, ties to even.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
#[inline]
fn requantized(quad: __m512i, scale: __m512, bias: __m512, inverse: __m512) -> __m512i {
    // A macro, since a closure would not have the features.
    macro_rules! rounded {
        ($place:literal) => {{
            // Byte `place` of every word to the lowest one.
            let from = _mm512_broadcast_i32x4(_mm_setr_epi32($place, 4 + $place, 8 + $place, 12 + $place));
            let numbers = _mm512_maskz_shuffle_epi8(0x1111_1111_1111_1111, quad, from);
            _mm512_cvtps_epi32(_mm512_mul_ps(scaled(numbers, scale, bias), inverse))
        }};
    }
    // And back: the lowest byte of every word to all its places, of which one is taken.
    let to = _mm512_broadcast_i32x4(_mm_setr_epi32(0, 0x0404_0404, 0x0808_0808, 0x0c0c_0c0c));
    let weights = rounded!(0);
    let weights = _mm512_mask_shuffle_epi8(weights, 0x2222_2222_2222_2222, rounded!(1), to);
    let weights = _mm512_mask_shuffle_epi8(weights, 0x4444_4444_4444_4444, rounded!(2), to);
    _mm512_mask_shuffle_epi8(weights, 0x8888_8888_8888_8888, rounded!(3), to)
}
