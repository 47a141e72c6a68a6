//! How the system backs large memory.

/// Makes the system back fresh memory now, all pages in one call, where the first write to each would interrupt the
/// writer. The values stay what they are; where the system cannot do that, pages come as they are touched.
pub fn populate(values: &mut [f32]) {
    #[cfg(target_os = "linux")]
    {
        use std::ffi::{c_int, c_void};
        unsafe extern "C" {
            fn madvise(start: *mut c_void, len: usize, advice: c_int) -> c_int;
        }
        const POPULATE_WRITE: c_int = 23;
        const PAGE: usize = 4096;
        let bytes = crate::bytes::of_mut(values);
        let skipped = bytes.as_ptr().align_offset(PAGE).min(bytes.len());
        let whole = &mut bytes[skipped..];
        // SAFETY: the range is memory of this slice alone, and this advice changes how it is backed, not what it holds.
        // A refusal, by an older system or one with larger pages, leaves it as it is.
        unsafe { madvise(whole.as_mut_ptr().cast(), whole.len() / PAGE * PAGE, POPULATE_WRITE) };
    }
    #[cfg(not(target_os = "linux"))]
    let _ = values;
}

#[cfg(test)]
mod tests {
    #[test]
    fn values_stay_what_they_are() {
        for len in [0, 1, 1000, 1 << 20] {
            let mut values: Vec<f32> = (0..len).map(|i| i as f32).collect();
            super::populate(&mut values);
            assert!(values.iter().enumerate().all(|(i, value)| *value == i as f32));
        }
    }
}
