use super::*;
use crate::blocks::Format;
use crate::blocks::golden::Golden;
use crate::testing::{assert_close, random};
use crate::tile::tiles;

/// The bytes of a weight and its rows and columns: random where the format has an encoder, else those of its golden.
fn weight(format: Format) -> (Vec<u8>, usize, usize) {
    match format.encoder() {
        Some(encoder) => {
            let (n, k) = (29, if format.block_len() == 1 { 37 } else { 3 * format.block_len() });
            let mut bytes = vec![0; n * format.row_bytes(k)];
            encoder.encode(&random(n * k, 2), &mut bytes);
            (bytes, n, k)
        }
        None if format.block_len() == 1 => {
            // All bytes but those that are not finite.
            let (n, k) = (29, 37);
            ((0..n * k).map(|at| (at * 37 % 0x78) as u8).collect(), n, k)
        }
        None => {
            let bytes = Golden::of(format).bytes("blocks").to_vec();
            let (row_blocks, row_bytes) = (2, 2 * format.block_bytes());
            let n = bytes.len() / row_bytes;
            (bytes, n, row_blocks * format.block_len())
        }
    }
}

fn check(level: Level, format: Format, unaligned: bool, m: usize) {
    let (stored, n, k) = weight(format);
    let (a, bias) = (random(m * k, 1), random(n, 3));
    let a = MatrixRef::contiguous(&a, m, k);
    let offset = usize::from(unaligned);
    let bytes = [&vec![0; offset], &*stored].concat();
    let mut stored = vec![0.0; n * k];
    format.decode(&bytes[offset..], &mut stored);

    let (mut found, mut expected) = (vec![f32::NAN; m * n], vec![f32::NAN; m * n]);
    let stored = MatrixRef::contiguous(&stored, n, k);
    gemm_nt(Level::Naive, &mut TileMut::whole(&mut expected, m, n), a, stored, Some(&bias));
    let mut scratch = Vec::new();
    for tile in &mut tiles(&mut found, m, n, m.div_ceil(2), 19) {
        let rows = a.row_range(tile.row0(), tile.rows());
        let weight = Matrix::rows_of(format, n, k, &bytes[offset..]).expect("a weight of these sizes");
        linear_tile(level, tile, rows, weight, Some(&bias), &mut scratch);
    }
    assert_close(&format!("{level:?} {} {m}", format.name()), &found, &expected, 2e-6);
}

#[test]
fn tiles_of_all_formats_agree_with_the_decoded_product() {
    for level in Level::supported() {
        for format in Format::ALL {
            for m in [1, 2, 7, 31, 64, 65, 80] {
                check(level, format, false, m);
                check(level, format, true, m);
            }
        }
    }
}
