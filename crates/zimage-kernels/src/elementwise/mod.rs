//! Sums and differences of two tensors, and the search for values that are not finite.

mod lanes;
mod naive;

#[cfg(test)]
mod tests;

use crate::Level;
use crate::level::per_level;

/// `out += y`, value by value.
///
/// # Panics
/// When the lengths differ.
pub fn add(level: Level, out: &mut [f32], y: &[f32]) {
    assert_eq!(out.len(), y.len(), "lengths of the summands");
    per_level!(level, naive::add, lanes::add, (out: &mut [f32], y: &[f32]))
}

/// `out = y - out`, value by value.
///
/// # Panics
/// When the lengths differ.
pub fn subtract_from(level: Level, out: &mut [f32], y: &[f32]) {
    assert_eq!(out.len(), y.len(), "lengths of the operands");
    per_level!(level, naive::subtract_from, lanes::subtract_from, (out: &mut [f32], y: &[f32]))
}

/// The position of the first NaN or infinity, if there is one.
pub fn first_non_finite(level: Level, x: &[f32]) -> Option<usize> {
    per_level!(level, naive::first_non_finite, lanes::first_non_finite, (x: &[f32]) -> Option<usize>)
}
