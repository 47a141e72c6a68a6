use super::*;

#[test]
fn rates_are_those_of_some_processor() {
    for level in Level::supported() {
        for (what, rate) in [("f32", f32_gflops(level)), ("int8", int8_gops(level))] {
            assert!((0.05..100_000.0).contains(&rate), "{level:?} {what}: {rate}");
        }
    }
    let read = read_gbytes_per_s();
    assert!((0.1..10_000.0).contains(&read), "{read} GB/s");
}

#[test]
fn the_clock_counts_work() {
    let Some(before) = thread_time() else { return };
    black_box(multiply_adds(1 << 16));
    let after = thread_time().expect("the clock was there before");
    assert!(after > before && process_time().expect("a clock of the process") >= after - before);
}
