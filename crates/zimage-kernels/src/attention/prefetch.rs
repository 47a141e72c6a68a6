//! Rows that the processor's own prefetching misses: in a tensor of all heads each row of a head lies on another page.

use crate::tile::MatrixRef;

/// How many rows ahead to ask: what memory delivers in its latency.
const AHEAD: usize = 8;

/// Asks for the row some places behind row `i`.
#[inline(always)]
pub(super) fn ahead(rows: MatrixRef, i: usize) {
    if i + AHEAD < rows.rows() {
        for line in rows.row(i + AHEAD).chunks(16) {
            #[cfg(target_arch = "x86_64")]
            // SAFETY: asking for a line of cache has no effect that a program could see.
            unsafe {
                std::arch::x86_64::_mm_prefetch::<{ std::arch::x86_64::_MM_HINT_T0 }>(line.as_ptr().cast());
            }
            #[cfg(not(target_arch = "x86_64"))]
            let _ = line;
        }
    }
}
