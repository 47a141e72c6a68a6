//! Bytes with a scale and a bias for each group, as files of MLX hold them, for kernels that read them where they lie.

use std::ops::Range;

use super::{Element, Group, Planes, ScaleType, Scaled};

/// Rows of unsigned bytes, each `byte * (scale * factor) + bias`, in groups of whole cache lines.
#[derive(Clone, Copy, Debug)]
pub(crate) struct AffineBytes<'a> {
    planes: Planes<'a>,
    cols: usize,
    group: usize,
    scale: ScaleType,
    factor: f32,
    /// Rows of the planes before the first one.
    skipped: usize,
}

impl<'a> AffineBytes<'a> {
    /// The rows of such a matrix; `None` where it is stored in another way.
    pub(super) fn of(
        scaled: Scaled,
        planes: Planes<'a>,
        cols: usize,
        factor: f32,
        skipped: usize,
    ) -> Option<AffineBytes<'a>> {
        let Scaled { element, scale, biased, swizzled, rotated, .. } = scaled;
        let Group::Columns(group) = scaled.group else { return None };
        let bytes = element == Element::Unsigned(8) && biased && !swizzled && !rotated;
        let widens = matches!(scale, ScaleType::F32 | ScaleType::F16 | ScaleType::BF16);
        let lines = group.is_multiple_of(64);
        (bytes && widens && lines).then_some(AffineBytes { planes, cols, group, scale, factor, skipped })
    }

    /// Values in a row.
    pub(crate) fn cols(&self) -> usize {
        self.cols
    }

    /// Values in a group.
    pub(crate) fn group(&self) -> usize {
        self.group
    }

    /// How scales and biases are stored.
    pub(crate) fn scale(&self) -> ScaleType {
        self.scale
    }

    /// What multiplies every scale.
    pub(crate) fn factor(&self) -> f32 {
        self.factor
    }

    /// The bytes of a row.
    #[inline(always)]
    pub(crate) fn row(&self, row: usize) -> &'a [u8] {
        &self.planes.values[(self.skipped + row) * self.cols..][..self.cols]
    }

    /// The scales and the biases of some groups of a row, as they are stored.
    #[inline(always)]
    pub(crate) fn lines(&self, row: usize, groups: Range<usize>) -> (&'a [u8], &'a [u8]) {
        let (per_row, bytes) = (self.cols / self.group, self.scale.bytes());
        let first = (self.skipped + row) * per_row;
        let range = (first + groups.start) * bytes..(first + groups.end) * bytes;
        (&self.planes.scales[range.clone()], &self.planes.biases[range])
    }
}
