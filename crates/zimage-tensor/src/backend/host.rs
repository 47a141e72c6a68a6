//! What the two host backends share: the operations that only move values.

/// Decoded rows of a table.
pub fn embedding(out: &mut [f32], table: &crate::Weight, ids: &[u32]) {
    let matrix = table.matrix();
    for (row, &id) in out.chunks_exact_mut(table.cols).zip(ids) {
        matrix.decode_rows(id as usize..id as usize + 1, row);
    }
}

/// `x`, then copies of `token` to the end.
pub fn append_token(out: &mut [f32], x: &[f32], token: &[f32]) {
    let (first, rest) = out.split_at_mut(x.len());
    first.copy_from_slice(x);
    rest.chunks_exact_mut(token.len()).for_each(|row| row.copy_from_slice(token));
}

/// `x * factors` over whole rows.
pub fn scale_columns(out: &mut [f32], x: &[f32], factors: &[f32]) {
    for (out, x) in out.chunks_exact_mut(factors.len()).zip(x.chunks_exact(factors.len())) {
        out.iter_mut().zip(x).zip(factors).for_each(|((out, x), factor)| *out = x * factor);
    }
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

/// The methods of `Backend` that are the same on every host backend. `take` gives it memory.
macro_rules! host_methods {
    () => {
        fn host<'t>(&self, tensor: &'t crate::Tensor) -> &'t Buffer {
            tensor.host_buffer()
        }
        fn host_mut<'t>(&self, tensor: &'t mut crate::Tensor) -> &'t mut Buffer {
            match &mut tensor.storage {
                crate::tensor::Storage::Host(data) => data,
                _ => panic!("a tensor of another device: this is a bug"),
            }
        }
        fn storage(buffer: Buffer) -> crate::tensor::Storage {
            crate::tensor::Storage::Host(buffer)
        }
        fn embedding(&self, table: &crate::Weight, ids: &[u32]) -> Buffer {
            let mut out = self.take(ids.len() * table.cols);
            crate::backend::host::embedding(&mut out, table, ids);
            out
        }
        fn tanh(&self, x: &mut Buffer) {
            x.iter_mut().for_each(|v| *v = v.tanh());
        }
        fn one_plus(&self, x: &mut Buffer) {
            x.iter_mut().for_each(|v| *v += 1.0);
        }
        fn scale_columns(&self, x: &Buffer, factors: &Buffer) -> Buffer {
            let mut out = self.take(x.len());
            crate::backend::host::scale_columns(&mut out, x, factors);
            out
        }
        fn concat_rows(&self, a: &Buffer, b: &Buffer) -> Buffer {
            let mut out = self.take(a.len() + b.len());
            out[..a.len()].copy_from_slice(a);
            out[a.len()..].copy_from_slice(b);
            out
        }
        fn slice(&self, x: &Buffer, start: usize, end: usize) -> Buffer {
            let mut out = self.take(end - start);
            out.copy_from_slice(&x[start..end]);
            out
        }
        fn append_token(&self, x: &Buffer, token: &Buffer, count: usize) -> Buffer {
            let mut out = self.take(x.len() + count * token.len());
            crate::backend::host::append_token(&mut out, x, token);
            out
        }
        fn patchify(&self, x: &Buffer, channels: usize, height: usize, width: usize) -> Buffer {
            let mut out = self.take(x.len());
            zimage_kernels::layout::patchify(&mut out, x, channels, height, width);
            out
        }
        fn unpatchify(&self, x: &Buffer, channels: usize, height: usize, width: usize) -> Buffer {
            let mut out = self.take(x.len());
            zimage_kernels::layout::unpatchify(&mut out, x, channels, height, width);
            out
        }
        fn transpose(&self, x: &Buffer, rows: usize, cols: usize) -> Buffer {
            let mut out = self.take(x.len());
            zimage_kernels::layout::transpose(&mut out, x, rows, cols);
            out
        }
    };
}
pub(crate) use host_methods;
