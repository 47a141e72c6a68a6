//! How a case is timed, and what the device can do at best.
//!
//! Times are those of the device between two moments in its queue. A plug of large products goes before them, so that
//! what is timed is queued before it begins and a short kernel does not wait for the host; what the host takes to queue
//! it is told beside. Operands of repetitions differ where they would fit into the L2 cache, since in the model they come
//! from memory.

use crate::Result;
use crate::inputs::{activations, layer, stored};
use crate::sizes::Sizes;
use std::cell::RefCell;
use std::time::{Duration, Instant};
use zimage_tensor::{Activations, Compute, Device, Format, KeepMemory, ops};

/// All ways to compute.
pub const WAYS: [Compute; 5] = [Compute::Bf16, Compute::Fp8, Compute::Int8, Compute::F16, Compute::Exact];

/// About how long the repetitions of a run take.
const RUN: Duration = Duration::from_millis(10);
/// Products of a plug.
const PLUG: usize = 4;

/// An operation that can be run again and again.
pub type Run = Box<dyn FnMut()>;
/// Makes an operation with operands of its own.
type Make = Box<dyn Fn(&Device) -> Result<Run>>;

/// What a case cannot do without.
#[derive(Clone, Copy)]
pub enum Floor {
    /// Bytes to and from the device's memory, and operations.
    Device { bytes: f64, flop: f64 },
    /// Bytes from main memory. How fast they can come is not known: it is what is measured.
    Link { bytes: f64 },
}

/// Something to measure.
pub struct Case {
    /// `linear.q8_0 64 x 3840 -> 10240`.
    pub name: String,
    /// How the device computes.
    pub compute: Compute,
    /// What it cannot do without.
    pub floor: Floor,
    /// The operation.
    pub make: Make,
}

impl Case {
    /// A case on the device's memory.
    pub fn new(
        name: impl Into<String>,
        compute: Compute,
        (bytes, flop): (f64, f64),
        make: impl Fn(&Device) -> Result<Run> + 'static,
    ) -> Case {
        Case { name: name.into(), compute, floor: Floor::Device { bytes, flop }, make: Box::new(make) }
    }

    fn bytes(&self) -> f64 {
        match self.floor {
            Floor::Device { bytes, .. } | Floor::Link { bytes } => bytes,
        }
    }

    fn is_on_device(&self) -> bool {
        matches!(self.floor, Floor::Device { .. })
    }
}

/// What was measured of a case, in seconds.
pub struct Measured {
    /// The median of the runs, each divided by its repetitions.
    pub seconds: f64,
    /// The fastest of them.
    pub least_seconds: f64,
    /// What the host took to queue it.
    pub host_seconds: f64,
    /// The first use of all operands, kernels that are compiled and weights that are brought over among it.
    pub first_seconds: f64,
    /// The floor at the device's measured rates.
    pub floor_seconds: Option<f64>,
}

/// The best rates of a device.
#[derive(Clone, Default)]
pub struct Peaks {
    /// Products of matrices, in operations a second.
    pub flops: Vec<(Compute, f64)>,
    /// Reading and writing memory, in bytes a second.
    pub memory: f64,
}

/// What times cases on a device.
pub struct Gauge<'a> {
    device: Device,
    sizes: &'a Sizes,
    /// What the device can do at best.
    pub peaks: Peaks,
    plug: RefCell<Run>,
    _memory: KeepMemory,
}

impl<'a> Gauge<'a> {
    /// Measures what the device can do at best: a product of square matrices in every way that it computes, and the sum
    /// of two vectors, which reads two and writes one.
    pub fn new(device: &Device, sizes: &'a Sizes) -> Result<Gauge<'a>> {
        let natural = device.clone().with_compute(device.natural_compute());
        let plug = RefCell::new(square(&natural, sizes.peak)?);
        let _memory = device.keep_memory();
        let mut gauge = Gauge { device: device.clone(), sizes, peaks: Peaks::default(), plug, _memory };
        for compute in WAYS.into_iter().filter(|compute| device.supports(*compute).is_ok()) {
            let flop = 2.0 * (sizes.peak as f64).powi(3);
            let product = Case::new("", compute, (f64::INFINITY, flop), {
                let side = sizes.peak;
                move |device| square(device, side)
            });
            gauge.peaks.flops.push((compute, flop / gauge.measure(&product)?.least_seconds));
        }
        let shape = [4 * sizes.peak, sizes.peak];
        let bytes = 3.0 * (shape[0] * shape[1]) as f64 * natural.activation_bytes() as f64;
        let sum = Case::new("", natural.compute(), (f64::INFINITY, 0.0), move |device| {
            let (mut x, y) = (activations(device, &shape)?, activations(device, &shape)?);
            Ok(Box::new(move || ops::add(&mut x, &y)))
        });
        gauge.peaks.memory = bytes / gauge.measure(&sum)?.least_seconds;
        Ok(gauge)
    }

    /// Times a case.
    pub fn measure(&self, case: &Case) -> Result<Measured> {
        let device = self.device.clone().with_compute(case.compute);
        let copies = (self.sizes.cold_bytes / case.bytes()).ceil().clamp(1.0, 32.0) as usize;
        let mut runs = (0..copies).map(|_| (case.make)(&device)).collect::<Result<Vec<Run>>>()?;
        let started = Instant::now();
        self.timed(&mut runs, copies);
        device.check()?;
        let first_seconds = started.elapsed().as_secs_f64();
        let once = self.timed(&mut runs, copies).0 / copies as f64;
        let repetitions = (RUN.as_secs_f64() / once.max(1e-9)).ceil() as usize;
        let repetitions = repetitions.clamp(1, self.sizes.repetitions);
        let mut times: Vec<(f64, f64)> = Vec::new();
        for _ in 0..self.sizes.samples {
            if case.is_on_device() {
                (0..PLUG).for_each(|_| (self.plug.borrow_mut())());
            }
            let (time, host) = self.timed(&mut runs, repetitions);
            times.push((time / repetitions as f64, host / repetitions as f64));
        }
        device.check()?;
        drop(runs);
        self.device.release_memory();
        times.sort_by(|a, b| a.0.total_cmp(&b.0));
        let (seconds, host_seconds) = times[times.len() / 2];
        let floor_seconds = self.floor(case);
        Ok(Measured { seconds, least_seconds: times[0].0, host_seconds, first_seconds, floor_seconds })
    }

    /// Seconds of the device for so many repetitions, and those in which the host queued them.
    fn timed(&self, runs: &mut [Run], repetitions: usize) -> (f64, f64) {
        let Device::Cuda(cuda) = &self.device else { panic!("a device of CUDA: this is a bug") };
        let (copies, mut host) = (runs.len(), Duration::ZERO);
        let time = cuda.elapsed(|| {
            let started = Instant::now();
            (0..repetitions).for_each(|i| runs[i % copies]());
            host = started.elapsed();
        });
        (time.as_secs_f64(), host.as_secs_f64())
    }

    fn floor(&self, case: &Case) -> Option<f64> {
        let Floor::Device { bytes, flop } = case.floor else { return None };
        let (_, flops) = self.peaks.flops.iter().find(|(compute, _)| *compute == case.compute)?;
        Some((bytes / self.peaks.memory).max(flop / flops))
    }
}

/// A product of square matrices.
fn square(device: &Device, side: usize) -> Result<Run> {
    let layer = layer(device, &stored(Format::BF16, side, side))?;
    let x = Activations::of(activations(device, &[side, side])?);
    Ok(Box::new(move || drop(ops::project(&x, &layer))))
}
