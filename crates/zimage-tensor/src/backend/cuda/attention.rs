//! Attention: which kernel serves which head, and the long heads that are served by products of matrices.

#[cfg(test)]
mod device_tests;
mod hopper;
#[cfg(all(test, feature = "cuda-emulator"))]
mod tests;

pub use hopper::Hopper;

use super::driver::{Address, Args, Element, Gemm, MatrixAt};
use super::{Attention, Buffer, Cuda, kernel_of};
use crate::meter::Kind;
use crate::{Compute, Mask};
use std::f32::consts::LOG2_E;

/// Queries of a block of `attention.cu` and `attention_hopper.cu`.
const QUERIES: usize = 128;
/// Threads of a block of `attention.cu`.
const FLASH_THREADS: u32 = 128;
/// Queries of a block of `attention_tiled`.
const TILED_QUERIES: usize = 64;
/// Values of a head that such a block sums.
const TILED_COLUMNS: usize = 128;
/// From this length on the scores of a head are kept in memory for a while: a block's sums would no longer fit into
/// registers, so that scores would be computed several times.
const LONG: usize = 256;

/// Bytes of scores that are in memory at once. It is 2048 queries of a picture of 1024x1024, which has 16384: enough
/// that the second product, whose result is 2048 x 512, has 64 tiles of 128 x 128 for the multiprocessors to share, and
/// little beside the 256 MB and more of the convolutions that come next. Tests have pictures of a few strips.
const STRIP_BYTES: usize = if cfg!(test) { 0 } else { 128 << 20 };

/// By what values are divided to become f16, whose largest is 65504: those of the models go beyond it. The smallest
/// step is 2^-17 then, far below the errors of sums. Queries and keys are normalized, and need nothing.
const F16_RANGE: f32 = 128.0;

/// A kernel of `attention.cu` or `attention_hopper.cu`.
#[derive(Clone, Copy, Debug)]
struct Flash {
    source: &'static str,
    name: &'static str,
    /// What is multiplied.
    element: Element,
    head_dim: usize,
    threads: u32,
    /// Bytes of a block's tiles of queries, keys and values.
    shared_bytes: usize,
}

impl Flash {
    /// The kernel of `attention.cu` for such heads, on a device that lets a block have so much shared memory.
    fn of(element: Element, head_dim: usize, shared_bytes: u32) -> Option<Flash> {
        // Where a block may have so much, a multiprocessor has room for two blocks with the larger tiles of keys.
        let is_large = shared_bytes > 160 << 10;
        let (name, keys) = match (element, head_dim) {
            (Element::Bf16, 128) if is_large => ("attention_128_by_64_bf16", 64),
            (Element::Bf16, 128) => ("attention_128_by_32_bf16", 32),
            (Element::Bf16, 64) => ("attention_64_by_64_bf16", 64),
            (Element::F16, 128) => ("attention_128_by_32_f16", 32),
            (Element::F16, 64) => ("attention_64_by_64_f16", 64),
            _ => return None,
        };
        let shared_bytes = element.bytes() * (QUERIES + 2 * keys) * head_dim;
        Some(Flash { source: "attention", name, element, head_dim, threads: FLASH_THREADS, shared_bytes })
    }
}

/// Operands in the element that is multiplied.
struct Operands<'a> {
    q: &'a Buffer,
    k: &'a Buffer,
    v: &'a Buffer,
    shape: Attention,
}

impl Operands<'_> {
    /// What the structs of all attention kernels begin with.
    fn args(&self, out: &Buffer) -> Args {
        let Attention { queries, keys, heads, kv_heads, .. } = self.shape;
        let args = Args::new().address(out.address()).address(self.q.address());
        let args = args.address(self.k.address()).address(self.v.address());
        args.size(queries).size(keys).size(heads).size(heads / kv_heads)
    }

    fn is_causal(&self) -> bool {
        self.shape.mask == Mask::Causal
    }

    /// Exponentials are powers of 2 in kernels.
    fn scale(&self) -> f32 {
        self.shape.scale() * LOG2_E
    }
}

impl Cuda {
    /// [`crate::ops::attention`].
    pub(super) fn attention(&self, q: &Buffer, k: &Buffer, v: &Buffer, shape: Attention) -> Buffer {
        let halves = match self.element() {
            // Exactness, or a device that has no bf16.
            Element::F32 if self.compute != Compute::Exact => Element::F16,
            element => element,
        };
        let kernel = Flash::of(halves, shape.head_dim, self.properties().shared_bytes);
        let kernel = kernel.map(|kernel| self.on_hopper(kernel));
        self.port.measure(Kind::Attention, shape.flop(), || {
            if let Some(kernel) = kernel {
                return self.flash(q, k, v, shape, kernel);
            }
            let [mut q_held, mut k_held, mut v_held] = [None, None, None];
            let operands = Operands {
                q: self.in_element(q, self.element(), &mut q_held),
                k: self.in_element(k, self.element(), &mut k_held),
                v: self.in_element(v, self.element(), &mut v_held),
                shape,
            };
            // Rows of halves must be at multiples of 16 bytes, as products of matrices like them.
            match shape.head_dim >= LONG && shape.head_dim.is_multiple_of(8) {
                true => self.in_strips(&operands),
                false => self.tiled(&operands),
            }
        })
    }

    fn flash(&self, q: &Buffer, k: &Buffer, v: &Buffer, shape: Attention, kernel: Flash) -> Buffer {
        let [mut q_held, mut k_held, mut v_held] = [None, None, None];
        let unscale = if kernel.element == Element::F16 { F16_RANGE } else { 1.0 };
        let operands = Operands {
            q: self.halves(q, kernel.element, 1.0, &mut q_held),
            k: self.halves(k, kernel.element, 1.0, &mut k_held),
            v: self.halves(v, kernel.element, unscale.recip(), &mut v_held),
            shape,
        };
        let out = self.take(self.element(), q.len());
        let args = operands.args(&out).size(operands.is_causal().into()).float(operands.scale()).float(unscale);
        let grid = [shape.queries.div_ceil(QUERIES), shape.heads, 1];
        self.run(kernel.source, kernel.name, grid, kernel.threads, kernel.shared_bytes, args);
        out
    }

    /// Values in bf16, or in f16 times a factor.
    fn halves<'b>(&self, x: &'b Buffer, element: Element, factor: f32, held: &'b mut Option<Buffer>) -> &'b Buffer {
        if element != Element::F16 {
            return self.in_element(x, element, held);
        }
        let mut floats = None;
        let floats = self.in_element(x, Element::F32, &mut floats);
        let out = self.take(element, x.len());
        let args = Args::new().address(out.address()).address(floats.address()).size(x.len()).float(factor);
        self.run("attention", "to_halves", [x.len().div_ceil(1024), 1, 1], 256, 0, args);
        held.insert(out)
    }

    fn tiled(&self, operands: &Operands) -> Buffer {
        let Attention { queries, heads, head_dim, .. } = operands.shape;
        let element = operands.q.element();
        let out = self.take(element, operands.q.len());
        let args = operands.args(&out).size(head_dim).size(operands.is_causal().into()).float(operands.scale());
        let grid = [queries.div_ceil(TILED_QUERIES), heads, head_dim.div_ceil(TILED_COLUMNS)];
        self.run("attention_tiled", kernel_of!(element, "attention_tiled"), grid, 256, 0, args);
        out
    }

    /// Some queries of a head at a time: their scores, which become probabilities in place, and what these weigh.
    fn in_strips(&self, operands: &Operands) -> Buffer {
        let Attention { queries, keys, heads, .. } = operands.shape;
        let out = self.take(operands.q.element(), operands.q.len());
        let stride = keys.max(1).next_multiple_of(8);
        let most = (STRIP_BYTES / (4 * stride) / QUERIES * QUERIES).clamp(QUERIES, queries.max(QUERIES)).min(queries);
        let scores = self.take(Element::F32, most * stride);
        for head in 0..heads {
            for first in (0..queries).step_by(most.max(1)) {
                let rows = most.min(queries - first);
                self.strip(operands, &out, Strip { scores: scores.address(), stride, head, first, rows });
            }
        }
        out
    }

    fn strip(&self, operands: &Operands, out: &Buffer, strip: Strip) {
        let Strip { scores, stride, head, first, rows } = strip;
        let Attention { keys, heads, kv_heads, head_dim, .. } = operands.shape;
        let element = out.element();
        let of_head = |x: &Buffer, heads: usize, first: usize, head: usize| MatrixAt {
            address: x.address().offset((first * heads + head) * head_dim * element.bytes()),
            element,
            stride: heads * head_dim,
        };
        let kv_head = head / (heads / kv_heads);
        let product = Gemm {
            m: rows,
            n: keys,
            k: head_dim,
            x: of_head(operands.q, heads, first, head),
            w: of_head(operands.k, kv_heads, 0, kv_head),
            w_is_transposed: true,
            y: MatrixAt { address: scores, element: Element::F32, stride },
            scale: operands.shape.scale(),
            bias: None,
        };
        self.port.attempt(|driver| driver.gemm(&product));
        let args = Args::new().address(scores).size(keys).size(stride).size(first).size(operands.is_causal().into());
        self.run("attention_tiled", kernel_of!(element, "softmax_rows"), [rows, 1, 1], 256, 0, args);
        let product = Gemm {
            n: head_dim,
            k: keys,
            x: MatrixAt { address: scores, element, stride: stride * Element::F32.bytes() / element.bytes() },
            w: of_head(operands.v, kv_heads, 0, kv_head),
            w_is_transposed: false,
            y: of_head(out, heads, first, head),
            scale: 1.0,
            ..product
        };
        self.port.attempt(|driver| driver.gemm(&product));
    }
}

/// Some queries of a head, and where their scores are.
struct Strip {
    scores: Address,
    /// Values from a query's scores to the next's.
    stride: usize,
    head: usize,
    first: usize,
    rows: usize,
}
