//! Q4_K: 4.5 bits a value; 8 groups of 32 values, each with a scale and a minimum; `value = d s q - dmin m`.
//!
//! Source: `block_q4_K`, `get_scale_min_k4` and `dequantize_row_q4_K` of ggml.

use super::layout::{Block, LARGE, decode_each, half};

/// 256 values.
#[repr(C)]
pub struct Q4K {
    /// Scale of the scales, f16.
    pub d: [u8; 2],
    /// Scale of the minima, f16.
    pub dmin: [u8; 2],
    /// Scales and minima of the groups, see [`scale_and_minimum`].
    pub scales: [u8; 12],
    /// The numbers 0 to 15. 32 bytes hold two groups, one in the lower halves and the next in the upper ones.
    pub qs: [u8; 128],
}

const _: () = assert!(size_of::<Q4K>() == 144);

// SAFETY: bytes alone.
unsafe impl Block for Q4K {
    const LEN: usize = LARGE;
}

#[inline(always)]
pub(super) fn decode(src: &[u8], dst: &mut [f32]) {
    decode_each(
        src,
        dst,
        #[inline(always)]
        |block: &Q4K, values: &mut [f32; LARGE]| {
            let (d, dmin) = (half(block.d), half(block.dmin));
            for (group, values) in values.as_chunks_mut::<32>().0.iter_mut().enumerate() {
                let (scale, minimum) = scale_and_minimum(&block.scales, group);
                let (scale, minimum) = (d * f32::from(scale), dmin * f32::from(minimum));
                let shift = group % 2 * 4;
                for (value, q) in values.iter_mut().zip(&block.qs[group / 2 * 32..][..32]) {
                    *value = scale * f32::from(q >> shift & 15) - minimum;
                }
            }
        },
    );
}

/// Scale and minimum of a group, 6 bits each. Groups 0 to 3 have the lower six bits of bytes 0 to 3 and 4 to 7; of
/// groups 4 to 7, bytes 8 to 11 hold the lower four bits (scales in the lower halves, minima in the upper ones) and
/// the two bits left over in bytes 0 to 7 the upper ones.
#[inline(always)]
pub(super) fn scale_and_minimum(scales: &[u8; 12], group: usize) -> (u8, u8) {
    if group < 4 {
        return (scales[group] & 63, scales[group + 4] & 63);
    }
    let low = scales[group + 4];
    (low & 15 | scales[group - 4] >> 6 << 4, low >> 4 | scales[group] >> 6 << 4)
}
