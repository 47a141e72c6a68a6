//! What the two host backends share: the operations that only move values.

use zimage_kernels::layout;

/// Rows of `a`, then rows of `b`.
pub fn concat(a: &[f32], b: &[f32]) -> Vec<f32> {
    let mut out = Vec::with_capacity(a.len() + b.len());
    out.extend_from_slice(a);
    out.extend_from_slice(b);
    out
}

/// `x`, then `count` copies of `token`.
pub fn append_token(x: &[f32], token: &[f32], count: usize) -> Vec<f32> {
    let mut out = Vec::with_capacity(x.len() + count * token.len());
    out.extend_from_slice(x);
    (0..count).for_each(|_| out.extend_from_slice(token));
    out
}

/// Decoded rows of a table.
pub fn embedding(table: &crate::Weight, ids: &[u32]) -> Vec<f32> {
    let matrix = table.matrix();
    let mut out = vec![0.0; ids.len() * table.cols];
    for (row, &id) in out.chunks_exact_mut(table.cols).zip(ids) {
        matrix.decode_rows(id as usize..id as usize + 1, row);
    }
    out
}

/// `layout::patchify` into a new vector.
pub fn patchify(x: &[f32], channels: usize, height: usize, width: usize) -> Vec<f32> {
    let mut out = vec![0.0; x.len()];
    layout::patchify(&mut out, x, channels, height, width);
    out
}

/// `layout::unpatchify` into a new vector.
pub fn unpatchify(x: &[f32], channels: usize, height: usize, width: usize) -> Vec<f32> {
    let mut out = vec![0.0; x.len()];
    layout::unpatchify(&mut out, x, channels, height, width);
    out
}

/// `layout::transpose` into a new vector.
pub fn transpose(x: &[f32], rows: usize, cols: usize) -> Vec<f32> {
    let mut out = vec![0.0; x.len()];
    layout::transpose(&mut out, x, rows, cols);
    out
}

/// `y += z * factors` over whole rows of `y`; row `r` of `z` begins at `r * z_cols`, and its first `skip` values are
/// passed over.
pub fn add_scaled(y: &mut [f32], z: &[f32], z_cols: usize, skip: usize, factors: &[f32]) {
    for (y, z) in y.chunks_exact_mut(factors.len()).zip(z.chunks_exact(z_cols)) {
        for ((y, z), factor) in y.iter_mut().zip(&z[skip..]).zip(factors) {
            *y += z * factor;
        }
    }
}

/// The methods of `Backend` that are the same on every host backend.
macro_rules! host_methods {
    () => {
        fn host<'t>(&self, tensor: &'t crate::Tensor) -> &'t Vec<f32> {
            let crate::tensor::Storage::Host(data) = &tensor.storage;
            data
        }
        fn host_mut<'t>(&self, tensor: &'t mut crate::Tensor) -> &'t mut Vec<f32> {
            let crate::tensor::Storage::Host(data) = &mut tensor.storage;
            data
        }
        fn storage(buffer: Vec<f32>) -> crate::tensor::Storage {
            crate::tensor::Storage::Host(buffer)
        }
        fn embedding(&self, table: &crate::Weight, ids: &[u32]) -> Vec<f32> {
            crate::backend::host::embedding(table, ids)
        }
        fn tanh(&self, x: &mut Vec<f32>) {
            x.iter_mut().for_each(|v| *v = v.tanh());
        }
        fn one_plus(&self, x: &mut Vec<f32>) {
            x.iter_mut().for_each(|v| *v += 1.0);
        }
        fn scale_columns(&self, x: &Vec<f32>, factors: &Vec<f32>) -> Vec<f32> {
            let rows = x.chunks_exact(factors.len());
            rows.flat_map(|row| row.iter().zip(factors).map(|(value, factor)| value * factor)).collect()
        }
        fn concat_rows(&self, a: &Vec<f32>, b: &Vec<f32>) -> Vec<f32> {
            crate::backend::host::concat(a, b)
        }
        fn slice(&self, x: &Vec<f32>, start: usize, end: usize) -> Vec<f32> {
            x[start..end].to_vec()
        }
        fn append_token(&self, x: &Vec<f32>, token: &Vec<f32>, count: usize) -> Vec<f32> {
            crate::backend::host::append_token(x, token, count)
        }
        fn patchify(&self, x: &Vec<f32>, channels: usize, height: usize, width: usize) -> Vec<f32> {
            crate::backend::host::patchify(x, channels, height, width)
        }
        fn unpatchify(&self, x: &Vec<f32>, channels: usize, height: usize, width: usize) -> Vec<f32> {
            crate::backend::host::unpatchify(x, channels, height, width)
        }
        fn transpose(&self, x: &Vec<f32>, rows: usize, cols: usize) -> Vec<f32> {
            crate::backend::host::transpose(x, rows, cols)
        }
    };
}
pub(crate) use host_methods;
