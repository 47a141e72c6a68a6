//! SiLU, alone and as the gate of a feed-forward layer.

mod lanes;
mod naive;

#[cfg(test)]
mod tests;

use crate::Level;
use crate::level::per_level;

/// `gate = silu(gate) * up`, value by value, with `silu(x) = x / (1 + e^-x)`.
///
/// # Panics
/// When the lengths differ.
pub fn silu_mul(level: Level, gate: &mut [f32], up: &[f32]) {
    assert_eq!(gate.len(), up.len(), "length of the up projection");
    per_level!(level, naive::silu_mul, lanes::silu_mul, (gate: &mut [f32], up: &[f32]))
}

/// `x = silu(x)`, value by value.
pub fn silu(level: Level, x: &mut [f32]) {
    per_level!(level, naive::silu, lanes::silu, (x: &mut [f32]))
}
