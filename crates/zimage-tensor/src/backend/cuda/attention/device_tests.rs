//! A test of a real Hopper. Where there is none it says so and is over.

use super::super::native;
use super::*;
use std::time::Duration;

/// How often a kernel is timed, after one run that loads it.
const RUNS: u32 = 10;

fn time_of(cuda: &Cuda, run: impl Fn() -> Buffer) -> Duration {
    run();
    let mark = || cuda.port.attempt(|driver| driver.mark()).expect("a moment");
    let from = mark();
    (0..RUNS).for_each(|_| drop(run()));
    let to = mark();
    cuda.port.attempt(|driver| driver.elapsed(from, to)).expect("a time") / RUNS
}

#[test]
fn a_hopper_takes_the_kernel_that_is_for_it() {
    let skipped = |why: &str| println!("a_hopper_takes_the_kernel_that_is_for_it is skipped: {why}");
    let cuda = match native::open(0) {
        Ok(driver) => Cuda::on(driver).with_compute(Compute::Bf16),
        Err(error) => return skipped(error.to_string().lines().next().unwrap_or_default()),
    };
    if cuda.properties().capability != (9, 0) {
        return skipped(&cuda.properties().name);
    }
    let general = Flash::of(Element::Bf16, 128, cuda.properties().shared_bytes).expect("heads of 128");
    let special = cuda.on_hopper(general);
    assert_eq!(special.source, "attention_hopper", "it computes here what the other one does");
    let shape = Attention { queries: 4096, keys: 4096, heads: 30, kv_heads: 30, head_dim: 128, mask: Mask::None };
    let values = |seed: usize| (0..4096 * 30 * 128).map(move |i| ((i * 7 + i / 128 * seed) % 255) as f32 / 128.0 - 1.0);
    let [q, k, v] = [1, 2, 3].map(|seed| cuda.cast(&cuda.upload(&values(seed).collect::<Vec<f32>>()), Element::Bf16));
    for kernel in [general, special, general, special] {
        let time = time_of(&cuda, || cuda.flash(&q, &k, &v, shape, kernel));
        println!("{}: {time:?}, {:.0} TFLOP/s", kernel.name, shape.flop() / time.as_secs_f64() / 1e12);
    }
    cuda.check().expect("nothing went wrong");
}
