//! Group norm in two halves: the statistics of a group, from pieces of it that threads may take, and what is done
//! with them, which a convolution does while it reads ([`crate::conv2d::winograd`]).

mod lanes;
mod naive;

#[cfg(test)]
mod tests;

use crate::Level;
use crate::level::per_level;

/// Number, mean and spread of some values.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Moments {
    count: f64,
    mean: f64,
    /// The sum of the squared distances to the mean.
    squares: f64,
}

impl Moments {
    /// Those of the values of both.
    ///
    /// Source: Chan, Golub and LeVeque, "Updating Formulae and a Pairwise Algorithm for Computing Sample Variances".
    #[inline]
    pub fn merged(self, other: Moments) -> Moments {
        let count = self.count + other.count;
        if count == 0.0 {
            return self;
        }
        let distance = other.mean - self.mean;
        let share = other.count / count;
        Moments {
            count,
            mean: self.mean + distance * share,
            squares: self.squares + other.squares + distance * distance * self.count * share,
        }
    }

    /// The mean.
    pub fn mean(&self) -> f64 {
        self.mean
    }

    /// `1 / sqrt(variance + eps)`, with the biased variance.
    pub fn inverse(&self, eps: f32) -> f64 {
        1.0 / (self.squares / self.count + f64::from(eps)).sqrt()
    }
}

/// The moments of `x`, in one pass over memory.
pub fn moments(level: Level, x: &[f32]) -> Moments {
    per_level!(level, naive::moments, lanes::moments, (x: &[f32]) -> Moments)
}

/// `out = (x - mean) * factor + bias`: the norm of one channel, with `factor` its weight over the deviation.
///
/// # Panics
/// When the lengths differ.
///
/// Source: `torch.nn.GroupNorm`.
pub fn normalize(level: Level, out: &mut [f32], x: &[f32], mean: f32, factor: f32, bias: f32) {
    assert_eq!(out.len(), x.len(), "lengths of the channel");
    per_level!(level, naive::normalize, lanes::normalize,
        (out: &mut [f32], x: &[f32], mean: f32, factor: f32, bias: f32))
}
