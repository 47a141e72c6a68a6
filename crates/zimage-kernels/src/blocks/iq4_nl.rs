//! IQ4_NL: 4.5 bits a value that choose from a table whose steps grow away from zero; `value = d table[q]`.
//!
//! Source: `block_iq4_nl`, `kvalues_iq4nl` and `dequantize_row_iq4_nl` of ggml.

use super::layout::{Block, SMALL, decode_each, half};

/// What the 16 numbers stand for.
const TABLE: [i8; 16] = [-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113];

/// 32 values.
#[repr(C)]
pub struct Iq4Nl {
    /// Scale, f16.
    pub d: [u8; 2],
    /// Places in the table: values 0 to 15 in the lower halves of the bytes, 16 to 31 in the upper ones.
    pub qs: [u8; 16],
}

const _: () = assert!(size_of::<Iq4Nl>() == 18);

// SAFETY: bytes alone.
unsafe impl Block for Iq4Nl {
    const LEN: usize = SMALL;
}

#[inline(always)]
pub(super) fn decode(src: &[u8], dst: &mut [f32]) {
    decode_each(
        src,
        dst,
        #[inline(always)]
        |block: &Iq4Nl, values: &mut [f32; SMALL]| {
            let d = half(block.d);
            for (side, values) in values.as_chunks_mut::<16>().0.iter_mut().enumerate() {
                for (value, q) in values.iter_mut().zip(&block.qs) {
                    *value = f32::from(TABLE[usize::from(q >> (side * 4) & 15)]) * d;
                }
            }
        },
    );
}
