//! On the emulated device.

use crate::conformance::{tensor, weight};
use crate::ops::{self, Finding};
use crate::{Activations, Compute, Device, Error, Format, Linear, Mask, Recorded, Result, Tensor};

fn emulated(compute: Compute) -> Device {
    Device::emulated_cuda(1 << 30).expect("a C++ compiler").with_compute(compute)
}

/// A layer whose weight stays on the device.
fn layer(device: &Device, rows: usize) -> Linear {
    Linear::new(weight(device, Format::BF16, rows, 64).resident(), None)
}

/// Some of each that can be recorded: kernels, products, copies, and what is set before it is looked for.
fn work(x: &Tensor, scale: &Tensor, layers: &[Linear; 2]) -> (Tensor, Finding) {
    let mut y = ops::project(&Activations::rms_norm_scaled(x, scale, scale, 1e-5), &layers[0]);
    ops::silu(&mut y);
    let y = ops::concat_rows(&y, x);
    let y = ops::attention(&y, &y, &y, 2, Mask::None);
    let y = ops::linear(&ops::slice_rows(&y, 1, y.rows()), &layers[1]);
    let finding = ops::find_non_finite(&y);
    (y, finding)
}

fn record(x: &Tensor, scale: &Tensor, layers: &[Linear; 2]) -> Recorded<(Tensor, Finding)> {
    let recorded = x.device().record(&[x, scale], |inputs| Ok::<_, Error>(work(&inputs[0], &inputs[1], layers)));
    recorded.expect("all of it can be recorded").expect("CUDA records")
}

fn inputs(device: &Device, seed: u64) -> (Tensor, Tensor) {
    (tensor(device, seed, &[5, 64]), tensor(device, seed + 1, &[64]))
}

fn bits(x: &Tensor) -> Vec<u32> {
    x.to_vec().iter().map(|value| value.to_bits()).collect()
}

#[test]
fn recorded_work_gives_the_bits_that_it_gives_when_it_is_done() {
    for compute in [Compute::Exact, Compute::Bf16, Compute::F16, Compute::Fp8, Compute::Int8] {
        let device = emulated(compute);
        let layers = [64, 40].map(|rows| layer(&device, rows));
        let done = |seed| {
            let (x, scale) = inputs(&device, seed);
            bits(&work(&x, &scale, &layers).0)
        };
        let expected = [0, 10, 20].map(done);
        let (x, scale) = inputs(&device, 0);
        let recorded = record(&x, &scale, &layers);
        for at in [2, 0, 1, 1, 2] {
            let (x, scale) = inputs(&device, 10 * at as u64);
            let (y, finding) = recorded.run(&[&x, &scale]).expect("it is there");
            assert_eq!((bits(y), finding.wait()), (expected[at].clone(), None), "{compute:?}, inputs {at}");
            assert_eq!(bits(&y.on(&device)), expected[at], "{compute:?}, copied");
        }
        device.check().expect("nothing went wrong");
    }
}

#[test]
fn a_value_that_is_no_number_is_found_in_the_run_that_has_it() {
    let device = emulated(Compute::Bf16);
    let layers = [64, 40].map(|rows| layer(&device, rows));
    let (x, scale) = inputs(&device, 0);
    work(&x, &scale, &layers);
    let recorded = record(&x, &scale, &layers);
    let broken = Tensor::from_vec(&device, &[5, 64], vec![f32::NAN; 5 * 64]).expect("as many values");
    for (x, found) in [(&x, None), (&broken, Some(0)), (&x, None)] {
        assert_eq!(recorded.run(&[x, &scale]).expect("it is there").1.wait(), found);
    }
}

#[test]
fn a_recording_has_the_memory_of_the_work_before_it_until_it_is_dropped() {
    let device = emulated(Compute::Bf16);
    let layers = [64, 40].map(|rows| layer(&device, rows));
    let _memory = device.keep_memory();
    let (x, scale) = inputs(&device, 0);
    let expected = bits(&work(&x, &scale, &layers).0);
    let held = device.held_bytes();
    let recorded = record(&x, &scale, &layers);
    let small = 4 * (5 * 64 + 64) + 256;
    assert!(device.held_bytes() <= held + small, "{} of {held} and two inputs", device.held_bytes());
    let memory = device.memory();
    assert_eq!(memory.live_bytes, memory.held_bytes, "all that was free is the recording's");
    recorded.run(&[&x, &scale]).expect("it is there");
    // Whatever is done beside it, in memory that would have fitted.
    let others: Vec<Tensor> = (1..4).map(|seed| work(&inputs(&device, seed).0, &scale, &layers).0).collect();
    let before: Vec<_> = others.iter().map(bits).collect();
    assert_eq!(bits(&recorded.run(&[&x, &scale]).expect("it is there").0), expected);
    assert_eq!(others.iter().map(bits).collect::<Vec<_>>(), before);
    drop(others);
    let beside = device.held_bytes();
    drop(recorded);
    assert!(device.held_bytes() + 4096 < beside, "{} of {beside}", device.held_bytes());
    let recorded = record(&x, &scale, &layers);
    device.release_memory();
    assert!(recorded.run(&[&x, &scale]).is_none(), "its memory went back before");
    drop((recorded, x, scale, layers));
    device.release_memory();
    assert_eq!(device.held_bytes(), 0);
}

#[test]
fn what_cannot_be_recorded_is_said_and_leaves_the_device_as_it_was() {
    let device = emulated(Compute::Bf16);
    let layers = [64, 40].map(|rows| layer(&device, rows));
    let (x, scale) = inputs(&device, 0);
    let refused = |work: &dyn Fn(&Tensor)| {
        let recorded: Result<_> = device.record(&[&x], |inputs| {
            work(&inputs[0]);
            Ok(())
        });
        let error = recorded.expect_err("it is refused").to_string();
        device.check().expect("the device has not failed");
        error
    };
    let error = refused(&|x| drop(x.to_vec()));
    assert_eq!(error, "cuda:0: a copy of 1280 bytes to main memory cannot be recorded");
    let error = refused(&|x| drop(ops::linear(x, &layers[0])));
    assert!(error.contains("from main memory cannot be recorded"), "its weight is not there: {error}");
    let streamed = Linear::new(weight(&device, Format::BF16, 40, 64), None);
    for _ in 0..2 {
        let error = refused(&|x| drop(ops::linear(x, &streamed)));
        assert_eq!(error, "cuda:0: a weight that is brought over for each use cannot be recorded");
        // Which changes nothing about how it is brought.
        let there = Linear::new(streamed.weight().clone().resident(), None);
        assert_eq!(bits(&ops::linear(&x, &streamed)), bits(&ops::linear(&x, &there)));
    }
    let own = || Error::Threads { threads: 0, reason: "its own".into() };
    let error = device.record(&[&x], |_| Err::<(), Error>(own())).expect_err("that of the work");
    assert_eq!(error.to_string(), own().to_string());
    let expected = bits(&work(&x, &scale, &layers).0);
    let recorded = record(&x, &scale, &layers);
    assert_eq!(bits(&recorded.run(&[&x, &scale]).expect("it is there").0), expected);
}

#[test]
fn a_device_without_queues_records_nothing() {
    let device = Device::cpu(1).expect("a thread");
    let x = tensor(&device, 0, &[3]);
    let recorded = device.record(&[&x], |_| -> Result<()> { panic!("the work is not asked for") });
    assert!(recorded.expect("no error").is_none());
}
