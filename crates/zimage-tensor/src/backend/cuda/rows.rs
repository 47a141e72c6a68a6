//! Norms, elementwise operations and rotations.
//!
//! What changes a tensor in place keeps the element of its values; the second operand is cast to that of the first.

#[cfg(all(test, feature = "cuda-emulator"))]
#[path = "rows/tests.rs"]
mod tests;

use super::driver::{Args, Element};
use super::memory::Buffer;
use super::{Cuda, THREADS, kernel_of};

/// Values of a row that a thread of a norm holds (`HELD` in `rows.cu`).
const HELD: usize = 16;
/// Threads of the largest block of a norm (`LARGEST_BLOCK` in `rows.cu`).
const LARGEST_BLOCK: usize = 512;

/// Threads that hold a row of `cols` values, or pass over it where it is longer than a block can hold.
fn threads_of_row(cols: usize) -> u32 {
    cols.div_ceil(HELD).next_multiple_of(32).clamp(32, LARGEST_BLOCK) as u32
}

/// Values in 16 bytes: what a thread of an elementwise kernel has.
fn pack(element: Element) -> usize {
    16 / element.bytes()
}

/// Blocks of an elementwise kernel over `len` values, of which a thread has `each`.
fn blocks(len: usize, each: usize) -> usize {
    len.div_ceil(THREADS as usize * each)
}

impl Cuda {
    pub(super) fn rms_norm(&self, x: &Buffer, weight: &Buffer, eps: f32) -> Buffer {
        self.norm(kernel_of!(self.element(), "rms_norm"), x, weight, eps)
    }

    pub(super) fn rms_norm_scaled(&self, x: &Buffer, w: &Buffer, scale: &Buffer, eps: f32) -> Buffer {
        let mut held = None;
        let x = self.in_element(x, self.element(), &mut held);
        let out = self.take(self.element(), x.len());
        let args = Args::new().address(out.address()).address(x.address()).param(w).param(scale);
        self.run_rows(kernel_of!(self.element(), "rms_norm_scaled"), x.len(), w.len(), args.size(w.len()).float(eps));
        out
    }

    pub(super) fn add_rms_norm(&self, x: &mut Buffer, y: &Buffer, weight: &Buffer, eps: f32) {
        let mut held = None;
        let y = self.in_element(y, x.element(), &mut held);
        let args = Args::new().address(x.address()).address(y.address()).param(weight).size(weight.len()).float(eps);
        self.run_rows(kernel_of!(x.element(), "add_rms_norm"), x.len(), weight.len(), args);
    }

    pub(super) fn add_rms_norm_gated(&self, x: &mut Buffer, y: &Buffer, w: &Buffer, g: &Buffer, eps: f32) {
        let mut held = None;
        let y = self.in_element(y, x.element(), &mut held);
        let args = Args::new().address(x.address()).address(y.address()).param(w).param(g).size(w.len()).float(eps);
        self.run_rows(kernel_of!(x.element(), "add_rms_norm_gated"), x.len(), w.len(), args);
    }

    pub(super) fn layer_norm_scaled(&self, x: &Buffer, scale: &Buffer, eps: f32) -> Buffer {
        self.norm(kernel_of!(self.element(), "layer_norm_scaled"), x, scale, eps)
    }

    /// A norm into memory of its own, with one factor per column.
    fn norm(&self, kernel: &'static str, x: &Buffer, weight: &Buffer, eps: f32) -> Buffer {
        let mut held = None;
        let x = self.in_element(x, self.element(), &mut held);
        let out = self.take(self.element(), x.len());
        let args = Args::new().address(out.address()).address(x.address()).param(weight).size(weight.len()).float(eps);
        self.run_rows(kernel, x.len(), weight.len(), args);
        out
    }

    /// Runs a kernel with a block for each row of `cols` values.
    fn run_rows(&self, kernel: &'static str, len: usize, cols: usize, args: Args) {
        self.run("rows", kernel, [len / cols.max(1), 1, 1], threads_of_row(cols), 0, args);
    }

    pub(super) fn add(&self, x: &mut Buffer, y: &Buffer) {
        self.change_by(kernel_of!(x.element(), "add"), x, y);
    }

    pub(super) fn subtract_from(&self, x: &mut Buffer, y: &Buffer) {
        self.change_by(kernel_of!(x.element(), "subtract_from"), x, y);
    }

    pub(super) fn silu(&self, x: &mut Buffer) {
        self.settle(x);
        self.change(kernel_of!(x.element(), "silu"), x);
    }

    pub(super) fn silu_mul(&self, gate: &mut Buffer, up: &Buffer) {
        self.settle(gate);
        self.change_by(kernel_of!(gate.element(), "silu_mul"), gate, up);
    }

    pub(super) fn tanh(&self, x: &mut Buffer) {
        self.change(kernel_of!(x.element(), "tanh"), x);
    }

    pub(super) fn one_plus(&self, x: &mut Buffer) {
        self.change(kernel_of!(x.element(), "one_plus"), x);
    }

    /// Runs a kernel over the values of `x`.
    fn change(&self, kernel: &'static str, x: &mut Buffer) {
        let args = Args::new().address(x.address()).size(x.len());
        self.run("rows", kernel, [blocks(x.len(), pack(x.element())), 1, 1], THREADS, 0, args);
    }

    /// Runs a kernel over the values of `x` and `y`.
    fn change_by(&self, kernel: &'static str, x: &mut Buffer, y: &Buffer) {
        let mut held = None;
        let y = self.in_element(y, x.element(), &mut held);
        let args = Args::new().address(x.address()).address(y.address()).size(x.len());
        self.run("rows", kernel, [blocks(x.len(), pack(x.element())), 1, 1], THREADS, 0, args);
    }

    pub(super) fn add_scaled(&self, y: &mut Buffer, z: &Buffer, z_cols: usize, skip: usize, factors: &Buffer) {
        let mut held = None;
        let z = self.in_element(z, y.element(), &mut held);
        let args = Args::new().address(y.address()).address(z.address()).param(factors);
        let args = args.size(factors.len()).size(z_cols).size(skip);
        self.run_columns(kernel_of!(y.element(), "add_scaled"), y, factors.len(), args);
    }

    pub(super) fn scale_columns(&self, x: &Buffer, factors: &Buffer) -> Buffer {
        let out = self.take(x.element(), x.len());
        let args = Args::new().address(out.address()).address(x.address()).param(factors);
        let args = args.size(factors.len()).size(factors.len()).size(0);
        self.run_columns(kernel_of!(x.element(), "scale_columns"), x, factors.len(), args);
        out
    }

    /// Runs a kernel with blocks for each row of `cols` values.
    fn run_columns(&self, kernel: &'static str, x: &Buffer, cols: usize, args: Args) {
        let grid = [x.len() / cols.max(1), blocks(cols, pack(x.element())), 1];
        self.run("rows", kernel, grid, THREADS, 0, args);
    }

    pub(super) fn mix_rows(&self, x: &Buffer, w: &Buffer, groups: usize, inner: usize, cols: usize) -> Buffer {
        let rows = w.len() / inner;
        let out = self.take(x.element(), groups * rows * cols);
        let args = Args::new().address(out.address()).address(x.address()).param(w);
        let args = args.size(rows).size(inner).size(cols).size(groups);
        self.run("rows", kernel_of!(x.element(), "mix_rows"), [blocks(groups * cols, 1), 1, 1], THREADS, 0, args);
        out
    }

    pub(super) fn rope_interleaved(&self, x: &mut Buffer, cos: &Buffer, sin: &Buffer, head_dim: usize) {
        self.rope(kernel_of!(x.element(), "rope_interleaved"), x, x.len(), [cos, sin], head_dim);
    }

    pub(super) fn rope_halves(&self, x: &mut Buffer, cos: &Buffer, sin: &Buffer, head_dim: usize) {
        self.rope(kernel_of!(x.element(), "rope_halves"), x, x.len() / 2, [cos, sin], head_dim);
    }

    /// Runs a rotation whose threads begin at packs of the first `firsts` values.
    fn rope(&self, kernel: &'static str, x: &Buffer, firsts: usize, [cos, sin]: [&Buffer; 2], head_dim: usize) {
        let args = Args::new().address(x.address()).param(cos).param(sin);
        let args = args.size(x.len()).size(heads(x, cos)).size(head_dim);
        self.run("rows", kernel, [blocks(firsts, pack(x.element())), 1, 1], THREADS, 0, args);
    }

    pub(super) fn rms_norm_rope(&self, x: &mut Buffer, w: &Buffer, eps: f32, cos: &Buffer, sin: &Buffer) {
        let args = Args::new().address(x.address()).param(w).param(cos).param(sin);
        let args = args.size(x.len()).size(heads(x, cos)).size(w.len()).float(eps);
        let warps = (x.len() / w.len()).div_ceil(THREADS as usize / 32);
        self.run("rows", kernel_of!(x.element(), "rms_norm_rope"), [warps, 1, 1], THREADS, 0, args);
    }

    /// The same values in another element: F32, Bf16 or F16.
    pub(super) fn cast(&self, x: &Buffer, element: Element) -> Buffer {
        let out = self.take(element, x.len());
        let code = |buffer: &Buffer| buffer.element().code() as usize;
        let args = Args::new().address(out.address()).address(x.address()).size(x.len()).size(code(x)).size(code(&out));
        self.run("rows", "cast", [blocks(x.len(), 8), 1, 1], THREADS, 0, args);
        out
    }

    /// Brings values into the element of activations, in which they go on.
    fn settle(&self, x: &mut Buffer) {
        if x.element() != self.element() {
            *x = self.cast(x, self.element());
        }
    }

    /// The values in an element: themselves where they are, or a copy that `held` keeps.
    pub(super) fn in_element<'b>(&self, x: &'b Buffer, element: Element, held: &'b mut Option<Buffer>) -> &'b Buffer {
        match x.element() == element {
            true => x,
            false => held.insert(self.cast(x, element)),
        }
    }
}

/// Heads of a token, of which each has an angle for every second value.
fn heads(x: &Buffer, cos: &Buffer) -> usize {
    x.len() / (2 * cos.len()).max(1)
}
