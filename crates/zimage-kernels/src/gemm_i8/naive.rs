//! The definition, one value at a time.

use super::Line;
use super::pack::PanelRef;
use super::{Quantized, row_stride};
use crate::tile::TileMut;

pub(super) fn gemm_i8(out: &mut TileMut, a: Quantized, panel: &[Line], add: bool) {
    let (stride, count) = (row_stride(a.chunks.cols), a.chunks.count());
    for t in 0..out.rows() {
        let row = &a.values[t * stride..][..a.chunks.cols];
        for (n, value) in out.row_mut(t).iter_mut().enumerate() {
            let mut sum = if add { *value } else { 0.0 };
            for chunk in 0..count {
                let weights = PanelRef::new(panel, a.chunks, chunk);
                let mut dot = 0i64;
                for (k, a) in row[a.chunks.range(chunk)].iter().enumerate() {
                    dot += (i64::from(*a) - 128) * i64::from(weights.value(n, k));
                }
                let scaled = dot as f32 * (a.scales[t * count + chunk] * weights.scale(n));
                sum = if chunk == 0 && !add { scaled } else { sum + scaled };
            }
            *value = sum;
        }
    }
}
