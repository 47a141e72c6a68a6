//! Turns the values of tensors into the bytes of a layout, chunk by chunk, on all cores.

use std::ops::Range;
use std::thread;

use zimage_kernels::blocks::{Encoder, Layout, Matrix, Planes, ScaleType, Scaled};

use super::Model;
use crate::schema::Component;
use crate::{Error, Result};

/// Values that are held in f32 at once; 64 MiB.
const CHUNK_VALUES: usize = 16 << 20;

/// The planes of some rows.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Encoded {
    pub(crate) values: Vec<u8>,
    pub(crate) scales: Vec<u8>,
    pub(crate) biases: Vec<u8>,
}

impl Encoded {
    /// Encodes rows of `cols` values. Refuses a layout that is only read.
    pub(crate) fn of(layout: Layout, cols: usize, values: &[f32]) -> Result<Self> {
        let rows = values.len() / cols.max(1);
        let [bytes, scale_bytes, bias_bytes] = layout.plane_bytes(rows, cols);
        let mut encoded = Self { values: vec![0; bytes], scales: vec![0; scale_bytes], biases: vec![0; bias_bytes] };
        let threads = thread::available_parallelism().map_or(1, usize::from);
        let at_once = rows.div_ceil(threads).max(1);
        let piece = layout.plane_bytes(at_once, cols).map(|bytes| bytes.max(1));
        let pieces = values.chunks((at_once * cols).max(1)).zip(encoded.values.chunks_mut(piece[0]));
        // A plane that is empty has no chunks, and every piece an empty part of it.
        let mut scales = encoded.scales.chunks_mut(piece[1]);
        let mut biases = encoded.biases.chunks_mut(piece[2]);
        let encode = encoder(layout)?;
        thread::scope(|scope| {
            for (values, out) in pieces {
                let (scales, biases) = (scales.next().unwrap_or_default(), biases.next().unwrap_or_default());
                let encode = &encode;
                scope.spawn(move || encode(cols, values, out, scales, biases));
            }
        });
        Ok(encoded)
    }

    /// The values that the planes stand for.
    pub(super) fn decode(&self, layout: Layout, rows: usize, cols: usize) -> Option<Vec<f32>> {
        let planes = Planes { values: &self.values, scales: &self.scales, biases: &self.biases };
        let mut values = vec![0.0; rows * cols];
        Matrix::new(layout, rows, cols, planes, 1.0)?.decode_rows(0..rows, &mut values);
        Some(values)
    }
}

type EncodeRows = Box<dyn Fn(usize, &[f32], &mut [u8], &mut [u8], &mut [u8]) + Sync>;

fn encoder(layout: Layout) -> Result<EncodeRows> {
    let refused = || Error::UnwritableFormat { format: layout.to_string() };
    match layout {
        Layout::Rows(format) => {
            let encoder = format.encoder().ok_or_else(refused)?;
            Ok(Box::new(move |_, values, out, _, _| encoder.encode(values, out)))
        }
        Layout::Scaled(scaled) => {
            let encoder = scaled.encoder().ok_or_else(refused)?;
            Ok(Box::new(move |_, values, out, scales, biases| encoder.encode(values, out, scales, biases)))
        }
    }
}

/// Rows of a tensor that are handled at once.
pub(super) fn chunks(rows: usize, cols: usize) -> impl Iterator<Item = Range<usize>> {
    let at_once = (CHUNK_VALUES / cols.max(1)).max(1);
    (0..rows).step_by(at_once).map(move |start| start..rows.min(start + at_once))
}

/// Rows of a tensor as they are encoded to `layout`. MLX quantizes weights of 16 bits, and so finer ones are rounded to
/// the type of its scales before.
pub(super) fn rows(
    model: &dyn Model,
    component: Component,
    name: &str,
    range: Range<usize>,
    (layout, cols): (Layout, usize),
) -> Result<Vec<f32>> {
    let mut values = vec![0.0; range.len() * cols];
    model.rows(component, name, range, &mut values)?;
    let half = match layout {
        Layout::Scaled(Scaled { scale: ScaleType::F16, biased: true, .. }) => Encoder::F16,
        Layout::Scaled(Scaled { scale: ScaleType::BF16, biased: true, .. }) => Encoder::BF16,
        _ => return Ok(values),
    };
    let mut bytes = vec![0; half.format().row_bytes(values.len())];
    half.encode(&values, &mut bytes);
    half.format().decode(&bytes, &mut values);
    Ok(values)
}
