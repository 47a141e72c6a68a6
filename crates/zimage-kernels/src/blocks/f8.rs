//! 8-bit floats: e4m3 (no infinities, 448 is the largest) and e5m2 (the upper byte of an f16).

use super::f16;

/// All values of e4m3, by their bits.
pub(super) static E4M3: [f32; 256] = e4m3_table();

#[inline(always)]
pub(super) fn decode_e4m3(src: &[u8], dst: &mut [f32]) {
    for (byte, value) in src.iter().zip(dst) {
        *value = E4M3[usize::from(*byte)];
    }
}

#[inline(always)]
pub(super) fn decode_e5m2(src: &[u8], dst: &mut [f32]) {
    for (byte, value) in src.iter().zip(dst) {
        *value = f16::widen(u16::from(*byte) << 8);
    }
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

/// 1 sign, 4 exponent bits with a bias of 7, 3 fraction bits; all ones is not a number.
const fn e4m3(bits: u8) -> f32 {
    let sign = ((bits as u32) & 0x80) << 24;
    let magnitude = bits & 0x7f;
    if magnitude == 0x7f {
        return f32::from_bits(sign | 0x7fc0_0000);
    }
    // As in `f16::widen`: the exponent of an f32 has a bias of 127, 120 more.
    let scaled = f32::from_bits((magnitude as u32) << 20) * f32::from_bits((127 + 120) << 23);
    f32::from_bits(scaled.to_bits() | sign)
}
