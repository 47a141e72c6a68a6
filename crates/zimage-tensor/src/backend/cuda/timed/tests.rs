use crate::conformance::tensor;
use crate::meter::Kind;
use crate::{Device, Mask, ops};
use std::time::{Duration, Instant};

#[test]
fn what_is_put_into_the_queue_is_timed_and_nothing_before_it() {
    let device = Device::emulated_cuda(1 << 30).expect("a C++ compiler");
    let Device::Cuda(cuda) = &device else { panic!("CUDA's device") };
    let x = tensor(&device, 1, &[32, 128]);
    let attend = || drop(ops::attention(&x, &x, &x, 1, Mask::None));
    let started = Instant::now();
    attend();
    let before = cuda.work(Kind::Attention);
    let time = cuda.elapsed(attend);
    let work = cuda.work(Kind::Attention) - before;
    assert!(work.wall > Duration::ZERO && time >= work.wall, "{time:?} around {work:?}");
    assert!(time + before.wall <= started.elapsed(), "{time:?} after {before:?}");
    device.check().expect("no failure");
}
