use super::*;

#[test]
fn tiles_cover_every_value_once_in_row_major_order() {
    for (rows, cols, tile_rows, tile_cols) in [(1, 1, 1, 1), (5, 7, 2, 3), (4, 4, 8, 8), (3, 10, 1, 10), (0, 4, 1, 1)] {
        let mut data = vec![0.0; rows * cols];
        let mut places = Vec::new();
        for mut tile in tiles(&mut data, rows, cols, tile_rows, tile_cols) {
            places.push((tile.row0(), tile.col0()));
            for r in 0..tile.rows() {
                let first = (tile.row0() + r) * cols + tile.col0();
                for (c, value) in tile.row_mut(r).iter_mut().enumerate() {
                    *value += (first + c + 1) as f32;
                }
            }
        }
        let expected: Vec<f32> = (1..=rows * cols).map(|i| i as f32).collect();
        assert_eq!(data, expected);
        assert!(places.is_sorted());
    }
}

#[test]
fn ranges_of_a_tile_keep_their_place() {
    let mut data = vec![0.0; 6 * 8];
    let mut tile = tiles(&mut data, 6, 8, 4, 4).remove(1);
    let mut part = tile.col_range(1, 2);
    let mut part = part.row_range(2, 1);
    assert_eq!((part.row0(), part.col0(), part.rows(), part.cols()), (2, 5, 1, 2));
    part.row_mut(0).fill(1.0);
    assert_eq!(data.iter().sum::<f32>(), 2.0);
    assert_eq!(data[2 * 8 + 5..2 * 8 + 7], [1.0, 1.0]);
}

#[test]
fn a_view_reads_strided_rows() {
    let data: Vec<f32> = (0..10).map(|i| i as f32).collect();
    let view = MatrixRef::new(&data, 3, 2, 4);
    assert_eq!(view.row(2), [8.0, 9.0]);
    assert_eq!(view.row_range(1, 2).col_range(1, 1).row(1), [9.0]);
}

#[test]
#[should_panic(expected = "matrix of 3 x 3")]
fn a_view_beyond_its_data_is_refused() {
    let data = [0.0; 10];
    MatrixRef::new(&data, 3, 3, 4);
}
