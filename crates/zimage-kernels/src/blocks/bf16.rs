//! bf16: the upper 16 bits of an f32, so that decoding is a shift.

#[inline(always)]
pub(super) fn decode(src: &[u8], dst: &mut [f32]) {
    for (bytes, value) in src.as_chunks::<2>().0.iter().zip(dst) {
        *value = f32::from_bits(u32::from(u16::from_le_bytes(*bytes)) << 16);
    }
}

pub(super) fn encode(src: &[f32], dst: &mut [u8]) {
    for (value, bytes) in src.iter().zip(dst.as_chunks_mut::<2>().0) {
        *bytes = round(*value).to_le_bytes();
    }
}

/// Rounds to nearest, ties to even.
pub(super) fn round(value: f32) -> u16 {
    let bits = value.to_bits();
    if value.is_nan() {
        // The quiet bit, so that a NaN whose payload lies in the lower half does not become infinite.
        return (bits >> 16) as u16 | 0x0040;
    }
    // Half of the last kept bit less one, plus that bit: exact ties go up only from odd values.
    let rounding = 0x7fff + ((bits >> 16) & 1);
    ((bits + rounding) >> 16) as u16
}
