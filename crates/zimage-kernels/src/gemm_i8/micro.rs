//! A block of rows against one chunk of a panel, and the versions of the kernel that computes it.

use super::pack::PanelRef;
use super::{Line, PANEL, Quantized, row_stride};
use crate::Level;
use crate::tile::TileMut;

/// The operands of one call: up to 8 rows of activations, 64 features.
pub(super) struct Block<'a> {
    /// From the block's first row and the chunk's first column on; rows are `stride` apart.
    pub a: &'a [u8],
    pub stride: usize,
    /// The chunk's scale of each row.
    pub a_scales: [f32; MAX_ROWS],
    pub weights: PanelRef<'a>,
    /// Whether to add to what the output holds.
    pub add: bool,
}

/// Most rows of a block at any level.
pub(super) const MAX_ROWS: usize = 8;

/// Writes the block's product to an output of 64 columns whose rows are so many values apart.
///
/// # Safety
/// The CPU has the features of the version; the output is good for all rows of the block.
pub(super) type Kernel = unsafe fn(&Block, *mut f32, usize);

impl<'a> Block<'a> {
    pub fn new(a: Quantized<'a>, panel: &'a [Line], chunk: usize, row: usize, rows: usize, add: bool) -> Block<'a> {
        let (stride, count) = (row_stride(a.chunks.cols), a.chunks.count());
        let mut a_scales = [0.0; MAX_ROWS];
        for (r, scale) in a_scales.iter_mut().take(rows).enumerate() {
            *scale = a.scales[(row + r) * count + chunk];
        }
        let weights = PanelRef::new(panel, a.chunks, chunk);
        let first = row * stride + a.chunks.range(chunk).start;
        // The kernel reads 4 bytes of every row for the 4 lines of a quad.
        let end = first + (rows - 1) * stride + weights.quads.len();
        Block { a: &a.values[first..end], stride, a_scales, weights, add }
    }

    /// Runs a kernel for as many rows as the tile has.
    pub fn run(&self, kernel: Kernel, out: &mut TileMut) {
        if out.cols() == PANEL {
            // SAFETY: `Isa::kernels` checked the features; the tile has the rows, and rows of 64 values.
            return unsafe { kernel(self, out.as_mut_ptr(), out.stride()) };
        }
        let (rows, cols) = (out.rows(), out.cols());
        let mut whole = [[0.0; PANEL]; MAX_ROWS];
        for (r, row) in whole.iter_mut().take(rows).enumerate() {
            row[..cols].copy_from_slice(out.row(r));
        }
        // SAFETY: `Isa::kernels` checked the features; the array has at least as many rows.
        unsafe { kernel(self, whole.as_flattened_mut().as_mut_ptr(), PANEL) };
        for (r, row) in whole.iter().take(rows).enumerate() {
            out.row_mut(r).copy_from_slice(&row[..cols]);
        }
    }
}

/// What multiplies bytes: found apart from the [`Level`], since there are CPUs with AVX2 that have it and CPUs with
/// AVX-512 that do not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Isa {
    Portable,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    #[cfg(target_arch = "x86_64")]
    AvxVnni,
    #[cfg(target_arch = "x86_64")]
    Avx512Vnni,
}

impl Isa {
    /// The best one that this CPU has within a level.
    pub fn of(level: Level) -> Isa {
        level.check();
        #[cfg(target_arch = "x86_64")]
        {
            if level >= Level::Avx512 && is_x86_feature_detected!("avx512vnni") {
                return Isa::Avx512Vnni;
            }
            if level >= Level::Avx2 {
                return if is_x86_feature_detected!("avxvnni") { Isa::AvxVnni } else { Isa::Avx2 };
            }
        }
        Isa::Portable
    }

    pub fn name(self) -> &'static str {
        match self {
            Isa::Portable => "portable",
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => "AVX2",
            #[cfg(target_arch = "x86_64")]
            Isa::AvxVnni => "AVX-VNNI",
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512Vnni => "AVX-512 VNNI",
        }
    }

    /// Whether it multiplies four bytes in one instruction.
    pub fn is_fast(self) -> bool {
        match self {
            Isa::Portable => false,
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => false,
            #[cfg(target_arch = "x86_64")]
            Isa::AvxVnni | Isa::Avx512Vnni => true,
        }
    }

    /// Whether this CPU has it.
    fn is_there(self) -> bool {
        match self {
            Isa::Portable => true,
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => Level::best() >= Level::Avx2,
            #[cfg(target_arch = "x86_64")]
            Isa::AvxVnni => Level::best() >= Level::Avx2 && is_x86_feature_detected!("avxvnni"),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512Vnni => Level::best() >= Level::Avx512 && is_x86_feature_detected!("avx512vnni"),
        }
    }

    /// All that this CPU has.
    #[cfg(test)]
    pub fn supported() -> Vec<Isa> {
        let mut all = vec![Isa::Portable];
        #[cfg(target_arch = "x86_64")]
        all.extend([Isa::Avx2, Isa::AvxVnni, Isa::Avx512Vnni]);
        all.retain(|isa| isa.is_there());
        all
    }

    /// The kernels for 1, 2, ... rows.
    ///
    /// # Panics
    /// When this CPU lacks it: the check that makes calling a kernel sound.
    pub fn kernels(self) -> &'static [Kernel] {
        use super::portable;
        #[cfg(target_arch = "x86_64")]
        use super::x86;
        assert!(self.is_there(), "{} asked for, which this cpu lacks", self.name());
        match self {
            Isa::Portable => &[portable::block::<1>, portable::block::<2>, portable::block::<3>, portable::block::<4>],
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => &[x86::avx2::<1>, x86::avx2::<2>, x86::avx2::<3>, x86::avx2::<4>],
            #[cfg(target_arch = "x86_64")]
            Isa::AvxVnni => &[
                x86::avx_vnni::<1>,
                x86::avx_vnni::<2>,
                x86::avx_vnni::<3>,
                x86::avx_vnni::<4>,
                x86::avx_vnni::<5>,
                x86::avx_vnni::<6>,
            ],
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512Vnni => &[
                x86::avx512_vnni::<1>,
                x86::avx512_vnni::<2>,
                x86::avx512_vnni::<3>,
                x86::avx512_vnni::<4>,
                x86::avx512_vnni::<5>,
                x86::avx512_vnni::<6>,
            ],
        }
    }
}
