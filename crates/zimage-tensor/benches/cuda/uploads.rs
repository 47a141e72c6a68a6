//! Weights on their way to the device, by the link between main memory and it. Their use is a product with one row, which
//! is short beside it.

use crate::Result;
use crate::gauge::{Case, Floor, Run};
use crate::inputs::{activations, layer, stored, stored_bytes};
use crate::sizes::Sizes;
use zimage_tensor::{Compute, Device, Format, Linear, Stored, Tensor, Weight, ops};

/// Weights that are streamed in turn: more than there are slots for.
const STREAMED: usize = 4;

/// A weight that is brought over for each use, from pinned memory; and weights that stay, when they are used first: as they
/// are, rounded to bf16, and widened from a format and laid out in 8 bits.
pub fn cases(device: &Device, sizes: &Sizes) -> Vec<Case> {
    let Sizes { dim, hidden, .. } = *sizes;
    let natural = device.natural_compute();
    let shape = (hidden, dim);
    let mut cases = vec![
        case("streamed", natural, Format::BF16, shape, |device, stored| {
            let weight = || Ok(Linear::new(Weight::new(device, stored.clone(), 0..stored.rows)?, None));
            let layers = (0..STREAMED).map(|_| weight()).collect::<Result<Vec<Linear>>>()?;
            let x = activations(device, &[1, stored.cols])?;
            let mut turn = 0;
            Ok(Box::new(move || {
                drop(ops::linear(&x, &layers[turn % STREAMED]));
                turn += 1;
            }))
        }),
        case("placed", natural, Format::BF16, shape, placed),
        case("placed", natural, Format::F32, shape, placed),
        case("placed", natural, Format::Q8_0, shape, placed),
    ];
    for compute in [Compute::Fp8, Compute::Int8].into_iter().filter(|way| device.supports(*way).is_ok()) {
        for format in [Format::BF16, Format::Q8_0, Format::Q4_0] {
            cases.push(case("placed", compute, format, shape, placed));
        }
    }
    cases.push(values(natural, (sizes.tokens(), dim)));
    cases
}

fn case(
    name: &str,
    compute: Compute,
    format: Format,
    (rows, cols): (usize, usize),
    make: fn(&Device, Stored) -> Result<Run>,
) -> Case {
    let bytes = stored_bytes(&stored(format, 1, cols)) * rows as f64;
    let name = format!("upload, {name}, {} {rows} x {cols}", format.name());
    let make = Box::new(move |device: &Device| make(device, stored(format, rows, cols)));
    Case { name, compute, floor: Floor::Link { bytes }, make }
}

/// Each use is the first one of a new weight, from memory that is not pinned.
fn placed(device: &Device, stored: Stored) -> Result<Run> {
    let device = device.clone();
    let x = activations(&device, &[1, stored.cols])?;
    let once = move || {
        let layer = layer(&device, &stored).expect("bytes that were counted: this is a bug");
        drop(ops::project(&zimage_tensor::Activations::of(ops::slice_rows(&x, 0, 1)), &layer));
    };
    Ok(Box::new(once))
}

/// Values of a tensor, there and back.
fn values(compute: Compute, (rows, cols): (usize, usize)) -> Case {
    let bytes = (2 * 4 * rows * cols) as f64;
    let make = move |device: &Device| -> Result<Run> {
        let (device, values) = (device.clone(), vec![0.5; rows * cols]);
        Ok(Box::new(move || {
            let x = Tensor::from_vec(&device, &[rows, cols], values.clone()).expect("their number: this is a bug");
            std::hint::black_box(x.to_vec());
        }))
    };
    let name = format!("upload and download, f32 {rows} x {cols}");
    Case { name, compute, floor: Floor::Link { bytes }, make: Box::new(make) }
}
