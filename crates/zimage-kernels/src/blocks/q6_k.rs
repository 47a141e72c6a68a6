//! Q6_K: 6.5625 bits a value; 16 groups of 16 values, each with a scale; `value = d s (q - 32)`.
//!
//! Source: `block_q6_K` and `dequantize_row_q6_K` of ggml.

use super::layout::{Block, LARGE, decode_each, half};

/// 256 values.
#[repr(C)]
pub struct Q6K {
    /// The lower four bits. 64 bytes hold 128 values: the lower halves values 0 to 63, the upper ones 64 to 127.
    pub ql: [u8; 128],
    /// The upper two bits. 32 bytes hold 128 values: the lowest two bits values 0 to 31, the next two 32 to 63, ...
    pub qh: [u8; 64],
    /// The scales of the groups.
    pub scales: [i8; 16],
    /// Scale of the scales, f16.
    pub d: [u8; 2],
}

const _: () = assert!(size_of::<Q6K>() == 210);

// SAFETY: bytes alone.
unsafe impl Block for Q6K {
    const LEN: usize = LARGE;
}

#[inline(always)]
pub(super) fn decode(src: &[u8], dst: &mut [f32]) {
    decode_each(
        src,
        dst,
        #[inline(always)]
        |block: &Q6K, values: &mut [f32; LARGE]| {
            let d = half(block.d);
            for (group, values) in values.as_chunks_mut::<16>().0.iter_mut().enumerate() {
                let scale = d * f32::from(block.scales[group]);
                let (low_shift, high_shift) = (group / 4 % 2 * 4, group / 2 % 4 * 2);
                let low = &block.ql[group / 8 * 64 + group % 4 * 16..][..16];
                let high = &block.qh[group / 8 * 32 + group % 2 * 16..][..16];
                for ((value, low), high) in values.iter_mut().zip(low).zip(high) {
                    let q = low >> low_shift & 15 | (high >> high_shift & 3) << 4;
                    *value = scale * f32::from(q as i8 - 32);
                }
            }
        },
    );
}
