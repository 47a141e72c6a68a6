//! How far we may be from the reference, relative to the largest value. Torch itself, with other vector instructions,
//! is within 1.7e-6 of the goldens everywhere.

/// One stage in f32: sums in another order. What is measured is below 5e-6; the bar is the project's.
pub const STAGE: f32 = 2e-5;

/// Latents after whole runs, where the errors of the steps add up. The bar of the project is 1e-3.
pub const LATENTS: f32 = 1e-4;

/// Largest difference of two bytes of a picture: a value between two bytes may fall to either side.
pub const PIXEL: u8 = 1;
