//! 8-bit floats: e4m3 (no infinities, 448 is the largest) and e5m2 (the upper byte of an f16).
//!
//! Source: `float8_e4m3fn` and `float8_e5m2` of torch.

/// All values of e4m3, by their bits.
pub(super) static E4M3: [f32; 256] = e4m3_table();

#[inline(always)]
pub(super) fn decode_e4m3(src: &[u8], dst: &mut [f32]) {
    for (byte, value) in src.iter().zip(dst) {
        *value = e4m3(*byte);
    }
}

#[inline(always)]
pub(super) fn decode_e5m2(src: &[u8], dst: &mut [f32]) {
    for (byte, value) in src.iter().zip(dst) {
        *value = e5m2(*byte);
    }
}

/// 1 sign, 4 exponent bits with a bias of 7, 3 fraction bits; all ones is not a number.
#[inline(always)]
pub(super) const fn e4m3(bits: u8) -> f32 {
    let magnitude = (bits & 0x7f) as u32;
    let normal = (magnitude << 20) + ((127 - 7) << 23);
    // Numbers below the smallest exponent are multiples of 2^-9. Shifting them into an f32 and multiplying, as
    // `f16::widen` does, would go through its subnormal numbers, which are slow: plain weights are often that small here.
    let small = (magnitude as i32 as f32 * (1.0 / 512.0)).to_bits();
    let finite = if magnitude < 8 { small } else { normal };
    let value = if magnitude == 0x7f { 0x7fc0_0000 } else { finite };
    f32::from_bits(value | ((bits & 0x80) as u32) << 24)
}

/// 1 sign, 5 exponent bits with a bias of 15, 2 fraction bits; infinities as in f16.
#[inline(always)]
pub(super) const fn e5m2(bits: u8) -> f32 {
    let magnitude = (bits & 0x7f) as u32;
    let normal = (magnitude << 21) + ((127 - 15) << 23);
    let small = (magnitude as i32 as f32 * (1.0 / 65536.0)).to_bits();
    let finite = if magnitude < 4 { small } else { normal };
    let value = if magnitude >= 0x7c { magnitude << 21 | 0x7f80_0000 } else { finite };
    f32::from_bits(value | ((bits & 0x80) as u32) << 24)
}

const fn e4m3_table() -> [f32; 256] {
    let mut table = [0.0; 256];
    let mut bits = 0;
    while bits < 256 {
        table[bits] = e4m3(bits as u8);
        bits += 1;
    }
    table
}
