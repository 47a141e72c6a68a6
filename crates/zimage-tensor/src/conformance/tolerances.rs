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

/// Relative error of a layer whose activations and weights have 3 bits of fraction: steps of 1/8 of the power of two below
/// a value are errors of 2.6 % of it in the mean, of both together 3.7 %, which is what is found.
pub const FP8: f64 = 0.045;

/// Inputs and outputs rounded to 8 bits of fraction, of the largest value: 0.4 % each, and what sums make of it.
pub const BF16: f32 = 0.02;

/// The same on MLX, which on a CPU, unlike on a GPU, also adds up the products of quantized weights in bf16: 128 sums, each
/// rounded. In f32 it is held to the tolerances above.
pub const MLX_BF16: f32 = 0.05;

/// Inputs of products rounded to 11 bits of fraction.
pub const F16: f32 = 1e-3;
