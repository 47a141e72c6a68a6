//! What adapters (LoRA, LoKr, DoRA) add to a linear layer, as a side branch that leaves the weight alone.
//!
//! With a product `D` of small matrices, a weight `w` and a scale `s`, an adapter adds `w s D x` to `W x`. With DoRA the
//! sum gets other lengths, and the adapter adds the difference that this makes:
//!
//! ```text
//! rows     w (g * (W + s D) x - W x)        =  w (g - 1) * W x  +  w s g * D x
//! columns  w ((W + s D) (g * x) - W x)      =  W (w (g - 1) * x)  +  w s D (g * x)
//! ```
//!
//! `g` does not depend on `w`: at weight 1 this is DoRA as PEFT, LyCORIS and ComfyUI have it, at 0 it is nothing, and
//! between them it is on the way, as in ComfyUI. (PEFT scales `D` alone, and so changes the lengths even at 0.)
//! Each adapter sees the layer's own weight and not what others made of it, so their order does not matter.

use crate::linear::Linear;
use crate::ops;
use crate::{Device, Result, Tensor, Weight};

/// The matrix that an adapter adds, as the product of smaller ones.
#[derive(Debug)]
pub enum Product {
    /// `up down`.
    LowRank {
        /// `(rank, in)`.
        down: Weight,
        /// `(out, rank)`.
        up: Weight,
    },
    /// The Kronecker product of `w1` and `w2`, whose rows from `skip` on are the layer's.
    Kronecker {
        /// `(a, c)`.
        w1: Tensor,
        /// `(b, d)`, with `c d` inputs.
        w2: Factor,
        /// First row that belongs to this layer.
        skip: usize,
    },
}

/// A factor of a Kronecker product.
#[derive(Debug)]
pub enum Factor {
    /// As it is.
    Whole(Weight),
    /// `up down`.
    Pair {
        /// `(rank, d)`.
        down: Box<Weight>,
        /// `(b, rank)`.
        up: Box<Weight>,
    },
}

/// What DoRA multiplies the sum of weight and delta with.
#[derive(Debug)]
pub enum Gain {
    /// Nothing: an adapter without DoRA.
    None,
    /// A factor per output.
    Rows(Vec<f32>),
    /// A factor per input.
    Columns(Vec<f32>),
}

/// A side branch of a linear layer.
#[derive(Debug)]
pub struct Delta {
    product: Branch,
    /// What the product is multiplied with, per output.
    factors: Tensor,
    gain: Scaled,
}

/// A product whose matrices are ready to be used as layers.
#[derive(Debug)]
enum Branch {
    /// `down`, then `up`.
    LowRank(Vec<Linear>),
    Kronecker {
        w1: Tensor,
        w2: Vec<Linear>,
        skip: usize,
    },
}

/// A gain with the adapter's weight worked in.
#[derive(Debug)]
enum Scaled {
    None,
    /// `w (g - 1)` per output.
    Rows(Tensor),
    /// `g` and `w (g - 1)` per input.
    Columns {
        gain: Tensor,
        change: Tensor,
    },
}

impl Delta {
    /// A branch of a layer with `out` outputs: the product times `scale`, the whole applied with `weight`.
    ///
    /// # Errors
    /// [`crate::Error::Size`] when the gain of rows has another number of factors than the layer has outputs.
    pub fn new(device: &Device, out: usize, product: Product, scale: f32, weight: f32, gain: Gain) -> Result<Delta> {
        let row = |values: Vec<f32>| Tensor::from_vec(device, &[1, values.len()], values);
        let product = match product {
            Product::LowRank { down, up } => Branch::LowRank(vec![Linear::new(down, None), Linear::new(up, None)]),
            Product::Kronecker { w1, w2, skip } => {
                let w2 = match w2 {
                    Factor::Whole(w2) => vec![Linear::new(w2, None)],
                    Factor::Pair { down, up } => vec![Linear::new(*down, None), Linear::new(*up, None)],
                };
                Branch::Kronecker { w1, w2, skip }
            }
        };
        let change = |gain: &[f32]| gain.iter().map(|gain| weight * (gain - 1.0)).collect();
        let (factors, gain) = match gain {
            Gain::None => (vec![weight * scale; out], Scaled::None),
            Gain::Rows(gain) => {
                (gain.iter().map(|gain| weight * scale * gain).collect(), Scaled::Rows(row(change(&gain))?))
            }
            Gain::Columns(gain) => {
                let change = row(change(&gain))?;
                (vec![weight * scale; out], Scaled::Columns { gain: row(gain)?, change })
            }
        };
        Ok(Delta { product, factors: Tensor::from_vec(device, &[1, out], factors)?, gain })
    }

    /// Whether the branch reads what the layer's weight makes of its input.
    pub(crate) fn reads_base(&self) -> bool {
        matches!(self.gain, Scaled::Rows(_))
    }

    /// Adds the branch to `y (tokens, out)`, the output for `x (tokens, in)`; `base` is `W x` where
    /// [`Delta::reads_base`].
    pub(crate) fn add_to(&self, y: &mut Tensor, x: &Tensor, layer: &Linear, base: Option<&Tensor>) {
        match &self.gain {
            Scaled::None => self.add_product(y, x),
            Scaled::Rows(change) => {
                ops::add_scaled(y, base.expect("asked for by reads_base: this is a bug"), 0, change);
                self.add_product(y, x);
            }
            Scaled::Columns { gain, change } => {
                ops::add(y, &ops::linear_without_bias(&ops::scale_columns(x, change), layer));
                self.add_product(y, &ops::scale_columns(x, gain));
            }
        }
    }

    fn add_product(&self, y: &mut Tensor, x: &Tensor) {
        match &self.product {
            Branch::LowRank(layers) => {
                ops::add_scaled(y, &through(layers, x), 0, &self.factors);
            }
            Branch::Kronecker { w1, w2, skip } => {
                // Row t of x is a matrix (c, d): w2 is applied to its rows, then w1 mixes them.
                let (tokens, blocks) = (x.rows(), w1.cols());
                let z = through(w2, &ops::split_columns(x, blocks));
                let width = z.cols();
                let z = ops::mix_rows(&z, w1, tokens).reshape(&[tokens, w1.rows() * width]);
                ops::add_scaled(y, &z, *skip, &self.factors);
            }
        }
    }
}

/// One layer after the other; there is at least one.
fn through(layers: &[Linear], x: &Tensor) -> Tensor {
    let [first, rest @ ..] = layers else { panic!("a branch has layers: this is a bug") };
    rest.iter().fold(ops::linear(x, first), |z, layer| ops::linear(&z, layer))
}
