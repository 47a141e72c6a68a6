//! Q2_K: 2.625 bits a value; 16 groups of 16 values, each with a scale and a minimum; `value = d s q - dmin m`.
//!
//! Source: `block_q2_K` and `dequantize_row_q2_K` of ggml.

use super::layout::{Block, LARGE, decode_each, half};

/// 256 values.
#[repr(C)]
pub struct Q2K {
    /// A byte for each group of 16 values: the scale `s` in the lower half, the minimum `m` in the upper one.
    pub scales: [u8; 16],
    /// The numbers 0 to 3. 32 bytes hold 128 values: the lowest two bits values 0 to 31, the next two 32 to 63, ...
    pub qs: [u8; 64],
    /// Scale of the scales, f16.
    pub d: [u8; 2],
    /// Scale of the minima, f16.
    pub dmin: [u8; 2],
}

const _: () = assert!(size_of::<Q2K>() == 84);

// SAFETY: bytes alone.
unsafe impl Block for Q2K {
    const LEN: usize = LARGE;
}

#[inline(always)]
pub(super) fn decode(src: &[u8], dst: &mut [f32]) {
    decode_each(
        src,
        dst,
        #[inline(always)]
        |block: &Q2K, values: &mut [f32; LARGE]| {
            let (d, dmin) = (half(block.d), half(block.dmin));
            for (group, values) in values.as_chunks_mut::<16>().0.iter_mut().enumerate() {
                let scale = d * f32::from(block.scales[group] & 15);
                let minimum = dmin * f32::from(block.scales[group] >> 4);
                let shift = group / 2 % 4 * 2;
                let bytes = &block.qs[group / 8 * 32 + group % 2 * 16..][..16];
                for (value, q) in values.iter_mut().zip(bytes) {
                    *value = scale * f32::from(q >> shift & 3) - minimum;
                }
            }
        },
    );
}
