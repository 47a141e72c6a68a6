//! Linear layers in every way to compute, and from weights that are quantized in their files: what such a weight costs is
//! the difference from the line of bf16 with as many rows.

use crate::gauge::{Case, WAYS};
use crate::inputs::{activations, layer, stored, stored_apart, stored_bytes};
use crate::sizes::{HEAD, Sizes};
use zimage_kernels::blocks::{ScaleType, Scaled, ScaledEncoder};
use zimage_tensor::{Activations, Compute, Device, Format, Stored, ops};

/// How weights are stored.
#[derive(Clone, Copy)]
enum Kept {
    Rows(Format),
    Affine(u8),
}

impl Kept {
    fn name(self) -> String {
        match self {
            Kept::Rows(format) => format.name().into(),
            Kept::Affine(bits) => format!("mlx{bits}"),
        }
    }

    fn stored(self, rows: usize, cols: usize) -> Stored {
        match self {
            Kept::Rows(format) => stored(format, rows, cols),
            Kept::Affine(bits) => stored_apart(affine(bits), rows, cols),
        }
    }
}

fn affine(bits: u8) -> ScaledEncoder {
    Scaled::affine(bits, 64, ScaleType::BF16).encoder().expect("a format that can be written: this is a bug")
}

/// The layers of a block at the tokens of a picture, of a caption and of one row; those of the text encoder; and those
/// that have one row in each step.
pub fn cases(device: &Device, sizes: &Sizes) -> Vec<Case> {
    let Sizes { dim, hidden, time, text_dim, text_hidden, text_heads: [heads, kv_heads], caption, .. } = *sizes;
    let natural = device.natural_compute();
    let bf16 = Kept::Rows(Format::BF16);
    let kept = [Kept::Rows(Format::Q8_0), Kept::Rows(Format::Q4_0), Kept::Affine(4), Kept::Affine(8)];
    let ways = WAYS.into_iter().filter(|way| *way != Compute::Exact && device.supports(*way).is_ok());
    let ways: Vec<(Kept, Compute)> = ways.map(|way| (bf16, way)).chain(kept.map(|kept| (kept, natural))).collect();
    let mut cases = Vec::new();
    for rows in [sizes.tokens(), caption, 1] {
        for &(kept, compute) in &ways {
            let layers = [(dim, dim), (dim, hidden), (hidden, dim)];
            cases.extend(layers.map(|layer| case(device, kept, compute, rows, layer)));
        }
    }
    let (q, kv) = (heads * HEAD, kv_heads * HEAD);
    let text = [(text_dim, q), (text_dim, kv), (q, text_dim), (text_dim, text_hidden), (text_hidden, text_dim)];
    cases.extend(text.map(|layer| case(device, bf16, natural, caption, layer)));
    cases.push(case(device, bf16, natural, caption, (text_dim, dim)));
    // Patches of 2x2 latents of 16 channels come in and go out.
    cases.push(case(device, bf16, natural, sizes.picture, (64, dim)));
    cases.push(case(device, bf16, natural, sizes.picture, (dim, 64)));
    cases.push(case(device, bf16, natural, 1, (time, 4 * dim)));
    cases
}

/// A layer `(from, to)` for so many rows. Weight, rows and result are moved once; rows in 8 bits were made before.
fn case(device: &Device, kept: Kept, compute: Compute, rows: usize, (from, to): (usize, usize)) -> Case {
    let width = device.clone().with_compute(compute).activation_bytes() as f64;
    let is_narrow = matches!(compute, Compute::Fp8 | Compute::Int8);
    let values = (from * to) as f64;
    let weight_bytes = match kept {
        _ if is_narrow => values,
        Kept::Rows(Format::BF16) => 2.0 * values,
        // One row of any: bytes grow with the rows.
        _ => stored_bytes(&kept.stored(1, from)) * to as f64,
    };
    let read = if is_narrow { 1.0 } else { width };
    let bytes = weight_bytes + (rows * from) as f64 * read + (rows * to) as f64 * width;
    let name = format!("linear.{} {rows} x {from} -> {to}", kept.name());
    Case::new(name, compute, (bytes, 2.0 * rows as f64 * values), move |device| {
        let layer = layer(device, &kept.stored(to, from))?;
        let x = Activations::of(activations(device, &[rows, from])?);
        Ok(Box::new(move || drop(ops::project(&x, &layer))))
    })
}
