//! Changes of layout: transposition, and the patches of the transformer.

#[cfg(test)]
mod tests;

/// `out[c][r] = x[r][c]`: `x` is `(rows, cols)`, `out` `(cols, rows)`.
///
/// # Panics
/// When the lengths do not fit the shape.
pub fn transpose(out: &mut [f32], x: &[f32], rows: usize, cols: usize) {
    assert_eq!(x.len(), rows * cols, "values of the matrix");
    assert_eq!(out.len(), x.len(), "values of the transposed matrix");
    // 16 values are a cache line, so a 16 x 16 block touches each line of either side once.
    const BLOCK: usize = 16;
    for row0 in (0..rows).step_by(BLOCK) {
        let row_end = rows.min(row0 + BLOCK);
        for col0 in (0..cols).step_by(BLOCK) {
            for c in col0..cols.min(col0 + BLOCK) {
                for r in row0..row_end {
                    out[c * rows + r] = x[r * cols + c];
                }
            }
        }
    }
}

/// Latents to patches of 2 x 2: `x` is `(channels, height, width)`, `out`
/// `(height / 2 * width / 2, 4 * channels)` with patches in row-major order and feature
/// `(ph * 2 + pw) * channels + channel`.
///
/// # Panics
/// When height or width is odd, or the lengths do not fit the shape.
///
/// Source: diffusers `ZImageTransformer2DModel.patchify_and_embed`.
pub fn patchify(out: &mut [f32], x: &[f32], channels: usize, height: usize, width: usize) {
    check(out.len(), x.len(), channels, height, width);
    for_each_place(channels, height, width, |patches, latents| out[patches] = x[latents]);
}

/// The inverse of [`patchify`]: `x` is `(height / 2 * width / 2, 4 * channels)`, `out`
/// `(channels, height, width)`.
///
/// # Panics
/// When height or width is odd, or the lengths do not fit the shape.
pub fn unpatchify(out: &mut [f32], x: &[f32], channels: usize, height: usize, width: usize) {
    check(out.len(), x.len(), channels, height, width);
    for_each_place(channels, height, width, |patches, latents| out[latents] = x[patches]);
}

fn check(out: usize, x: usize, channels: usize, height: usize, width: usize) {
    assert!(height.is_multiple_of(2) && width.is_multiple_of(2), "patches of 2 x 2 in {height} x {width}");
    assert_eq!(x, channels * height * width, "values of the input");
    assert_eq!(out, x, "values of the output");
}

/// Calls `f(place in the patches, place in the latents)` for every value.
#[inline(always)]
fn for_each_place(channels: usize, height: usize, width: usize, mut f: impl FnMut(usize, usize)) {
    for channel in 0..channels {
        for y in 0..height {
            for x in 0..width {
                let patch = (y / 2) * (width / 2) + x / 2;
                let feature = ((y % 2) * 2 + x % 2) * channels + channel;
                f(patch * 4 * channels + feature, (channel * height + y) * width + x);
            }
        }
    }
}
