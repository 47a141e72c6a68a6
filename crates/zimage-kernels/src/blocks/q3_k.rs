//! Q3_K: 3.4375 bits a value; 16 groups of 16 values, each with a scale; `value = d (s - 32) q`, q from -4 to 3.
//!
//! Source: `block_q3_K` and `dequantize_row_q3_K` of ggml.

use super::layout::{Block, LARGE, decode_each, half};

/// 256 values.
#[repr(C)]
pub struct Q3K {
    /// The third bits: bit `i / 32` of byte `i % 32` belongs to value `i`. Where it is 0, 4 is subtracted.
    pub hmask: [u8; 32],
    /// The lower two bits. 32 bytes hold 128 values: the lowest two bits values 0 to 31, the next two 32 to 63, ...
    pub qs: [u8; 64],
    /// The scales of the groups, 6 bits each: bytes 0 to 7 hold the lower four bits, groups 0 to 7 in the lower
    /// halves and 8 to 15 in the upper ones; bits `2 (j / 4)` of byte `8 + j % 4` are the upper two of group `j`.
    pub scales: [u8; 12],
    /// Scale of the scales, f16.
    pub d: [u8; 2],
}

const _: () = assert!(size_of::<Q3K>() == 110);

// SAFETY: bytes alone.
unsafe impl Block for Q3K {
    const LEN: usize = LARGE;
}

#[inline(always)]
pub(super) fn decode(src: &[u8], dst: &mut [f32]) {
    decode_each(
        src,
        dst,
        #[inline(always)]
        |block: &Q3K, values: &mut [f32; LARGE]| {
            let d = half(block.d);
            for (group, values) in values.as_chunks_mut::<16>().0.iter_mut().enumerate() {
                let scale = d * f32::from(scale(&block.scales, group));
                let (shift, bit, side) = (group / 2 % 4 * 2, group / 2, group % 2 * 16);
                let low = &block.qs[group / 8 * 32 + side..][..16];
                let high = &block.hmask[side..][..16];
                for ((value, low), high) in values.iter_mut().zip(low).zip(high) {
                    let q = (low >> shift & 3) as i8 - 4 + ((high >> bit & 1) << 2) as i8;
                    *value = scale * f32::from(q);
                }
            }
        },
    );
}

/// The scale of a group, -32 to 31.
#[inline(always)]
fn scale(scales: &[u8; 12], group: usize) -> i8 {
    let low = scales[group % 8] >> (group / 8 * 4) & 15;
    let high = scales[8 + group % 4] >> (group / 4 * 2) & 3;
    (low | high << 4) as i8 - 32
}
