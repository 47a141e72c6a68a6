//! How far a backend may be from the naive one, and why.

/// Sums of up to a few hundred products of values around 1, in another order and in f32 instead of f64.
pub const SUM: f32 = 2e-5;

/// A group of values near each other, whose deviation is small beside them.
pub const NORM: f32 = 1e-4;

/// One or two roundings per value: the vector exponential and reciprocal against the exact ones.
pub const ELEMENTWISE: f32 = 2e-6;

/// Values that are only moved.
pub const MOVE: f32 = 0.0;

/// Relative error of a layer whose activations and weights have 127 steps to the largest of up to 640 values: 0.3 % to
/// 0.8 % each, of which an adapter adds its own.
pub const INT8: f64 = 0.015;
