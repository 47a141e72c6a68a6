//! Mixes the transformers of several models, tensor by tensor, while the result is written.
//!
//! Text encoder, VAE and tokenizer are those of the first model: fine-tunes of Z-Image share them.

use std::fmt;
use std::ops::Range;
use std::str::FromStr;

use serde_json::{Value, json};

use crate::convert::{Model, Opened};
use crate::open::{Checkpoint, WeightView};
use crate::schema::Component;
use crate::{Error, Result};

/// How models are mixed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// `(1 - alpha) A + alpha B`; with more models one after the other.
    WeightedSum,
    /// `A + alpha (B - C)`: what B learned since C, added to A.
    AddDifference,
}

impl FromStr for Method {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "weighted-sum" => Ok(Method::WeightedSum),
            "add-difference" => Ok(Method::AddDifference),
            _ => Err("expected weighted-sum or add-difference".to_owned()),
        }
    }
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Method::WeightedSum => "weighted-sum",
            Method::AddDifference => "add-difference",
        })
    }
}

/// A model that is the mixture of several.
pub struct Merged {
    base: Opened,
    steps: Vec<Step>,
}

/// One model, or a difference of two, that is mixed in.
enum Step {
    Toward { other: Box<Opened>, alpha: f32 },
    Plus { other: Box<Opened>, less: Box<Opened>, alpha: f32 },
}

impl Merged {
    /// The mixture of `base` and the others: one weight per other model in [`Method::WeightedSum`]; two others, B and C,
    /// and one weight in [`Method::AddDifference`].
    ///
    /// Refuses other numbers of models or weights and weights that are not finite ([`Error::MergeWeights`]), transformers
    /// of other sizes, and quantized ones unless `dequantize` says that their rounded values are good enough
    /// ([`Error::Merge`]).
    pub fn new(base: Opened, others: Vec<Opened>, method: Method, alphas: &[f32], dequantize: bool) -> Result<Self> {
        let label = |model: &Opened| model.checkpoint().label().to_owned();
        let refuse = |label: String, problem: String| Error::Merge {
            label,
            base: base.checkpoint().label().to_owned(),
            problem,
        };
        for model in others.iter().chain([&base]) {
            check(&base, model, dequantize).map_err(|problem| refuse(label(model), problem))?;
        }
        if let Some(alpha) = alphas.iter().find(|alpha| !alpha.is_finite()) {
            return Err(Error::MergeWeights { problem: format!("the weight {alpha} is no number to mix by") });
        }
        let (models, weights) = (others.len(), alphas.len());
        let steps = match (method, alphas) {
            (Method::WeightedSum, alphas) if models == weights && models > 0 => others
                .into_iter()
                .zip(alphas)
                .map(|(other, &alpha)| Step::Toward { other: Box::new(other), alpha })
                .collect(),
            (Method::AddDifference, &[alpha]) if models == 2 => {
                let mut others = others.into_iter();
                let (Some(other), Some(less)) = (others.next(), others.next()) else {
                    return Ok(Self { base, steps: Vec::new() });
                };
                vec![Step::Plus { other: Box::new(other), less: Box::new(less), alpha }]
            }
            _ => {
                let wants = match method {
                    Method::WeightedSum => "one weight for every model after the first",
                    Method::AddDifference => "three models A, B, C and one weight",
                };
                let problem = format!("{method} takes {wants}; there are {} models and {weights} weights", models + 1);
                return Err(Error::MergeWeights { problem });
            }
        };
        Ok(Self { base, steps })
    }

    /// What was mixed, to be kept beside the result.
    pub fn info(&self) -> Value {
        let label = |model: &Opened| model.checkpoint().label().to_owned();
        let steps: Vec<Value> = self
            .steps
            .iter()
            .map(|step| match step {
                Step::Toward { other, alpha } => {
                    json!({ "method": "weighted-sum", "model": label(other), "alpha": alpha })
                }
                Step::Plus { other, less, alpha } => json!({
                    "method": "add-difference", "model": label(other), "minus": label(less), "alpha": alpha,
                }),
            })
            .collect();
        json!({ "base": label(&self.base), "steps": steps, "zimage": env!("CARGO_PKG_VERSION") })
    }
}

/// Models can be mixed when their transformers have the same sizes.
fn check(base: &Opened, model: &Opened, dequantize: bool) -> Result<(), String> {
    let config = |model: &Opened| model.checkpoint().transformer_config().clone();
    if config(base) != config(model) {
        return Err("its transformer has other sizes\nhint: give models that were made of the same one".to_owned());
    }
    let precision = model.weights(Component::Transformer).precision();
    let quantized = precision.counts.iter().find(|count| !["f32", "bf16", "f16"].contains(&&*count.format));
    match quantized {
        Some(count) if !dequantize => Err(format!(
            "{} of its tensors are stored as {}, and rounded values make a worse mixture\nhint: give an unquantized model, \
             or --dequantize to mix them all the same",
            count.tensors, count.format
        )),
        _ => Ok(()),
    }
}

impl Model for Merged {
    fn checkpoint(&self) -> &Checkpoint {
        self.base.checkpoint()
    }

    fn stored(&self, component: Component, name: &str) -> Result<WeightView> {
        self.base.stored(component, name)
    }

    fn is_stored(&self, component: Component, _: &str) -> bool {
        component != Component::Transformer
    }

    fn release(&self) {
        self.base.release();
        for step in &self.steps {
            match step {
                Step::Toward { other, .. } => other.release(),
                Step::Plus { other, less, .. } => [other, less].into_iter().for_each(|model| model.release()),
            }
        }
    }

    fn rows(&self, component: Component, name: &str, rows: Range<usize>, dst: &mut [f32]) -> Result<()> {
        self.base.rows(component, name, rows.clone(), dst)?;
        if component != Component::Transformer {
            return Ok(());
        }
        let count = dst.len();
        let read = |model: &Opened| -> Result<Vec<f32>> {
            let mut values = vec![0.0; count];
            model.rows(component, name, rows.clone(), &mut values)?;
            Ok(values)
        };
        for step in &self.steps {
            match step {
                Step::Toward { other, alpha } => {
                    let other = read(other)?;
                    dst.iter_mut().zip(other).for_each(|(a, b)| *a = (1.0 - alpha) * *a + alpha * b);
                }
                Step::Plus { other, less, alpha } => {
                    let (other, less) = (read(other)?, read(less)?);
                    let differences = other.iter().zip(less).map(|(b, c)| alpha * (b - c));
                    dst.iter_mut().zip(differences).for_each(|(a, difference)| *a += difference);
                }
            }
        }
        Ok(())
    }
}
