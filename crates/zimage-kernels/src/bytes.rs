//! f32 memory seen as bytes, words or cache lines, so that buffers of one kind serve all kernels.

use crate::gemm_i8::Line;

/// The bytes of values.
pub fn of(values: &[f32]) -> &[u8] {
    // SAFETY: an f32 has no padding, and every pattern of bits is a byte.
    unsafe { values.align_to().1 }
}

/// The bytes of values, to be written.
pub fn of_mut(values: &mut [f32]) -> &mut [u8] {
    // SAFETY: as in `of`, and every pattern of bits is an f32.
    unsafe { values.align_to_mut().1 }
}

/// The bits of values, to be written.
pub fn words_mut(values: &mut [f32]) -> &mut [u32] {
    // SAFETY: both types have every pattern of 32 bits, and the same alignment.
    unsafe { values.align_to_mut().1 }
}

/// The whole cache lines in values.
pub fn lines(values: &[f32]) -> &[Line] {
    // SAFETY: every pattern of bits is a line, and a line has no padding.
    unsafe { values.align_to().1 }
}

/// The whole cache lines in values, to be written.
pub fn lines_mut(values: &mut [f32]) -> &mut [Line] {
    // SAFETY: as in `lines`, and every pattern of bits is an f32.
    unsafe { values.align_to_mut().1 }
}

/// The values that lines are made of, to be written.
pub fn of_lines_mut(lines: &mut [Line]) -> &mut [f32] {
    // SAFETY: as in `lines_mut`; a line is a whole number of f32.
    unsafe { lines.align_to_mut().1 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_memory_has_all_forms() {
        let mut values = vec![0.0f32; 64];
        of_mut(&mut values)[4..8].copy_from_slice(&1.5f32.to_le_bytes());
        assert_eq!((values[1], of(&values).len()), (f32::from_le_bytes(1.5f32.to_le_bytes()), 256));
        words_mut(&mut values)[2] = 1.5f32.to_bits();
        assert_eq!((values[2], words_mut(&mut values).len()), (1.5, 64));
        // 64 values hold 3 whole lines wherever they start, 4 when they start at one.
        assert!(matches!(lines(&values).len(), 3 | 4));
        lines_mut(&mut values).fill(Line::ZERO);
        assert!(values[16..48].iter().all(|value| *value == 0.0));
    }
}
