use super::*;
use crate::testing::{assert_close, random};
use crate::tile::tiles;

fn check(level: Level, format: Format, unaligned: bool, m: usize) {
    let (n, k) = (29, 37);
    let (a, values, bias) = (random(m * k, 1), random(n * k, 2), random(n, 3));
    let a = MatrixRef::contiguous(&a, m, k);
    let offset = usize::from(unaligned);
    let mut bytes = vec![0; n * format.row_bytes(k) + offset];
    format.encode(&values, &mut bytes[offset..]);
    let mut stored = vec![0.0; n * k];
    format.decode(&bytes[offset..], &mut stored);

    let (mut found, mut expected) = (vec![f32::NAN; m * n], vec![f32::NAN; m * n]);
    let stored = MatrixRef::contiguous(&stored, n, k);
    gemm_nt(Level::Naive, &mut TileMut::whole(&mut expected, m, n), a, stored, Some(&bias));
    let mut scratch = Vec::new();
    for tile in &mut tiles(&mut found, m, n, m.div_ceil(2), 19) {
        let rows = a.row_range(tile.row0(), tile.rows());
        linear_tile(level, tile, rows, &bytes[offset..], format, Some(&bias), &mut scratch);
    }
    assert_close(&format!("{level:?} {} {m}", format.name()), &found, &expected, 1e-6);
}

#[test]
fn tiles_of_all_formats_agree_with_the_decoded_product() {
    for level in Level::supported() {
        for format in [Format::F32, Format::BF16, Format::F16] {
            for m in [1, 2, 7, 31, 64, 65, 80] {
                check(level, format, false, m);
                check(level, format, true, m);
            }
        }
    }
}
