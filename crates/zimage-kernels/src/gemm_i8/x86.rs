//! The dot products of AVX-512 VNNI, AVX-VNNI and AVX2.

use std::arch::x86_64::*;

use super::Line;
use super::micro::Block;

/// Reads a quad of activations, to be multiplied with those of all features.
///
/// # Safety
/// `from` is good for 4 bytes.
#[inline(always)]
unsafe fn quad(from: *const u8) -> i32 {
    // SAFETY: as the caller promises.
    unsafe { from.cast::<i32>().read_unaligned() }
}

/// `ROWS` rows (at most 6) x 64 features in 24 accumulators of the 32 registers: 24 dot products for 4 loads and 6
/// broadcasts.
///
/// # Safety
/// The CPU has the features; `out` is good for `ROWS` rows of 64 values, `stride` apart.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
pub(super) unsafe fn avx512_vnni<const ROWS: usize>(block: &Block, out: *mut f32, stride: usize) {
    const VECTORS: usize = 4;
    // SAFETY: `Block` holds whole quads of `ROWS` rows, and 4 lines for each of them and for scales and sums.
    unsafe {
        let vector = |lines: &[Line], v: usize| _mm512_load_si512(lines.as_ptr().add(v).cast());
        let sums: [__m512i; VECTORS] = std::array::from_fn(|v| vector(block.weights.sums(), v));
        let mut dots = [sums; ROWS];
        let mut weights = block.weights.quads.as_ptr();
        let mut a = block.a.as_ptr();
        for _ in 0..block.weights.quads.len() / VECTORS {
            let w: [__m512i; VECTORS] = std::array::from_fn(|v| _mm512_load_si512(weights.add(v).cast()));
            for (r, dots) in dots.iter_mut().enumerate() {
                let a = _mm512_set1_epi32(quad(a.add(r * block.stride)));
                for v in 0..VECTORS {
                    dots[v] = _mm512_dpbusd_epi32(dots[v], a, w[v]);
                }
            }
            weights = weights.add(VECTORS);
            a = a.add(4);
        }
        for (r, dots) in dots.iter().enumerate() {
            let a_scale = _mm512_set1_ps(block.a_scales[r]);
            for (v, dot) in dots.iter().enumerate() {
                let w_scale = _mm512_castsi512_ps(vector(block.weights.scales(), v));
                let mut value = _mm512_mul_ps(_mm512_cvtepi32_ps(*dot), _mm512_mul_ps(a_scale, w_scale));
                let out = out.add(r * stride + 16 * v);
                if block.add {
                    value = _mm512_add_ps(_mm512_loadu_ps(out), value);
                }
                _mm512_storeu_ps(out, value);
            }
        }
    }
}

/// Scales and stores the dot products of one row with 8 features.
///
/// # Safety
/// `out` is good for 8 values, `line` holds the scales of the features from `8 * half` on.
#[target_feature(enable = "avx2")]
#[inline]
unsafe fn store(block: &Block, row: usize, dots: __m256i, line: *const Line, half: usize, out: *mut f32) {
    // SAFETY: as the caller promises.
    unsafe {
        let w_scale = _mm256_load_ps(line.cast::<f32>().add(8 * half));
        let scale = _mm256_mul_ps(_mm256_set1_ps(block.a_scales[row]), w_scale);
        let mut value = _mm256_mul_ps(_mm256_cvtepi32_ps(dots), scale);
        if block.add {
            value = _mm256_add_ps(_mm256_loadu_ps(out), value);
        }
        _mm256_storeu_ps(out, value);
    }
}

/// `ROWS` rows (at most 6) x 16 features at a time, in 12 accumulators of the 16 registers.
///
/// # Safety
/// As for [`avx512_vnni`].
#[target_feature(enable = "avx2,avxvnni")]
pub(super) unsafe fn avx_vnni<const ROWS: usize>(block: &Block, out: *mut f32, stride: usize) {
    const LINES: usize = 4;
    // SAFETY: as in `avx512_vnni`.
    unsafe {
        for line in 0..LINES {
            let half = |lines: *const Line, h: usize| _mm256_load_si256(lines.cast::<__m256i>().add(h));
            let sums = block.weights.sums().as_ptr().add(line);
            let mut dots = [[half(sums, 0), half(sums, 1)]; ROWS];
            let mut weights = block.weights.quads.as_ptr().add(line);
            let mut a = block.a.as_ptr();
            for _ in 0..block.weights.quads.len() / LINES {
                let w = [half(weights, 0), half(weights, 1)];
                for (r, dots) in dots.iter_mut().enumerate() {
                    let a = _mm256_set1_epi32(quad(a.add(r * block.stride)));
                    dots[0] = _mm256_dpbusd_avx_epi32(dots[0], a, w[0]);
                    dots[1] = _mm256_dpbusd_avx_epi32(dots[1], a, w[1]);
                }
                weights = weights.wrapping_add(LINES);
                a = a.wrapping_add(4);
            }
            let scales = block.weights.scales().as_ptr().add(line);
            for (r, dots) in dots.iter().enumerate() {
                let out = out.add(r * stride + 16 * line);
                store(block, r, dots[0], scales, 0, out);
                store(block, r, dots[1], scales, 1, out.add(8));
            }
        }
    }
}

/// `ROWS` rows (at most 4) x 8 features at a time. Bytes are widened to 16 bits, since `vpmaddubsw` would saturate;
/// every lane then holds the sum of half a quad.
///
/// # Safety
/// As for [`avx512_vnni`].
#[target_feature(enable = "avx2")]
pub(super) unsafe fn avx2<const ROWS: usize>(block: &Block, out: *mut f32, stride: usize) {
    const LINES: usize = 4;
    // SAFETY: as in `avx512_vnni`; a quarter line holds the weights of 4 features, and there are 16 of them to a quad.
    unsafe {
        for eight in 0..8 {
            let mut dots = [[_mm256_setzero_si256(); 2]; ROWS];
            let mut weights = block.weights.quads.as_ptr().cast::<__m128i>().add(2 * eight);
            let mut a = block.a.as_ptr();
            for _ in 0..block.weights.quads.len() / LINES {
                let w = [0, 1].map(|four| _mm256_cvtepi8_epi16(_mm_load_si128(weights.add(four))));
                for (r, dots) in dots.iter_mut().enumerate() {
                    let a = _mm256_cvtepu8_epi16(_mm_set1_epi32(quad(a.add(r * block.stride))));
                    dots[0] = _mm256_add_epi32(dots[0], _mm256_madd_epi16(a, w[0]));
                    dots[1] = _mm256_add_epi32(dots[1], _mm256_madd_epi16(a, w[1]));
                }
                weights = weights.wrapping_add(4 * LINES);
                a = a.wrapping_add(4);
            }
            let side = |lines: &[Line]| lines.as_ptr().add(eight / 2);
            let sums = _mm256_load_si256(side(block.weights.sums()).cast::<__m256i>().add(eight % 2));
            for (r, dots) in dots.iter().enumerate() {
                // Features 0 1 4 5 2 3 6 7: `vphaddd` works on halves of the registers.
                let whole = _mm256_permute4x64_epi64::<0b11_01_10_00>(_mm256_hadd_epi32(dots[0], dots[1]));
                let dots = _mm256_add_epi32(whole, sums);
                store(block, r, dots, side(block.weights.scales()), eight % 2, out.add(r * stride + 8 * eight));
            }
        }
    }
}
