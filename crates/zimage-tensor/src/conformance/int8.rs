//! Layers in 8 bits, by integer dot products and in fp8, against the exact ones of the reference.

use super::accelerators::accelerators_in_8_bits;
use super::cases::{tensor, weight};
use super::tolerances::{FP8, INT8};
use crate::delta::{Delta, Gain, Product};
use crate::{Activations, Compute, Device, Format, Linear, Mask, Tensor, Weight, ops};

const TOKENS: usize = 37;
const IN: usize = 704;
const OUT: usize = 150;

/// Runs a case on all devices that multiply 8 bits, with prepared weights and without.
fn check(name: &str, case: impl Fn(&Device, fn(Weight) -> Weight) -> Tensor) {
    check_on_cpu(name, &case);
    let expected = case(&Device::reference(), |weight| weight).into_vec();
    for device in accelerators_in_8_bits() {
        let tolerance = if device.compute() == Compute::Fp8 { FP8 } else { INT8 };
        let found = LAY_OUT.map(|lay_out| case(&device, lay_out).into_vec());
        let name = format!("{name} on {}", device.describe());
        device.check().unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_near(&name, &found[0], &expected, tolerance);
        assert!(found[0].iter().zip(&found[1]).all(|(a, b)| a.to_bits() == b.to_bits()), "{name}: bits differ");
    }
}

const LAY_OUT: [fn(Weight) -> Weight; 2] = [|weight| weight, Weight::prepared];

/// Runs a case on the CPU: the bits must be the same for all numbers of threads, and with prepared weights and without.
fn check_on_cpu(name: &str, case: impl Fn(&Device, fn(Weight) -> Weight) -> Tensor) {
    let expected = case(&Device::reference(), |weight| weight).into_vec();
    let mut first: Option<Vec<f32>> = None;
    for threads in [1, 2, 5] {
        let device = Device::cpu(threads).expect("a pool of threads").with_compute(Compute::Int8);
        for lay_out in LAY_OUT {
            let found = case(&device, lay_out).into_vec();
            assert_near(name, &found, &expected, INT8);
            let bits = first.get_or_insert_with(|| found.clone());
            assert!(bits.iter().zip(&found).all(|(a, b)| a.to_bits() == b.to_bits()), "{name}: bits differ");
        }
    }
}

fn assert_near(name: &str, found: &[f32], expected: &[f32], tolerance: f64) {
    let error = |(e, f): (&f32, &f32)| f64::from(e - f).powi(2);
    let error = expected.iter().zip(found).map(error).sum::<f64>().sqrt();
    let size = expected.iter().map(|e| f64::from(*e).powi(2)).sum::<f64>().sqrt();
    assert!(error < tolerance * size, "{name}: relative error {}", error / size);
}

fn layer(d: &Device, format: Format, lay_out: fn(Weight) -> Weight, bias: bool) -> Linear {
    Linear::new(lay_out(weight(d, format, OUT, IN)), bias.then(|| tensor(d, 3, &[OUT])))
}

#[test]
fn layers_in_8_bits_are_near_the_exact_ones() {
    for format in [Format::F32, Format::BF16, Format::Q8_0] {
        for bias in [false, true] {
            check(&format!("{format:?}"), |d, lay_out| {
                ops::project(&Activations::of(tensor(d, 1, &[TOKENS, IN])), &layer(d, format, lay_out, bias))
            });
        }
    }
}

#[test]
fn what_makes_activations_is_what_the_operations_make() {
    check("rms_norm", |d, lay_out| {
        let x = Activations::rms_norm(&tensor(d, 1, &[TOKENS, IN]), &tensor(d, 2, &[IN]), 1e-5);
        ops::project(&x, &layer(d, Format::F32, lay_out, false))
    });
    check("rms_norm_scaled", |d, lay_out| {
        let (x, scale) = (tensor(d, 1, &[TOKENS, IN]), tensor(d, 4, &[IN]));
        let x = Activations::rms_norm_scaled(&x, &tensor(d, 2, &[IN]), &scale, 1e-5);
        ops::project(&x, &layer(d, Format::F32, lay_out, false))
    });
    check("silu_mul", |d, lay_out| {
        let x = Activations::silu_mul(tensor(d, 1, &[TOKENS, IN]), &tensor(d, 2, &[TOKENS, IN]));
        ops::project(&x, &layer(d, Format::F32, lay_out, false))
    });
}

#[test]
fn attention_in_integers_is_near_the_exact_one() {
    for (mask, heads, kv_heads) in [(Mask::None, 2, 2), (Mask::Causal, 4, 2)] {
        check_on_cpu(&format!("attention {mask:?}"), |d, _| {
            let kv = |seed| tensor(d, seed, &[400, kv_heads * 64]);
            ops::attention(&tensor(d, 1, &[400, heads * 64]), &kv(2), &kv(3), heads, mask)
        });
    }
}

#[test]
fn adapters_add_to_layers_in_8_bits() {
    check("a low-rank branch and a gain", |d, lay_out| {
        let (down, up) = (weight(d, Format::F32, 4, IN), weight(d, Format::F32, OUT, 4));
        let gain = Gain::Rows((0..OUT).map(|i| 1.0 + i as f32 / OUT as f32).collect());
        let delta = Delta::new(d, OUT, Product::LowRank { down, up }, 0.5, 0.8, gain).expect("it fits");
        let layer = layer(d, Format::BF16, lay_out, false).with_delta(delta);
        ops::project(&Activations::of(tensor(d, 1, &[TOKENS, IN])), &layer)
    });
}

#[test]
fn an_exact_device_quantizes_nothing() {
    let d = &Device::cpu(2).expect("a pool of threads");
    assert_eq!(
        (d.compute(), Device::reference().with_compute(Compute::Int8).compute()),
        (Compute::Exact, Compute::Exact)
    );
    let layer = layer(d, Format::BF16, Weight::prepared, true);
    let exact = ops::linear(&tensor(d, 1, &[TOKENS, IN]), &layer).into_vec();
    assert_eq!(ops::project(&Activations::of(tensor(d, 1, &[TOKENS, IN])), &layer).into_vec(), exact);
}

#[test]
fn a_prepared_weight_takes_what_was_predicted() {
    // 3 panels of 64 features; 2 chunks of 352 columns, 384 by padding to lines, with 8 lines of scales each.
    assert_eq!(Weight::prepared_bytes(OUT, IN), 3 * 64 * (704 + 2 * 8));
}
