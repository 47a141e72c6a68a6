//! Norms, elementwise operations, rotations, and what brings rows into 8 bits: memory bounds all of them.

use crate::Result;
use crate::gauge::{Case, Run};
use crate::inputs::{activations, parameters};
use crate::sizes::{HEAD, Sizes};
use zimage_tensor::{Activations, Compute, Device, Tensor, ops};

const EPS: f32 = 1e-5;

/// An operation on `x` and `y` of one size, which may change `x`, and `w` and `g`, a value per column.
type OnRows = fn(x: &mut Tensor, y: &Tensor, w: &Tensor, g: &Tensor);

/// What is measured on the rows of the main layers, and how often it must move such rows.
const ON_ROWS: [(&str, f64, OnRows); 12] = [
    ("rms_norm", 2.0, |x, _, w, _| drop(ops::rms_norm(x, w, EPS))),
    ("rms_norm_scaled", 2.0, |x, _, w, g| drop(ops::rms_norm_scaled(x, w, g, EPS))),
    ("add_rms_norm", 3.0, |x, y, w, _| ops::add_rms_norm(x, y, w, EPS)),
    ("add_rms_norm_gated", 3.0, |x, y, w, g| ops::add_rms_norm_gated(x, y, w, g, EPS)),
    ("layer_norm_scaled", 2.0, |x, _, w, _| drop(ops::layer_norm_scaled(x, w, EPS))),
    ("add", 3.0, |x, y, _, _| ops::add(x, y)),
    ("subtract_from", 3.0, |x, y, _, _| ops::subtract_from(x, y)),
    ("add_scaled", 3.0, |x, y, w, _| ops::add_scaled(x, y, 0, w)),
    ("scale_columns", 2.0, |x, _, w, _| drop(ops::scale_columns(x, w))),
    ("silu", 2.0, |x, _, _, _| ops::silu(x)),
    ("tanh", 2.0, |x, _, _, _| ops::tanh(x)),
    ("find_non_finite", 1.0, |x, _, _, _| drop(ops::find_non_finite(x))),
];

/// All of them.
pub fn cases(device: &Device, sizes: &Sizes) -> Vec<Case> {
    let Sizes { dim, hidden, text_dim, text_heads: [heads, _], caption, .. } = *sizes;
    let tokens = sizes.tokens();
    let mut cases = Vec::new();
    cases.extend(ON_ROWS.map(|(name, times, run)| on_rows(device, name, (tokens, dim), times, run)));
    // What has one row in each step, or few.
    cases.push(on_rows(device, "one_plus", (1, dim), 2.0, |x, _, _, _| ops::one_plus(x)));
    cases.push(on_rows(device, "tanh", (1, dim), 2.0, |x, _, _, _| ops::tanh(x)));
    cases.push(on_rows(device, "rms_norm", (caption, text_dim), 2.0, |x, _, w, _| drop(ops::rms_norm(x, w, EPS))));
    cases.push(on_rows(device, "add", (caption, text_dim), 3.0, |x, y, _, _| ops::add(x, y)));
    cases.push(on_rows(device, "silu_mul", (tokens, hidden), 3.0, |x, y, _, _| ops::silu_mul(x, y)));
    cases.push(rotation(device, "rms_norm_rope", (tokens, dim), |x, w, cos, sin| {
        ops::rms_norm_rope(x, w, EPS, cos, sin);
    }));
    cases.push(rotation(device, "rope_interleaved", (tokens, dim), |x, _, cos, sin| {
        ops::rope_interleaved(x, cos, sin);
    }));
    cases
        .push(rotation(device, "rope_halves", (caption, heads * HEAD), |x, _, cos, sin| ops::rope_halves(x, cos, sin)));
    cases.push(mixed(device, (tokens, dim)));
    for compute in [Compute::Fp8, Compute::Int8].into_iter().filter(|way| device.supports(*way).is_ok()) {
        cases.push(quantized(device, "rms_norm_scaled to 8 bits", compute, (tokens, dim), 0.0, |x, w, g| {
            drop(Activations::rms_norm_scaled(x, w, g, EPS));
        }));
        // Rows are consumed, so that a copy of them is made.
        cases.push(quantized(device, "copy to 8 bits", compute, (tokens, dim), 2.0, |x, _, _| {
            drop(Activations::of(ops::slice_rows(x, 0, x.rows())));
        }));
        cases.push(quantized(device, "copy, silu_mul to 8 bits", compute, (tokens, hidden), 3.0, |x, _, _| {
            drop(Activations::silu_mul(ops::slice_rows(x, 0, x.rows()), x));
        }));
    }
    cases
}

fn named(name: &str, (rows, cols): (usize, usize)) -> String {
    format!("{name} {rows} x {cols}")
}

/// Bytes of so many values.
fn bytes(device: &Device, compute: Compute, (rows, cols): (usize, usize)) -> f64 {
    (rows * cols) as f64 * device.clone().with_compute(compute).activation_bytes() as f64
}

fn on_rows(device: &Device, name: &str, shape: (usize, usize), times: f64, run: OnRows) -> Case {
    let compute = device.natural_compute();
    Case::new(named(name, shape), compute, (times * bytes(device, compute, shape), 0.0), move |device| {
        let (rows, cols) = shape;
        let (mut x, y) = (activations(device, &[rows, cols])?, activations(device, &[rows, cols])?);
        let (w, g) = (parameters(device, &[cols])?, activations(device, &[1, cols])?.reshape(&[cols]));
        Ok(Box::new(move || run(&mut x, &y, &w, &g)))
    })
}

/// Rows are read and written, and their angles read, in f32.
fn rotation(
    device: &Device,
    name: &str,
    (rows, cols): (usize, usize),
    run: fn(&mut Tensor, &Tensor, &Tensor, &Tensor),
) -> Case {
    let compute = device.natural_compute();
    let angles = [rows, HEAD / 2];
    let moved = 2.0 * bytes(device, compute, (rows, cols)) + 2.0 * (4 * rows * HEAD / 2) as f64;
    Case::new(named(name, (rows, cols)), compute, (moved, 0.0), move |device| {
        let (mut x, w) = (activations(device, &[rows, cols])?, parameters(device, &[HEAD])?);
        let (cos, sin) = (parameters(device, &angles)?, parameters(device, &angles)?);
        Ok(Box::new(move || run(&mut x, &w, &cos, &sin)))
    })
}

/// What an adapter made of Kronecker products does to each row, seen as 16 x (cols / 16).
fn mixed(device: &Device, shape: (usize, usize)) -> Case {
    const PARTS: usize = 16;
    let (rows, cols) = shape;
    let compute = device.natural_compute();
    let floor = (2.0 * bytes(device, compute, shape), (2 * rows * cols * PARTS) as f64);
    Case::new(named("mix_rows of 16", shape), compute, floor, move |device| {
        let x = activations(device, &[rows * PARTS, cols / PARTS])?;
        let w = parameters(device, &[PARTS, PARTS])?;
        Ok(Box::new(move || drop(ops::mix_rows(&x, &w, rows))))
    })
}

/// Rows are read once more than `copies` says, and written in a byte a value.
fn quantized(
    device: &Device,
    name: &str,
    compute: Compute,
    shape: (usize, usize),
    copies: f64,
    run: fn(&Tensor, &Tensor, &Tensor),
) -> Case {
    let (rows, cols) = shape;
    let moved = (1.0 + copies) * bytes(device, compute, shape) + (rows * cols) as f64;
    let make = move |device: &Device| -> Result<Run> {
        let x = activations(device, &[rows, cols])?;
        let (w, g) = (parameters(device, &[cols])?, parameters(device, &[cols])?);
        Ok(Box::new(move || run(&x, &w, &g)))
    };
    Case::new(named(name, shape), compute, (moved, 0.0), make)
}
