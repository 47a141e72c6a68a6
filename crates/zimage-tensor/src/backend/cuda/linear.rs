//! Linear layers: weights in device memory, brought into the element of the product where they are not in it.
//!
//! ```text
//! compute       x and W                           product         then
//! exact         f32                               f32             + bias
//! bf16          bf16                              f32, to bf16    + bias
//! f16           f16, each row of both times 2^n   f32             * 2^-n of both, + bias
//! fp8, int8     blocks: 8 bits, rows with scales  bf16, i32       * both scales, + bias; else as bf16, or f16
//! ```
//! A quantized weight stays as it is, which is what makes small cards work. For many rows it is widened right before the
//! product into memory of the pool, which for 4096 rows costs a tenth of the product's time; for few rows that would take
//! longer than the product, and a kernel decodes the weight while it multiplies (`fused.rs`):
//!
//! ```text
//! weight                        rows of x             multiplied by
//! plain, in the element of W    any                   cuBLASLt
//! 16 or 32 bits, another        any                   cuBLASLt, once it is laid out or widened
//! quantized                     few, see `fused.rs`   kernels/linear_quantized.cu, as it is stored
//!                               more                  cuBLASLt, once it is widened
//! ```
//! Where layers multiply 8 bits the weight is laid out so once, and takes a byte a value whatever its file has.

mod fused;
mod placed;
mod stored;
#[cfg(all(test, feature = "cuda-emulator"))]
mod tests;

pub use placed::Placed;
pub use stored::{StoredAt, plane_offsets};

use super::driver::{Address, Args, Element, Gemm, MatrixAt};
use super::memory::Buffer;
use super::{AMPERE, Cuda, THREADS};
use crate::meter::Kind;
use crate::{Compute, Weight};
use fused::Fused;

impl Cuda {
    /// `x W^T (+ bias)`.
    pub(super) fn linear(&self, x: &Buffer, weight: &Weight, bias: Option<&Buffer>) -> Buffer {
        let rows = x.len() / weight.cols();
        let x = StoredAt::plain(x.element(), rows, weight.cols(), x.address());
        self.weigh(&x, weight, self.product_element(), bias)
    }

    /// Rows of the table, in f32. They are few, and are widened on the CPU: a table takes no device memory.
    pub(super) fn embedding(&self, table: &Weight, ids: &[u32]) -> Buffer {
        let mut rows = vec![0.0; ids.len() * table.cols()];
        let matrix = table.matrix();
        for (row, &id) in rows.chunks_exact_mut(table.cols()).zip(ids) {
            matrix.decode_rows(id as usize..id as usize + 1, row);
        }
        self.upload(&rows)
    }

    /// What is multiplied, but for the layers in 8 bits.
    pub(in crate::backend::cuda) fn product_element(&self) -> Element {
        match self.compute() {
            Compute::Exact => Element::F32,
            Compute::F16 => Element::F16,
            Compute::Bf16 | Compute::Fp8 => Element::Bf16,
            Compute::Int8 if self.properties().capability >= AMPERE => Element::Bf16,
            Compute::Int8 => Element::F16,
        }
    }

    /// The product of both in `element`; `x` is in memory of its own or in that of a buffer.
    pub(super) fn weigh(&self, x: &StoredAt, weight: &Weight, element: Element, bias: Option<&Buffer>) -> Buffer {
        if x.rows * weight.rows() == 0 {
            return self.take(self.element(), 0);
        }
        self.with_weight(weight, element, |w| {
            self.port.measure(Kind::Linear, weight.flop(x.rows), || match Fused::of(x.rows, w, element) {
                Some(kernel) => self.multiply_stored(kernel, x, w, bias),
                None => self.multiply_widened(x, w, element, bias),
            })
        })
    }

    /// The product of both in `element`, into which they are brought where they are not in it.
    fn multiply_widened(&self, x: &StoredAt, w: &StoredAt, element: Element, bias: Option<&Buffer>) -> Buffer {
        self.with_element(x, element, |x| self.with_element(w, element, |w| self.multiply(x, w, element, bias)))
    }

    /// Gives `work` the weight in device memory: where it stays, or where it was brought for this use.
    fn with_weight<T>(&self, weight: &Weight, element: Element, work: impl FnOnce(&StoredAt) -> T) -> T {
        let Some(place) = weight.placed() else { return self.with_streamed(weight, work) };
        if let Some(placed) = place.get() {
            return work(&placed.at());
        }
        let placed = self.place(weight, element);
        // What could not be brought over is not kept: there may be memory for it later, when somebody was told.
        match self.port.failure() {
            None => work(&place.get_or_init(|| placed).at()),
            Some(_) => work(&placed.at()),
        }
    }

    /// Gives `work` the matrix in the element of the product, in memory of the pool if it is not in it already.
    fn with_element<T>(&self, from: &StoredAt, element: Element, work: impl FnOnce(&StoredAt) -> T) -> T {
        if from.is_in(element) {
            return work(from);
        }
        let (made, bytes) = StoredAt::made(element, from.rows, from.cols);
        let memory = self.take(Element::I8, bytes);
        let made = made.located(memory.address());
        self.convert(from, &made, element);
        work(&made)
    }

    /// Writes a matrix once more, in the element of a product.
    pub(super) fn convert(&self, from: &StoredAt, to: &StoredAt, element: Element) {
        let [decode, quantize] = from.kernels();
        let MatrixAt { address, stride, .. } = to.matrix(element);
        let args = from.args().address(address);
        match to.row_scales() {
            None => {
                let groups = from.rows * from.cols.div_ceil(8);
                let args = args.size(element.code() as usize).size(0);
                self.run("decode", decode, [groups.div_ceil(THREADS as usize), 1, 1], THREADS, 0, args);
            }
            Some(scales) => {
                let keeps = from.keeps_values(element);
                let args = args.address(scales).size(element.code() as usize).size(stride).size(keeps.into()).size(0);
                self.run("quantize", quantize, [to.padded_rows(), 1, 1], THREADS, 0, args);
            }
        }
    }

    /// The product of matrices that are both in `element`.
    fn multiply(&self, x: &StoredAt, w: &StoredAt, element: Element, bias: Option<&Buffer>) -> Buffer {
        let scales = x.row_scales().zip(w.row_scales());
        let sums = match element {
            Element::F16 => Element::F32,
            Element::F8 => Element::Bf16,
            Element::I8 => Element::I32,
            Element::F32 | Element::Bf16 | Element::I32 => self.element(),
        };
        let mut held = None;
        let bias = bias.map(|bias| self.in_element(bias, Element::F32, &mut held));
        let n = w.padded_rows();
        let y = self.take(sums, x.rows * n);
        let gemm = Gemm {
            m: x.rows,
            n,
            k: x.padded_cols(),
            x: x.matrix(element),
            w: w.matrix(element),
            w_is_transposed: true,
            y: MatrixAt { address: y.address(), element: sums, stride: n },
            scale: 1.0,
            bias: bias.filter(|_| scales.is_none()).map(Buffer::address),
        };
        self.port.attempt(|driver| driver.gemm(&gemm));
        match scales {
            None => y,
            Some((x_scales, w_scales)) => self.rescale(y, [x.rows, w.rows, n], x_scales, w_scales, bias),
        }
    }

    /// What sums of scaled rows, `n` of them for the first `cols` of each of `rows`, stand for.
    fn rescale(
        &self,
        sums: Buffer,
        [rows, cols, n]: [usize; 3],
        x_scales: Address,
        w_scales: Address,
        bias: Option<&Buffer>,
    ) -> Buffer {
        let element = self.element();
        let kernel = match (sums.element(), element) {
            (Element::I32, Element::F32) => "rescale_i32_to_f32",
            (Element::I32, Element::Bf16) => "rescale_i32_to_bf16",
            (Element::Bf16, Element::Bf16) => "rescale_bf16",
            (Element::F32, Element::F32) => "rescale_f32",
            other => panic!("no sums are rescaled from and to {other:?}: this is a bug"),
        };
        let apart = (sums.element() != element || n != cols).then(|| self.take(element, rows * cols));
        let out = apart.as_ref().unwrap_or(&sums);
        let args = Args::new().address(out.address()).address(sums.address()).address(x_scales).address(w_scales);
        let args = with_bias(args, bias).size(rows).size(cols).size(n).size(0);
        let groups = rows * cols.div_ceil(8);
        self.run("quantize", kernel, [groups.div_ceil(THREADS as usize), 1, 1], THREADS, 0, args);
        apart.unwrap_or(sums)
    }
}

/// A bias for a kernel that does without where it is null.
fn with_bias(args: Args, bias: Option<&Buffer>) -> Args {
    match bias {
        Some(bias) => args.param(bias),
        None => args.address(Address::default()).size(0).size(0),
    }
}
