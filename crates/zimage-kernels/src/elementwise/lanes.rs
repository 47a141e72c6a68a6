//! The loops that are compiled once per level.

#[inline(always)]
pub(super) fn add(out: &mut [f32], y: &[f32]) {
    for (out, y) in out.iter_mut().zip(y) {
        *out += y;
    }
}

#[inline(always)]
pub(super) fn subtract_from(out: &mut [f32], y: &[f32]) {
    for (out, y) in out.iter_mut().zip(y) {
        *out = y - *out;
    }
}

/// Looks at 256 values at a time without a branch, and for the position only where one is found.
#[inline(always)]
pub(super) fn first_non_finite(x: &[f32]) -> Option<usize> {
    const EXPONENT: u32 = 0x7f80_0000;
    for (i, block) in x.chunks(256).enumerate() {
        let mut found = 0u32;
        for value in block {
            found |= u32::from(value.to_bits() & EXPONENT == EXPONENT);
        }
        if found != 0 {
            let place = block.iter().position(|value| !value.is_finite());
            return place.map(|place| i * 256 + place);
        }
    }
    None
}
