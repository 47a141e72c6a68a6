//! The scratch of a call, cut into its buffers.

/// Values in a cache line.
const LINE: usize = 16;

/// A scratch vector handed out in parts that start at cache lines.
#[derive(Clone, Copy)]
pub(super) struct Parts {
    next: *mut f32,
    left: usize,
}

impl Parts {
    /// Grows `scratch` to hold `values` in at most `parts` parts.
    pub(super) fn of(scratch: &mut Vec<f32>, values: usize, parts: usize) -> Parts {
        let needed = values + (parts + 1) * LINE;
        if scratch.len() < needed {
            scratch.resize(needed, 0.0);
        }
        let skipped = scratch.as_ptr().align_offset(LINE * size_of::<f32>());
        let (next, left) = (scratch.as_mut_ptr(), scratch.len());
        assert!(skipped <= left, "alignment of the scratch: this is a bug");
        // SAFETY: `skipped` values lie within the scratch.
        Parts { next: unsafe { next.add(skipped) }, left: left - skipped }
    }

    /// The next `values` of the scratch.
    pub(super) fn take(&mut self, values: usize) -> *mut f32 {
        let values = values.next_multiple_of(LINE);
        assert!(values <= self.left, "room in the scratch: this is a bug");
        let part = self.next;
        // SAFETY: that many values are left.
        self.next = unsafe { part.add(values) };
        self.left -= values;
        part
    }
}
