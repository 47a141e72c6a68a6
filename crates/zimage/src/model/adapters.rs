//! Adapters on the layers of a model, as they are loaded.

use crate::{Error, Result};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use zimage_tensor::delta::{Delta as Branch, Factor as Pair, Gain as Factors, Product as Matrices};
use zimage_tensor::{Device, Linear, Tensor, Weight, ops};
use zimage_weights::Component;
use zimage_weights::lora::{Adapter, Delta, Factor, Gain, Matrix, Product};

/// A LoRA and how strongly it acts: 1 as it was trained, 0 not at all, below 0 the other way.
#[derive(Clone, Debug)]
pub struct Lora {
    /// The opened file.
    pub adapter: Arc<Adapter>,
    /// How strongly it acts; finite.
    pub weight: f64,
}

/// The adapters of a model. What is computed once for an adapter and a model is kept here.
#[derive(Default)]
pub struct Adapters(Vec<Applied>);

struct Applied {
    lora: Lora,
    gains: Arc<Gains>,
}

/// The gains of an adapter's DoRA layers on this model. They do not depend on the adapter's weight.
type Gains = Mutex<BTreeMap<(Component, String), Arc<Gain>>>;

impl Adapters {
    /// The given adapters in place of those of `self`; what was computed for those that stay is kept.
    ///
    /// # Errors
    /// [`Error::Request`] for a weight that is not finite.
    pub fn replaced(&self, loras: Vec<Lora>) -> Result<Adapters> {
        let applied = loras.into_iter().map(|lora| {
            if !(lora.weight as f32).is_finite() {
                let what = format!("weight {} of the LoRA {} cannot be used", lora.weight, lora.adapter.name());
                return Err(Error::Request { what, hint: "it is a number, mostly from 0 to 2".into() });
            }
            let same = self.0.iter().find(|old| Arc::ptr_eq(&old.lora.adapter, &lora.adapter));
            Ok(Applied { gains: same.map(|old| old.gains.clone()).unwrap_or_default(), lora })
        });
        Ok(Adapters(applied.collect::<Result<_>>()?))
    }

    /// The adapters and their weights, in the order in which they were given.
    pub fn loras(&self) -> impl Iterator<Item = &Lora> {
        self.0.iter().map(|applied| &applied.lora)
    }

    /// Bytes that the adapters take beside the weights of a component.
    pub fn size_bytes(&self, component: Component) -> u64 {
        self.acting().map(|applied| applied.lora.adapter.size_bytes(component)).sum()
    }

    /// The layer `name` of a component with the branches of all adapters that change it.
    pub(super) fn attach(&self, device: &Device, component: Component, name: &str, layer: Linear) -> Result<Linear> {
        let mut layer = layer;
        for applied in self.acting() {
            if let Some(delta) = applied.lora.adapter.delta(component, name) {
                let gain = applied.gain(component, name, delta, device, layer.weight());
                let branch = branch(device, delta, applied.lora.weight as f32, gain.as_deref())?;
                layer = layer.with_delta(branch);
            }
        }
        Ok(layer)
    }

    /// An adapter of weight 0 changes nothing, and so leaves every bit as it is.
    fn acting(&self) -> impl Iterator<Item = &Applied> {
        self.0.iter().filter(|applied| applied.lora.weight != 0.0)
    }
}

impl Applied {
    /// The gain of a DoRA layer: computed from the base weight, block of rows by block of rows, the first time.
    fn gain(
        &self,
        component: Component,
        name: &str,
        delta: &Delta,
        device: &Device,
        base: &Weight,
    ) -> Option<Arc<Gain>> {
        delta.magnitude.as_ref()?;
        let key = (component, name.to_owned());
        let known = || self.gains.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(gain) = known().get(&key) {
            return Some(gain.clone());
        }
        tracing::debug!("lengths of {name} on {}", device.name());
        let gain = Arc::new(delta.gain(|rows, out| {
            let ids: Vec<u32> = rows.map(|row| row as u32).collect();
            out.copy_from_slice(&ops::embedding(base, &ids).into_vec());
        })?);
        known().insert(key, gain.clone());
        Some(gain)
    }
}

/// The side branch that computes a delta.
fn branch(device: &Device, delta: &Delta, weight: f32, gain: Option<&Gain>) -> Result<Branch> {
    let product = match &delta.product {
        Product::LowRank { down, up } => Matrices::LowRank { down: stored(device, down)?, up: stored(device, up)? },
        Product::Kronecker { w1, w2, skip } => Matrices::Kronecker {
            w1: Tensor::from_vec(device, &[w1.rows(), w1.cols()], w1.values())?,
            w2: match w2 {
                Factor::Whole(w2) => Pair::Whole(stored(device, w2)?),
                Factor::Pair { down, up } => {
                    Pair::Pair { down: stored(device, down)?.into(), up: stored(device, up)?.into() }
                }
            },
            skip: *skip,
        },
    };
    let gain = match gain {
        None => Factors::None,
        Some(Gain::Rows(gain)) => Factors::Rows(gain.clone()),
        Some(Gain::Columns(gain)) => Factors::Columns(gain.clone()),
    };
    Ok(Branch::new(device, delta.rows(), product, delta.scale, weight, gain)?)
}

/// A matrix of the adapter's file as it lies there. It is small, and stays on a device with memory of its own.
fn stored(device: &Device, matrix: &Matrix) -> Result<Weight> {
    let (rows, cols) = (matrix.rows(), matrix.cols());
    Ok(Weight::rows_of(device, matrix.format(), rows, cols, matrix.bytes().clone())?.resident())
}

#[cfg(test)]
mod tests;
