//! f16: 1 sign, 5 exponent and 10 fraction bits; decoded without branches so that it vectorizes.

#[inline(always)]
pub(super) fn decode(src: &[u8], dst: &mut [f32]) {
    for (bytes, value) in src.as_chunks::<2>().0.iter().zip(dst) {
        *value = widen(u16::from_le_bytes(*bytes));
    }
}

pub(super) fn encode(src: &[f32], dst: &mut [u8]) {
    for (value, bytes) in src.iter().zip(dst.as_chunks_mut::<2>().0) {
        *bytes = round(*value).to_le_bytes();
    }
}

/// Shifting exponent and fraction into the places of an f32 leaves the exponent 112 too small;
/// multiplying by 2^112 mends that, for subnormal values too.
#[inline(always)]
pub(super) fn widen(half: u16) -> f32 {
    let sign = u32::from(half & 0x8000) << 16;
    let shifted = u32::from(half & 0x7fff) << 13;
    let scaled = (f32::from_bits(shifted) * f32::from_bits((127 + 112) << 23)).to_bits();
    let special = shifted | 0x7f80_0000;
    let magnitude = if half & 0x7c00 == 0x7c00 { special } else { scaled };
    f32::from_bits(magnitude | sign)
}

/// Rounds to nearest, ties to even; 65520 and beyond become infinite.
pub(super) fn round(value: f32) -> u16 {
    let bits = value.to_bits();
    let sign = ((bits >> 16) & 0x8000) as u16;
    let magnitude = bits & 0x7fff_ffff;
    if value.is_nan() {
        return sign | 0x7e00 | ((bits >> 13) & 0x03ff) as u16;
    }
    if magnitude >= 0x4780_0000 {
        return sign | 0x7c00; // 65536 and above
    }
    if magnitude < 0x3880_0000 {
        // Below 2^-14 the result is subnormal, a multiple of 2^-24. Adding 0.5, whose last bit
        // weighs 2^-24, makes the processor round to that multiple.
        let rounded = (f32::from_bits(magnitude) + 0.5).to_bits() - 0.5f32.to_bits();
        return sign | rounded as u16;
    }
    let rounding = 0x0fff + ((magnitude >> 13) & 1);
    sign | ((magnitude - (112 << 23) + rounding) >> 13) as u16
}
