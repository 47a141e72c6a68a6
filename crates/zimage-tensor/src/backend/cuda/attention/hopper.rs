//! Whether heads of 128 in bf16 are served by `attention_hopper.cu`.
//!
//! It is preferred where it runs. But its products read shared memory by descriptions of how that is laid out, which
//! are data: one that a device took otherwise than the manual says would be no error, but other numbers. So before a
//! device uses it, it has to compute there what `attention.cu` computes.

use super::{Flash, QUERIES};
use crate::Mask;
use crate::backend::cuda::driver::Element;
use crate::backend::cuda::{Attention, Cuda};
use std::sync::OnceLock;

/// The generation whose products of warpgroups the kernel is made of; no later one has them.
const CAPABILITY: (u32, u32) = (9, 0);

/// The kernel.
pub(super) const KERNEL: Flash = Flash {
    source: "attention_hopper",
    name: "attention_128_hopper",
    element: Element::Bf16,
    head_dim: 128,
    threads: 256,
    // One tile of queries and two each of keys and values, from a multiple of 1024 bytes on.
    shared_bytes: 2 * 5 * QUERIES * 128 + 1024,
};

/// How far two kernels may be from each other, where values are up to 1: bf16 has steps of 2^-8 there, and weights and
/// results are rounded to it.
const TOLERANCE: f32 = 1.0 / 64.0;

/// Whether a device computes by the kernel what it should, once that was asked.
#[derive(Debug, Default)]
pub struct Hopper {
    agrees: OnceLock<bool>,
}

impl Cuda {
    /// The kernel for Hopper in place of one of `attention.cu` for the same heads, where there is one.
    pub(super) fn on_hopper(&self, kernel: Flash) -> Flash {
        let serves = (KERNEL.element, KERNEL.head_dim) == (kernel.element, kernel.head_dim);
        if serves
            && self.properties().capability == CAPABILITY
            && *self.hopper.agrees.get_or_init(|| self.is_as_expected(kernel))
        {
            return KERNEL;
        }
        kernel
    }

    /// Whether the kernel is as good as the other; a device on which it is not is slower than it could be, so that is said.
    fn is_as_expected(&self, other: Flash) -> bool {
        let agrees = self.agree(KERNEL, other);
        if !agrees {
            let device = &self.properties().name;
            tracing::warn!(
                "{} does not compute on {device} what {} does, which is used in its place",
                KERNEL.name,
                other.name
            );
        }
        agrees
    }

    /// Whether two kernels compute the same for some heads: with tiles that are full and one that is not, with queries
    /// that see few keys and many, and with scores from which each query has a few keys that count.
    pub(super) fn agree(&self, kernel: Flash, other: Flash) -> bool {
        if self.port.failure().is_some() {
            return false;
        }
        let [queries, keys, heads] = [150, 300, 2];
        let operand = |step: usize, rows: usize, factor: f32| {
            let value = move |i: usize| ((i * i + step * i) % 257) as f32 / 128.0 - 1.0;
            self.upload(&(0..rows * KERNEL.head_dim).map(|i| value(i) * factor).collect::<Vec<f32>>())
        };
        let (q, k, v) = (operand(1, queries * heads, 16.0), operand(2, keys, 1.0), operand(3, keys, 1.0));
        let agrees = [Mask::None, Mask::Causal].into_iter().all(|mask| {
            let shape = Attention { queries, keys, heads, kv_heads: 1, head_dim: KERNEL.head_dim, mask };
            let [found, expected] = [kernel, other].map(|kernel| self.download(&self.flash(&q, &k, &v, shape, kernel)));
            found.iter().zip(expected).all(|(found, expected)| (found - expected).abs() <= TOLERANCE)
        });
        // A kernel that does not run is one that is not used.
        self.port.take_failure().is_none() && agrees
    }
}
