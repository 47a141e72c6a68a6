use super::*;
use crate::Level;

/// Checks every method against plain arithmetic, through pointers that are not aligned.
///
/// # Safety
/// This CPU has the features of `V`.
unsafe fn check<V: Vector>() {
    let values: Vec<f32> = (0..3 * V::LANES + 1).map(|i| i as f32 - 7.5).collect();
    let lanes = |n: usize| &values[1 + n * V::LANES..][..V::LANES];
    let stored = |v: V| {
        let mut to = vec![f32::NAN; V::LANES + 1];
        // SAFETY: there is room for the lanes behind the first value.
        unsafe { V::store(v, to[1..].as_mut_ptr()) };
        to.split_off(1)
    };
    // SAFETY: as the caller promises; each of the three parts has `LANES` values.
    unsafe {
        let [a, b, c] = [0, 1, 2].map(|n| V::load(lanes(n).as_ptr()));
        assert_eq!(stored(a), lanes(0));
        assert_eq!(stored(V::splat(1.5)), vec![1.5; V::LANES]);
        let sums: Vec<f32> = lanes(0).iter().zip(lanes(1)).map(|(a, b)| a + b).collect();
        assert_eq!(stored(V::add(a, b)), sums);
        // Small multiples of a half: exact, however often they are rounded.
        let products: Vec<f32> = lanes(0).iter().zip(lanes(1)).zip(lanes(2)).map(|((a, b), c)| a * b + c).collect();
        assert_eq!(stored(V::mul_add(a, b, c)), products);
        let halves = V::splat(0.5);
        assert_eq!(stored(V::sub(a, halves)), lanes(0).iter().map(|a| a - 0.5).collect::<Vec<_>>());
        assert_eq!(stored(V::mul(a, halves)), lanes(0).iter().map(|a| a * 0.5).collect::<Vec<_>>());
        assert_eq!(stored(V::max(a, halves)), lanes(0).iter().map(|a| a.max(0.5)).collect::<Vec<_>>());
        assert_eq!(stored(V::max(V::splat(f32::NAN), b)), lanes(1), "a NaN on the left");
        assert!(stored(V::max(b, V::splat(f32::NAN))).iter().all(|v| v.is_nan()), "a NaN on the right");
        for power in [-126i32, -1, 0, 5, 127] {
            let shifted = V::splat(12_582_912.0 + power as f32);
            assert_eq!(stored(V::power_of_low_bits(shifted)), vec![2f32.powi(power); V::LANES]);
        }
        let kept: Vec<f32> = lanes(0).iter().map(|a| if *a < 0.5 { 0.0 } else { a + 8.0 }).collect();
        assert_eq!(stored(V::zero_where_less(a, halves, V::add(a, V::splat(8.0)))), kept);
        assert_eq!(stored(V::zero_where_less(V::splat(f32::NAN), halves, b)), lanes(1));
        V::prefetch(std::ptr::null());
    }
}

#[test]
fn vectors_compute_lane_by_lane() {
    // SAFETY: arrays need no features.
    unsafe {
        check::<[f32; 4]>();
        check::<[f32; 8]>();
    }
    #[cfg(target_arch = "x86_64")]
    for level in Level::supported() {
        use std::arch::x86_64::*;
        match level {
            // SAFETY: this CPU has the level.
            Level::Avx2 => unsafe { check::<__m256>() },
            // SAFETY: this CPU has the level.
            Level::Avx512 => unsafe { check::<__m512>() },
            Level::Naive | Level::Portable => {}
        }
    }
}
